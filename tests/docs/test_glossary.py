"""The glossary names code that exists, and each word once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import atypia

ROOT = Path(atypia.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a module of Atypia, or a name on the first level of one."""
    parts = dotted.split(".")[1:]
    if ROOT.joinpath(*parts).with_suffix(".py").is_file() or ROOT.joinpath(*parts).is_dir():
        return True
    module = ROOT.joinpath(*parts[:-1]).with_suffix(".py")
    if not module.is_file():
        return False
    names: set[str] = set()
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            names |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)} if target else set()
    return parts[-1] in names


def test_names_in_the_glossary_exist() -> None:
    named = re.findall(r"`(atypia\.[\w.]+)`", PAGE.read_text("utf-8"))
    assert len(named) > 40
    assert [name for name in dict.fromkeys(named) if not is_there(name)] == []
    assert not is_there("atypia.base.records.NO_SUCH_NAME")
    assert not is_there("atypia.base.no_such_module.NAME")


def test_each_word_is_explained_once() -> None:
    lines = [line.split("|")[1:4] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line] for line in lines if line[0].strip() != "word"]
    words = [word for row in rows for word in row[0].split(", ")]
    assert len(words) > 50
    assert sorted({word for word in words if words.count(word) > 1}) == []
    assert all(row[1] and "`" in row[2] for row in rows)
