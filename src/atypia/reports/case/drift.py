"""The drift report: how far cases lie from the laboratories of a training, in words, numbers and plots."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file, disk_errors
from atypia.base.errors import count_noun
from atypia.reports.drawing.page import render
from atypia.reports.drawing.plot_svg import forest_svg, swatch
from atypia.reports.drawing.plots import ForestPlot, ForestRow, PlottedEstimate
from atypia.reports.drawing.tables import TEXT_WIDTH, Column, Table
from atypia.reports.drawing.values import Value, format_value
from atypia.statistics.drift import FEWEST, LIKE, UNLIKE, MeasureDrift, MeasureRange, departure

LIKE_WORDS: Final = "like the training data"
EDGE_WORDS: Final = "at the edge of the training data"
UNLIKE_WORDS: Final = "unlike the training data: calibrate first"
MIXED_WORDS: Final = "some cases are unlike the training data: calibrate first"
NONE_WORDS: Final = "no figure could be read"
FEW_WORDS: Final = f"too few figures to say ({FEWEST} are needed)"
ALL: Final = "all cases together"
SERIES: Final = ("figures: median, 5 to 95 %", "medians of cases: middle, lowest to highest")
MOST_REASONS: Final = 4
"""Reasons that are written out of figures of a case that could not be read."""
LEAST_DIGITS, MOST_DIGITS = 3, 8
"""Significant digits of a measure in words."""
MOST_ROWS: Final = 12
"""Cases in a plot: those farthest away."""
SIDES: Final[Mapping[str, tuple[str, str]]] = {
    "darkness": ("paler", "darker"),
    "red_absorbed": (
        "pinker: less haematoxylin, or another white balance",
        "bluer: more haematoxylin, or another white balance",
    ),
    "blue_absorbed": ("more violet or blue", "yellower or browner"),
    "contrast": ("less contrast", "more contrast"),
    "sharpness": (
        "less sharp: blurred, out of focus or enlarged",
        "sharper: sharpened, reduced, or strongly compressed",
    ),
    "grain": ("coarser: at a finer µm/px than was said, or blurred", "finer: at a coarser µm/px than was said"),
    "blocks": ("less compressed", "blocks of strong JPEG compression"),
    "novelty": ("nearer to the training's centre", "features unlike the training's"),
    "certainty": ("less certain scores", "more certain scores"),
    "mpp": ("a finer µm/px", "a coarser µm/px"),
}
"""What a case is called that lies below, and above."""

LEAST: Final[Mapping[str, float]] = {"mpp": 0.05}
"""Least spread of a measure, as a share of its value. Cases of one scanner have one µm/px, so that the laboratories' spread
is 0; but fields of the same size are cut at any µm/px, and scanners whose fields differ by a tenth are trained on together
as they are (0.23 and 0.25 µm/px): twice this share, where «unlike» begins."""


@dataclass(frozen=True, eq=False)
class CaseMeasures:
    """What was measured on one case.

    Attributes:
        name: Of the case.
        figures: Number of its figures that could be read.
        refused: Of these, those that the classifier refused.
        values: By measure, each of shape (figures,); NaN where a figure has none.
        reasons: Why further figures could not be read, with their numbers.
        notes: What was assumed, decided or left out on the way, in words.
    """

    name: str
    figures: int
    refused: int
    values: Mapping[str, npt.NDArray[np.float64]]
    reasons: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def unread(self) -> int:
        """Number of figures that could not be read, and are in no measure."""
        return sum(self.reasons.values())


class DriftReport:
    """How far cases lie from the laboratories of a training.

    Args:
        cases: What was measured; several are also judged together.
        ranges: The training's, by measure and laboratory.
        titles: What a plot calls each measure.
        model: Name of the classifier.
        source: What the ranges were measured on, in words.
    """

    def __init__(
        self,
        cases: Sequence[CaseMeasures],
        ranges: Mapping[str, Mapping[str, MeasureRange]],
        titles: Mapping[str, str],
        model: str,
        source: str,
    ) -> None:
        ranges = {
            name: ranges[name]
            for name in [*(n for n in titles if n in ranges), *(n for n in ranges if n not in titles)]
        }
        self.cases = [*cases, _together(cases)] if len(cases) > 1 else list(cases)
        self.ranges, self.titles, self.model, self.source = ranges, titles, model, source
        self.departures: dict[str, dict[str, MeasureDrift]] = {}
        """By case and measure; a measure that is not known there is left out."""
        for case in self.cases:
            found = {name: departure(case.values[name], list(ranges[name].values()), LEAST.get(name, 0.0))
                     for name in ranges if name in case.values}  # fmt: skip
            self.departures[case.name] = {name: one for name, one in found.items() if one is not None}
        self.measures = [name for name in ranges if any(name in found for found in self.departures.values())]
        """Those that are known of a case, in the order of the titles."""

    def verdict(self, case: str) -> str:
        """In words: like, at the edge, unlike, too few figures, or none; of all cases together, whether any is unlike."""
        found = self.departures[case].values()
        if not found:
            return FEW_WORDS if any(one.figures for one in self.cases if one.name == case) else NONE_WORDS
        if any(one.unlike for one in found):
            return UNLIKE_WORDS
        # Cases that depart to different sides would hide each other.
        if case == ALL and any(self.verdict(one.name) == UNLIKE_WORDS for one in self.cases if one.name != ALL):
            return MIXED_WORDS
        return LIKE_WORDS if all(one.like for one in found) else EDGE_WORDS

    def reasons(self, case: str) -> list[str]:
        """What is not like the training, the farthest first."""
        apart = [(name, one) for name, one in self.departures[case].items() if not one.like]
        return [self._words(name, one) for name, one in sorted(apart, key=lambda pair: -abs(pair[1].distance))]

    def _words(self, name: str, one: MeasureDrift) -> str:
        side = SIDES.get(name, ("lower", "higher"))[one.distance > 0]
        far = "another than all" if math.isinf(one.distance) else f"{abs(one.distance):.1f} standard deviations outside"
        median, low, high = told_apart(one)
        return f"{side}: {self.titles.get(name, name)} {median}, cases of the training {low} to {high} ({far})"

    def answer(self, case: str) -> list[str]:
        """The answer for a case: a line, and one for each measure that is not like the training."""
        return [f"{case}: {self.verdict(case)}", *(f"  {reason}" for reason in self.reasons(case))]

    @property
    def notes(self) -> list[str]:
        """What a reader must know: first of single cases, then of all."""
        return [
            *self._case_notes(),
            *self._spread_notes(),
            f"Compared with {self.source}. A case's median is compared with the medians of the training's cases: distance 0 "
            f"within their range, else in standard deviations between cases; up to {LIKE:g} like, from {UNLIKE:g} unlike.",
            "Like the training data is no proof that the answers are right; unlike is no proof that they are wrong. "
            "What a few labelled figures of the laboratory say is stronger: `atypia calibrate`.",
            f"Model: {self.model}. Research use only; not a medical device.",
        ]

    def _spread_notes(self) -> list[str]:
        """That distances are too large where no laboratory's spread between cases is known."""
        spreads = [one.between_cases for name in self.measures for one in self.ranges[name].values()]
        if not spreads or any(spreads):
            return []
        return [
            "No laboratory of the training has three cases with enough figures, so how much cases differ is not known: "
            "distances are in standard errors of the case's own median, and too large."
        ]

    def _case_notes(self) -> list[str]:
        """What is told of cases, once where several share it."""
        told: dict[str, list[str]] = {}
        for case in self.cases:
            if case.name == ALL:
                continue
            if case.unread:
                why = "; ".join(
                    f"{reason} ({count:,})"
                    for reason, count in sorted(case.reasons.items(), key=lambda pair: -pair[1])[:MOST_REASONS]
                )
                more = (
                    f"; and other reasons (`atypia predict {case.name}` tells each)"
                    if len(case.reasons) > MOST_REASONS
                    else ""
                )
                count = count_noun(case.unread, "figure")
                told.setdefault(f"{count} could not be read and count nowhere: {why}{more}", []).append(case.name)
            for note in case.notes:
                told.setdefault(note, []).append(case.name)
        return [f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}: {text}." for text, names in told.items()]

    def table(self) -> Table:
        """One row a case, with the distance of each measure."""
        unread = any(case.unread for case in self.cases)
        columns = [Column("case"), Column("figures", align="right"), Column("refused", align="right")]
        columns += [Column("unread", align="right")] if unread else []
        columns += [Column(name, align="right", digits=1) for name in self.measures] + [Column("verdict")]
        rows: list[list[Value]] = []
        for case in self.cases:
            found = self.departures[case.name]
            distances: list[Value] = [found[name].distance if name in found else None for name in self.measures]
            counts: list[Value] = [case.figures, case.refused, *([case.unread] if unread else [])]
            rows.append([case.name, *counts, *distances, self.verdict(case.name)])
        return Table("Distance from the laboratories of the training", columns, rows, self.notes)

    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """The table with its notes, and below it the answers, which the table does not repeat."""
        whole = self.table()
        shown = Table(whole.heading, whole.columns[:-1], [row[:-1] for row in whole.rows], whole.notes)
        lines = [line for case in self.cases for line in self.answer(case.name)]
        return f"{shown.to_text(width)}\n" + "".join(f"{line}\n" for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values; a distance without bound is None."""
        return {
            "model": self.model,
            "compared_with": self.source,
            "cases": [
                {
                    "case": case.name,
                    "figures": case.figures,
                    "refused": case.refused,
                    "unread": case.unread,
                    "unread_reasons": dict(case.reasons),
                    "verdict": self.verdict(case.name),
                    "reasons": self.reasons(case.name),
                    "measures": {
                        name: {
                            "median": one.median,
                            "training_low": one.low,
                            "training_high": one.high,
                            "distance": one.distance if math.isfinite(one.distance) else None,
                            "like": one.like,
                        }
                        for name, one in self.departures[case.name].items()
                    },
                }
                for case in self.cases
            ],
            "notes": self.notes,
        }

    def plots(self) -> list[ForestPlot]:
        """One plot a measure: the laboratories, and the cases that lie farthest away."""
        return [self._plot(name) for name in self.measures]

    def _plot(self, name: str) -> ForestPlot:
        by_name = self.ranges[name]
        rows = [
            ForestRow(
                laboratory,
                "training",
                [
                    PlottedEstimate(one.figures[3], one.figures[1], one.figures[5]),
                    PlottedEstimate(one.cases[2], one.cases[0], one.cases[4]),
                ],
            )
            for laboratory, one in by_name.items()
        ]
        known = [case for case in self.cases if name in self.departures[case.name]]
        known.sort(key=lambda case: (case.name != ALL, -abs(self.departures[case.name][name].distance)))
        ends = [value for one in by_name.values() for value in (one.figures[1], one.figures[5])]
        for case in known[:MOST_ROWS]:
            low, middle, high = (float(x) for x in np.nanquantile(case.values[name], [0.05, 0.5, 0.95]))
            one = self.departures[case.name][name]
            mark = "like" if one.like else "unlike" if one.unlike else "at the edge"
            rows.append(
                ForestRow(
                    case.name,
                    f"{count_noun(one.figures, 'figure')}, {mark}",
                    [PlottedEstimate(middle, low, high), None],
                )
            )
            ends += [low, high]
        span = (max(ends) - min(ends)) or 1.0
        limits = (min(one.cases[0] for one in by_name.values()), max(one.cases[4] for one in by_name.values()))
        lines = [(limits[0], "lowest case"), (limits[1], "highest case")] if limits[1] > limits[0] else []
        return ForestPlot(
            f"drift-{name}",
            self.titles.get(name, name),
            self.titles.get(name, name),
            SERIES,
            (0, 1),
            rows,
            (min(ends) - 0.05 * span, max(ends) + 0.05 * span),
            lines,
        )

    def html(self) -> str:
        """A page that stands alone."""
        table = self.table()
        cells = [
            [format_value(value, column.digits) for value, column in zip(row, table.columns, strict=True)]
            for row in table.rows
        ]
        values = {
            "title": f"Drift: {', '.join(case.name for case in self.cases[:3])}{' …' if len(self.cases) > 3 else ''}",
            "answers": [
                {"case": case.name, "verdict": self.verdict(case.name), "reasons": self.reasons(case.name)}
                for case in self.cases
            ],
            # Verdicts stand above, in full.
            "table": {"titles": [column.title for column in table.columns[:-1]], "rows": [row[:-1] for row in cells]},
            "plots": [{"title": plot.title, "svg": forest_svg(plot)} for plot in self.plots()],
            "legend": [{"swatch": swatch(number), "name": name} for number, name in enumerate(SERIES)],
            "notes": self.notes,
        }
        return render("drift", values, dress="study")

    def write(self, folder: Path) -> list[Path]:
        """Writes ``drift.html`` and ``drift.json`` into a folder, atomically."""
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in (
            ("drift.html", self.html()),
            ("drift.json", json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        ):
            with atomic_file(folder / name, "w") as file:
                file.write(text)
            paths.append(folder / name)
        return paths


def _together(cases: Sequence[CaseMeasures]) -> CaseMeasures:
    names = dict.fromkeys(name for case in cases for name in case.values)
    values = {name: np.concatenate([case.values[name] for case in cases if name in case.values]) for name in names}
    figures, refused = sum(case.figures for case in cases), sum(case.refused for case in cases)
    reasons: Counter[str] = Counter()
    for case in cases:
        reasons.update(case.reasons)
    return CaseMeasures(ALL, figures, refused, values, reasons)


def told_apart(one: MeasureDrift) -> tuple[str, str, str]:
    """The case's median and the range's ends, with as many digits as tell the median from the end that it lies beyond."""
    values = (one.median, one.low, one.high)
    end = 1 if one.distance < 0 else 2
    for digits in range(LEAST_DIGITS, MOST_DIGITS):
        texts = [f"{value:.{digits}g}" for value in values]
        if one.distance == 0 or texts[0] != texts[end]:
            return texts[0], texts[1], texts[2]
    return f"{one.median:.{MOST_DIGITS}g}", f"{one.low:.{MOST_DIGITS}g}", f"{one.high:.{MOST_DIGITS}g}"
