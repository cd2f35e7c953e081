"""Engines: every item has one outcome, whatever dies, breaks or cannot be sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import pytest

from atypia.base.errors import AbsentError, InputError
from atypia.engines.engine import ENGINES, INLINE, LOCAL, RAY
from atypia.engines.tasks import Setup, Work, gpus, worker_count

WORKS = """
import os, signal
from pathlib import Path

def do(item, progress):
    what, folder = item
    trace = Path(folder) / what
    with open(trace, "a") as file:
        file.write(".")
    if what == "dies" or (what == "dies once" and trace.stat().st_size == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "breaks":
        raise KeyError("key")
    return (what, "done")
"""


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function of a module that other processes can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "engine_works.py").write_text(WORKS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    invalidate_caches()
    return import_module("engine_works").do


def lost(item: tuple[str, str], reason: str) -> tuple[str, str]:
    return item[0], reason


def outcomes(engine: str, names: list[str], work: Work[Any, Any], folder: Path, **how: Any) -> dict[str, str]:
    found = list(ENGINES[engine]([(name, str(folder)) for name in names], work, Setup(**how)))
    assert len(found) == len(names)
    return dict(found)


@pytest.mark.parametrize("engine", [LOCAL, pytest.param(RAY, marks=pytest.mark.slow)])
def test_what_dies_or_breaks_takes_no_other_item_with_it(engine: str, do: Any, tmp_path: Path) -> None:
    if engine == RAY:
        pytest.importorskip("ray", reason="needs the extra `scale`")
    work = Work(do, lost, cores=1, attempts=2)
    found = outcomes(engine, ["a", "dies", "breaks", "dies once", "b"], work, tmp_path, workers=2)
    assert found["a"] == found["b"] == found["dies once"] == "done"
    assert found["dies"] == work.died and "the worker process died 2 times" in work.died
    assert "KeyError" in found["breaks"] and "key" in found["breaks"]
    assert {name: (tmp_path / name).stat().st_size for name in ("a", "dies", "dies once")} == {
        "a": 1,
        "dies": 2,
        "dies once": 2,
    }


def test_this_process_does_one_item_after_the_other_and_tells_how_far_it_is() -> None:
    told: list[tuple[int, int, str]] = []

    def count(item: int, progress: Any) -> int:
        progress(item, 3, "items")
        return item * item

    work = Work(count, lambda item, reason: -1)
    found = ENGINES[INLINE]([1, 2, 3], work, Setup(progress=lambda *facts: told.append(facts)))
    assert isinstance(found, Iterator) and next(found) == 1 and told == [(1, 3, "items")]
    assert list(found) == [4, 9]


def test_what_cannot_be_sent_is_lost_with_the_reason(do: Any, tmp_path: Path) -> None:
    here = Work(lambda item, progress: item, lost)
    assert "cannot be sent to a process" in outcomes(LOCAL, ["a", "b"], here, tmp_path, workers=1)["b"]
    items = [("a", str(tmp_path)), ("b", lambda: None), ("c", str(tmp_path))]
    found = dict(ENGINES[LOCAL](items, Work(do, lost), Setup(1)))
    assert found["a"] == found["c"] == "done" and "cannot be sent" in found["b"]


def test_nothing_to_do_starts_nothing(do: Any) -> None:
    for engine in (INLINE, LOCAL):
        assert list(ENGINES[engine]([], Work(do, lost), Setup())) == []


def test_bad_setups(do: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="`workers` must be a positive whole number, got 0; fix: leave it out"):
        Setup(workers=0)
    with pytest.raises(InputError, match="`address` must be left out with the local engine, got host:1; fix: choose"):
        outcomes(LOCAL, ["a"], Work(do, lost), tmp_path, address="host:1")
    with pytest.raises(InputError, match="unknown engine 'slurm'; choices: local, ray, inline"):
        ENGINES["slurm"]
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(AbsentError, match=r"needs Ray, which is not installed; fix: pip install 'atypia\[scale\]'"):
        outcomes(RAY, ["a"], Work(do, lost), tmp_path)


def test_gpus_are_shared_out(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    assert gpus({}, tmp_path) == ["0", "1"]
    assert gpus({"CUDA_VISIBLE_DEVICES": "3"}, tmp_path) == ["3"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert worker_count(10, None, 2, 2, cores=16) == 2
    assert worker_count(10, None, 0, 2, cores=1) == 1
    assert worker_count(10, 4, 2, 2, cores=2) == 4
