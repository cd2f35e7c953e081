"""The page of a study: one self-contained HTML file, summary first.

Nothing is loaded from elsewhere, and a content security policy allows only the page's own script and style. Names
of figures, rows and files come from outside and are escaped wherever they appear. Without the script every table
is shown in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from atypia.base import runs
from atypia.base.errors import count_noun
from atypia.reports.drawing.page import render
from atypia.reports.drawing.plot_svg import forest_svg, heat_svg, line_plot_svg, swatch
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import format_value
from atypia.reports.study.encoders import ENCODERS
from atypia.reports.study.heat import heat_maps
from atypia.reports.study.html import notes_html, table_html
from atypia.reports.study.literature import LITERATURE, OURS, PUBLISHED_DIFFERENCES
from atypia.reports.study.plots import (
    CURVES,
    RELIABILITY_NOTE,
    curve_plots,
    difference_forest,
    domain_forest,
    drawn_scores,
    effect_forest,
    learning_plots,
    metric_title,
    metric_words,
    place_tones,
    rank_forests,
    slug,
)
from atypia.reports.study.statistics import (
    ADAPTATIONS,
    DIFFERENCES,
    EFFECTS,
    FOLDS,
    INTERVALS,
    RANKS,
    RATERS,
    compared_table,
    moved_table,
    place_name,
    place_table,
    pooling_note,
)
from atypia.reports.study.summary import headline_table
from atypia.reports.study.tables import MATRIX
from atypia.reports.study.unseen import UNSEEN
from atypia.reports.study.words import duration_text, overall_sentences, place_sentences, progress_sentence, warnings_of
from atypia.studies.findings.about import StudyAbout
from atypia.studies.findings.schema import Findings, PlaceScore
from atypia.studies.findings.single_figures import Gallery, WrongCrop

FAILURES_SHOWN: Final = 20
MOST_RANKINGS: Final = 4
TRACE_CHARACTERS: Final = 6000
MATRICES: Final = 4
LITERATURE_ROWS, MOST_LITERATURE = 10, 4
"""Published rows shown per data set before unfolding, and number of data sets that start unfolded."""
MOST_ROWS: Final = 400
"""Largest number of rows of a table on the page; the files beside it contain all."""


def study_page(about: StudyAbout, found: Findings, tables: Mapping[str, Table]) -> str:
    """The page as HTML.

    Args:
        about: The study itself.
        found: Findings from its predictions.
        tables: Every table of the report, by the name of its file.

    Returns:
        HTML, below 3 MB for any study: the numbers of rows, curves and crops are bounded.
    """
    title = f"{about.name}, size {about.size}"
    tests = [number for number, place in enumerate(found.places) if place.part != runs.VALIDATION]
    said = [text for place in tests or range(len(found.places)) for text in place_sentences(found, place)]
    return render(
        "study",
        {
            "title": title,
            "about": about,
            "tiles": _tiles(about, found),
            "progress": progress_sentence(about),
            "headline": table_html(headline_table(found)),
            "said": [*said, *overall_sentences(found)],
            "warnings": warnings_of(about, found),
            "places": [_place(found, place) for place in range(len(found.places))],
            "sections": _sections(found, tables),
            "facts": _facts(about),
            "environment": table_html(_environments(about)),
            "failures": [
                {"label": one.label, "fold": one.fold, "reason": one.reason, "trace": one.trace[-TRACE_CHARACTERS:]}
                for one in about.failures[:FAILURES_SHOWN]
            ],
            "more_failures": max(0, len(about.failures) - FAILURES_SHOWN),
        },
    )


def _tiles(about: StudyAbout, found: Findings) -> list[tuple[str, str]]:
    counts = [(state, f"{count:,}") for state, count in about.counts.items() if count or state == "done"]
    words = {"done": "runs complete", "lacking": "runs lack data or weights"}
    return [
        *((words.get(state, f"runs {state}"), count) for state, count in counts),
        ("rows", f"{about.n_rows:,}"),
        ("data sets and parts", f"{len(found.places):,}"),
        ("of work", duration_text(about.seconds)),
    ]


def _place(found: Findings, place: int) -> dict[str, Any]:
    at, scores = found.places[place], drawn_scores(found, place)
    negative, positive = at.classes
    share = f"{at.n_positive / at.n:.1%}" if at.n else "n/a"
    cases = count_noun(at.n_cases, "case") if at.n_known else "cases unknown"
    forest = domain_forest(found, place)
    charts = curve_plots(found, place)
    rows = found.at(place)
    notes = [f"{_capital(pooling_note(found, place))}.", RELIABILITY_NOTE]
    if len(rows) > len(scores):
        notes.append(
            f"The best rows by {metric_words(found.metric)} are drawn, {len(scores)} of {len(rows)}; `--all` draws every one."
        )
    gallery = next((one for one in found.galleries if one.place == place), None)
    return {
        "key": f"on-{slug(place_name(at))}",
        "name": place_name(at),
        "sizes": f"{count_noun(at.n, 'figure')}, {at.n_positive:,} {positive} ({share}), {cases}.",
        "table": table_html(place_table(found, place)),
        "charts": [{"title": title, "svg": line_plot_svg(chart)} for title, chart in zip(CURVES, charts, strict=False)],
        "legend": _legend(found, scores, place_tones(found, place)),
        "notes": notes_html(notes),
        "forest": forest_svg(forest) if forest else "",
        "forest_title": f"{metric_title(found.metric)} by domain",
        "matrices": [_matrix(found, score) for score in (scores if found.every else scores[:MATRICES])],
        "positive": positive,
        "negative": negative,
        "gallery": None if gallery is None else _gallery(found, gallery),
    }


def _legend(found: Findings, scores: Sequence[PlaceScore], tones: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "swatch": swatch(tone),
            "name": found.series[score.series].label,
            "value": _areas(score),
        }
        for score, tone in zip(scores, tones, strict=True)
    ]


def _areas(score: PlaceScore) -> str:
    if score.curves is None:
        return ""
    area = format_value(score.pooled["auroc"].estimate)
    return f"AUROC {area}, AP {format_value(score.curves.average_precision)}, ECE {format_value(score.curves.ece)}"


def _matrix(found: Findings, score: PlaceScore) -> dict[str, str]:
    tp, fn, fp, tn = score.confusion
    shares = {
        "tp_share": _share(tp, tp + fn), "fn_share": _share(fn, tp + fn),
        "fp_share": _share(fp, fp + tn), "tn_share": _share(tn, fp + tn),
    }  # fmt: skip
    counts = {"tp": f"{tp:,}", "fn": f"{fn:,}", "fp": f"{fp:,}", "tn": f"{tn:,}"}
    threshold = f"{score.threshold:.3g}"
    return {"name": found.series[score.series].label, "threshold": threshold, **counts, **shares}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "n/a"


def _gallery(found: Findings, gallery: Gallery) -> dict[str, Any]:
    negative, positive = found.places[gallery.place].classes
    groups = []
    for crops, count, called, label in (
        (gallery.missed, gallery.n_missed, negative, positive),
        (gallery.alarms, gallery.n_alarms, positive, negative),
    ):
        if crops:
            groups.append(
                {
                    "title": f"Labelled {label}, decided {called}: {count_noun(count, 'figure')}"
                    + (f", the {len(crops)} most confident of them." if count > len(crops) else "."),
                    "crops": [_crop(crop, gallery, positive) for crop in crops],
                }
            )
    return {"name": found.series[gallery.series].label, "absent": gallery.absent, "groups": groups}


def _crop(crop: WrongCrop, gallery: Gallery, positive: str) -> dict[str, Any]:
    lines = []
    given = [vote for vote in crop.votes if vote is not None]
    if len(given) > 1:
        lines.append(f"{sum(given)}/{len(given)} raters: {positive}")
    if gallery.n_rows > 1:
        lines.append(f"{crop.also_wrong}/{gallery.n_rows} rows wrong")
    if crop.domain:
        lines.append(crop.domain)
    p = f"p = {crop.p:.3f}"
    return {
        "p": p,
        "figure": crop.figure_id,
        "lines": lines,
        "source": f"data:image/jpeg;base64,{crop.jpeg}" if crop.jpeg else "",
        "alt": f"Crop of figure {format_value(crop.figure_id)}, probability of {positive} {crop.p:.3f}",
    }


def _sections(found: Findings, tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """Comparisons, ranks, raters and papers; then every other table, folded."""
    used = {
        UNSEEN,
        ENCODERS,
        DIFFERENCES,
        FOLDS,
        EFFECTS,
        RANKS,
        ADAPTATIONS,
        RATERS,
        LITERATURE,
        PUBLISHED_DIFFERENCES,
    }
    comparing = _blocks(tables, (UNSEEN,))
    forest = effect_forest(found)
    if forest is not None:
        comparing.append(_drawn(forest_svg(forest), forest.title, forest.names))
    if found.effects:
        comparing += _blocks({**tables, EFFECTS: moved_table(found, "")}, (EFFECTS,))
    forest = difference_forest(found)
    if forest is not None:
        title = f"{forest.title}{' from the baseline' if found.baseline else ''}"
        comparing.append(_drawn(forest_svg(forest), title, forest.names))
    comparing += [
        _drawn(line_plot_svg(chart), chart.title, [curve.name for curve in chart.curves])
        for chart in learning_plots(found)
    ]
    comparing += [
        _drawn(heat_svg(heat), heat.title) for heat in heat_maps(tables.get(MATRIX), found.metric, found.every)
    ]
    if found.differences:
        shown_ones = {**tables, DIFFERENCES: compared_table(found, "")}
        comparing += _blocks(shown_ones, (DIFFERENCES,))
    comparing += _blocks(tables, (FOLDS, ENCODERS))
    comparing += [
        _drawn(forest_svg(forest), forest.title, forest.names) for forest in rank_forests(found)[:MOST_RANKINGS]
    ]
    comparing += _blocks(tables, (RANKS, ADAPTATIONS))
    sections = [
        ("comparisons", "Comparisons", comparing),
        ("human", "The human level", _blocks(tables, (RATERS,))),
        ("literature", "Beside the literature", _literature(tables)),
        ("tables", "All tables", _blocks(tables, [n for n in tables if n not in used], folded=True)),
    ]
    for _, title, blocks in sections:
        if len(blocks) == 1 and not blocks[0]["folded"] and blocks[0]["title"].lower() == title.lower():
            blocks[0]["title"] = ""
    return [{"key": key, "title": title, "blocks": blocks} for key, title, blocks in sections if blocks]


def _literature(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """One table per data set, each with the study's rows among those of the papers."""
    blocks = []
    for name in (LITERATURE, PUBLISHED_DIFFERENCES):
        table = tables.get(name)
        if table is None:
            continue
        where = [column.name for column in table.columns].index("dataset")
        datasets = list(dict.fromkeys(str(row[where]) for row in table.rows))
        for dataset in datasets:
            rows = [row for row in table.rows if row[where] == dataset]
            notes = table.notes if dataset == datasets[-1] else ()
            # Leave out metrics that no paper reports on these data.
            told = [i for i, _ in enumerate(table.columns) if any(row[i] is not None for row in rows if row[0] != OURS)]
            kept = [i for i in told if i != where] or list(range(len(table.columns)))
            part = Table(table.title, [table.columns[i] for i in kept], [[row[i] for i in kept] for row in rows], notes)
            body = table_html(_bounded(part, name), LITERATURE_ROWS, OURS)
            title = dataset if name == LITERATURE else f"Differences from a baseline, {dataset}"
            blocks.append(_block(body, title) if len(blocks) < MOST_LITERATURE else _block(body, folded=title))
    return blocks


