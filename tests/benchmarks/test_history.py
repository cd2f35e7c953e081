"""The memory of the benchmarks: what is kept, the rule of what became slower on made-up histories, and the page."""

from __future__ import annotations

import ast
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmarks.measuring import history, page, turns
from benchmarks.measuring.history import QUIET, Run, append, load, run_of, watched
from benchmarks.measuring.running import run
from benchmarks.measuring.slower import compare

from atypia.base.process.cores import processor_name
from benchmarks import __main__ as command

RATIOS, PAIRS, EARLIER, HISTORIES = 12, 5, 3, 100
SCATTER, DRIFT = 0.04, 0.02
"""Standard deviations of the logarithms, from pair to pair and from run to run."""


def made_up(rng: np.random.Generator, slower: float = 0.0) -> Run:
    """A quiet run whose first ratio is slower by so much."""
    pairs = {}
    for number in range(RATIOS):
        centre = np.log(1 + number) + rng.normal(0, DRIFT) + (np.log(1 - slower) if number == 0 else 0)
        pairs[f"ratio {number}"] = np.exp(rng.normal(centre, SCATTER, PAIRS)).tolist()
    return Run("2026-11-28", "abc", False, "made up", 2, 24, 0.01, {}, pairs)


def named(slower: float) -> list[set[str]]:
    """What the last run of each of many histories is told of."""
    rng, found = np.random.default_rng(7), []
    for _ in range(HISTORIES):
        earlier = [made_up(rng) for _ in range(EARLIER)]
        found.append({one.name for one in compare(made_up(rng, slower), earlier) if one.slower})
    return found


def test_a_slowdown_by_a_fifth_is_named() -> None:
    found = named(0.2)
    assert sum("ratio 0" in names for names in found) >= 95
    assert sum(len(names - {"ratio 0"}) > 0 for names in found) <= 2


def test_noise_is_not_named() -> None:
    assert sum(len(names) > 0 for names in named(0.0)) <= 2


def test_a_slowdown_below_the_limit_is_not_named_however_sure() -> None:
    before = Run("2026-11-27", "a", False, "made up", 2, 24, 0.0, {}, {"x": [2.0, 2.0, 2.001, 2.0]})
    (found,) = compare(replace(before, pairs={"x": [1.85, 1.85, 1.851, 1.85]}), [before])
    assert found.p < 1e-6 and not found.slower
    (found,) = compare(replace(before, pairs={"x": [1.75, 1.75, 1.751, 1.75]}), [before])
    assert found.slower and found.change == pytest.approx(-0.125, abs=0.001)


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "another"},
        {"cores": 4},
        {"others": QUIET + 0.01},
        {"others": None},
        {"source": "a page"},
        {"pairs": {"x": [2.0, 2.0]}},
    ],
    ids=["processor", "cores", "busy", "unknown", "copied", "too few pairs"],
)
def test_only_like_is_compared_with_like(change: dict[str, object]) -> None:
    quiet = Run("2026-11-28", "a", False, "made up", 2, 24, 0.0, {}, {"x": [2.0, 2.0, 2.1]})
    assert len(compare(quiet, [quiet])) == 1
    assert compare(quiet, [replace(quiet, **change)]) == []  # pyright: ignore[reportArgumentType]


def test_a_busy_run_is_kept_and_not_judged() -> None:
    quiet = Run("2026-11-28", "a", False, "made up", 2, 24, 0.0, {}, {"x": [2.0, 2.0, 2.1]})
    slow = replace(quiet, others=0.5, pairs={"x": [0.2, 0.2, 0.21]})
    assert compare(slow, [quiet]) == []
    assert "measure again when it is quiet" in page.verdict(slow, [quiet])
    assert "slower by more than noise" in page.verdict(replace(slow, others=0.0), [quiet])
    assert "nothing became slower" in page.verdict(quiet, [quiet])
    assert "no earlier quiet run" in page.verdict(quiet, [])


