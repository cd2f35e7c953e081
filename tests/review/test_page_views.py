"""The views of the page in a real Chromium: the large one, the slide, a hundred thousand figures, widths and themes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atypia.inference.results import RESULTS_SCHEMA
from atypia.review.figures.figures import ReviewFigures
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.server.app import STATIC

from .browser import Site
from .regions import SEED, region_of

MANY = 100_000


@pytest.fixture
def region(tmp_path: Path) -> ReviewFigures:
    """24 figures on a region of 0.25 µm/px."""
    return region_of(tmp_path)


@pytest.fixture
def many(small_csv: Path, tmp_path: Path) -> ReviewFigures:
    """100,000 figures, all of the same few crops."""
    crops = sorted(str(path) for path in small_csv.parent.glob("*.png"))
    p = np.random.default_rng(SEED).random(MANY)
    columns = {
        "figure_id": [f"f{i:06d}" for i in range(MANY)],
        "image": [crops[i % len(crops)] for i in range(MANY)],
        "p_atypical": p,
        "decision": (p >= 0.5).astype(np.int8),
        "call": np.where(p >= 0.5, "atypical", "normal").tolist(),
        "threshold": np.full(MANY, 0.5),
        "model": ["probe"] * MANY,
    }
    table = pa.table(
        {
            column.name: pa.array(columns[column.name], column.type)
            if column.name in columns
            else pa.nulls(MANY, column.type)
            for column in RESULTS_SCHEMA
        },
        schema=RESULTS_SCHEMA,
    )
    pq.write_table(table, tmp_path / "many.parquet")
    return open_figures(Opening((str(tmp_path / "many.parquet"),)))


def test_every_module_is_asked_for_at_once() -> None:
    """One module that names another is found out only when it has come: the page names all of them itself."""
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:modulepreload" href|src)="/static/js/([\w.]+)"', page))
    assert named == {path.name for path in (STATIC / "js").glob("*.js")}


def test_large_view(serving: Callable[..., Site], phantom_folder: Path) -> None:
    site = serving(open_figures(Opening((str(phantom_folder / "manifest.parquet"),))), "Ada")
    page = site.gallery(rater="Ada")
    page.keyboard.press(" ")
    image = page.locator("dialog.large .scope img")
    image.wait_for()
    page.locator("dialog.large .scale", has_text="µm").wait_for()
    # 128 px of 0.25 µm: 32 µm across. The bar must be as long as it says.
    length_um = float(page.locator("dialog.large .scale").inner_text().removesuffix("µm"))
    bar_px = page.locator("dialog.large .scale i").bounding_box()["width"]
    across_px = image.bounding_box()["width"]
    assert bar_px / across_px * 32 == pytest.approx(length_um, rel=0.02)
    page.keyboard.press("+")
    site.until(lambda: image.bounding_box()["width"] == pytest.approx(1.5 * across_px, rel=0.01))
    page.keyboard.press("0")
    site.until(lambda: image.bounding_box()["width"] == pytest.approx(across_px, rel=0.01))
    stained = image.get_attribute("src")
    page.keyboard.press("h")
    site.until(lambda: "view=hematoxylin" in (image.get_attribute("src") or ""))
    page.keyboard.press("h")
    site.until(lambda: image.get_attribute("src") == stained)
    page.keyboard.press("]")
    assert image.evaluate("image => getComputedStyle(image).filter") == "brightness(1.1) contrast(1)"
    page.locator("dialog.large button", has_text="Reset").click()
    assert image.evaluate("image => getComputedStyle(image).filter") == "none"
    page.keyboard.press("x")
    site.until(lambda: site.decided("Ada", 0) == "not-mitosis")
    assert page.locator("dialog.large header .number").inner_text() == "2 of 100"


def test_slide_view(serving: Callable[..., Site], region: ReviewFigures) -> None:
    site = serving(region, "Ada")
    page = site.open("#slides")
    tiles: list[str] = []
    page.on("response", lambda answer: tiles.append(answer.url) if "_files/" in answer.url else None)
    page.locator("#tabs a[aria-current=page]", has_text="Slides").wait_for()
    page.locator(".side dd", has_text="region:00").wait_for()
    site.choose("Ada")
    page.locator(".scale", has_text=re.compile("µm|mm")).wait_for()
    page.keyboard.press("a")
    site.until(lambda: site.decided("Ada", 0) == "atypical")
    page.locator(".side dd", has_text="region:01").wait_for()  # on to the next
    page.keyboard.press("t")  # of the figure just decided, until another is chosen
    page.get_by_role("heading", name="Note on figure region:00", exact=True).wait_for()
    page.get_by_label("Note", exact=True).fill("lagging")
    page.keyboard.press("Control+Enter")
    site.until(lambda: site.review.intake.decision_state.note("Ada", 0) == "lagging")
    assert site.review.intake.decision_state.note("Ada", 1) is None
    page.keyboard.press("z")  # the note
    site.until(lambda: site.review.intake.decision_state.note("Ada", 0) is None)
    page.locator(".side dd", has_text="region:00").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator(".side dd", has_text="region:01").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator(".side dd", has_text="region:02").wait_for()
    page.keyboard.press("z")
    site.until(lambda: site.decided("Ada", 0) is None)
    page.locator(".side dd", has_text="region:00").wait_for()
    page.get_by_label("Step through").select_option("atypical")
    page.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".side dd", has_text="region:12").wait_for()
    site.until(lambda: "figure=12" in page.url)
    page.keyboard.press("Enter")
    site.until(lambda: any("/slides/0_files/" in url for url in tiles))
    # A click on the overlay chooses the figure under it: the one that the view is centred on.
    page.wait_for_timeout(900)
    box = page.locator(".stage .tiles").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".side dd", has_text="region:12").wait_for()
    drawn = page.locator("canvas.overlay").evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    )
    assert drawn
    page.keyboard.press("n")
    site.until(lambda: site.decided("Ada", 12) == "normal")
    site.visit("files")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="QuPath").click()
    assert Path(waiting.value.path()).read_text(encoding="utf-8").count('"region:12"') == 1


def test_a_hundred_thousand_figures(serving: Callable[..., Site], many: ReviewFigures) -> None:
    site = serving(many, "Ada")
    page = site.gallery("#gallery?sort=index&desc=0&undecided=1", rater="Ada")
    assert page.locator("[role=status]", has_text="100,000 figures").count() == 1
    cards = page.locator(".card:not([hidden])")
    assert cards.count() < 150, "only what is near the screen is in the document"
    for _ in range(5):
        page.keyboard.press("n")
    site.until(lambda: int((site.review.intake.decision_state.codes("Ada") >= 0).sum()) == 5)
    page.locator("button", has_text="5 no longer match").wait_for()
    # The five have left the server's list of the undecided, and yet nothing is skipped further on.
    for press in range(9):
        page.keyboard.press("PageDown")
        page.locator(".deciding .now strong", has_text=re.compile(r"^f\d{6}$")).wait_for()
        place = int(re.search(r"([\d,]+) of", page.locator(".deciding .now").inner_text())[1].replace(",", ""))
        assert site.current() == f"f{place - 1:06d}", press
    assert place > 200
    page.keyboard.press("End")
    site.until(lambda: "100,000 of 100,000" in page.locator(".deciding .now").inner_text())
    site.until(lambda: site.current() == "f099999")
    page.locator(".card.current .crop.loaded").wait_for()
    assert cards.count() < 150
    page.keyboard.press("Home")
    site.until(lambda: site.current() == "f000000")
    page.locator(".card.current.decided.is-normal").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (768, "light")])
def test_every_view_fits_and_is_readable(
    serving: Callable[..., Site], region: ReviewFigures, width: int, scheme: str
) -> None:
    site = serving(region, "Ada", "Ben", viewport={"width": width, "height": 1024}, color_scheme=scheme)
    site.review.intake.decide("Ada", 0, "atypical")
    site.review.intake.decide("Ben", 0, "normal")
    page = site.gallery(rater="Ada")
    for view in ("gallery", "slides", "queue", "arbitration", "consensus", "files"):
        site.visit(view)
        page.locator(f"#tabs a[aria-current=page][href='#{view}']").wait_for()
        page.locator(".card .crop.loaded, .stage .scale, table, .files").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, select, input, summary, a')].filter(one => one.checkVisibility() && "
            "!(one.innerText || one.getAttribute('aria-label') || one.labels?.[0]?.innerText || '').trim()).length"
        )
        assert unnamed == 0, view
        worst = page.evaluate(CONTRAST)
        assert worst[0] >= 4.5, (view, worst)
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keys").wait_for()
    theme = page.locator("#tools button[aria-label^=Theme]")
    page.keyboard.press("Escape")
    theme.click()
    theme.click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 22)"


CONTRAST = """() => {
  // The least contrast (WCAG 2.2) of visible text with the nearest opaque background above it.
  const light = (colour) => colour.slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const read = (text) => { const found = text.match(/[\\d.]+/g).map(Number); return found.length < 4 ? [...found, 1] : found; };
  let worst = [21, ""];
  for (const one of document.querySelectorAll("body *")) {
    const hasText = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !one.checkVisibility() || one.closest(".unseen, .skip, :disabled, kbd, .toast")) continue;
    let under = one;
    while (under && read(getComputedStyle(under).backgroundColor)[3] < 0.85) under = under.parentElement;
    const back = under ? read(getComputedStyle(under).backgroundColor) : [255, 255, 255];
    const [a, b] = [light(read(getComputedStyle(one).color)), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, one.textContent.trim().slice(0, 40)];
  }
  return worst;
}"""
