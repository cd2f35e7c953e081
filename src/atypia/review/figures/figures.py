"""The figures that are reviewed, held by columns: 100,000 of them take a few tens of megabytes.

Nothing here decodes a pixel or changes after opening; what reviewers say lies in
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
"""Side of the field that is cut around a figure on a slide: that of the published crops."""
FIELD_PX: Final = 128
"""Side of that field where the slide's µm/px is not known."""
UNKNOWN_LABEL: Final = -1


@dataclass(frozen=True, eq=False)
class Coded:
    """A column of few distinct texts.

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
    rank = np.full(len(found) + 1, -1, dtype=np.int32)  # the last is what a null's code of -1 picks
    rank[order] = np.arange(len(found), dtype=np.int32)
    return Coded(tuple(found[i] for i in order), rank[positions_of(encoded.indices)])


# Arrow's own way to NumPy loads pandas wherever that is installed, which takes longer than the rest of the start.


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
    """Values of an array of numbers, and which are known."""
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
    """A column of which nothing is known."""
    return Coded((), np.full(count, -1, dtype=np.int32))


@dataclass(frozen=True)
class Places:
    """Where named image files are looked for.

    Attributes:
        folders: Folders that names are relative to, in order.
        by_name: Folder that holds files under their last name alone; None for none.
    """

    folders: tuple[Path, ...]
    by_name: Path | None = None

    def path(self, name: str) -> Path:
        """The first file of that name that exists; where none does, the likeliest place of it."""
        candidates = [folder / name for folder in self.folders]  # an absolute name stays as it is
        if self.by_name is not None:
            candidates.insert(0, self.by_name / Path(name).name)
        return next((path for path in candidates if path.exists()), candidates[-1] if candidates else Path(name))


@dataclass(frozen=True, eq=False)
class Zeros:
    """What the positions of figures counted from in the file that was opened.

    Attributes:
        x_px: Place of their zero on the slide's canvas, shape (n,); 0 for its corner.
        y_px: Likewise, downwards.
        from_bounds: Whether they counted from the scanned area, as QuPath does, shape (n,).
    """

    x_px: Floats
    y_px: Floats
    from_bounds: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Figures:
    """What was opened. Arrays have one element a figure, in the order in which figures are addressed.

    Attributes:
        title: What the page calls it.
        source: What was given to open it.
        ids: Figure ids, unique.
        images: Names of the image files: the crop, or the slide that it is cut from.
        places: Where these are looked for.
        slides: Slides and regions that figures lie on.
        slide: Position in ``slides``; -1 for a figure that lies on none.
        x_px: Centre on the slide's canvas, in its level-0 pixels; NaN where unknown.
        y_px: Likewise, downwards.
        cut: Whether a figure's crop is cut from its slide (else ``images`` holds the crop itself).
        mpp: µm/px as the data states it; NaN where unknown.
        side_px: Side of the crop image; NaN where unknown.
        case: Case of each figure.
        domain: Domain of each figure.
        call: What the classifier called it.
        p: Probability of *atypical*, in [0, 1]; NaN where unknown.
        novelty: Distance from the training data; NaN where unknown.
        label: 0, 1, or :data:`UNKNOWN_LABEL`.
        votes: The data's own votes, one list a figure; None where it has none.
        threshold: Decision threshold of all figures; None without predictions, or where models have several.
        held_out: Whether it is known that no model was trained on the figure that it scored.
        manifest: The data set, where one is known.
        rows: Row of each figure in it; -1 for none.
        runs: Folders of the trainings that the predictions come from.
        notes: What a user should know about the opening.
        zeros: What positions counted from; None where from the canvas.
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

    def __len__(self) -> int:
        return len(self.p)

    def id(self, index: int) -> str:
        """Id of one figure."""
        return self.ids[index].as_py()

    def in_qupath(self, index: int, corner: tuple[float, float]) -> tuple[float, float]:
        """Where QuPath has a figure that lies on a slide.

        Args:
            index: Which figure.
            corner: Of the slide's scanned area, on its canvas: QuPath's zero.
        """
        x, y = float(self.x_px[index]), float(self.y_px[index])
        if self.zeros is not None:
            x, y = x - float(self.zeros.x_px[index]), y - float(self.zeros.y_px[index])
            if self.zeros.from_bounds[index]:
                return x, y
        return x - corner[0], y - corner[1]

    def image(self, index: int) -> Path:
        """File of one figure's crop, or of the slide that it is cut from."""
        return self.slides[self.slide[index]] if self.cut[index] else self.places.path(self.images[index].as_py())

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Index of each figure id."""
        return {figure: index for index, figure in enumerate(self.ids.to_pylist())}

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of which figures these are: ids, names of the image files and positions.

        Neither the order nor what a classifier says of them counts, so that decisions stay with
        their figures when another model has scored them.
        """
        names = pc.replace_substring_regex(self.images, r".*[/\\]", "")  # pyright: ignore[reportAttributeAccessIssue]
        digests = []
        # Where a crop that is a file of its own lies on a slide is beside the point.
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
        """Distance of the probability from the label, in [0, 1]; NaN where either is unknown."""
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

        In blind mode figures are named and ordered by it: names and order of files often tell the class.
        """
        order = generator(0, "blind order", self.fingerprint).permutation(len(self))
        ranks = np.empty(len(self), np.int64)
        ranks[order] = np.arange(len(self))
        return ranks

    def blind_name(self, index: int) -> str:
        """What a figure is called in blind mode."""
        return f"figure {int(self.shuffled[index]) + 1}"

    def votes_of(self, index: int) -> list[int | None] | None:
        """The data's own votes on one figure."""
        return None if self.votes is None else self.votes[index].as_py()

    def has(self, name: str) -> bool:
        """Whether anything is known of a column: ``p``, ``label``, ``votes``, ``slides`` or ``novelty``."""
        known: dict[str, Any] = {
            "p": np.isfinite(self.p).any(),
            "label": (self.label != UNKNOWN_LABEL).any(),
            "votes": self.vote_counts[1].any(),
            "slides": (self.slide >= 0).any(),
            "novelty": np.isfinite(self.novelty).any(),
        }
        return bool(known[name])
