"""The plots of a study's report: curves, domains, differences, learning curves, confusion matrices."""

from __future__ import annotations

import math
import re
from typing import Final

from atypia.base import runs
from atypia.base.errors import count_noun
from atypia.reports.drawing.names import short_domains
from atypia.reports.drawing.plots import (
    MOST_SERIES,
    ConfusionPlot,
    Curve,
    Drawing,
    ForestPlot,
    ForestRow,
    LinePlot,
    Panel,
    PlottedEstimate,
    padded_range,
    row_ends,
    zero_forest,
)
from atypia.reports.study.statistics import ADAPTATION_WORDS, place_name
from atypia.statistics.differences.crossvalidation import MeanSd
from atypia.statistics.intervals import Interval
from atypia.statistics.metrics import METRICS
from atypia.studies.findings.schema import RELIABILITY_BINS, RELIABILITY_FEWEST, Curves, Findings, Line, PlaceScore

BA: Final = "balanced_accuracy"
MOST_DIFFERENCES: Final = 20
PANELS: Final = 6


def slug(text: str) -> str:
    """A name converted for use in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "set"


def drawn_scores(found: Findings, place: int) -> list[PlaceScore]:
    """The rows that are drawn on a place, best first: the best few, or every one (:attr:`Findings.every`)."""
    return [score for score in found.at(place) if score.curves is not None]


def tones(found: Findings) -> dict[int, int]:
    """Colour and marker of each drawn row: unique throughout the report, if there are enough."""
    drawn = dict.fromkeys(score.series for place in range(len(found.places)) for score in drawn_scores(found, place))
    return {series: number for number, series in enumerate(drawn)}


def place_tones(found: Findings, place: int) -> list[int]:
    """Tones of the rows drawn for a place; numbered per place if the report draws too many rows."""
    known = tones(found)
    drawn = [score.series for score in drawn_scores(found, place)]
    return [known[series] for series in drawn] if len(known) <= MOST_SERIES else list(range(len(drawn)))


CURVES: Final = ("ROC", "Precision and recall", "Reliability")
"""What :func:`curve_plots` draws, in its order."""


def curve_plots(found: Findings, place: int) -> list[LinePlot]:
    """ROC, precision-recall and reliability curves of the drawn rows; none if no row has curves."""
    scores = drawn_scores(found, place)
    if not scores:
        return []
    key = _key(found, place)
    roc, pr, reliability = (f"{kind}: {place_name(found.places[place])}" for kind in CURVES)
    positive = found.places[place].classes[1]

    def lines(pick: str) -> list[Curve]:
        return [
            Curve(found.series[score.series].label, line.x, line.y, tone=tone)
            for score, tone in zip(scores, place_tones(found, place), strict=True)
            for line in [_line(score.curves, pick)]
        ]

    return [
        LinePlot(f"roc-{key}", roc, "1 − specificity", "sensitivity", lines("roc"), diagonal=True),
        LinePlot(f"pr-{key}", pr, "recall", "precision", lines("pr")),
        LinePlot(
            f"reliability-{key}", reliability, f"mean probability of {positive}", f"share {positive}",
            lines("reliability"), diagonal=True, markers=True,
        ),
    ]  # fmt: skip


RELIABILITY_NOTE: Final = f"Reliability: {RELIABILITY_BINS} bins of equal width; a bin with fewer than {RELIABILITY_FEWEST} figures is not drawn."


def domain_forest(found: Findings, place: int) -> ForestPlot | None:
    """The study's metric by domain of the drawn rows; None where fewer than two domains are known."""
    scores = [score for score in drawn_scores(found, place) if score.domains]
    of_score = dict(zip((score.series for score in drawn_scores(found, place)), place_tones(found, place), strict=True))
    names = list(dict.fromkeys(one.domain for score in scores for one in score.domains))
    short = short_domains(names)
    if len(names) < 2:
        return None
    rows = []
    for domain in names:
        by_score = [next((one for one in score.domains if one.domain == domain), None) for score in scores]
        sizes = max((one for one in by_score if one is not None), key=lambda one: one.n)
        detail = f"{sizes.n_positive:,} of {sizes.n:,} {found.places[place].classes[1]}, {sizes.n_cases:,} cases"
        rows.append(
            ForestRow(
                short[domain], detail, [None if one is None else _point(one.of(found.metric)) for one in by_score]
            )
        )
    # The raters' level is a balanced accuracy: nothing to set an AUROC against.
    human = [one.level for one in found.raters if one.place == place and not math.isnan(one.level)]
    human = human if found.metric == BA else []
    every = [_point(score.pooled[found.metric]) for score in scores]
    title = metric_title(found.metric)
    all_detail = (
        f"{found.places[place].n_positive:,} of {found.places[place].n:,}, {found.places[place].n_cases:,} cases"
    )
    rows.append(ForestRow("all figures", all_detail, every))
    return ForestPlot(
        f"domains-{_key(found, place)}",
        f"{title} by domain: {place_name(found.places[place])}",
        f"{metric_words(found.metric)}, 95 % interval over cases",
        [found.series[score.series].label for score in scores],
        [of_score[score.series] for score in scores],
        rows,
        padded_range([*row_ends(rows), *human], ends=(0.0, 1.0)),
        [(0.5, "chance"), *((level, "raters, mean") for level in human)],
    )


