"""The page in a real Chromium: what reviewers see and do, checked against what the server holds."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atypia.data.manifest import Manifest
from atypia.inference.results import RESULTS_SCHEMA
from atypia.review.app import STATIC, create_app
from atypia.review.context import Review
from atypia.review.figures import Figures
from atypia.review.opening import Opening, open_figures
from atypia.review.safety import Access

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 60_000
"""Longest wait for anything; a busy machine is slow, and nothing here waits in vain."""
SEED = 7
REGION_PX = (1200, 900)
MANY = 100_000


@dataclass
class Site:
    """A page of a review that is served, and what the browser complained about."""

    review: Review
    address: str
    page: Page
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Patterns of complaints that a test causes on purpose."""

    def open(self, hash_: str = "") -> Page:
        """Opens the page anew and waits for its tabs."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/{hash_}")
        self.page.locator("#tabs a").first.wait_for()
        return self.page

    def gallery(self, hash_: str = "") -> Page:
        """Opens the gallery and waits for its figures."""
        page = self.open(hash_)
        page.locator(".card .crop.loaded").first.wait_for()
        return page

    def choose(self, name: str) -> None:
        """Chooses a rater, who joins where the name is new."""
        self.page.locator(".rater").click()
        known = self.page.locator(".people button", has_text=name)
        if known.count():
            known.click()
        else:
            self.page.get_by_label("Name of a new rater").fill(name)
            self.page.get_by_role("button", name="Add", exact=True).click()
        self.page.locator(".rater .who", has_text=name).wait_for()
        self.until(lambda: self.page.locator(".grid[aria-busy=true]").count() == 0)

    def visit(self, view: str) -> None:
        """Follows a tab."""
        self.page.locator(f"#tabs a[href='#{view}']").click()

    def current(self) -> str:
        """Id of the figure under the cursor."""
        return self.page.locator(".deciding .now strong").inner_text()

    def decided(self, rater: str, index: int) -> str | None:
        """What the server holds."""
        return self.review.desk.board.decision(rater, index)

    def settle(self) -> None:
        """Waits until the page has had an answer to everything that it sent."""
        unsent = (
            "Object.keys(localStorage).filter((key) => key.startsWith('atypia.unsent')).map((key) => localStorage[key])"
        )
        self.until(lambda: self.page.evaluate(unsent) == ["[]"])

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that only the server shows."""
        for _ in range(PATIENCE_MS // 50):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not come about in time")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A Chromium of this machine; without one these tests are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def serving(chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Serves figures on a free port of loopback and opens a browser; every complaint of the browser fails the test."""
    import uvicorn

    sites: list[Site] = []
    with ExitStack() as stack:

        def served(figures: Figures, *raters: str, **options: Any) -> Site:
            review = Review(figures, tmp_path / f"decisions-{len(sites)}.sqlite")
            for rater in raters:
                review.desk.join(rater)
            sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            config = uvicorn.Config(
                create_app(review, Access("127.0.0.1")), log_level="error", timeout_graceful_shutdown=1
            )
            server = uvicorn.Server(config)
            thread = Thread(target=server.run, kwargs={"sockets": [sock]})
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            site = Site(review, f"http://127.0.0.1:{sock.getsockname()[1]}", context.new_page())
            site.page.on("pageerror", lambda error: site.complaints.append(f"{error}"))
            site.page.on(
                "console",
                lambda said: site.complaints.append(said.text) if said.type in ("error", "warning") else None,
            )
            sites.append(site)
            return site

        yield served
    for site in sites:
        unexpected = [text for text in site.complaints if not any(re.search(known, text) for known in site.expected)]
        assert unexpected == []


@pytest.fixture
def region(tmp_path: Path) -> Figures:
    """24 figures on a pyramidal TIFF of 0.25 µm/px, in rows from the upper left."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra slides)")
    width, height = REGION_PX
    pixels = np.random.default_rng(SEED).integers(150, 240, (height, width, 3), dtype=np.uint8)
    folder = tmp_path / "slides"
    folder.mkdir()
    per_cm = 40_000  # pixels a centimetre at 0.25 µm/px
    with tifffile.TiffWriter(folder / "region.tiff") as writer:
        for level in range(3):
            options = {"subfiletype": 1} if level else {}
            writer.write(
                pixels[:: 2**level, :: 2**level], tile=(256, 256), photometric="rgb", compression="adobe_deflate",
                resolution=(per_cm / 2**level, per_cm / 2**level), resolutionunit="CENTIMETER", **options,
            )  # fmt: skip
    rows = [
        {
            "figure_id": f"region:{i:02d}", "image": "region.tiff", "x_px": 100.0 + 200 * (i % 6),
            "y_px": 120.0 + 200 * (i // 6), "p_atypical": i / 24, "decision": int(i >= 12),
            "call": "atypical" if i >= 12 else "normal", "novelty": None, "threshold": 0.5, "reason": None,
            "model": "probe",
        }
        for i in range(24)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, RESULTS_SCHEMA), tmp_path / "calls.parquet")
    return open_figures(Opening((str(tmp_path / "calls.parquet"),), slides=folder))


@pytest.fixture
def many(small_csv: Path, tmp_path: Path) -> Figures:
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


def test_story(serving: Callable[..., Site], scored: Figures) -> None:
    """Open, filter, sort, decide, undo; a second rater; consensus, arbitration, export."""
    site = serving(scored)
    page = site.gallery()
    order = np.argsort(-np.nan_to_num(scored.p, nan=-1), kind="stable")  # highest first, the unknown one last
    assert site.current() == scored.id(int(order[0]))
    assert page.locator(".card").first.get_attribute("aria-label").startswith(f"figure {scored.id(int(order[0]))}")

    page.keyboard.press("a")  # nobody has said who decides
    page.get_by_label("Name of a new rater").fill("Ada")
    page.keyboard.press("Enter")
    site.until(lambda: site.decided("Ada", int(order[0])) == "atypical")
    site.until(lambda: site.current() == scored.id(int(order[1])))  # the list has come anew, for Ada
    for key in ("n", "u", "x"):
        page.keyboard.press(key)
    site.until(lambda: site.decided("Ada", int(order[3])) == "not-mitosis")
    assert [site.decided("Ada", int(i)) for i in order[:4]] == ["atypical", "normal", "unsure", "not-mitosis"]
    assert site.current() == scored.id(int(order[4])), "a decision goes on to the next figure"
    assert "4 / 80" in page.locator(".rater").inner_text()

    page.keyboard.press("z")
    site.until(lambda: site.decided("Ada", int(order[3])) is None)
    site.until(lambda: site.current() == scored.id(int(order[3])))  # undo goes back to its figure
    page.locator(".card.current:not(.decided)").wait_for()
    assert [event.kind for event in site.review.desk.whole_log()] == ["decision"] * 4 + ["undo"]

    page.locator("summary", has_text="Decision").click()
    page.get_by_label("Normal", exact=True).check()
    page.locator("[role=status]", has_text="1 of 80 figures").wait_for()
    assert site.current() == scored.id(int(order[1]))
    page.get_by_label("Normal", exact=True).uncheck()
    page.keyboard.press("Escape")
    page.get_by_label("Sort by").select_option("index")
    page.locator("[role=status]", has_text="80 figures").wait_for()
    site.until(lambda: site.current() == scored.id(0))

    site.choose("Ben")
    page.get_by_label("Sort by").select_option("p")
    site.until(lambda: site.current() == scored.id(int(order[0])))
    assert page.locator(".card.decided").count() == 0, "Ben sees none of Ada's decisions as his own"
    for key in ("n", "n", "n", "n"):
        page.keyboard.press(key)
    site.until(lambda: site.decided("Ben", int(order[3])) == "normal")

    site.visit("consensus")
    page.get_by_role("table", name="Decisions of each rater").wait_for()
    assert page.locator(".tile", has_text="tie").locator("b").inner_text() == "1"  # atypical against normal
    site.visit("arbitration")
    page.locator("strong", has_text="Settle as").wait_for()
    page.locator(".card .crop.loaded").first.wait_for()
    disputed = site.review.desk.board.disputed().tolist()
    assert site.current() == scored.id(disputed[0]) == scored.id(int(order[0]))
    page.keyboard.press("a")
    site.until(lambda: site.review.desk.board.settled_as(disputed[0]) == "atypical")
    assert site.decided("Ben", disputed[0]) == "normal", "an arbitration is nobody's own opinion"

    site.visit("files")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Decided figures").click()
    path = waiting.value.path()
    assert waiting.value.suggested_filename == "manifest.parquet"
    manifest = Manifest.load(path)
    labels = dict(zip(manifest.ids, manifest.labels.tolist(), strict=True))
    # The unsure one has one vote, Ben's; the settled one is what it was settled as.
    assert labels[scored.id(int(order[0]))] == 1
    assert labels[scored.id(int(order[1]))] == 0
    with page.expect_download() as waiting:
        page.get_by_role("button", name="log.csv").click()
    log = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert log.count("\n") == 1 + len(site.review.desk.whole_log())


def test_blind_mode_hides_what_the_model_and_others_say(serving: Callable[..., Site], scored: Figures) -> None:
    site = serving(scored, "Ada", "Ben")
    for index in range(80):
        site.review.desk.decide("Ben", index, "atypical", "Ben's note")
    page = site.gallery()
    site.choose("Ada")
    assert page.locator(".card .says .symbol").count() > 0
    answers: list[Any] = []
    page.on("response", lambda answer: answers.append(answer) if "/figures?" in answer.url else None)
    page.keyboard.press("b")
    page.locator("#tools button[aria-pressed=true]").wait_for()
    site.until(lambda: page.locator(".card .says .symbol, .card .says .number, .card .label").count() == 0)
    site.until(lambda: len(answers) > 0)
    shown = [figure for answer in answers for figure in answer.json()["figures"]]
    assert len(shown) == 80
    assert all(figure[name] is None for figure in shown for name in ("p", "call", "label", "uncertainty"))
    assert all(figure["others"] == {} for figure in shown)
    assert page.locator("select[aria-label='Sort by'] option").all_inner_texts() == ["Order of the file", "Case"]
    assert (
        page.locator("summary", has_text="Call").count() == 0
        or not page.locator("summary", has_text="Call").is_visible()
    )

    page.keyboard.press("Enter")
    page.locator("dialog.large .facts").first.wait_for()
    assert page.locator("dialog.large h3", has_text=re.compile("Model|Others")).count() == 0
    page.keyboard.press("n")
    site.until(lambda: bool((site.review.desk.board.codes("Ada") >= 0).any()))
    page.keyboard.press("Escape")
    for view in ("consensus", "arbitration"):
        site.visit(view)
        page.get_by_role("heading", name="Hidden in blind mode").wait_for()
        page.keyboard.press("a")  # must decide nothing unseen
    site.visit("queue")
    page.locator(".card .crop.loaded").first.wait_for()
    assert page.locator(".card .says .number").count() == 0
    site.settle()
    page.reload()
    page.locator("#tools button[aria-pressed=true]").wait_for()  # reloading does not lift the veil
    board = site.review.desk.board
    assert board.settled == {}
    assert int((board.codes("Ada") >= 0).sum()) == 1


def test_a_note_is_text_and_nothing_else(serving: Callable[..., Site], figures: Figures) -> None:
    text = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> two poles?"
    site = serving(figures, "Ada")
    page = site.gallery()
    site.choose("Ada")
    page.keyboard.press("n")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("t")
    page.get_by_label("Note", exact=True).fill(text)
    page.keyboard.press("Control+Enter")
    site.until(lambda: site.review.desk.board.note("Ada", 0) == text)
    assert site.decided("Ada", 0) == "normal", "a note leaves the decision as it is"
    site.settle()
    page.reload()
    page.locator(".card .noted").first.wait_for()
    page.locator(".card").first.dblclick()
    assert page.locator("dialog.large .note-text").inner_text() == text
    assert "taken" not in page.title()
    assert page.locator("dialog.large script, dialog.large .note-text *").count() == 0
    page.keyboard.press("u")  # a decision keeps the note
    site.until(lambda: site.decided("Ada", 0) == "unsure")
    assert site.review.desk.board.note("Ada", 0) == text


def test_an_unsent_decision_outlasts_a_reload(serving: Callable[..., Site], figures: Figures) -> None:
    site = serving(figures, "Ada")
    site.expected = ["Failed to load resource", "ERR_FAILED"]
    gone = [True]
    site.page.route("**/decisions", lambda route: route.abort() if gone else route.continue_())
    page = site.gallery()
    site.choose("Ada")
    page.keyboard.press("a")
    page.locator("#banner", has_text="1 entry waits").wait_for()
    page.locator(".card.decided.is-atypical").wait_for()
    page.keyboard.press("n")
    page.locator("#banner", has_text="2 entries wait").wait_for()
    page.locator("#banner button", has_text="Try again").click()
    page.keyboard.press("z")  # takes the second back before it has left
    page.locator("#banner", has_text="1 entry waits").wait_for()
    page.reload()
    page.locator(".card.decided.is-atypical").wait_for()
    assert site.decided("Ada", 0) is None
    gone.clear()
    site.until(lambda: site.decided("Ada", 0) == "atypical")  # by itself, as soon as the server takes it
    page.locator("#banner").wait_for(state="hidden")
    assert site.decided("Ada", 1) is None
    assert len(site.review.desk.whole_log()) == 1


def test_a_decision_in_another_window_is_not_overwritten(serving: Callable[..., Site], figures: Figures) -> None:
    site = serving(figures, "Ada")
    site.expected = ["409"]
    page = site.gallery()
    site.choose("Ada")
    site.review.desk.decide("Ada", 0, "unsure")
    page.keyboard.press("a")
    page.locator(".toast.problem", has_text="decided elsewhere").wait_for()
    page.locator(".card.decided.is-unsure").wait_for()
    assert site.decided("Ada", 0) == "unsure"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("a")  # knowing of it, Ada may change it
    site.until(lambda: site.decided("Ada", 0) == "atypical")


def test_the_address_holds_the_state(serving: Callable[..., Site], scored: Figures) -> None:
    site = serving(scored, "Ada")
    page = site.gallery()
    page.get_by_label("Sort by").select_option("uncertainty")
    page.locator("summary", has_text="Case").click()
    case = page.locator(".choices label").nth(1).inner_text()
    page.locator(".choices input").nth(1).check()
    page.locator("[role=status]", has_text="10 of 80 figures").wait_for()
    page.locator(".grid").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    figure = site.current()
    page.keyboard.press("Enter")
    page.locator("dialog.large[open]").wait_for()
    site.until(lambda: "large=1" in page.url)
    address = page.url
    assert f"case={case}" in address and "sort=uncertainty" in address
    page.goto("about:blank")
    page.goto(address)
    page.locator("dialog.large h2", has_text=figure).wait_for()
    page.keyboard.press("ArrowLeft")
    site.until(lambda: page.locator("dialog.large h2").inner_text() != figure)
    page.keyboard.press("Escape")
    page.locator("summary", has_text=f"Case: {case}").wait_for()


def test_large_view(serving: Callable[..., Site], phantom_folder: Path) -> None:
    site = serving(open_figures(Opening((str(phantom_folder / "manifest.parquet"),))), "Ada")
    page = site.gallery()
    site.choose("Ada")
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


def test_import_of_another_raters_file(serving: Callable[..., Site], figures: Figures) -> None:
    site = serving(figures, "Ada")
    page = site.gallery()
    site.choose("Ada")
    site.visit("files")
    rows = [f"{figures.id(0)},atypical,seen elsewhere", f"{figures.id(1)},normal,", "nobody's figure,normal,"]
    data = "\n".join(["figure_id,decision,note", *rows]).encode()
    page.get_by_label("File", exact=True).set_input_files({"name": "eve.csv", "mimeType": "text/csv", "buffer": data})
    page.get_by_label("Rater", exact=True).fill("Eve")
    page.get_by_role("button", name="Import", exact=True).click()
    page.locator("output", has_text="2 taken, 0 skipped").wait_for()
    assert (site.decided("Eve", 0), site.decided("Eve", 1)) == ("atypical", "normal")
    site.visit("gallery")
    page.locator(".card .rest [aria-label='Eve: atypical']").wait_for()


def test_slide_view(serving: Callable[..., Site], region: Figures) -> None:
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


def test_a_hundred_thousand_figures(serving: Callable[..., Site], many: Figures) -> None:
    site = serving(many, "Ada")
    page = site.gallery("#gallery?sort=index&desc=0&undecided=1")
    site.choose("Ada")
    assert page.locator("[role=status]", has_text="100,000 figures").count() == 1
    cards = page.locator(".card:not([hidden])")
    assert cards.count() < 150, "only what is near the screen is in the document"
    for _ in range(5):
        page.keyboard.press("n")
    site.until(lambda: int((site.review.desk.board.codes("Ada") >= 0).sum()) == 5)
    page.locator("button", has_text="5 no longer fit").wait_for()
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
    serving: Callable[..., Site], region: Figures, width: int, scheme: str
) -> None:
    site = serving(region, "Ada", "Ben", viewport={"width": width, "height": 1024}, color_scheme=scheme)
    site.review.desk.decide("Ada", 0, "atypical")
    site.review.desk.decide("Ben", 0, "normal")
    page = site.gallery()
    site.choose("Ada")
    for view in ("gallery", "slides", "queue", "arbitration", "consensus", "files"):
        site.visit(view)
        page.locator(f"#tabs a[aria-current=page][href='#{view}']").wait_for()
        page.locator(".card .crop.loaded, .stage .legend, table, .files").first.wait_for()
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
