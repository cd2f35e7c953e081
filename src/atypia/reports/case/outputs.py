"""Results to files, a batch at a time; the suffix decides the format (``formats/``, one module each).

A file gets its name only when it is complete: failed work leaves no partial file.
Whatever the number of figures, a writer keeps one batch in memory (Parquet: one row group).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import pyarrow as pa

from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.plugins import problems
from atypia.base.registry import Registry
from atypia.inference import results as res

SlideZero = Callable[[str], tuple[float, float]]
"""Function from a slide's name to a point on its canvas, x and y in level-0 pixels."""


@dataclass(frozen=True)
class OnSlide:
    """How figures are drawn by formats that are opened over their slide; others have no use for it.

    Attributes:
        field_px: Side in level-0 pixels of the square to draw for each figure; None draws points.
        qupath_zero: Where the corner of a slide's scanned area lies on its canvas, by the slide's name; asked when
            figures are written. None for the corner of the canvas.
    """

    field_px: float | None = None
    qupath_zero: SlideZero | None = None


class Writer(ABC):
    """Takes results, a batch at a time; the base of every format.

    Args:
        file: Open for text, or for bytes where ``mode`` is ``wb``.
        drawn: How figures are drawn on their slide.

    Attributes:
        written: Rows written.
        left_out: Rows that the format cannot express (GeoJSON: refused figures without a position).
    """

    mode: ClassVar[str] = "w"

    def __init__(self, file: IO[Any], drawn: OnSlide) -> None:
        self.file = file
        self.drawn = drawn
        self.written = 0
        self.left_out = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows.

        Raises:
            InputError: The batch does not have :data:`atypia.inference.results.RESULTS_SCHEMA`, or
                the format cannot express these figures.
        """
        self._write(res.check_results(batch))

    def finish(self) -> None:  # noqa: B027 - most formats have nothing to add
        """Writes the end of the file; called once, by :func:`open_writer`."""

    def abandon(self) -> None:  # noqa: B027 - most formats hold nothing open
        """Releases the file without completing it; called if the work failed."""

    @abstractmethod
    def _write(self, batch: pa.RecordBatch) -> None:
        """Appends rows and counts them in :attr:`written`."""


class JsonValues(Writer):
    """JSON values between a head and a tail, with commas between them; the base of formats that are one JSON value."""

    head, tail = "[\n", "\n]\n"

    def __init__(self, file: IO[Any], drawn: OnSlide) -> None:
        super().__init__(file, drawn)
        self.file.write(self.head)

    def _item(self, value: Any) -> None:
        self.file.write(",\n" if self.written else "")
        self.file.write(dumps(value))
        self.written += 1

    def finish(self) -> None:
        self.file.write(self.tail)


@dataclass(frozen=True)
class OutputFormat:
    """A format that results are written in.

    Attributes:
        suffix: What names of its files end in, without the dot; its key in :data:`OUTPUTS`.
        summary: What it is, in one line.
        writer: Writes it.
        on_slide: Whether it holds the figures of one slide, drawn where they lie on it.
    """

    suffix: str
    summary: str
    writer: type[Writer]
    on_slide: bool = False


OUTPUTS: Registry[OutputFormat] = Registry("output format", "atypia.reports.case.formats", "outputs")
"""Every format of results, by suffix without the dot; adding one means adding a module to ``formats/``."""


def format_of(path: Path) -> OutputFormat:
    """The format of a file, by its suffix in lower case.

    Raises:
        InputError: No format has it; the message lists those that are known.
    """
    suffix = path.suffix.lower()
    if suffix.removeprefix(".") not in OUTPUTS or not suffix:
        known = f"a name ending in {', '.join(f'.{name}' for name in OUTPUTS)}"
        text = must(str(path), known, suffix or "no suffix", "rename it")
        failed = problems("outputs")
        raise InputError(f"{text}; {failed}" if failed else text)
    return OUTPUTS[suffix.removeprefix(".")]


def check_suffix(path: Path) -> str:
    """The suffix that decides the format of ``path``, in lower case; otherwise :func:`format_of`."""
    return f".{format_of(path).suffix}"


@contextmanager
def open_writer(path: Path, *, field_px: float | None = None, qupath_zero: SlideZero | None = None) -> Iterator[Writer]:
    """Opens a file for results; it gets its name when the block ends without an error.

    Args:
        path: The file; its suffix, one of :data:`OUTPUTS`, decides the format.
        field_px: As in :class:`OnSlide`.
        qupath_zero: As in :class:`OnSlide`.

    Yields:
        The writer; call :meth:`Writer.write` with record batches of
        :data:`atypia.inference.results.RESULTS_SCHEMA`.

    Raises:
        InputError: The suffix is unknown, or a batch cannot be written in this formatat.
        WorkError: The disk is full, or the folder is not writable.
    """
    kind = format_of(path).writer
    with atomic_file(path, kind.mode) as file:
        writer = kind(file, OnSlide(field_px, qupath_zero))
        whole = False
        try:
            yield writer
            writer.finish()
            whole = True
        finally:
            if not whole:
                writer.abandon()


def dumps(value: Any) -> str:
    """JSON without NaN, with letters as they are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
