"""Figures by area: how many per mm² of tissue, and the field that holds most of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import Any, Final

from atypia.base.errors import InputError, count_noun, must
from atypia.reports.drawing.tables import Column, Value
from atypia.statistics.density import CONFIDENCE, poisson_interval

ASPECT: Final = 4 / 3
"""Width of a field by its height, as a screen has it (Aubreville et al., Scientific Reports 10:16447, 2020)."""
WHOLE: Final = 0.95
"""Share of a field that is tissue, below which a note says how much is."""
LEAST_MM2, MOST_MM2 = 0.01, 100.0
_FIELDS = re.compile(r"(\d+)\s*x\s*(d?)\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class FieldSize:
    """The field in which figures are counted for a hotspot.

    Attributes:
        mm2: Its area.
        words: What was asked for.
    """

    mm2: float = 2.0
    words: str = "2 mm²"

    @property
    def sides_um(self) -> tuple[float, float]:
        """Width and height, 4 to 3, of that area."""
        height = math.sqrt(self.mm2 * 1e6 / ASPECT)
        return height * ASPECT, height


TWO_MM2: Final = FieldSize()
"""The usual field of a mitotic count."""


def field_size(text: str) -> FieldSize:
    """The field of an option: ``2`` (mm²); ``10x0.237`` fields of 0.237 mm²; ``10xd0.55`` round fields of 0.55 mm diameter.

    Several fields are one field of their common area.

    Raises:
        InputError: It is none of these, or too small or large.

    >>> field_size("10xd0.55").words
    '10 fields of 0.55 mm diameter (2.38 mm²)'
    """
    cleaned = text.strip().lower().replace("mm²", "").replace("mm2", "").replace("mm", "").replace("×", "x").strip()
    several = _FIELDS.fullmatch(cleaned)
    try:
        if several is None:
            mm2, words = float(cleaned), f"{float(cleaned):g} mm²"
        else:
            count, size = int(several[1]), float(several[3])
            mm2 = count * (math.pi * (size / 2) ** 2 if several[2] else size)
            shown = f"{size:g} mm diameter" if several[2] else f"{size:g} mm²"
            words = f"{count_noun(count, 'field')} of {shown} ({mm2:.3g} mm²)"
    except ValueError:
        mm2, words = math.nan, ""
    if not LEAST_MM2 <= mm2 <= MOST_MM2:
        fix = "for instance 2, 10x0.237 (ten fields of 0.237 mm²) or 10xd0.55 (of 0.55 mm diameter)"
        raise InputError(must("--field", f"an area from {LEAST_MM2} to {MOST_MM2:g} mm²", repr(text), fix))
    return FieldSize(mm2, words)


def three_digits(value: float) -> str:
    """A number with three digits, without an exponent and never with fewer digits before the point.

    >>> three_digits(1628.664), three_digits(87.84), three_digits(0.003067)
    ('1,629', '87.8', '0.00307')
    """
    return f"{value:,.0f}" if 100 <= abs(value) < math.inf else f"{value:.3g}"


@dataclass(frozen=True)
class Hotspot:
    """The field that holds most figures, of all or of the atypical ones, as far as it lies on the slide.

    Attributes:
        left_px: Its left side, in level-0 pixels, counted as the points.
        top_px: Its upper side.
        width_px: Its width; less than the field's on a smaller slide.
        height_px: Its height; likewise.
        figures: Figures in it.
        atypical: Of these, the atypical ones.
        area_mm2: The part of it that is tissue, or in the given region.
        exact: Whether no field of this size holds more.
    """

    left_px: float
    top_px: float
    width_px: float
    height_px: float
    figures: int
    atypical: int
    area_mm2: float
    exact: bool = True


@dataclass(frozen=True, eq=False)
class SlideDensity:
    """Figures of one slide by area. Figures that the classifier refused count as figures, not as atypical ones.

    Attributes:
        image: The slide, as the user named it.
        mpp: µm/px that was used.
        mpp_source: Where it comes from.
        area_mm2: Tissue, or the given region.
        area_source: Which, in words.
        figures: Figures in the area, refused ones included.
        atypical: Of these, those whose probability reached the threshold.
        field: The field of the hotspots.
        hotspot: The field with most figures; None without any.
        atypical_hotspot: The field with most atypical figures; None without any.
        notes: What to know of these numbers.
        drawing: The slide with area, figures and hotspots, for a page; empty where it was not asked for.
    """

    image: str
    mpp: float
    mpp_source: str
    area_mm2: float
    area_source: str
    figures: int
    atypical: int
    field: FieldSize
    hotspot: Hotspot | None = None
    atypical_hotspot: Hotspot | None = None
    notes: tuple[str, ...] = ()
    drawing: Mapping[str, Any] = with_default(default_factory=dict)

    def per_mm2(self, count: int) -> float:
        """A count by area; NaN where there is no tissue."""
        return count / self.area_mm2 if self.area_mm2 > 0 else math.nan

    def sentences(self, name: str) -> list[str]:
        """What is said of it, in words."""
        if self.area_mm2 <= 0:
            return [f"{name}: no tissue was found, and no density is given. {' '.join(self.notes)}".strip()]
        low, high = poisson_interval(self.figures, self.area_mm2)
        rates = [three_digits(self.per_mm2(count)) for count in (self.figures, self.atypical)]
        lines = [
            f"{name}: {count_noun(self.figures, 'figure')} on {three_digits(self.area_mm2)} mm² ({self.area_source}): {rates[0]} per mm² "
            f"({100 * CONFIDENCE:.0f} % interval {three_digits(low)} to {three_digits(high)}), of them {self.atypical:,} atypical: "
            f"{rates[1]} per mm²."
        ]
        spots = [("most figures", self.hotspot), ("most atypical figures", self.atypical_hotspot)]
        if self.hotspot is not None and self.hotspot == self.atypical_hotspot:
            spots = [("most figures, and with most atypical ones", self.hotspot)]
        for title, spot in spots:
            if spot is not None:
                lines.append(
                    f"Hotspot of {self.field.words} with {title}: {count_noun(spot.figures, 'figure')}, {spot.atypical:,} atypical, "
                    f"on {three_digits(spot.area_mm2)} mm², at x {spot.left_px:,.0f} to {spot.left_px + spot.width_px:,.0f}, "
                    f"y {spot.top_px:,.0f} to {spot.top_px + spot.height_px:,.0f} px."
                )
        return [*lines, *self.notes]

    def as_dict(self, name: str) -> dict[str, Any]:
        """JSON-able values; undefined values are None."""
        known = self.area_mm2 > 0
        limits = {
            f"{what}_per_mm2{end}": value if known else None
            for what, count in (("figures", self.figures), ("atypical", self.atypical))
            for end, value in zip(
                ("", "_low", "_high"),
                (self.per_mm2(count), *(poisson_interval(count, self.area_mm2) if known else (None, None))),
                strict=True,
            )
        }
        width, height = self.field.sides_um
        return {
            "image": name,
            "mpp": self.mpp,
            "mpp_source": self.mpp_source,
            "area_mm2": self.area_mm2,
            "area_source": self.area_source,
            "figures": self.figures,
            "atypical": self.atypical,
            **limits,
            "confidence": CONFIDENCE,
            "field": {"mm2": self.field.mm2, "words": self.field.words, "width_um": width, "height_um": height},
            "hotspot": None if self.hotspot is None else dict(vars(self.hotspot)),
            "atypical_hotspot": None if self.atypical_hotspot is None else dict(vars(self.atypical_hotspot)),
            "notes": list(self.notes),
        }


COLUMNS: Final = (
    ("area, mm²", "area_mm2"),
    ("per mm²", "figures_per_mm2"),
    ("atypical per mm²", "atypical_per_mm2"),
    ("hotspot", "hotspot_figures"),
    ("hotspot, atypical", "hotspot_atypical"),
)
"""Title and name of the columns that a summary has where densities were asked for."""


def density_cells(found: SlideDensity | None) -> Sequence[int | float | None]:
    """The cells of :data:`COLUMNS` for one slide; empty ones where it has no density."""
    if found is None:
        return (None,) * len(COLUMNS)
    most = found.hotspot.figures if found.hotspot else 0
    atypical = found.atypical_hotspot.atypical if found.atypical_hotspot else 0
    return found.area_mm2, found.per_mm2(found.figures), found.per_mm2(found.atypical), most, atypical


def add_density_columns(
    columns: list[Column], rows: list[list[Value]], images: Sequence[str], densities: Sequence[SlideDensity]
) -> None:
    """Adds :data:`COLUMNS` to a table with a row an image, and maybe one for all."""
    found = {one.image: one for one in densities}
    columns += [Column(title, name, align="right") for title, name in COLUMNS]
    for row, name in zip(rows, [*images, ""], strict=False):
        row.extend(density_cells(found.get(name)))
