"""The page in a real Chromium: what reviewers do, checked against what the server holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atypia.data.manifest import Manifest
from atypia.review.figures.figures import ReviewFigures

from .browser import Site


def test_story(serving: Callable[..., Site], scored: ReviewFigures) -> None:
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
    assert [event.kind for event in site.review.intake.whole_log()] == ["decision"] * 4 + ["undo"]

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
    disputed = site.review.intake.decision_state.disputed().tolist()
    assert site.current() == scored.id(disputed[0]) == scored.id(int(order[0]))
    page.keyboard.press("a")
    site.until(lambda: site.review.intake.decision_state.settled_as(disputed[0]) == "atypical")
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
    assert log.count("\n") == 1 + len(site.review.intake.whole_log())


def test_blind_mode_hides_what_the_model_and_others_say(serving: Callable[..., Site], scored: ReviewFigures) -> None:
    site = serving(scored, "Ada", "Ben")
    for index in range(80):
        site.review.intake.decide("Ben", index, "atypical", "Ben's note")
    page = site.gallery()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    site.choose("Ada")
    site.until(lambda: page.locator(".card .says .symbol").count() > 0)  # the cards are drawn anew for the rater
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
    assert page.locator("select[aria-label='Sort by'] option").all_inner_texts() == ["Random order", "Case"]
    assert (
        page.locator("summary", has_text="Call").count() == 0
        or not page.locator("summary", has_text="Call").is_visible()
    )

    assert any("/rates" in url for url in asked), "it is fetched where it is shown"
    asked.clear()
    page.keyboard.press("Enter")
    page.locator("dialog.large .facts").first.wait_for()
    assert page.locator("dialog.large h3", has_text=re.compile("Model|Others")).count() == 0
    page.keyboard.press("n")
    site.until(lambda: bool((site.review.intake.decision_state.codes("Ada") >= 0).any()))
    page.keyboard.press("Escape")
    for view in ("consensus", "arbitration"):
        site.visit(view)
        page.get_by_role("heading", name="Hidden in blind mode").wait_for()
        page.keyboard.press("a")  # must decide nothing unseen
    site.visit("files")
    page.get_by_role("heading", name="Export").wait_for()
    assert page.get_by_role("heading", name="Calibrate the model").count() == 0
    site.visit("queue")
    page.locator(".card .crop.loaded").first.wait_for()
    assert page.locator(".card .says .number").count() == 0
    site.settle()
    assert page.locator(".tally").count() == 1 and page.locator(".tally .whole").count() == 0
    telling = re.compile(r"/(rates|calibration|consensus|arbitration)(\?|$)")
    assert asked and not [url for url in asked if telling.search(url)], "what is hidden is not fetched either"
    page.reload()
    page.locator("#tools button[aria-pressed=true]").wait_for()  # reloading does not lift the veil
    decision_state = site.review.intake.decision_state
    assert decision_state.settled == {}
    assert int((decision_state.codes("Ada") >= 0).sum()) == 1


def test_a_note_is_text_and_nothing_else(serving: Callable[..., Site], figures: ReviewFigures) -> None:
    text = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> two poles?"
    site = serving(figures, "Ada")
    page = site.gallery(rater="Ada")
    page.keyboard.press("n")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("t")
    page.get_by_label("Note", exact=True).fill(text)
    page.keyboard.press("Control+Enter")
    site.until(lambda: site.review.intake.decision_state.note("Ada", 0) == text)
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
    assert site.review.intake.decision_state.note("Ada", 0) == text


def test_a_note_right_after_a_decision_is_of_the_figure_decided(
    serving: Callable[..., Site], figures: ReviewFigures
) -> None:
    site = serving(figures, "Ada")
    page = site.gallery(rater="Ada")
    note = lambda index: site.review.intake.decision_state.note("Ada", index)  # noqa: E731

    page.keyboard.press("a")
    site.until(lambda: site.current() == figures.id(1))
    page.keyboard.press("t")
    page.get_by_role("heading", name=f"Note on figure {figures.id(0)}", exact=True).wait_for()
    page.locator("dialog", has_text="just decided: atypical").wait_for()
    page.get_by_label("Note", exact=True).fill("of the first")
    page.keyboard.press("Control+Enter")
    site.until(lambda: note(0) == "of the first")
    assert (site.decided("Ada", 0), note(1)) == ("atypical", None)
    page.keyboard.press("t")  # the same again, with what stands there
    assert page.get_by_label("Note", exact=True).input_value() == "of the first"
    # The first dialog is gone at once, however late the frame in which the browser tells of its closing.
    instead = page.get_by_role("button", name=f"Note on figure {figures.id(1)} instead")
    assert instead.evaluate("(button) => { button.click(); return document.querySelectorAll('.note-of').length; }") == 1
    page.get_by_role("heading", name=f"Note on figure {figures.id(1)}", exact=True).wait_for()
    page.get_by_label("Note", exact=True).fill("of the second")
    page.get_by_role("button", name="Keep note").click()
    site.until(lambda: note(1) == "of the second")
    assert site.decided("Ada", 1) is None

    page.keyboard.press("n")  # decides the second; moving on by hand makes T the key of the current one
    site.until(lambda: site.current() == figures.id(2))
    assert page.get_by_role("button", name="Note on last").is_visible()
    page.keyboard.press("ArrowRight")
    site.until(lambda: site.current() == figures.id(3))
    assert not page.get_by_role("button", name="Note on last").is_visible()
    page.keyboard.press("t")
    page.get_by_role("heading", name=f"Note on figure {figures.id(3)}", exact=True).wait_for()
    again = """() => {
        document.querySelector('.note-of').closest('dialog').close();  // as by Esc
        document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 't', bubbles: true}));
        return [...document.querySelectorAll('.note-of')].map((one) => one.closest('dialog').open);
    }"""
    assert page.evaluate(again) == [True]
    page.keyboard.press("Escape")

    page.keyboard.press("Enter")  # in the large view, too; its own button is of the figure that it shows
    page.locator("dialog.large h2", has_text=figures.id(3)).wait_for()
    page.keyboard.press("u")
    page.locator("dialog.large h2", has_text=figures.id(4)).wait_for()
    page.locator("dialog.large").get_by_role("button", name="Write a note").click()
    page.get_by_role("heading", name=f"Note on figure {figures.id(4)}", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.get_by_role("heading", name=f"Note on figure {figures.id(3)}", exact=True).wait_for()
    page.get_by_label("Note", exact=True).fill("of the fourth")
    page.keyboard.press("Control+Enter")
    site.until(lambda: note(3) == "of the fourth")
    assert (site.decided("Ada", 3), note(4)) == ("unsure", None)


def test_an_unsent_decision_outlasts_a_reload(serving: Callable[..., Site], figures: ReviewFigures) -> None:
    site = serving(figures, "Ada")
    site.expected = ["Failed to load resource", "ERR_FAILED"]
    gone = [True]
    site.page.route("**/decisions", lambda route: route.abort() if gone else route.continue_())
    page = site.gallery(rater="Ada")
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
    assert len(site.review.intake.whole_log()) == 1


def test_a_decision_in_another_window_is_not_overwritten(serving: Callable[..., Site], figures: ReviewFigures) -> None:
    site = serving(figures, "Ada")
    site.expected = ["409"]
    page = site.gallery(rater="Ada")
    site.review.intake.decide("Ada", 0, "unsure")
    page.keyboard.press("a")
    page.locator(".toast.problem", has_text="decided elsewhere").wait_for()
    page.locator(".card.decided.is-unsure").wait_for()
    assert site.decided("Ada", 0) == "unsure"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("a")  # knowing of it, Ada may change it
    site.until(lambda: site.decided("Ada", 0) == "atypical")


def test_the_address_holds_the_state(serving: Callable[..., Site], scored: ReviewFigures) -> None:
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


def test_import_of_another_raters_file(serving: Callable[..., Site], figures: ReviewFigures) -> None:
    site = serving(figures, "Ada")
    page = site.gallery(rater="Ada")
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


def test_a_large_view_that_is_opened_again_in_the_same_frame_still_answers(
    serving: Callable[..., Site], figures: ReviewFigures
) -> None:
    site = serving(figures, "Ada")
    page = site.gallery(rater="Ada")
    page.keyboard.press("Enter")
    page.locator("dialog.large h2", has_text=figures.id(0)).wait_for()

    press = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));"
    page.evaluate(
        f"() => {{ {press * 2} return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100))); }}"
    )
    assert page.locator("dialog.large[open]").count() == 1
    page.keyboard.press("ArrowRight")
    page.locator("dialog.large h2", has_text=figures.id(1)).wait_for()
    page.keyboard.press("Escape")  # closed by the browser itself: the grid answers again
    page.locator("dialog.large[open]").wait_for(state="detached")
    page.keyboard.press("a")
    site.until(lambda: site.decided("Ada", 1) == "atypical")
