"""Areas in which figures are counted: the tissue of a slide, or regions that a user drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import parse_json
from atypia.data.points.base import BOUNDS, DEFAULT_POINT_LIMITS
from atypia.data.points.classes import class_name, wanted_figures
from atypia.data.slides.origins import AUTO
from atypia.data.slides.regions import Slide

if TYPE_CHECKING:
    from shapely import Geometry

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of full resolution."""
_CLASS_NAMES = ("classification", "class", "name", "label")
_QUPATH = frozenset({"objectType", "object_type", "isLocked"})


@dataclass(frozen=True, eq=False)
class MaskedArea:
    """An area given by a mask of the slide's overview.

    Attributes:
        mask: Shape (h, w).
        down: Pixels of full resolution per pixel of the mask.
        mpp: µm/px at full resolution.
        source: What it is, in words.
    """

    mask: npt.NDArray[np.bool_]
    down: float
    mpp: float
    source: str

    @property
    def mm2(self) -> float:
        """Its size."""
        return float(self.mask.sum()) * (self.down * self.mpp / 1000) ** 2

    def mm2_within(self, box: Box) -> float:
        """Size of its part within a rectangle; pixels on the border count by their share."""
        shares = []
        for low, high, size in ((box[0], box[2], self.mask.shape[1]), (box[1], box[3], self.mask.shape[0])):
            edges = np.arange(size + 1, dtype=np.float64)
            inside = np.minimum(edges[1:], high / self.down) - np.maximum(edges[:-1], low / self.down)
            shares.append(np.clip(inside, 0.0, 1.0))
        return float(shares[1] @ self.mask.astype(np.float64) @ shares[0]) * (self.down * self.mpp / 1000) ** 2

    def holds(self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which positions lie in it, shape (n,)."""
        column, row = (np.floor(one / self.down).astype(np.int64) for one in (x_px, y_px))
        inside = (column >= 0) & (row >= 0) & (column < self.mask.shape[1]) & (row < self.mask.shape[0])
        found = np.zeros(len(column), bool)
        found[inside] = self.mask[row[inside], column[inside]]
        return found


@dataclass(frozen=True, eq=False)
class DrawnArea:
    """An area of polygons.

    Attributes:
        shape: In pixels of full resolution.
        mpp: µm/px there.
        source: What it is, in words.
        notes: What was left out of the file.
    """

    shape: Geometry
    mpp: float
    source: str
    notes: tuple[str, ...] = ()

    @property
    def mm2(self) -> float:
        """Its size."""
        import shapely

        return float(shapely.area(self.shape)) * (self.mpp / 1000) ** 2

    def mm2_within(self, box: Box) -> float:
        """Size of its part within a rectangle."""
        import shapely

        return float(shapely.area(shapely.intersection(self.shape, shapely.box(*box)))) * (self.mpp / 1000) ** 2

    def holds(self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which positions lie in it or on its border, shape (n,)."""
        import shapely

        shapely.prepare(self.shape)
        return np.asarray(shapely.intersects_xy(self.shape, x_px, y_px), dtype=bool)


Area = MaskedArea | DrawnArea
"""Where figures are counted on one slide, in pixels of full resolution from the corner of the image."""


def read_area(
    path: Path, slide: Slide, mpp: float, classes: Sequence[str] = (), origin: str = AUTO,
    offset_px: tuple[float, float] = (0.0, 0.0),
) -> DrawnArea:  # fmt: skip
    """The regions of a GeoJSON file (QuPath's annotations), as far as they lie on the slide; overlaps count once.

    Args:
        path: The file; polygons in pixels of full resolution.
        slide: The slide, open.
        mpp: Its µm/px.
        classes: Which are wanted, as :func:`atypia.data.points.classes.wanted_figures` takes them.
        origin: What positions count from: ``canvas``, ``bounds``, or ``auto`` to take it from what wrote the file.
        offset_px: Added to positions.

    Raises:
        DataError: It is no GeoJSON, holds no region on the slide, or it cannot be told what positions count from.
        InputError: Regions are of several classes and none is named.
    """
    import shapely

    shapes, named, left_out, by_qupath = _drawn(path)
    if not shapes:
        got = f"{left_out} features and none of them"
        raise DataError(must(f"{path.name}", "GeoJSON with polygons", got, "draw the region in QuPath and export it"))
    try:
        mask, notes = wanted_figures(named, classes)
    except InputError as error:
        raise InputError(str(error).replace("--class", "--region-class")) from None
    whole = shapely.union_all([shapely.make_valid(shape) for shape, taken in zip(shapes, mask, strict=True) if taken])
    across, down = _zero(path, slide, by_qupath, origin)
    whole = shapely.transform(whole, lambda places: places + np.array([across + offset_px[0], down + offset_px[1]]))
    whole = shapely.intersection(whole, shapely.box(0, 0, slide.width_px, slide.height_px))
    if shapely.area(whole) == 0:
        fix = "check that it is of this slide, and its unit"
        raise DataError(must(f"{path.name}", f"regions on {slide.name}", "none within the image", fix))
    count = int(mask.sum())
    source = f"{count_noun(count, 'region')} of {path.name}"
    if left_out:
        notes.append(
            f"{path.name}: {count_noun(left_out, 'object that is no region is', 'objects that are no regions are')} not used"
        )
    return DrawnArea(whole, mpp, source, tuple(notes))


def _drawn(path: Path) -> tuple[list[Geometry], list[str | None], int, bool]:
    """Polygons with their classes, the number of other features, and whether QuPath wrote the file."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        content = parse_json(read_regular(path, DEFAULT_POINT_LIMITS.max_bytes), path.name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: check the path") from error
    features: Any = content.get("features", [content]) if isinstance(content, dict) else content
    shapes: list[Geometry] = []
    named: list[str | None] = []
    left_out, by_qupath = 0, False
    for at, feature in enumerate(features if isinstance(features, list) else [], 1):
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if not isinstance(geometry, dict) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
            left_out += 1
            continue
        try:
            shapes.append(shape(geometry))
        except (ShapelyError, ValueError, TypeError, IndexError, KeyError) as error:
            raise DataError(f"{path.name}, feature {at}: a damaged polygon ({error}); fix: export it again") from error
        properties = feature.get("properties") or {}
        by_qupath |= bool(_QUPATH & properties.keys())
        named.append(class_name(next((properties[name] for name in _CLASS_NAMES if properties.get(name)), None)))
    return shapes, named, left_out, by_qupath


def _zero(path: Path, slide: Slide, by_qupath: bool, origin: str) -> tuple[float, float]:
    bounds = slide.facts.bounds
    if bounds is None:
        return 0.0, 0.0
    if origin == AUTO and not by_qupath:
        got = "auto, and nothing in the file says what its positions count from"
        raise DataError(must("--origin", f"canvas or bounds for {path.name}", got, "pass --origin bounds for QuPath's"))
    counted = origin == BOUNDS or (origin == AUTO and by_qupath)
    return (float(bounds.x_px), float(bounds.y_px)) if counted else (0.0, 0.0)