def test_a_run_is_recorded_and_names_what_became_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written, shown = tmp_path / "history.jsonl", tmp_path / "speed.md"
    shown.write_text(f"before\n<!-- {page.MARK} -->\n<!-- /{page.MARK} -->\nafter\n", "utf-8")
    monkeypatch.setattr(command, "append", lambda run: append(run, written))
    monkeypatch.setattr(command, "load", lambda: load(written))
    monkeypatch.setattr(page, "write", lambda: _write(load(written), shown, tmp_path / "plot.svg"))

    command.record({"x: against y": [2.0, 2.1, 2.05]}, 0.02)
    command.record({"x: against y": [1.6, 1.65, 1.62]}, 0.02)

    said = capsys.readouterr().out
    assert "no earlier quiet run" in said
    assert "x: against y: 2.05 → 1.62 (-21%" in said
    kept = load(written)
    assert [run.pairs["x: against y"][0] for run in kept] == [2.0, 1.6]
    assert kept[0].versions["python"] and kept[0].cores >= 1
    lines = shown.read_text("utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert any(line.startswith("| x: against y | 2.05 (2.00 to 2.10) | 1.62") for line in lines)
    assert page.seal(kept) in (tmp_path / "plot.svg").read_text("utf-8")


_write: Callable[..., None] = page.write


def test_a_benchmark_that_fails_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> dict[str, object]:
        raise ValueError("no such file")

    def module(name: str) -> ModuleType:
        made = ModuleType(name)
        made.__dict__["measure"] = measures[name.removeprefix("benchmarks.")]
        return made

    measures = {"a": lambda: {"pairs": {"x": [2.0]}}, "b": fails, "c": dict, "d": lambda: {"pairs": {"y": [1.0]}}}
    kept: list[dict[str, list[float]]] = []
    monkeypatch.setattr(command, "names", lambda: list(measures))
    monkeypatch.setattr(command, "import_module", module)
    monkeypatch.setattr(command, "record", lambda pairs, others: kept.append(pairs))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--record"])
    assert command.main() == 1
    assert kept == [{"x": [2.0], "y": [1.0]}]
    said = capsys.readouterr().err
    assert "ValueError: no such file" in said and said.endswith("failed: b\n")


def test_the_page_shows_the_history() -> None:
    runs = load()
    assert runs and page.table(runs) in page.PAGE.read_text("utf-8"), "run: python -m benchmarks --write"
    assert page.seal(runs) in page.PLOT.read_text("utf-8"), "run: python -m benchmarks --write"


def test_no_line_names_a_machine_or_a_path() -> None:
    text = history.HISTORY.read_text("utf-8")
    node = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip()
    assert node not in text and "/" not in text.replace("docs/results/speed.md", "")
    for line in text.splitlines():
        assert set(json.loads(line)) == set(Run.__dataclass_fields__)


def test_what_others_take_is_told_apart_from_what_the_benchmark_takes() -> None:
    with watched() as found:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
    line = run_of({"x": [1.0]}, found.get("others"))
    assert line.others is None or 0 <= line.others <= 1
    assert line.machine == (processor_name(), line.cores) and line.memory_gib >= 1


def test_turns_alternate_and_pairs_are_yardstick_over_own() -> None:
    done: list[str] = []
    times = turns.in_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3)
    assert done == ["a", "b"] * 4 and [len(one) for one in times.values()] == [3, 3]
    assert turns.pairs([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]


def test_every_benchmark_can_be_named() -> None:
    assert {"predict", "commands", "density"} <= set(command.names())
    assert "measuring" not in command.names() and "memory" not in command.names()


@pytest.mark.parametrize("name", command.names())
def test_a_benchmark_has_what_the_command_asks_for(name: str) -> None:
    tree = ast.parse((command.FOLDER / f"{name}.py").read_text("utf-8"))
    defined = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(defined["measure"].args) == len(defined["measure"].defaults)  # it can be called without any
    assert "lines" not in defined or len(defined["lines"].args) == 1


def test_figures_are_said_and_returned(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"crops": 2, "speed": {"own_s": 0.5}, "pairs": {"x": [1.0, 2.0]}}
    plain = ModuleType("plain")
    plain.__dict__["measure"] = lambda: found
    assert run(plain) is found
    assert capsys.readouterr().out == "crops: 2\nspeed:\n  own_s: 0.5\npairs:\n  x: 1.0, 2.0\n"
    plain.__dict__["lines"] = lambda given: [f"{given['crops']} crops"]
    assert run(plain) is found
    assert capsys.readouterr().out == "2 crops\n"