def difference_forest(found: Findings) -> ForestPlot | None:
    """Differences from the reference, one row per row of the study, one series per place; None if there are none."""
    metric = found.metric
    differences = [d for d in found.differences if d.metric == metric and found.places[d.place].part != runs.VALIDATION]
    differences = differences or [d for d in found.differences if d.metric == metric]
    places = list(dict.fromkeys(d.place for d in differences))[:MOST_SERIES]
    rows = []
    for series in list(dict.fromkeys(d.series for d in differences))[: None if found.every else MOST_DIFFERENCES]:
        of_row = {d.place: d for d in differences if d.series == series}
        points = [_point(of_row[place].value) if place in of_row else None for place in places]
        rows.append(ForestRow(found.series[series].label, "", points))
    if not rows:
        return None
    names = []
    for place in places:
        references = list(dict.fromkeys(found.series[d.reference].label for d in differences if d.place == place))
        less = f", less {references[0]}" if len(references) == 1 else ", less the best row of its group"
        names.append(f"{place_name(found.places[place])}{less}")
    title = f"Differences in {metric_words(metric)}"
    return zero_forest(f"differences-{slug(metric)}", title, "difference, 95 % interval over cases", names, rows)


def rank_forests(found: Findings) -> list[ForestPlot]:
    """Mean ranks with half the critical difference on either side: rows whose bars do not overlap differ (Nemenyi)."""
    forests = []
    for number, ranked in enumerate(found.ranks):
        ranking = ranked.ranking
        half = ranking.critical_difference / 2
        rows = [
            ForestRow(name, "", [PlottedEstimate(rank, rank - half, rank + half)])
            for name, rank in zip(
                ranking.names[: None if found.every else MOST_DIFFERENCES], ranking.mean_ranks, strict=False
            )
        ]
        group = f", {ranked.group}" if ranked.group else ""
        forests.append(
            ForestPlot(
                f"ranks-{number + 1}",
                f"Mean ranks by {metric_words(ranked.metric)}{group}; rows differ if their bars do not overlap",
                f"mean rank over {ranking.n_blocks} test sets and domains (1 is best)",
                ["mean rank ± half the critical difference"],
                [0],
                rows,
                padded_range(row_ends(rows), ends=(-math.inf, math.inf)),
            )
        )
    return forests


def effect_forest(found: Findings) -> ForestPlot | None:
    """Effect of each factor, one row per level, one series per place; None if no factors are crossed."""
    metric = found.metric
    effects = [one for one in found.effects if one.metric == metric and found.places[one.place].part != runs.VALIDATION]
    places = list(dict.fromkeys(one.place for one in effects))[:MOST_SERIES]
    rows = []
    for key in dict.fromkeys((one.factor, one.level, one.reference) for one in effects):
        of_level = {one.place: one for one in effects if (one.factor, one.level, one.reference) == key}
        points = [_point(of_level[place].value) if place in of_level else None for place in places]
        level, reference = (ADAPTATION_WORDS.get(name, name) for name in key[1:])
        pairs = max(one.n_pairs for one in of_level.values())
        counted = count_noun(pairs, "pair")
        rows.append(ForestRow(f"{level} less {reference}", f"{key[0]}, {counted}", points))
    if not rows:
        return None
    return zero_forest(
        f"effects-{slug(metric)}",
        f"Effects on {metric_words(metric)}, all else equal",
        "mean difference, 95 % interval over cases",
        [place_name(found.places[place]) for place in places],
        rows,
    )


