"""Figures: what is drawn where, files that are whole and repeatable."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from atypia.base.errors import InputError
from atypia.evaluation.rows import RESULTS_SCHEMA
from atypia.evaluation.summary import summarise
from atypia.reports.drawing import data_plots as f

COUNTS = [("ami-br", "A | x", 70, 30), ("ami-br", "B | y", 20, 0), ("ami-br", "C", 0, 0), ("atnorm-br", "D", 60, 40)]
CLASSES = ("normal", "atypical")


def folds(n: int = 3) -> list[f.RocInput]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        labels = np.repeat([0, 1], [40, 20])
        found.append(f.RocInput(f"fold-{i + 1}", labels, labels + rng.normal(size=60)))
    return found


def summary(**undefined: float) -> pa.Table:
    values = {("a", None): 0.7, ("a", "X"): 0.6, ("a", "Y"): 0.8, ("b", None): 0.65, ("b", "X"): 0.75, ("b", "Y"): 0.55}
    rows: list[dict[str, Any]] = [
        {
            "run_id": f"{model}{fold}",
            "model": model,
            "dataset": "ami-br",
            "part": "test",
            "domain": domain,
            "fold": f"fold-{fold}",
            "metric": "balanced_accuracy",
            "value": undefined.get(f"{model}{domain}", value + 0.01 * fold),
            "n": 100,
            "n_positive": 20,
            "predictions": "0" * 32,
        }
        for (model, domain), value in values.items()
        for fold in (-1, 1)
    ]
    return summarise(pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA))


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_bars_have_the_lengths_of_the_counts() -> None:
    figure = f.draw_counts(COUNTS, CLASSES)
    first, second = figure.axes
    positive, negative = first.containers[:2]
    assert [bar.get_width() for bar in positive] == [30, 0, 0]
    assert [bar.get_width() for bar in negative] == [70, 20, 0]
    assert [bar.get_x() for bar in negative] == [30, 0, 0]
    assert [bar.get_width() for bar in second.containers[0]] == [40]
    assert first.get_title(loc="left") == "ami-br: 30 atypical of 120"
    assert first.get_xlim() == second.get_xlim()
    said = texts(figure)
    for text in ("30 of 100 (30%)", "0 of 20 (0%)", "no labels", "40 of 100 (40%)", "atypical", "normal", "A | x"):
        assert text in said, text


def test_long_domains_are_broken_between_their_parts() -> None:
    figure = f.draw_counts([("s", "Aperio ScanScope XT | UMC Utrecht | human | breast cancer", 1, 1)], CLASSES)
    label = figure.axes[0].get_yticklabels()[0].get_text()
    assert label == "Aperio ScanScope XT | UMC Utrecht |\nhuman | breast cancer"


def test_the_roc_figure_names_each_folds_area_and_their_spread() -> None:
    given = folds()
    areas = [roc_auc_score(fold.labels, fold.scores) for fold in given]
    figure = f.draw_roc(given, "ViT-S/14")
    said = texts(figure)
    for fold, area in zip(given, areas, strict=True):
        assert f"{fold.name}: AUROC {area:.3f}" in said
    assert f"mean: AUROC {np.mean(areas):.3f} ± {np.std(areas):.3f} (population sd)" in said
    assert len(figure.axes[0].lines) == 1 + 3 + 1
    single = f.draw_roc(given[:1], "ViT-S/14")
    assert not any(text.startswith("mean") for text in texts(single))


def test_the_mean_curve_by_hand() -> None:
    # Scores 4 > 3 > 2 > 1; the first fold ranks + - + -, the second + + - -.
    first = f.RocInput("a", [1, 0, 1, 0], [4, 3, 2, 1])
    second = f.RocInput("b", [1, 1, 0, 0], [4, 3, 2, 1])
    grid, mean, sd = f.mean_roc([first, second], points=5)
    np.testing.assert_allclose(grid, [0, 0.25, 0.5, 0.75, 1])
    # First: (0, ½), rises to (½, 1) at ½: at ¼ it lies on the straight line between ½ and 1.
    np.testing.assert_allclose(mean, [0, (0.75 + 1) / 2, 1, 1, 1])
    np.testing.assert_allclose(sd, [0, 0.125, 0, 0, 0])


def test_the_mean_of_equal_curves_is_the_curve() -> None:
    fold = folds(1)[0]
    _, mean, sd = f.mean_roc([fold, fold], points=401)
    assert np.all(sd == 0)
    assert np.all(np.diff(mean) >= 0)
    assert np.trapezoid(mean, np.linspace(0, 1, 401)) == pytest.approx(
        roc_auc_score(fold.labels, fold.scores), abs=0.02
    )


def test_dots_stand_at_the_means_of_their_domains() -> None:
    figure = f.draw_domains(summary(), "balanced_accuracy", None)
    axis = figure.axes[0]
    dots = [container.lines[0] for container in axis.containers]
    np.testing.assert_allclose(dots[0].get_xdata(), [0.6, 0.8])
    np.testing.assert_allclose(dots[1].get_xdata(), [0.75, 0.55])
    assert [round(y) for y in dots[0].get_ydata()] == [0, 1]
    assert dots[0].get_marker() != dots[1].get_marker()
    segments = axis.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.59, 0.61], [0.79, 0.81]])
    said = texts(figure)
    assert "Balanced accuracy by domain, ami-br, test" in said
    assert any("population sd" in text for text in said)
    assert "X\n20 of 100 positive" in said
    dashed = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"]
    assert sorted(dashed) == pytest.approx([0.65, 0.7])


def test_an_undefined_domain_is_said_to_be_so() -> None:
    figure = f.draw_domains(summary(aX=math.nan), "balanced_accuracy", "Title")
    assert "n/a" in texts(figure)
    assert "Title" in texts(figure)


def test_files_are_whole_pictures_and_the_same_every_time(tmp_path: Path) -> None:
    def write(name: str) -> list[Path]:
        return [
            f.counts_plot(COUNTS, tmp_path / f"counts-{name}"),
            f.roc_plot(folds(), tmp_path / f"roc-{name}"),
            f.domain_plot(summary(), tmp_path / f"domains-{name}"),
        ]

    for path in write("a.png"):
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    for path in write("a.svg"):
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    for first, second in zip(write("b.svg"), write("c.svg"), strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert all(path.suffix in {".png", ".svg"} for path in tmp_path.iterdir())


def test_drawing_leaves_the_users_style_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    f.counts_plot(COUNTS, tmp_path / "counts.svg")
    assert dict(matplotlib.rcParams) == before


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a name ending in .svg or .png, got .pdf; fix: rename"):
        f.counts_plot(COUNTS, tmp_path / "counts.pdf")
    with pytest.raises(InputError, match="`rows` must be at least one domain, got none"):
        f.counts_plot([], tmp_path / "counts.svg")
    with pytest.raises(InputError, match="`rows` must be counts ≥ 0"):
        f.counts_plot([("s", "d", -1, 1)], tmp_path / "counts.svg")
    with pytest.raises(InputError, match="`folds` must be at least one, got none"):
        f.roc_plot([], tmp_path / "roc.svg")
    with pytest.raises(InputError, match="`labels` must be of both classes"):
        f.roc_plot([f.RocInput("a", [1, 1], [0.1, 0.2])], tmp_path / "roc.svg")
    without = summary().filter(pc.is_null(summary()["domain"]))
    with pytest.raises(InputError, match="of one part of one data set, by domain, got 0 of them; fix: filter it"):
        f.domain_plot(without, tmp_path / "domains.svg")
    with pytest.raises(InputError, match="unknown metric"):
        f.domain_plot(summary(), tmp_path / "domains.svg", "ba")
    assert list(tmp_path.iterdir()) == []


def test_more_classifiers_than_can_be_told_apart_are_refused(tmp_path: Path) -> None:
    rows = summary().to_pylist()
    many = [dict(row, model=f"m{i}") for i in range(8) for row in rows if row["model"] == "a"]
    table = pa.Table.from_pylist(many, schema=summary().schema)
    with pytest.raises(InputError, match="of at most 7 classifiers, got 8; fix: choose some of them"):
        f.domain_plot(table, tmp_path / "domains.svg")
