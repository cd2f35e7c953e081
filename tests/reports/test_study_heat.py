"""Heat maps of training against test domains."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from atypia.reports.drawing.plot_files import draw, write_plots
from atypia.reports.drawing.plot_svg import heat_svg
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Spread
from atypia.reports.study.heat import heat_maps

DOMAINS = ["A | human | breast", "B <b> | human | breast", "C | human | breast"]


def table(models: int = 1) -> Table:
    names = ["model", "train_data", "trained_on", "tested_on", "part", "balanced_accuracy"]
    rows = [
        [f"m{number}", "set", one, other, "test", Spread(0.9 if one == other else 0.6, 0.01)]
        for number in range(models) for one in DOMAINS for other in DOMAINS if (one, other) != (DOMAINS[2], DOMAINS[0])
    ]  # fmt: skip
    return Table("t: matrix", [Column(name, name) for name in names], rows)


def test_each_model_has_a_map_of_all_pairs() -> None:
    (heat,) = heat_maps(table())
    assert heat.rows == heat.columns == ["A", "B <b>", "C"]
    assert [row[i] for i, row in enumerate(heat.values)] == [0.9] * 3 and math.isnan(heat.values[2][0])
    low, high = heat.range
    assert low < 0.6 and high > 0.9
    assert heat.strength(math.nan) == 0 and heat.strength(2) == 1
    assert heat.strength(0.9) - heat.strength(0.6) == pytest.approx(0.3 / (high - low))
    assert heat_maps(None) == [] and len(heat_maps(table(9))) == 6 and len(heat_maps(table(9), every=True)) == 9


def test_the_best_models_come_first() -> None:
    rows = [[*row[:-1], Spread(0.5 if row[0] == "m0" else 0.9, 0.01)] for row in table(8).rows]
    titles = [heat.title for heat in heat_maps(replace(table(8), rows=rows))]
    assert len(titles) == 6 and not any("m0" in title for title in titles)


def test_no_two_names_of_rows_or_columns_read_alike() -> None:
    (heat,) = heat_maps(table())
    names = [f"{'a very long name of a laboratory that fills the line ' * 2}{end}" for end in "abc"]
    svg = str(heat_svg(replace(heat, rows=names, columns=names)))
    labels = re.findall(r'text-anchor="(?:start|end)">([^<]+)</text>', svg)
    assert len(labels) == 7 and len(set(labels)) == 7


def test_ten_columns_do_not_run_into_each_other() -> None:
    names = [f"3D Histech | VMU Vienna | canine | tumour {number}" for number in range(10)]
    (heat,) = heat_maps(table())
    heat = replace(heat, rows=names, columns=names, values=[[0.5] * 10] * 10)
    box = re.search(r'viewBox="0 0 (\d+) ', str(heat_svg(heat)))
    cells = re.findall(r'<rect class="heat" x="([\d.]+)"', str(heat_svg(heat)))[:10]
    assert box is not None and float(cells[1]) - float(cells[0]) >= 30 and float(cells[-1]) + 28 <= int(box[1])
    figure = draw(heat)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes)) and min(one.y0 for one in boxes) > 0


def test_it_is_drawn_on_the_page_and_as_files(tmp_path: Path) -> None:
    (heat,) = heat_maps(table())
    svg = str(heat_svg(heat))
    assert svg.count("<rect") == 9 and "B &lt;b&gt;" in svg and "<b>" not in svg and "n/a" in svg
    files = write_plots([heat], tmp_path)
    assert [file.name for file in files] == ["matrix-m0.svg", "matrix-m0.png"]
    assert all(file.stat().st_size > 1000 for file in files)
