"""A review in a real Chromium: served on loopback, and what the browser complains about."""

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

import pytest

from atypia.review.figures.figures import ReviewFigures
from atypia.review.server.app import create_app
from atypia.review.server.context import Review
from atypia.review.server.safety import Access

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 60_000
"""Longest wait for anything; a busy machine is slow, and nothing here waits in vain."""


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

    def gallery(self, hash_: str = "", rater: str = "") -> Page:
        """Opens the gallery, waits for its figures, and chooses a rater where one is named."""
        page = self.open(hash_)
        page.locator(".card .crop.loaded").first.wait_for()
        if rater:
            self.choose(rater)
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
        return self.review.intake.decision_state.decision(rater, index)

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

        def served(figures: ReviewFigures, *raters: str, **options: Any) -> Site:
            review = Review(figures, tmp_path / f"decisions-{len(sites)}.sqlite")
            for rater in raters:
                review.intake.join(rater)
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
