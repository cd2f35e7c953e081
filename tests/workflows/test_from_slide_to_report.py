"""From a slide without points to the printed report, in four commands: detect, predict, (review), report."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Ended, atypia

from atypia.data.phantom.regions import MARGIN_PX, tissue_sides_px
from atypia.review.decisions.intake import DecisionIntake
from atypia.review.figures.opening import Opening, open_figures
from atypia.statistics.detection import RADIUS_UM, detection_quality, match_detections

__all__ = ["atypia"]
MPP, MM2, DENSITY = 0.25, 2.0, 20
SMALL = (
    "geometry={side_px: 80, out_px: 80, outside: mirror}", "input_px=64", "epochs=12", "optimiser.lr=0.003",
    "sampler.draws=512", "patches.places=400",
)  # fmt: skip


def known(folder: Path, name: str) -> np.ndarray:
    """Where the mitotic figures of a slide are, px."""
    with open(folder / "points" / f"{name}.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "mitotic figure"]
    return np.array([(float(row["x_px"]), float(row["y_px"])) for row in rows])


@pytest.mark.slow
def test_four_commands(tmp_path: Path, atypia: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def done(*arguments: object) -> Ended:
        ended = atypia(*arguments)
        assert ended.code == 0, ended.err
        return ended

    monkeypatch.chdir(tmp_path)
    # Before: a small network is trained on other slides.
    small = ("--mm2", 0.06, "--figures", 290, "--look-alikes", 290, "--domain", "rose")
    done("data", "phantom-slides", "--out", "train", "-n", 8, *small)
    settings = [word for one in SMALL for word in ("--set", one)]
    done("train", "ammeling-e2e", "--data", "train/manifest.parquet", "--backbone", "tiny-cnn", "--fold", "fold-1",
         "--out", "mitoses", *settings)  # fmt: skip
    done("data", "phantom-slides", "--out", "new", "-n", 1, "--mm2", MM2, "--seed", 1, "--domain", "rose",
         "--figures", DENSITY, "--look-alikes", DENSITY)  # fmt: skip
    slide = next((tmp_path / "new/slides").glob("*.tif"))

    # 1: what is there. The slide's known figures are used for the quality alone.
    found = done("detect", slide, "--model", "mitoses/fold-1/bundle", "--min-score", 0.95, "--set", "step_um=6",
                 "--out", "figures.geojson", "--against", "new/points", "--class", "mitotic figure", "--json")  # fmt: skip
    quality, (line,) = json.loads(found.out)["quality"], json.loads(found.out)["slides"]
    assert "experimental" in found.err and line["area_mm2"] == pytest.approx(MM2, rel=0.06)
    targets = known(tmp_path / "new", slide.stem) * MPP
    rng = np.random.default_rng(0)
    anywhere = (MARGIN_PX + rng.uniform(size=(line["detections"], 2)) * tissue_sides_px(MM2)) * MPP
    chance = detection_quality([match_detections(anywhere, np.ones(len(anywhere)), targets, RADIUS_UM)])
    assert quality["f1"] > 0.4 > 5 * chance.f1 and quality["recall"] > 0.7, (quality, chance)

    # 2: which of them are atypical, by area.
    done("predict", slide, "--points", "figures.geojson", "--density", "--out", "results.parquet", "--page", "case.html",
         "--summary", "case.json")  # fmt: skip
    summary = json.loads(Path("case.json").read_text())
    assert summary["density"][0]["figures"] == line["detections"]
    assert summary["density"][0]["area_mm2"] == pytest.approx(MM2, rel=0.06)

    # 3: the review, as the page would write it: false detections are no mitoses, figures that were missed are added.
    opening = Opening(("results.parquet",), slides=slide.parent)
    figures = open_figures(opening)
    intake = DecisionIntake(Path("board.sqlite"), figures)
    intake.join("Ada")
    places = places_of(tmp_path / "figures.geojson") * MPP
    away = np.hypot(*(places[:, None] - targets[None]).transpose(2, 0, 1))
    for index in range(len(places)):
        true = away[index].min() <= RADIUS_UM
        intake.decide("Ada", index, "not-mitosis" if not true else "atypical" if index % 3 == 0 else "normal")
    missed = np.flatnonzero(away.min(axis=0) > RADIUS_UM)
    for target in missed.tolist():
        x, y = (targets[target] / MPP).tolist()
        intake.decide("Ada", intake.add("Ada", 0, x, y), "normal")
    intake.close()

    # 4: the report says what is really there.
    said = done("report", "results.parquet", "--decisions", "board.sqlite", "--slides", slide.parent, "--out", "report")
    assert "reviewed by Ada" in said.out and "0 open" in said.out
    report = json.loads(Path("report/report.json").read_text())
    counts = report["counts"]
    assert counts["atypical"] + counts["normal"] == (away.min(axis=1) <= RADIUS_UM).sum() + len(missed)
    assert counts["not-mitosis"] == (away.min(axis=1) > RADIUS_UM).sum()
    (area,) = report["density"]
    assert area["figures"] == counts["atypical"] + counts["normal"]
    assert area["figures"] / area["area_mm2"] == pytest.approx(DENSITY, rel=0.15)
    page = Path("report/report.html").read_text()
    assert re.search(r"2 mm²", page) and "reviewed by Ada" in page and page.count('class="bar"') > 0


def places_of(file: Path) -> np.ndarray:
    """Positions of a GeoJSON file, in its order."""
    features: list[Any] = json.loads(file.read_text())["features"]
    return np.array([feature["geometry"]["coordinates"] for feature in features])
