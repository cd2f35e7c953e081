"""Which runtime is the fastest: what is measured, when the choice is kept, and what uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atypia.base.artifacts import write_json
from atypia.inference.bundles.decision import Decision
from atypia.inference.classifier import Classifier
from atypia.inference.runtimes import catalogue
from atypia.inference.runtimes.catalogue import RUNTIMES, RuntimeKind, open_runtime
from atypia.inference.runtimes.chosen import choice_folder
from atypia.workflows.tuning import FASTER, TOLERANCE, tune

CONFIG: dict[str, Any] = {
    "name": "made up",
    "task": "atypical",
    "geometry": {"out_px": 32, "side_um": None, "side_px": None},
}


class Clock:
    """Time that passes only when a runtime runs: the test does not depend on the machine."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


class Made:
    """A runtime that takes so long, and answers so much above another."""

    def __init__(self, name: str, seconds: float, above: float) -> None:
        self.name, self.side_px, self.config, self.decision = name, 32, CONFIG, Decision(0.5)
        self.seconds, self.above = seconds, above

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        CLOCK.now += self.seconds
        mean = crops.mean((1, 2, 3), dtype=np.float32) / 255 + np.float32(self.above)
        return mean, mean[:, None]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("atypia.workflows.tuning.time", CLOCK)
    monkeypatch.setenv("ATYPIA_CACHE", str(tmp_path / "cache"))
    write_json(tmp_path / "model/config.json", {"state": 1})
    (tmp_path / "model/network").write_text("made up", "utf-8")
    yield tmp_path / "model"


def runtimes(monkeypatch: pytest.MonkeyPatch, **made: tuple[float, float]) -> None:
    """Puts these runtimes, each with its seconds and its answers' offset, in the place of those that are there."""
    kinds = {
        name: RuntimeKind(name, "numpy", "pip install numpy", ("network",), lambda *_, name=name, how=how: Made(name, *how))  # type: ignore[misc]
        for name, how in made.items()
    }  # fmt: skip
    monkeypatch.setattr(RUNTIMES, "_entries", kinds)


def test_a_faster_runtime_with_the_same_answers_is_used_from_then_on(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes(monkeypatch, first=(0.02, 0.0), second=(0.001, TOLERANCE / 10))
    assert Classifier.load(model).members[0].runtime.name == "first" and not choice_folder().exists()
    found = tune(model, budget_s=0.01)

    assert found.chosen == "second" and [timing.runtime for timing in found.timings] == ["first", "second"]
    assert found.timings[1].crops_per_s > FASTER * found.timings[0].crops_per_s and not found.timings[1].reason
    assert Classifier.load(model).members[0].runtime.name == "second"
    assert Classifier.load(model).run_by.startswith("second")
    assert open_runtime(model, "first").name == "first"
    kept = json.loads(next(choice_folder().iterdir()).read_text("utf-8"))
    assert kept["runtime"] == "second" and len(kept["measured"]) == 2 and kept["cores"] >= 1

    write_json(model / "config.json", {"state": 2})  # another state of the model: nothing is known of it
    assert open_runtime(model).name == "first"


def test_one_that_answers_otherwise_is_never_chosen(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes(monkeypatch, first=(0.02, 0.0), second=(0.001, 0.1))
    found = tune(model, budget_s=0.01)

    assert (
        found.chosen == "first" and "probabilities differ from those of first by up to 0.02" in found.timings[1].reason
    )
    assert open_runtime(model).name == "first" and not choice_folder().exists()


def test_one_that_is_hardly_faster_is_not_chosen_and_an_old_choice_is_dropped(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes(monkeypatch, first=(0.02, 0.0), second=(0.001, 0.0))
    assert tune(model, budget_s=0.01).chosen == "second"
    runtimes(monkeypatch, first=(0.001, 0.0), second=(0.02, 0.0))
    found = tune(model, budget_s=0.01)

    assert found.chosen == "first" and found.timings[1].reason == f"it is not {FASTER:g} times as fast as first"
    assert open_runtime(model).name == "first" and not list(choice_folder().iterdir())


def test_a_choice_that_is_damaged_counts_for_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes(monkeypatch, first=(0.02, 0.0), second=(0.001, 0.0))
    tune(model, budget_s=0.01)
    next(choice_folder().iterdir()).write_text("[", "utf-8")
    assert open_runtime(model).name == "first"
    monkeypatch.setattr(catalogue, "kept_choice", lambda *_: "gone")
    assert open_runtime(model).name == "first"