def learning_plots(found: Findings) -> list[LinePlot]:
    """The study's metric by the share of the data that was trained on, where a study has such shares.

    A point is the mean of the repeats' own values, each on its own test part, ± their population sd, as the tables
    have it. The best models at the largest share are drawn, or all of them.
    """
    charts = []
    for place in range(len(found.places)):
        if found.places[place].part == runs.VALIDATION:
            continue
        by_model: dict[str, list[tuple[float, MeanSd]]] = {}
        for score in found.at(place):
            series = found.series[score.series]
            if series.fraction is not None and found.metric in score.runs:
                name = f"{series.model}, {series.setting}" if series.setting else series.model
                by_model.setdefault(name, []).append((100 * series.fraction, score.runs[found.metric]))
        curves = []
        for points in by_model.values():
            points.sort(key=lambda point: point[0])
        ranked = sorted(by_model, key=lambda name: _rank(by_model[name][-1][1].mean))
        for name in ranked if found.every else ranked[:MOST_SERIES]:
            points = by_model[name]
            curves.append(
                Curve(
                    name,
                    [share for share, _ in points],
                    [value.mean for _, value in points],
                    [value.mean - value.sd for _, value in points],
                    [value.mean + value.sd for _, value in points],
                    len(curves),
                )
            )
        shares = [share for curve in curves for share in curve.x]
        if len(set(shares)) > 1:
            values = [value for curve in curves for value in (*curve.y, *curve.low, *curve.high)]
            charts.append(
                LinePlot(
                    f"learning-{_key(found, place)}",
                    f"{metric_title(found.metric)} by training data: {place_name(found.places[place])}",
                    "% of the training data", f"{metric_words(found.metric)}, mean ± sd over repeats", curves, (min(shares) / 1.5, max(shares) * 1.5),
                    padded_range(values, ends=(0.0, 1.0)), markers=True, log_x=True,
                )
            )  # fmt: skip
    return charts


def confusion_plot(found: Findings, place: int) -> ConfusionPlot | None:
    """Confusion matrices of the best rows on a place."""
    panels = [Panel(found.series[score.series].label, *score.confusion) for score in drawn_scores(found, place)]
    if not panels:
        return None
    at = found.places[place]
    shown = panels if found.every else panels[:PANELS]
    return ConfusionPlot(f"confusion-{_key(found, place)}", f"Confusion: {place_name(at)}", at.classes, shown)


def all_plots(found: Findings) -> list[Drawing]:
    """Every plot of a report, each with a unique key."""
    charts: list[Drawing] = []
    for place in range(len(found.places)):
        charts += curve_plots(found, place)
        charts += [chart for chart in (domain_forest(found, place), confusion_plot(found, place)) if chart is not None]
    charts += [*learning_plots(found), *rank_forests(found)]
    charts += [forest for forest in (effect_forest(found), difference_forest(found)) if forest is not None]
    return charts


def metric_words(metric: str) -> str:
    """A metric within a sentence.

    >>> metric_words("auroc"), metric_words("balanced_accuracy")
    ('AUROC', 'balanced accuracy')
    """
    return "AUROC" if metric == "auroc" else METRICS[metric].title.lower()


def metric_title(metric: str) -> str:
    """A metric at the beginning of a title."""
    words = metric_words(metric)
    return words[:1].upper() + words[1:]


def _key(found: Findings, place: int) -> str:
    at = found.places[place]
    key = f"{slug(at.dataset)}-{at.part}"
    earlier = [f"{slug(one.dataset)}-{one.part}" for one in found.places[:place]]
    return f"{key}-{earlier.count(key) + 1}" if key in earlier else key


def _line(curves: Curves | None, pick: str) -> Line:
    return Line((), ()) if curves is None else {"roc": curves.roc, "pr": curves.pr}.get(pick, curves.reliability)


def _rank(value: float) -> tuple[bool, float]:
    """Best first, undefined last."""
    return math.isnan(value), -value


def _point(interval: Interval) -> PlottedEstimate:
    return PlottedEstimate(interval.estimate, interval.low, interval.high)
