"""What the documentation says is so: commands, links, and the list of long tests."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from atypia.cli.main import app
from atypia.studies.files import shipped_studies

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
TEST_NAME = re.compile(r"`([\w./]+\.py)(?:::([\w:]+))?`")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Commands -------------------------------------------------------------------------------------


def console_lines(text: str) -> list[str]:
    """The commands of ``console`` blocks, continuation lines joined."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        joined = block.replace("\\\n", " ")
        found += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return found


def words_of(line: str) -> list[str]:
    """The words of a command, without a comment, variables before it, and what it is piped to."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    for stop in ("|", "&&", ">", ";"):
        if stop in words:
            words = words[: words.index(stop)]
    return words


def fault_of(words: list[str]) -> str | None:
    """What is wrong with ``atypia …``: an unknown verb or option, or an argument that is missing; None: nothing."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        if not rest or rest[0].startswith("-"):
            break
        if rest[0] not in command.commands:
            return f"no verb {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    options = {name: parameter for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given, arguments = set(), 0
    while rest:
        word, rest = rest[0], rest[1:]
        name, equals, _ = word.partition("=")
        if not word.startswith("-"):
            arguments += 1
        elif name in ("--help", "-h"):
            return None
        elif name not in options:
            return f"no option {name!r}"
        else:
            given.add(options[name].name)
            if not options[name].is_flag and not equals:
                if not rest:
                    return f"{name} without its value"
                rest = rest[1:]
    if hasattr(command, "commands"):
        return None
    needed = [p for p in command.params if p.required]
    lacking = [p.name for p in needed if p.param_type_name == "option" and p.name not in given]
    if lacking:
        return f"without --{lacking[0]}"
    if arguments < sum(p.param_type_name == "argument" for p in needed):
        return "without an argument that it needs"
    most = sum(p.param_type_name == "argument" if p.nargs == 1 else 1000 for p in command.params)
    return "with more arguments than it takes" if arguments > most else None


def verbs(group: Any = None) -> Iterator[Any]:
    for command in (group or typer.main.get_command(app)).commands.values():
        if hasattr(command, "commands"):
            yield from verbs(command)
        else:
            yield command


SHELL = {"cd", "curl", "export", "git", "ln", "pip", "python", "python3", "source"}
"""Commands of others that a page may show."""
COMMANDS = [(named(page), line) for page in PAGES for line in console_lines(page.read_text("utf-8"))]
EXAMPLES = [
    (f"help of {command.name}", line) for command in verbs() for line in re.findall(r"`(atypia [^`]+)`", command.epilog)
]


@pytest.mark.parametrize(("where", "line"), [*COMMANDS, *EXAMPLES])
def test_a_command_that_is_shown_exists(where: str, line: str) -> None:
    words = words_of(line)
    match words[0]:
        case "atypia":
            assert fault_of(words) is None, f"{where}: {line}"
        case "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
            assert words[1] in targets, f"{where}: {line}"
        case "pytest":
            assert all((ROOT / word.partition("::")[0]).exists() for word in words[1:] if word.startswith("tests/"))
        case _:
            assert words[0] in SHELL, f"{where}: {line}"


def test_there_are_commands_to_check() -> None:
    assert len(EXAMPLES) == len(list(verbs()))
    assert any(line.startswith("atypia ") for _, line in COMMANDS)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("atypia trian probe", "no verb 'trian'"),
        ("atypia data lst", "no verb 'lst'"),
        ("atypia train probe --data x --out y --folds 3", "no option '--folds'"),
        ("atypia train probe --data x", "without --out"),
        ("atypia train --data x --out y", "without an argument that it needs"),
        ("atypia train probe --data x --out", "--out without its value"),
        ("atypia recipes a b", "with more arguments than it takes"),
        ("A=1 atypia train probe --data x --out y --json  # all of it", None),
        ("atypia data audit a b c --no-near | less", None),
    ],
)
def test_wrong_commands_would_be_noticed(line: str, fault: str | None) -> None:
    assert fault_of(words_of(line)) == fault


# Links ----------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """Markdown without code."""
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", without_blocks)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    titles = re.findall(r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_to_files_resolve(page: Path) -> None:
    for target in LINK.findall(prose(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{named(page)} links to {target}"
        assert file.is_relative_to(ROOT), f"{named(page)} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(file), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_names_no_path_of_a_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users)/\w", page.read_text("utf-8"))


def test_the_page_of_studies_names_each_that_ships_and_no_other() -> None:
    table = (
        (ROOT / "docs" / "studies.md").read_text("utf-8").partition("| study | what | source |")[2].partition("\n\n")[0]
    )
    named_there = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`([\w-]+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named_there == set(shipped_studies())


# Long tests -----------------------------------------------------------------------------------


def is_slow(node: ast.expr) -> bool:
    return "pytest.mark.slow" in ast.unparse(node)


def slow_tests() -> set[str]:
    """Tests that are marked ``slow``: ``file::test``, or the file where the whole module is."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and any(map(is_slow, node.decorator_list)):
                found.add(f"{named(path)}::{node.name}")
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" and is_slow(node.value):
                found.add(named(path))
    return found


def test_contributing_lists_the_long_tests() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.partition("## Long tests\n")[2].partition("\n## ")[0]
    listed = {f"{file}::{test}" if test else file for file, test in TEST_NAME.findall(section)}

    assert listed == slow_tests(), "fix: list them as `tests/…/test_x.py::test_y` under «Long tests»"
