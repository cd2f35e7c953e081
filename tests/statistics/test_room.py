"""``atypia.statistics`` reaches all of its modules, and every name that the pages give."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.page_code import run_page

import atypia

ROOT = Path(__file__).parents[2]


def reached(path: str) -> object:
    found: object = atypia.statistics
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_every_module_of_the_room_is_reached_without_an_import() -> None:
    folder = ROOT / "src" / "atypia" / "statistics"
    modules = {path.stem for path in [*folder.glob("*.py"), *(folder / "differences").glob("*.py")]} - {"__init__"}
    assert modules == set(atypia.statistics.__all__)
    for name in modules:
        assert str(reached(name)).startswith("<module 'atypia.statistics.")


def test_the_names_that_the_pages_give_are_there() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "results").glob("*.md")]
    named = {
        name
        for page in pages
        for name in re.findall(r"(?<!from )atypia\.statistics\.(?!differences)(\w+\.\w+)", page.read_text("utf-8"))
    }
    table = (ROOT / "docs" / "statistics.md").read_text("utf-8").partition("```")[0]
    named |= set(re.findall(r"`(\w+\.\w+)(?:\([^`]*\))?`", table)) - {"atypia.statistics"}
    assert len(named) > 12 and all(callable(reached(name)) for name in named)


def test_the_example_of_the_page_runs() -> None:
    names = run_page(ROOT / "docs" / "statistics.md")
    found = names["difference_intervals"](names["labels"], names["first"], names["second"], names["cases"], ["auroc"])
    assert found["auroc"].n_cases == 30 and 0 < found["auroc"].estimate < 0.1
