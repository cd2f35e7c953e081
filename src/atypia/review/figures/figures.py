"""The figures under review, stored by column: 100,000 of them need a few tens of megabytes.

Nothing here decodes pixels or changes after opening; reviewers' decisions are in
:mod:`atypia.review.decisions.state`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atypia.base.artifacts import fingerprint
from atypia.base.seeds import generator
from atypia.data.manifest import Manifest
from atypia.inference.results import uncertainty

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]

FIELD_UM: Final = 32.0
"""Side of the field cut around a figure on a slide: that of the published crops."""
FIELD_PX: Final = 128
"""Side of that field in pixels if the slide's µm/px is unknown."""
UNKNOWN_LABEL: Final = -1


@dataclass(frozen=True, eq=False)
class Coded:
    """A column with few distinct texts.

    Attributes:
        names: The texts, sorted.
        codes: Position in ``names``, shape (n,), int32; -1 where unknown.
    """

    names: tuple[str, ...]
    codes: Codes

    def at(self, index: int) -> str | None:
        """The text of one figure."""
        code = int(self.codes[index])
        return None if code < 0 else self.names[code]

    def mask(self, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which figures have one of these texts, shape (n,)."""
        among = [code for code, name in enumerate(self.names) if name in wanted]
        return np.isin(self.codes, np.array(among, dtype=np.int32))


def coded(column: pa.ChunkedArray) -> Coded:
    """A column of strings as :class:`Coded`."""
    encoded = column.combine_chunks().dictionary_encode()
    found: list[str] = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.full(len(found) + 1, -1, dtype=np.int32)  # the last element is for the code -1 of null
    rank[order] = np.arange(len(found), dtype=np.int32)
    return Coded(tuple(found[i] for i in order), rank[positions_of(encoded.indices)])


# Arrow's own conversion to NumPy loads pandas if installed, which takes longer than the rest of the start.


def floats(column: pa.ChunkedArray) -> Floats:
    """A column of numbers as float64, shape (n,), a copy; null is NaN."""
    array = column.cast(pa.float64()).combine_chunks()
    values, known = _buffers(array, np.dtype(np.float64))
    return np.where(known, values, np.nan)


def positions_of(found: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Positions, shape (n,); null is -1."""
    array = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    values, known = _buffers(array.cast(pa.int64()), np.dtype(np.int64))
    return np.where(known, values, -1)


def _buffers(array: pa.Array, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values of an array of numbers, and a mask of the known ones."""
    count, start = len(array), array.offset
    if array.null_count == count:
        return np.zeros(count, dtype), np.zeros(count, bool)
    bitmap, data = array.buffers()
    values = np.frombuffer(data, dtype, start + count)[start:]
    if bitmap is None or array.null_count == 0:
        return values, np.ones(count, bool)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=start + count, bitorder="little")
    return values, bits[start:].astype(bool)


def nothing_coded(count: int) -> Coded:
    """A column in which every value is unknown."""
    return Coded((), np.full(count, -1, dtype=np.int32))


@dataclass(frozen=True)
class Places:
    """Where image files are searched.

    Attributes:
        folders: Folders that names are relative to, in order.
        by_name: Folder in which files are searched by their last name only; None for none.
    """

    folders: tuple[Path, ...]
    by_name: Path | None = None

    def path(self, name: str) -> Path:
        """The first file of that name that exists; if none does, its most likely path."""
        candidates = [folder / name for folder in self.folders]  # an absolute name stays as it is
        if self.by_name is not None:
            candidates.insert(0, self.by_name / Path(name).name)
        return next((path for path in candidates if path.exists()), candidates[-1] if candidates else Path(name))


@dataclass(frozen=True, eq=False)
class Zeros:
    """Origin of the positions in the opened file.

    Attributes:
        x_px: Position of the origin on the slide's canvas, in px, shape (n,); 0 for its corner.
        y_px: Likewise, downwards.
        from_bounds: Whether positions count from the scanned area, as in QuPath, shape (n,).
    """

    x_px: Floats
    y_px: Floats
    from_bounds: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ReviewFigures:
    """The opened figures. Arrays have one element per figure, in index order.

    Attributes:
        title: Title on the page.
        source: The input that was opened.
        ids: Figure ids, unique.
        images: Names of the image files: the crop, or the slide from which it is cut.
        places: Where these files are searched.
        slides: Slides and regions with figures.
        slide: Position in ``slides``; -1 for a figure without a slide.
        x_px: Centre on the slide's canvas, in its level-0 pixels; NaN if unknown.
        y_px: Likewise, downwards.
        cut: Whether a figure's crop is cut from its slide (else ``images`` names the crop itself).
        mpp: µm/px as the data states it; NaN if unknown.
        side_px: Side of the crop image in pixels; NaN if unknown.
        case: Case of each figure.
        domain: Domain of each figure.
        call: The classifier's decision.
        p: Probability of *atypical*, in [0, 1]; NaN if unknown.
        novelty: Distance from the training data; NaN if unknown.
        label: 0, 1, or :data:`UNKNOWN_LABEL`.
        votes: The data's own votes, one list per figure; None for a figure without votes.
        threshold: Decision threshold of all figures; None without predictions, or if models have different ones.
        held_out: Whether no model is known to have scored its own training figures.
        manifest: The data set, if known.
        rows: Row of each figure in ``manifest``; -1 for none.
        runs: Folders of the trainings with the predictions.
        notes: Remarks for users about the opening.
        zeros: Origin of positions; None for the canvas.
        assumed: Whether the model assumed ``mpp``, shape (n,); None: no figure's.
        opened: Where raters added figures (the last ones): the figures as they were opened.
        models: Names of the models with the predictions.
    """

    title: str
    source: str
    ids: pa.ChunkedArray
    images: pa.ChunkedArray
    places: Places
    slides: tuple[Path, ...]
    slide: Codes
    x_px: Floats
    y_px: Floats
    cut: npt.NDArray[np.bool_]
    mpp: Floats
    side_px: Floats
    case: Coded
    domain: Coded
    call: Coded
    p: Floats
    novelty: Floats
    label: npt.NDArray[np.int8]
    votes: pa.ChunkedArray | None = None
    threshold: float | None = None
    held_out: bool = False
    manifest: Manifest | None = None
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    runs: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    zeros: Zeros | None = None
    assumed: npt.NDArray[np.bool_] | None = None
    opened: ReviewFigures | None = None
    models: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.p)

    def id(self, index: int) -> str:
        """Id of one figure."""
        return self.ids[index].as_py()

    def in_qupath(self, index: int, corner: tuple[float, float]) -> tuple[float, float]:
        """Position of a figure in QuPath's coordinates.

        Args:
            index: Which figure.
            corner: Corner of the slide's scanned area, on its canvas: QuPath's origin.
        """
        x, y = float(self.x_px[index]), float(self.y_px[index])
        if self.zeros is not None:
            x, y = x - float(self.zeros.x_px[index]), y - float(self.zeros.y_px[index])
            if self.zeros.from_bounds[index]:
                return x, y
        return x - corner[0], y - corner[1]

    def image(self, index: int) -> Path:
        """File of one figure's crop, or of the slide from which it is cut."""
        return self.slides[self.slide[index]] if self.cut[index] else self.places.path(self.images[index].as_py())

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Index of each figure id."""
        return {figure: index for index, figure in enumerate(self.ids.to_pylist())}

    @cached_property
    def fingerprint(self) -> str:
        """Content hash that identifies the figures: ids, names of the image files and positions.

        The order, the predictions and figures that raters added do not count, so decisions stay with
        their figures when another model has scored them.
        """
        if self.opened is not None:
            return self.opened.fingerprint
        names = pc.replace_substring_regex(self.images, r".*[/\\]", "")  # pyright: ignore[reportAttributeAccessIssue]
        digests = []
        # The slide position of a crop that has its own file does not count.
        x, y = (np.where(self.cut, axis, np.nan).tolist() for axis in (self.x_px, self.y_px))
        columns = zip(self.ids.to_pylist(), names.to_pylist(), x, y, strict=True)
        for figure, name, x, y in columns:
            text = f"{figure}\x1f{name}\x1f{x:.2f}\x1f{y:.2f}"
            digests.append(hashlib.blake2b(text.encode(), digest_size=16).digest())
        return fingerprint("review-figures", b"".join(sorted(digests)))

    @cached_property
    def uncertainty(self) -> Floats:
        """Binary entropy of the probability, in bits; NaN without one."""
        return uncertainty(self.p)

    @cached_property
    def label_disagreement(self) -> Floats:
        """Distance of the probability from the label, in [0, 1]; NaN if either is unknown."""
        return np.where(self.label == UNKNOWN_LABEL, np.nan, np.abs(self.p - self.label))

    @cached_property
    def vote_counts(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The data's own votes for *atypical* and the number of votes, each of shape (n,)."""
        ones, given = np.zeros(len(self), np.int32), np.zeros(len(self), np.int32)
        if self.votes is not None:
            lists = self.votes.combine_chunks()
            parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
            values = pc.list_flatten(lists).fill_null(-1).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
            np.add.at(given, parents[values >= 0], 1)
            np.add.at(ones, parents[values == 1], 1)
        return ones, given

    @cached_property
    def shuffled(self) -> npt.NDArray[np.int64]:
        """A fixed random rank of each figure, shape (n,).

        In blind mode figures are named and ordered by it: names and order of files often reveal the class.
        """
        if self.opened is not None:  # the order of the others must not change
            return np.concatenate([self.opened.shuffled, np.arange(len(self.opened), len(self))])
        order = generator(0, "blind order", self.fingerprint).permutation(len(self))
        ranks = np.empty(len(self), np.int64)
        ranks[order] = np.arange(len(self))
        return ranks

    def blind_name(self, index: int) -> str:
        """A figure's name in blind mode."""
        return f"figure {int(self.shuffled[index]) + 1}"

    def votes_of(self, index: int) -> list[int | None] | None:
        """The data's own votes on one figure."""
        return None if self.votes is None else self.votes[index].as_py()

    def has(self, name: str) -> bool:
        """Whether a column has any known value: ``p``, ``label``, ``votes``, ``slides`` or ``novelty``."""
        known: dict[str, Any] = {
            "p": np.isfinite(self.p).any(),
            "label": (self.label != UNKNOWN_LABEL).any(),
            "votes": self.vote_counts[1].any(),
            "slides": (self.slide >= 0).any(),
            "novelty": np.isfinite(self.novelty).any(),
        }
        return bool(known[name])
