"""Charts: ticks, ranges, SVG that stands in a page, files that are drawn once."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base.errors import AbsentError
from atypia.reports.drawing import plot_files as chart_files
from atypia.reports.drawing.names import short_domains
from atypia.reports.drawing.plot_svg import forest_svg, line_plot_svg
from atypia.reports.drawing.plots import (
    ConfusionPlot,
    Curve,
    ForestPlot,
    ForestRow,
    LinePlot,
    Panel,
    PlottedEstimate,
    fitted,
    padded_range,
    ticks,
)
from atypia.reports.study.plots import (
    all_plots,
    curve_plots,
    difference_forest,
    domain_forest,
    learning_plots,
    rank_forests,
    tones,
)

from .findings import findings


def chart(**changes: object) -> LinePlot:
    given = {
        "key": "roc",
        "title": "ROC",
        "x_label": "x",
        "y_label": "y",
        "curves": [Curve("a & b", [0, 0.5, 1], [0, 0.8, 1])],
    }
    return LinePlot(**{**given, **changes})  # pyright: ignore[reportArgumentType]


@given(st.floats(-5, 5), st.floats(1e-3, 20))
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert 2 <= len(marks) <= 6
    assert all(low - 1e-6 * span <= mark <= low + span * (1 + 1e-6) for mark in marks)
    steps = [round((b - a) / span, 6) for a, b in pairwise(marks)]
    assert max(steps) - min(steps) < 1e-4


def test_range_holds_the_values() -> None:
    assert padded_range([0.5, 0.6, math.nan], ends=(0.0, 1.0)) == pytest.approx((0.49, 0.61))
    assert padded_range([0.98, 1.0], ends=(0.0, 1.0))[1] == 1.0
    assert padded_range([math.nan]) == (-1.0, 1.0)


def test_chart_is_well_formed_and_placed() -> None:
    curve = Curve("a & b", [0, 0.5, 1], [0, 0.8, 1], [math.nan, 0.7, 0.9], [math.nan, 0.9, 1.0], tone=3)
    root = ElementTree.fromstring(str(line_plot_svg(chart(curves=[curve], diagonal=True, markers=True))))
    group = next(node for node in root.iter("g"))
    assert group.get("class") == "s3"
    assert [node.text for node in group.iter("title")] == ["a & b"]
    points = [tuple(map(float, pair.split(","))) for pair in next(group.iter("polyline")).get("points", "").split()]
    assert points[0] == (46.0, 290.0)
    assert points[-1] == (330.0, 10.0)
    assert points[1] == (188.0, 66.0)
    assert len([node for node in group if node.get("class") == "bar"]) == 2
    assert len([node for node in group if node.get("class") == "marker"]) == 3
    assert not any("style" in node.attrib for node in root.iter())
    log = ElementTree.fromstring(
        str(line_plot_svg(chart(curves=[Curve("a", [1, 10, 100], [0, 0.5, 1])], x_range=(1, 100), log_x=True)))
    )
    points = next(log.iter("polyline")).get("points", "").split()
    assert points[1].startswith("188.0,")


def test_forest_is_well_formed_and_says_undefined() -> None:
    rows = [
        ForestRow("one <x>", "5 of 9", [PlottedEstimate(0.5, 0.4, 0.6), None]),
        ForestRow("two", "", [PlottedEstimate(math.nan), PlottedEstimate(0.7)]),
    ]
    forest = ForestPlot("f", "t", "x", ["a", "b"], [0, 2], rows, (0.3, 0.9), [(0.5, "chance")])
    root = ElementTree.fromstring(str(forest_svg(forest)))
    text = ["".join(node.itertext()) for node in root.iter("text")]
    assert "one <x>5 of 9" in text
    assert "n/a" in text
    titles = [node.text for node in root.iter("title")]
    assert titles == ["chance", "a: 0.500 (0.400 to 0.600)", "b: 0.700"]
    assert len([node for node in root.iter("line") if node.get("class") == "bar"]) == 1


def test_long_labels_of_a_forest_stay_inside_it() -> None:
    named = "3DHistech Pannoramic Scan II | VMU Vienna | canine | soft tissue sarcoma"
    names = (named, "B", "a name of one part that is longer than the plot is wide, " * 2)
    rows = [ForestRow(name, "5 of 9", [PlottedEstimate(0.5, 0.4, 0.6)]) for name in names]
    root = ElementTree.fromstring(str(forest_svg(ForestPlot("f", "t", "x", ["a"], [0], rows, (0.3, 0.9), []))))
    labels = [node for node in root.iter("text") if node.find("tspan") is not None]
    assert [node.text for node in labels[:2]] == ["3DHistech Pannoramic Scan II | VMU Vienna | canine", "B"]
    assert all(len(node.text or "") <= 58 for node in labels) and "…" in (labels[2].text or "")
    below = [span for node in labels for span in node.iter("tspan")]
    assert [span.text for span in below] == ["soft tissue sarcoma, 5 of 9", "5 of 9", "5 of 9"]
    assert {span.get("x") for span in below} == {"14"}


def test_files_are_drawn_once_and_only_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = chart_files.draw

    def counted(one: object) -> object:
        drawn.append(getattr(one, "key", ""))
        return draw(one)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(chart_files, "draw", counted)
    matrix = ConfusionPlot("matrix", "t", ("normal", "atypical"), [Panel("a", 1, 2, 3, 4), Panel("b", 0, 0, 0, 4)])
    rows = [ForestRow("one", "n", [PlottedEstimate(0.5, 0.4, 0.6)])]
    forest = ForestPlot("forest", "t", "x", ["a"], [0], rows, (0.3, 0.9), [(0.5, "chance")])
    paths = chart_files.write_plots([chart(), matrix, forest], tmp_path)
    assert drawn == ["roc", "matrix", "forest"]
    assert {path.name for path in paths} == {f"{k}{s}" for k in drawn for s in (".svg", ".png")}
    first = (tmp_path / "roc.svg").read_bytes()
    chart_files.write_plots([chart(), matrix, forest], tmp_path)
    assert len(drawn) == 3
    chart_files.write_plots([chart(title="other"), matrix], tmp_path)
    assert drawn[3:] == ["roc"]
    assert (tmp_path / "roc.svg").read_bytes() != first
    assert not (tmp_path / "forest.png").exists()
    (tmp_path / chart_files.DRAWN).write_text("damaged", "utf-8")
    chart_files.write_plots([matrix], tmp_path)
    assert drawn[4:] == ["matrix"]


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atypia.base.extras.installed", lambda module: False)
    with pytest.raises(AbsentError, match=r"atypia\[figures\]"):
        chart_files.write_plots([chart()], tmp_path)
    assert chart_files.write_plots([], tmp_path) == []


def test_a_row_keeps_its_colour_on_all_places() -> None:
    found = findings()
    assert tones(found) == {0: 0, 1: 1, 2: 2}
    roc = curve_plots(found, 1)[0]
    assert [(curve.name, curve.tone) for curve in roc.curves] == [(s.label, i) for i, s in enumerate(found.series)]
    forest = domain_forest(found, 0)
    assert forest is not None
    assert [row.label for row in forest.rows] == ["scanner 0", "scanner 1", "all figures"]
    assert short_domains(["only"]) == {"only": "only"}
    assert len({one.key for one in all_plots(found)}) == len(all_plots(found)) == 12


def test_differences_have_a_row_a_classifier_and_a_series_a_place() -> None:
    forest = difference_forest(findings(40))
    assert forest is not None
    assert len(forest.rows) == 20
    assert forest.lines == [(0.0, "no difference")]
    low, high = forest.x_range
    assert low < -0.1
    assert high > 0
    assert difference_forest(findings(differences=())) is None


def test_ranks_have_bars_of_the_critical_difference() -> None:
    (forest,) = rank_forests(findings())
    (ranked,) = findings().ranks
    widths = [point.high - point.low for row in forest.rows for point in row.points if point is not None]
    assert widths == [pytest.approx(ranked.ranking.critical_difference)] * len(ranked.ranking.names)
    first = forest.rows[0].points[0]
    assert forest.rows[0].label == "a" and first is not None and first.value == pytest.approx(1.2)
    assert forest.x_range[0] < first.low and "5 test sets" in forest.x_label


def test_learning_curves_come_from_shares_of_the_data() -> None:
    found = findings()
    fractions = [0.01, 0.1, 1.0]
    series = tuple(replace(s, model="m", fraction=f) for s, f in zip(found.series, fractions, strict=True))
    (drawn,) = learning_plots(replace(found, series=series))
    assert [list(curve.x) for curve in drawn.curves] == [[1, 10, 100]]
    assert drawn.log_x
    # The table's mean ± sd over repeats, whatever the pooled probabilities say.
    runs = [found.at(0)[i].runs["balanced_accuracy"] for i in range(3)]
    assert list(drawn.curves[0].y) == [one.mean for one in runs]
    assert list(drawn.curves[0].high) == [one.mean + one.sd for one in runs]
    assert learning_plots(found) == []


def test_learning_curves_of_the_best_models_or_of_all() -> None:
    found = findings(20)
    series = tuple(replace(s, model=f"m{i // 2}", fraction=0.1 if i % 2 else 1.0) for i, s in enumerate(found.series))
    found = replace(found, series=series)
    assert [curve.name for curve in learning_plots(found)[0].curves] == [f"m{i}" for i in range(7)]
    assert len(learning_plots(replace(found, every=True))[0].curves) == 10


def test_the_metric_is_a_choice() -> None:
    found = replace(findings(), metric="auroc")
    forests = [difference_forest(found), domain_forest(found, 0)]
    assert [f.title for f in forests if f] == ["Differences in AUROC", "AUROC by domain: ami-br, test"]
    better = found.scores[2]
    raised = replace(better, each={**better.each, "auroc": replace(better.pooled["auroc"], estimate=0.99)})
    found = replace(found, scores=(*found.scores[:2], raised, *found.scores[3:]))
    assert [score.series for score in found.at(0)] == [2, 0, 1]
    assert [score.series for score in replace(found, metric="balanced_accuracy").at(0)] == [0, 1, 2]


@given(st.lists(st.text(max_size=60), max_size=8, unique=True), st.integers(6, 40))
def test_labels_never_read_alike(names: list[str], most: int) -> None:
    labels = fitted(names, most)
    assert list(labels) == names and len(set(labels.values())) == len(names)
    assert all(len(label) <= most + 2 for label in labels.values())


def test_seventeen_curves_have_a_look_of_their_own(tmp_path: Path) -> None:
    curves = [Curve(f"model {tone}", [0, 1], [0, 1], tone=tone) for tone in range(17)]
    figure = chart_files.draw(chart(curves=curves, diagonal=True))
    lines = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("model")]
    assert len({(line.get_color(), str(line.get_linestyle()), str(line._dash_pattern)) for line in lines}) == 17  # pyright: ignore
    box = figure.axes[0].get_position()
    assert box.height * figure.get_figheight() > 3.5
