"""Registries: order, duplicates, unknown names, loading of a package's modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from atypia.base.errors import InputError
from atypia.base.registry import Registry


def test_entries_keep_their_order_and_are_a_mapping() -> None:
    registry = Registry[int]("colour")
    assert registry.add("red", 1) == 1
    registry.add("blue", 2)
    assert list(registry) == ["red", "blue"]
    assert dict(registry) == {"red": 1, "blue": 2}
    assert len(registry) == 2
    assert "red" in registry
    assert "green" not in registry
    assert registry.get("blue") == 2
    assert registry.get("green", 7) == 7


def test_a_name_is_taken_once() -> None:
    registry = Registry[int]("colour")
    registry.add("red", 1)
    with pytest.raises(ValueError, match="colour 'red' is already registered"):
        registry.add("red", 2)
    assert registry["red"] == 1


def test_decorator_registers_and_returns_the_thing_itself() -> None:
    registry: Registry[Callable[[], int]] = Registry("maker")

    @registry.register("one")
    def one() -> int:
        return 1

    assert registry["one"] is one


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rad", r"unknown colour 'rad'; did you mean 'red'\? choices: red, blue"),
        ("zzzzz", r"unknown colour 'zzzzz'; choices: red, blue"),
    ],
)
def test_an_unknown_name_lists_the_choices(name: str, message: str) -> None:
    registry = Registry[int]("colour")
    registry.add("red", 1)
    registry.add("blue", 2)
    with pytest.raises(InputError, match=message):
        _ = registry[name]


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, **modules: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        head = f"from atypia.base.registry import Registry\nENTRIES = Registry('thing', '{name}')\n"
        (folder / "__init__.py").write_text(head)
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(f"from {name} import ENTRIES\n{text}\n")
        return name

    return make


def test_a_package_is_loaded_on_first_use_only(make_package: Callable[..., str]) -> None:
    name = make_package("registry_lazy", beta="ENTRIES.add('b', 2)", alpha="ENTRIES.add('a', 1)")
    entries = __import__(name).ENTRIES
    assert f"{name}.alpha" not in sys.modules
    assert list(entries) == ["a", "b"]
    assert f"{name}.alpha" in sys.modules


def test_a_module_that_uses_the_registry_while_it_loads_does_not_recurse(make_package: Callable[..., str]) -> None:
    name = make_package("registry_reentrant", alpha="ENTRIES.add('a', 1)", beta="ENTRIES.add('b', ENTRIES['a'] + 1)")
    assert dict(__import__(name).ENTRIES) == {"a": 1, "b": 2}


def test_a_broken_module_is_reported_every_time_not_once(make_package: Callable[..., str]) -> None:
    name = make_package("registry_broken", alpha="ENTRIES.add('a', 1)", beta="raise RuntimeError('broken entry')")
    entries = __import__(name).ENTRIES
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken entry"):
            list(entries)
