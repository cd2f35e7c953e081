"""The site: references agree with the code, links are followed, every page has a place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import write_docs
from documentation import build, docstrings, interface, links, table_numbers

import atypia

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(("place", "text"), write_docs.references().items())
def test_a_reference_agrees_with_the_code(place: str, text: str) -> None:
    assert (DOCS / place).read_text("utf-8") == text, "fix: python tools/write_docs.py"


@pytest.mark.parametrize(("page", "parts"), write_docs.PARTS.items())
def test_a_generated_part_agrees_with_the_code(page: str, parts: dict[str, Callable[[], str]]) -> None:
    text = (DOCS / page).read_text("utf-8")
    for make in parts.values():
        assert f"\n{make().strip()}\n" in text, "fix: python tools/write_docs.py"


def test_a_row_has_the_whole_first_sentence() -> None:
    said = docstrings.first_sentence("Test of two groups (Ann. Math. Statist. 1947), as `it`. Then more.")
    assert said == "Test of two groups (Ann. Math. Statist. 1947), as `it`."
    assert docstrings.first_sentence("Of :data:`atypia.base.plugins.KINDS`. More") == "Of `atypia.base.plugins.KINDS`."


def test_every_public_name_has_a_place_in_the_reference() -> None:
    pages = interface.interface_pages()
    for name in atypia.__all__:
        assert pages["index.md"].count(f"[`{name}`](") == 1
    named = re.findall(r"\]\(([\w-]+\.md)#([\w-]+)\)", pages["index.md"])
    for page, anchor in named:
        titles = re.findall(r"^## (.+)$", pages[page], re.MULTILINE)
        assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]


def test_a_docstring_becomes_markdown() -> None:
    text = """Does it, as :func:`atypia.data.manifest.load` of :class:`~atypia.data.manifest.Manifest` does.

    Args:
        first: What comes
            first; ``None`` for nothing.
        **more: The rest.

    Raises:
        InputError: It is wrong.

    >>> 1 + 1
    2
    """
    assert docstrings.markdown(text) == (
        "Does it, as `load` of `Manifest` does.\n\n**Arguments**\n\n- `first`: What comes first; `None` for nothing.\n"
        "- `**more`: The rest.\n\n**Raises**\n\n- `InputError`: It is wrong.\n\n```pycon\n>>> 1 + 1\n2\n```"
    )
    assert docstrings.first_sentence("Tells 0.5 of it. And more.") == "Tells 0.5 of it."


def test_links_of_a_page_are_written_anew_for_the_site() -> None:
    places = {
        DOCS / "predict.md": "predict.md",
        ROOT / "CHANGELOG.md": "project/changelog.md",
        DOCS / "data.md": "data.md",
    }
    text = build.rewritten(ROOT / "CHANGELOG.md", PurePosixPath("project/changelog.md"), places)
    assert "](docs/" not in re.sub(r"`[^`]*`", "", text)
    assert build.rewritten(DOCS / "data.md", PurePosixPath("data.md"), places).startswith("# Data\n")
    assert build.rewritten(DOCS / "deploy.md", PurePosixPath("deploy.md"), {DOCS / "serve.md": "serve.md"}).count(
        "([The review server](serve.md#safety))"
    )  # titles in place of file names
    start = build.rewritten(DOCS / "site" / "index.md", PurePosixPath("index.md"), {DOCS / "phantom.md": "phantom.md"})
    assert "[phantom set](phantom.md)" in start and "[the model that ships]" not in start


def test_faulty_links_and_requests_to_others_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#not">2</a><a href="c.html">3</a><a href="https://example.org">4</a>'
        '<img src="https://example.org/x.png"><link rel="stylesheet" href="s.css"><a href="#top">5</a><p id="top">',
        "utf-8",
    )
    (tmp_path / "b.html").write_text('<p id="there">', "utf-8")
    (tmp_path / "s.css").write_text("@font-face { src: url('https://example.org/f.woff') }", "utf-8")
    assert list(links.faults(tmp_path)) == [
        "a.html: b.html#not: no such anchor",
        "a.html: c.html: no such file",
        "a.html: https://example.org/x.png: loaded from another server",
        "s.css: https://example.org/f.woff: loaded from another server",
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.864 [0.839, 0.892]", ["0.864 [0.839, 0.892]"]),
        ("BA -0.010 [−0.028, +0.000], 29 %.", ["-0.010 [−0.028, +0.000]", "29 %"]),
        ("0.814 ± 0.015 of ten", ["0.814 ± 0.015"]),
        ("10,000 slides, 2025.10.16", ["10,000", "2025.10.16"]),
        ("ViT-S/14, fold-1, v0.1", []),
    ],
)
def test_numbers_of_tables_are_marked_as_wholes(text: str, numbers: list[str]) -> None:
    parts = list(table_numbers.parts(text))
    assert [part for part, number in parts if number] == numbers and "".join(part for part, _ in parts) == text
    assert ".number { white-space: nowrap; }" in (DOCS / "site/_static/atypia.css").read_text("utf-8")


def test_navigation_names_pages_that_exist() -> None:
    entries = []
    for page in (DOCS / "site").glob("*.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            entries += [line for line in block.splitlines() if line and not line.startswith(":")]
    made = {place.removesuffix(".md") for place in build.PROJECT.values()} | {"project/citation"}
    assert len(entries) == len(set(entries)) > 40
    for entry in entries:
        assert entry in made or (DOCS / f"{entry}.md").is_file() or (DOCS / "site" / f"{entry}.md").is_file(), entry


def test_versions_lie_side_by_side(tmp_path: Path) -> None:
    for name in ("0.2.0", "0.10.0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text("", "utf-8")
    build.versions(tmp_path, "0.2.0")
    assert "url=0.10.0/index.html" in (tmp_path / "index.html").read_text("utf-8")
    assert '"url": "../0.2.0/"' in (tmp_path / "versions.json").read_text("utf-8")
