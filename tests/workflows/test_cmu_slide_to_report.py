"""The published CMU slide with made-up points: from a detector's file to the report that three raters came to, printed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from tests.cli.conftest import Ended, atypia
from tests.review.browser import chromium

from atypia.data.slides.readers import open_slide
from atypia.data.slides.slidecrops import SlideReading
from atypia.reports.case.density import field_size
from atypia.review.decisions.intake import DecisionIntake
from atypia.review.figures.opening import Opening, open_figures

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["atypia", "chromium"]
SLIDE = "slides/cmu-1-small-region.svs"
FIELD = "10xd0.16"
RATERS = ("Ada", "Ben", "Eve")
POINTS = 40
MM_A_POINT = 72 / 25.4


def darkest_places(path: Path) -> npt.NDArray[np.float64]:
    """The darkest pixel of each of the darkest squares of 128 px; px, shape (:data:`POINTS`, 2)."""
    side = 128
    with open_slide(path) as slide:
        grey = slide.block(0, 0, slide.width_px, slide.height_px).mean(axis=2)
    squares = [
        (grey[top : top + side, left : left + side], left, top)
        for top in range(side, grey.shape[0] - 2 * side, side)
        for left in range(side, grey.shape[1] - 2 * side, side)
    ]
    squares.sort(key=lambda one: float(np.percentile(one[0], 2)))
    found = []
    for square, left, top in squares[:POINTS]:
        y, x = np.unravel_index(int(square.argmin()), square.shape)
        found.append((left + float(x), top + float(y)))
    return np.array(found)


def most_in_a_field(places_um: npt.NDArray[np.float64]) -> int:
    """Most figures in a field of :data:`FIELD`, by trying each field that begins at a figure on both axes."""
    width, height = field_size(FIELD).sides_um
    x, y = places_um.T
    return max(
        int(((x >= left) & (x <= left + width) & (y >= top) & (y <= top + height)).sum()) for left in x for top in y
    )


def decided(index: int) -> list[str]:
    """What the three raters say of a figure: all alike, two against one, one each, or no mitosis."""
    kinds = (
        ["atypical"] * 3, ["normal"] * 3, ["normal", "normal", "atypical"], ["atypical", "normal", "unsure"], ["not-mitosis"] * 3,
    )  # fmt: skip
    return kinds[index % len(kinds)]


@pytest.mark.real
def test_made_up_points_become_a_printed_report(
    real_root: Path, tmp_path: Path, atypia: Callable[..., Ended], chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = real_root / SLIDE
    places = darkest_places(path)
    with open_slide(path) as slide:
        mpp, size = SlideReading().scale(slide).mpp or 0.0, (slide.width_px, slide.height_px)

    # A detector's answer as grand-challenge's containers write it, in mm; the last figure has a low score.
    points = [
        {"name": "mitotic figure", "point": [x * mpp / 1000, y * mpp / 1000, 0.0], "probability": 0.4 + 0.5 * (at < POINTS - 1)}
        for at, (x, y) in enumerate(places.tolist())
    ]  # fmt: skip
    Path("found.json").write_text(
        json.dumps({"type": "Multiple points", "points": points, "name": "MF", "version": {}})
    )
    asked = ("--points", "found.json", "--min-score", 0.5, "--density", "--field", FIELD)
    ended = atypia("predict", path, *asked, "--out", "results.parquet", "--page", "case.html", "--summary", "case.json")
    assert ended.code == 0, ended.err
    assert "read as mm" in ended.err and "left out: 1 of 40 points" in ended.err
    (area,) = json.loads(Path("case.json").read_text())["density"]
    kept = places[:-1]
    assert area["figures"] == len(kept) and area["hotspot"]["figures"] == most_in_a_field(kept * mpp)
    assert 0 < area["area_mm2"] < size[0] * size[1] * mpp**2 / 1e6
    assert "<svg" in Path("case.html").read_text(encoding="utf-8")

    # Three raters; Eve settles what they differ on evenly.
    figures = open_figures(Opening(("results.parquet",), slides=path.parent))
    assert len(figures) == len(kept)
    intake = DecisionIntake(Path("board.sqlite"), figures)
    for name in RATERS:
        intake.join(name)
    final = []
    for index in range(len(kept)):
        said = decided(index)
        for name, decision in zip(RATERS, said, strict=True):
            intake.decide(name, index, decision)
        if len(set(said)) == 3:
            intake.decide("Eve", index, "atypical", arbitrate=True)
        final.append("atypical" if len(set(said)) == 3 else max(said, key=said.count))
    intake.close()

    asked = (
        "--decisions",
        "board.sqlite",
        "--slides",
        path.parent,
        "--field",
        FIELD,
        "--title",
        "CMU",
        "--out",
        "report",
    )
    ended = atypia("report", "results.parquet", *asked)
    assert ended.code == 0, ended.err
    assert f"reviewed by Ada ({len(kept)} of {len(kept)}), Ben" in ended.out and "0 open" in ended.out
    report = json.loads(Path("report/report.json").read_text(encoding="utf-8"))
    assert {name: report["counts"][name] for name in set(final)} == {name: final.count(name) for name in set(final)}
    (area,) = report["density"]
    mitoses, atypical = (
        np.array([one in wanted for one in final]) for wanted in (("atypical", "normal"), ("atypical",))
    )
    assert (area["figures"], area["atypical"]) == (mitoses.sum(), atypical.sum())
    assert area["hotspot"]["figures"] == most_in_a_field(kept[mitoses] * mpp)
    assert area["atypical_hotspot"]["atypical"] == most_in_a_field(kept[atypical] * mpp)
    with open("report/report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["final"] for row in rows] == final
    assert sum(row["decided_by"] == "arbitration by Eve" for row in rows) == sum(
        len(set(decided(i))) == 3 for i in range(len(kept))
    )

    page = chromium.new_page()
    page.goto((tmp_path / "report/report.html").as_uri())
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    page.close()
    sides = [float(side) / MM_A_POINT for side in re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)[0]]
    assert sides == pytest.approx([210, 297], abs=1) and len(re.findall(rb"/Type /Page\b", pdf)) >= 2
