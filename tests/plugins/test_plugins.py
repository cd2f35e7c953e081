"""Entry points of other packages: what they add is there, and what is wrong with one disturbs nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from atypia.base.plugins import KINDS, registry_of
from atypia.base.registry import Registry
from atypia.cli.main import app

from .installing import install, python

ROOT = Path(__file__).parents[2]
ADDS = """
from atypia.engines.engine import ENGINES
@ENGINES.register("backwards", version=3)
def run(items, work, setup):
    return (work.do(item, setup.progress) for item in reversed(items))
"""
LISTS = "from atypia.engines.engine import ENGINES; print(*ENGINES)"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_registry_that_loads_plug_ins(kind: str) -> None:
    registry = registry_of(kind)
    assert isinstance(registry, Registry) and registry._plugins == kind
    assert list(registry.shipped()) == list(registry)  # the tests run without plug-ins


def test_a_module_adds_an_entry_that_knows_where_it_comes_from(tmp_path: Path) -> None:
    folder = install(tmp_path, "lab-engines", {"engines": "lab_engines"}, lab_engines=ADDS)
    code = f"{LISTS}; print(*ENGINES.shipped()); print(ENGINES.origin('backwards'), ENGINES.origin('local'))"
    done = python(code, folder)
    assert done.stdout.splitlines() == [
        "local ray inline backwards",
        "local ray inline",
        "lab-engines 1.0 (lab_engines) None",
    ], done.stderr
    assert python(LISTS, folder, ATYPIA_PLUGINS="none").stdout == "local ray inline\n"


def test_a_function_is_called(tmp_path: Path) -> None:
    text = "def add():\n    from atypia.engines.engine import ENGINES\n    ENGINES.add('none', None)\n"
    folder = install(tmp_path, "lab", {"anything": "lab_callable:add"}, lab_callable=text)
    assert python(LISTS, folder).stdout == "local ray inline none\n"


def test_only_what_is_asked_for_is_imported(tmp_path: Path) -> None:
    points = {"engines": "lab_engines", "sources.ours": "lab_sources"}
    folder = install(tmp_path, "lab", points, lab_engines=ADDS, lab_sources="print('sources imported')")
    assert python(LISTS, folder).stdout == "local ray inline backwards\n"
    asked = python("from atypia.data.sources.catalogue import SOURCES; len(SOURCES); len(SOURCES)", folder)
    assert asked.stdout == "sources imported\n", asked.stderr


def test_one_that_fails_is_named_with_its_remedy_and_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = ADDS + "\nimport a_module_that_nobody_has\n"
    install(tmp_path, "lab-broken", {"engines": "lab_broken"}, lab_broken=broken)
    ends = ADDS.replace("backwards", "other") + "\nraise SystemExit(3)\n"
    install(tmp_path, "lab-ends", {"engines": "lab_ends"}, lab_ends=ends)
    folder = install(tmp_path, "lab-whole", {"engines": "lab_whole"}, lab_whole=ADDS.replace("backwards", "whole"))
    done = python(LISTS, folder)
    assert done.stdout == "local ray inline whole\n"
    assert done.stderr.count("PluginWarning") == 2
    for text in ("lab-broken 1.0", "No module named 'a_module_that_nobody_has'", "`pip uninstall lab-broken`"):
        assert text in done.stderr
    asked = python("from atypia.engines.engine import ENGINES\nENGINES['backwards']", folder)
    last = asked.stderr.splitlines()[-1]
    assert last.startswith("atypia.base.errors.InputError: unknown engine 'backwards'; choices: local, ray")
    assert "plug-in engines of lab-broken 1.0 may have added it, but cannot be used (ModuleNotFoundError" in last
    assert "ATYPIA_PLUGINS=none" in last


@pytest.mark.parametrize(
    ("names", "first"),
    [(["local"], "by atypia,"), (["mine", "mine"], "by lab-taken 2.1 (lab_taken),")],
)
def test_a_name_that_is_taken_is_refused_with_both_origins(tmp_path: Path, names: list[str], first: str) -> None:
    text = "from atypia.engines.engine import ENGINES\n" + "".join(f"ENGINES.add({n!r}, None)\n" for n in names)
    folder = install(tmp_path, "lab-taken", {"engines": "lab_taken"}, "2.1", lab_taken=text)
    done = python(LISTS, folder)
    assert done.stdout == "local ray inline\n"
    assert f"engine '{names[-1]}' is already registered {first} and lab-taken 2.1 (lab_taken) registers" in done.stderr


def test_two_packages_with_one_name_are_told_apart(tmp_path: Path) -> None:
    install(tmp_path, "lab-a", {"engines": "lab_a"}, lab_a=ADDS)
    folder = install(tmp_path, "lab-b", {"engines": "lab_b"}, lab_b=ADDS)
    done = python(LISTS, folder)
    assert done.stdout == "local ray inline backwards\n"
    assert "registered by lab-a 1.0 (lab_a), and lab-b 1.0 (lab_b) registers it again" in done.stderr


def test_a_plug_in_may_ask_while_it_is_imported_and_be_imported_by_hand(tmp_path: Path) -> None:
    text = (
        "from dataclasses import replace\nfrom atypia.backbones.catalogue import BACKBONES\n"
        "assert 'tiny-cnn' in BACKBONES\n"
        "BACKBONES.add('lab-cnn', replace(BACKBONES['tiny-cnn'], name='lab-cnn'))\n"
    )
    folder = install(tmp_path, "lab-nets", {"nets": "lab_nets"}, lab_nets=text)
    code = "from atypia.backbones.catalogue import BACKBONES; print(BACKBONES.origin('lab-cnn'), list(BACKBONES)[-1])"
    for before in ("", "import lab_nets; "):
        done = python(before + code, folder)
        assert done.stdout == "lab-nets 1.0 (lab_nets) lab-cnn\n", done.stderr


def test_a_notebook_replaces_its_own_entry_and_nobody_elses() -> None:
    code = (
        "from atypia.engines.engine import ENGINES\n"
        "ENGINES.add('mine', 1); ENGINES.add('mine', 2); print(ENGINES['mine'])\n"
        "ENGINES.add('local', 3)"
    )
    done = python(code)
    assert done.stdout == "2\n"
    assert "engine 'local' is already registered by atypia, and __main__ registers it again" in done.stderr


def test_spawned_workers_see_what_a_plug_in_adds(tmp_path: Path) -> None:
    folder = install(tmp_path, "lab-engines", {"engines": "lab_engines"}, lab_engines=ADDS)
    (tmp_path / "work.py").write_text(
        "from atypia.engines.engine import ENGINES\nfrom atypia.engines.tasks import Setup, Work\n"
        "def do(item, progress):\n    return item, list(ENGINES)\n"
        "def lost(item, reason):\n    return item, reason\n"
        "if __name__ == '__main__':\n"
        "    import work\n"
        "    print(sorted(ENGINES['local']([1, 2], Work(work.do, work.lost), Setup(2))))\n"
    )
    done = python(f"import runpy; runpy.run_path({str(tmp_path / 'work.py')!r}, run_name='__main__')", folder)
    seen = ["local", "ray", "inline", "backwards"]
    assert done.stdout == f"{[(1, seen), (2, seen)]}\n", done.stderr


def test_entries_are_registered_by_kind() -> None:
    code = (
        "from atypia.base.plugins import register\n"
        "register('engines', 'mine', version=2)(1)\n"
        "from atypia.engines.engine import ENGINES; print(ENGINES['mine'], ENGINES.origin('mine').version)\n"
        "register('engine', 'other')"
    )
    done = python(code)
    assert done.stdout == "1 2\n"
    assert "`kind` must be one of backbones, sources" in done.stderr and "got engine" in done.stderr


@pytest.mark.parametrize(
    ("verb", "option", "kind"),
    [("predict", "out", "outputs"), ("predict", "runtime", "runtimes"), ("export", "to", "exports")],
)
def test_help_names_what_ships(verb: str, option: str, kind: str) -> None:
    command: Any = typer.main.get_command(app)
    (parameter,) = [found for found in command.commands[verb].params if found.name == option]
    lacking = [name for name in registry_of(kind).shipped() if not re.search(rf"\b{name}\b", parameter.help)]
    assert not lacking, f"the help of --{option} does not name {lacking}"


@pytest.mark.parametrize(
    ("kind", "page"), [("outputs", "outputs.md"), ("exports", "export.md"), ("points", "inputs.md")]
)
def test_the_docs_name_what_ships(kind: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    lacking = [name for name in registry_of(kind).shipped() if not re.search(rf"\b{name}\b", text, re.IGNORECASE)]
    assert not lacking, f"docs/{page} does not name {lacking}"
