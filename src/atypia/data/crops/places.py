"""Random places on the slides of a manifest: crops that are centred on nothing in particular."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from atypia.base import records as r
from atypia.base.errors import DataError, InputError, must
from atypia.base.files.regularfiles import open_regular
from atypia.base.seeds import generator
from atypia.data.images.decoding import image_format, read_header
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.slides.readers import open_slide

PREFIX: Final = "random place"
"""Figure ids of random places begin with this."""
SHARED: Final = (r.DATASET, r.IMAGE, r.CASE_ID, r.SLIDE_ID, r.SCANNER, r.ORIGIN, r.SPECIES, r.TUMOUR, r.DOMAIN, r.MPP)
"""Columns that a place has from the figures of its slide."""


def random_places(manifest: Manifest, geometry: CropGeometry, count: int) -> Manifest:
    """Places drawn uniformly on the slides of a manifest, equally many on each, without a label.

    The same places whatever the run, so that one crop store serves all: they depend on the slide's name, its size and
    the number alone. A place's field lies inside its slide, where the slide is large enough.

    Args:
        manifest: Figures given by positions on slides that are at hand.
        geometry: How crops are cut.
        count: Places in all, at least; each slide gets the same number.

    Returns:
        One row a place, slide after slide in the order of their names.

    Raises:
        InputError: The figures are crops, or the slides are not at hand.
        DataError: A slide cannot be read.
    """
    table = manifest.table
    if table[r.X_PX].null_count or manifest.root is None:
        got = "crops" if table[r.X_PX].null_count else "no slides on this machine"
        raise InputError(must("data", "positions on slides that are at hand", got, "train without `patches`"))
    first = dict[str, dict[str, Any]]()
    for row in table.select([*SHARED, r.WIDTH_PX, r.HEIGHT_PX]).to_pylist():
        first.setdefault(row[r.IMAGE], row)
    each = -(-count // len(first))
    rows: list[dict[str, Any]] = []
    for image, about in sorted(first.items()):
        known = (about[r.WIDTH_PX], about[r.HEIGHT_PX])
        try:
            size = known if None not in known else slide_size(manifest.root / image)
            side = geometry.source_side_px(about[r.MPP]) or 0
        except DataError:
            continue  # its figures give no crop either, which the crop store says
        middle = [(low := min(side, length) / 2, length - low) for length in size]
        drawn = generator(0, PREFIX, image, *size).random((each, 2))
        for number, place in enumerate(drawn.tolist()):
            x, y = (low + share * (high - low) for share, (low, high) in zip(place, middle, strict=True))
            name = {r.FIGURE_ID: f"{PREFIX} {number + 1} of {image}", r.X_PX: round(x, 1), r.Y_PX: round(y, 1)}
            rows.append({**{key: about[key] for key in SHARED}, **name})
    if not rows:
        raise DataError(f"{manifest.name}: none of its {len(first)} slides can be read; fix: fetch them again")
    return Manifest.from_rows(rows, f"{manifest.name}, random places", manifest.task, manifest.root)


def slide_size(path: Path) -> tuple[int, int]:
    """Width and height of a slide in px; of a PNG or JPEG without decoding it.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with open_regular(path) as file:
            kind = image_format(file.read(16))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    if kind in ("PNG", "JPEG"):
        header = read_header(path)
        return header.width_px, header.height_px
    with open_slide(path) as slide:
        return slide.width_px, slide.height_px


class JoinedCrops:
    """Crops of several stores as one array, in the order of the stores; only what is indexed is read.

    Args:
        stores: Shape (n, s, s, 3), uint8, each; of one side.
    """

    def __init__(self, stores: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> None:
        self.stores = tuple(stores)
        self.starts = np.cumsum([0, *(len(store) for store in stores)])
        self.shape = (int(self.starts[-1]), *stores[0].shape[1:])
        self.nbytes = sum(store.nbytes for store in stores)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The crops of these rows, shape (b, s, s, 3)."""
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for store, start in zip(self.stores, self.starts, strict=False):
            mine = (rows >= start) & (rows < start + len(store))
            out[mine] = store[rows[mine] - start]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.concatenate(self.stores)
