"""A study's page in a browser: its script sorts and folds, its policy refuses nothing that the page needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atypia.reports.study.page import study_page
from atypia.reports.study.report import _more_tables

from .findings import about, findings

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_tables_sort_and_unfold_by_keyboard(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = findings(40)
    path = tmp_path / "index.html"
    path.write_text(study_page(about(), found, _more_tables(about(), found)), "utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.as_uri())
        table = page.locator("table.sortable").first
        assert table.locator("tbody tr:visible").count() == 12
        more = page.get_by_role("button", name="Show all 40 rows").first
        more.focus()
        page.keyboard.press("Enter")
        assert table.locator("tbody tr:visible").count() == 40

        def column() -> list[float]:
            cells = table.locator("tbody tr td:nth-child(2)")
            return [float(cells.nth(i).get_attribute("data-v") or "nan") for i in range(cells.count())]

        head = table.locator("thead button").nth(1)
        head.focus()
        page.keyboard.press("Enter")
        assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
        assert column() == sorted(column(), reverse=True)
        page.keyboard.press("Space")
        assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
        assert column() == sorted(column())
        # Wide tables scroll by themselves; the page does not.
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert faults == []
