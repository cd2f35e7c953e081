"""The story from tags to the final report, in a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from .browser import Site
from .regions import region_of


def test_tags_several_at_once_a_missed_figure_and_the_report(serving: Callable[..., Site], tmp_path: Path) -> None:
    figures = region_of(tmp_path)
    site = serving(figures, "Ada", "Ben")
    page = site.gallery("#gallery?sort=index&desc=0", rater="Ada")
    state = site.review.intake.decision_state

    page.keyboard.press("a")  # the model says normal
    page.locator(".card .differs").first.wait_for()
    page.keyboard.press("2")  # of the figure just decided
    site.until(lambda: state.tags("Ada", 0) == ["lagging"])
    page.locator(".card .chips", has_text="lagging").wait_for()
    page.locator(".tally", has_text="100 %").wait_for()  # once the server has counted

    for _ in range(3):  # from the second figure to the fifth
        page.keyboard.press("Shift+ArrowRight")
    page.locator(".deciding .now", has_text="4 chosen").wait_for()
    page.keyboard.press("n")
    site.until(lambda: [state.decision("Ada", i) for i in range(1, 5)] == ["normal"] * 4)
    site.until(lambda: "20 %" in page.locator(".tally").inner_text())
    page.keyboard.press("z")
    site.until(lambda: [state.decision("Ada", i) for i in range(1, 5)] == [None] * 4)
    page.keyboard.press("Control+a")
    page.locator(".deciding .now", has_text="24 chosen").wait_for()
    page.get_by_role("button", name="Assign …").click()
    page.get_by_label("Ben").check()
    page.get_by_role("button", name="Assign", exact=True).click()
    site.until(lambda: len(state.assigned_to("Ben")) == 24)
    page.keyboard.press("Escape")

    site.visit("slides")
    page.locator(".stage .scale", has_text=re.compile("µm|mm")).wait_for()
    page.locator(".side dd", has_text="region:00").wait_for()
    page.wait_for_timeout(900)
    page.keyboard.press("m")
    page.locator(".stage.adding").wait_for()
    box = page.locator(".stage .tiles").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".side dd", has_text="added-1").wait_for()
    page.keyboard.press("a")
    site.until(lambda: site.decided("Ada", 24) == "atypical")
    added = site.review.figures
    assert abs(float(added.x_px[24]) - 600) < 150 and abs(float(added.y_px[24]) - 450) < 150, "where the click was"
    assert "2 / 25" in page.locator(".rater").inner_text()

    site.visit("files")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Report for programs").click()
    report = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert report["counts"]["atypical"] == 2 and report["tags"] == {"lagging": 1}
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Final report").click()
    path = tmp_path / "report.html"
    waiting.value.save_as(path)
    page.goto(path.as_uri())
    page.get_by_text("2 of 2 figures atypical by consensus").wait_for()
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    assert re.findall(rb"/MediaBox\s*\[([^\]]*)\]", pdf)[0].split()[2:] == [b"594.95996", b"841.91998"]


@pytest.mark.parametrize("names", [("Ada", "Ben", "Eve"), ("Ada", "Ben", "Eve", "Fay", "Gus", "Hal")])
def test_decisions_of_many_raters_fit_on_a_card(
    serving: Callable[..., Site], tmp_path: Path, names: tuple[str, ...]
) -> None:
    site = serving(region_of(tmp_path), *names)
    for at, name in enumerate(names):
        site.review.intake.decide(name, 0, "atypical" if at % 2 else "normal")
    page = site.open("#arbitration")
    site.choose("Ada")
    card = page.locator(".card", has=page.locator(".opinion")).first
    card.locator(".crop.loaded").wait_for()
    shown = [one.bounding_box() for one in card.locator(".opinion").all()]
    box = card.bounding_box()
    assert len(shown) == min(len(names), 4) and all(one["x"] + one["width"] <= box["x"] + box["width"] for one in shown)
    assert all(left["x"] + left["width"] <= right["x"] + 1 for left, right in pairwise(shown))
    if len(names) > 4:
        assert card.locator(".opinion").last.inner_text() == "+3"


def test_a_telephone_s_large_view_cuts_a_long_name_before_the_number(
    serving: Callable[..., Site], tmp_path: Path
) -> None:
    figures = region_of(tmp_path, "A7-2026-0113-core-biopsy-left-upper-quadrant-level-3")
    site = serving(figures, viewport={"width": 390, "height": 844}, has_touch=True)
    page = site.gallery("#gallery?sort=index&desc=0")
    page.keyboard.press("Enter")
    head, tail = page.locator("dialog.large h2 span").all()
    assert head.inner_text() + tail.inner_text() == figures.id(0) and tail.inner_text().endswith("level-3:00")
    assert head.evaluate("one => one.scrollWidth > one.clientWidth"), "it is too long for this screen"
    title, box = page.locator("dialog.large h2").bounding_box(), tail.bounding_box()
    assert box["x"] + box["width"] <= title["x"] + title["width"] + 1 <= 390
    place = page.locator("dialog.large header .number")
    assert place.inner_text() == "1 of 24" and place.bounding_box()["y"] >= box["y"] + box["height"] - 1


@pytest.mark.parametrize("width", [768, 390])
def test_small_screens_are_usable(serving: Callable[..., Site], tmp_path: Path, width: int) -> None:
    site = serving(region_of(tmp_path), "Ada", viewport={"width": width, "height": 844}, has_touch=True)
    page = site.gallery(rater="Ada")
    page.locator(".deciding").get_by_role("button", name=re.compile("^Atypical")).tap()
    site.until(lambda: "1 / 24" in page.locator(".rater").inner_text())
    grid = page.locator(".grid").bounding_box()
    assert grid["height"] > 300, "the crops have most of the screen"
    page.get_by_role("button", name="Choose", exact=True).tap()
    for at in (2, 3):
        page.locator(".card").nth(at).tap()
    page.locator(".deciding .now", has_text="2 chosen").wait_for()
    page.locator(".deciding").get_by_role("button", name=re.compile("^Normal")).tap()
    site.until(lambda: "3 / 24" in page.locator(".rater").inner_text())
    for view in ("gallery", "slides", "files"):
        site.visit(view)
        page.locator(".card .crop.loaded, .stage .scale, .files").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