def _blocks(tables: Mapping[str, Table], names: Sequence[str], folded: bool = False) -> list[dict[str, Any]]:
    blocks = []
    for name in names:
        table = tables.get(name)
        if table is None or not table.rows:
            continue
        title = table.title or table.subject
        body = table_html(_bounded(table, name))
        count = f"{_capital(title)} ({count_noun(len(table.rows), 'row')})"
        # The tables above already contain the intervals.
        blocks.append(_block(body, folded=count) if folded or name == INTERVALS else _block(body, _capital(title)))
    return blocks


def _block(body: Markup, title: str = "", legend: Sequence[Mapping[str, Any]] = (), folded: str = "") -> dict[str, Any]:
    return {"title": title, "legend": list(legend), "body": body, "folded": folded}


def _drawn(svg: Markup, title: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """A block with one plot and a legend of its series in their order."""
    legend = [{"swatch": swatch(number), "name": name} for number, name in enumerate(names)]
    return _block(Markup('<figure class="single">{}</figure>').format(svg), title, legend)


def _bounded(table: Table, name: str) -> Table:
    """The first rows of a table, without empty columns."""
    kept = [i for i, _ in enumerate(table.columns) if i == 0 or any(row[i] not in (None, "") for row in table.rows)]
    columns = [table.columns[i] for i in kept]
    rows = [[row[i] for i in kept] for row in table.rows[:MOST_ROWS]]
    notes = list(table.notes)
    if len(table.rows) > MOST_ROWS:
        notes.append(f"the first {MOST_ROWS:,} of {count_noun(len(table.rows), 'row')}; {name}.csv has all")
    within = [title for title in table.best_within if title in {column.title for column in columns}]
    return Table(table.title, columns, rows, notes, (), within)


def _facts(about: StudyAbout) -> list[tuple[str, str]]:
    facts = [
        ("trained on", ", ".join(about.trained_on)),
        ("tested on", ", ".join(about.tested_on) or "the protocol's own test and validation parts"),
        ("protocol", about.protocol),
        ("baseline", about.baseline or "none: rows are compared with the best one"),
    ]
    facts += [(f"not tested on {name}", text) for name, text in about.absent_tests.items()]
    facts += [("left out", f"{_some(labels)}: {text}") for text, labels in about.lacking.items()]
    return facts


def _some(labels: Sequence[str], most: int = 6) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return f"{', '.join(labels[:most])}{more}"


def _environments(about: StudyAbout) -> Table:
    """Versions, one column per environment, to show differences between runs."""
    shown_ones = about.environments[:6]
    names = list(dict.fromkeys(name for versions, _ in shown_ones for name in versions))
    columns = [
        Column("what"),
        *(Column(count_noun(count, "run"), f"runs_{i}") for i, (_, count) in enumerate(shown_ones)),
    ]
    rows = [[name, *(versions.get(name) for versions, _ in shown_ones)] for name in names]
    notes = [] if len(about.environments) <= 6 else [f"{len(about.environments) - 6} more environments are not shown"]
    return Table("", columns, rows, notes)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
