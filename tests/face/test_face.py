"""The public names: light, typed, documented, and what the page says runs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs.page_code import run_page

import atypia
from atypia.base.deprecation import AtypiaDeprecationWarning, warn_deprecated
from atypia.base.plugins import KINDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
HEAVY = ("numpy", "torch", "pyarrow", "pydantic", "PIL", "scipy", "pandas", "onnxruntime")
SOURCE = Path(atypia.__file__).read_text("utf-8")


def test_the_import_loads_nothing_heavy() -> None:
    code = f"import sys, atypia; dir(atypia); print(sorted(set({HEAVY!r}) & set(sys.modules)), len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    bare = subprocess.run([sys.executable, "-c", "import sys; print(len(sys.modules))"], capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    names, _, count = done.stdout.strip().rpartition(" ")
    assert names == "[]"
    assert int(count) - int(bare.stdout) < 60  # the standard library's typing, importlib and what they need


@pytest.mark.parametrize("name", atypia.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    found = getattr(atypia, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", found)
        return
    text = inspect.getdoc(found) or ""
    assert text and name in dir(atypia)
    if not isinstance(found, ModuleType) and not issubclass(found if inspect.isclass(found) else object, Exception):
        shown = text
        if inspect.isclass(found):
            shown += "".join(inspect.getdoc(member) or "" for _, member in inspect.getmembers(found))
        if name != "Comparison":  # made by `compare`, whose example is that of predictions
            assert ">>> " in shown, f"{name} has no example"
        hints = inspect.signature(found).parameters.values()
        assert all(one.annotation is not one.empty for one in hints), f"{name} has arguments without a type"


def test_editors_see_the_same_names_as_the_interpreter() -> None:
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    typed = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names:
            assert alias.name == alias.asname  # exported, by the rules of type checkers
            typed[alias.name] = node.module
    lazy = {name: f"atypia.{place}" for name, place in atypia._PLACES.items()}
    for name in atypia._MODULES:
        typed[name] = f"{typed[name]}.{name}"
    assert typed == lazy and set(lazy) | {"__version__"} == set(atypia.__all__)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predict'; public names: open_data"):
        _ = atypia.predict  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match="no attribute 'nothing'; modules: agreement"):
        _ = atypia.statistics.nothing  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_part_has_its_registry(kind: str) -> None:
    assert f"``{kind}``" in (atypia.registry.__doc__ or "")
    found = atypia.registry(kind)
    assert len(found) and all(found[name] is not None for name in found)


def test_a_deprecation_names_what_to_use_and_points_at_its_user() -> None:
    def old() -> None:
        warn_deprecated("`old`", "`new`", "0.3")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        old()
    (one,) = told
    assert issubclass(one.category, AtypiaDeprecationWarning) and one.filename == __file__
    assert str(one.message) == "`old` is deprecated and goes away in 0.3; fix: use `new`"


def test_the_page_names_every_public_name() -> None:
    text = PAGE.read_text("utf-8") + (ROOT / "docs" / "stability.md").read_text("utf-8")
    assert [name for name in atypia.__all__ if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page(PAGE)
    assert repr(names["figures"]).startswith("<Manifest phantom-0: 132 figures")
    assert len(names["on_slide"]) == 4
    assert (tmp_path / "calls.csv").is_file() and (tmp_path / "study" / "results.parquet").is_file()
