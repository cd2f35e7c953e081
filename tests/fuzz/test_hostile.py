"""Whatever a file holds, a reader reads it or refuses it in words: no other exception, no hang, no gigabytes."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from . import reading
from .hostile import Hostile, hostile_inputs

SECONDS = 10.0
"""Most that one input may take, by the clock of its process; three times as much ends the process."""
START_S = 120.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of memory need Linux")


@pytest.mark.parametrize("seed", [0])
def test_a_hundred_hostile_inputs_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    _check(list(hostile_inputs(100, seed)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_a_thousand_hostile_inputs_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    inputs = list(hostile_inputs(1000, seed))
    assert {given.kind for given in inputs} == set(reading.READERS)

    _check(inputs, tmp_path)


def test_the_inputs_are_the_same_for_the_same_seed() -> None:
    assert list(hostile_inputs(60, 3)) == list(hostile_inputs(60, 3)) != list(hostile_inputs(60, 4))


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The net itself: a reader that fails, one that hangs and one that takes too much are each reported."""
    lines = [
        *_run_code(tmp_path, "raise KeyError('x')"),
        *_run_code(tmp_path, "bytearray(2 << 30)"),
        *_run_code(tmp_path, "import time; time.sleep(60)", seconds=0.5),
    ]

    assert "KeyError: 'x'" in lines[0]["fault"]
    assert "MemoryError" in lines[1]["fault"]
    assert lines[2]["fault"] == "hangs"


def _run_code(folder: Path, code: str, seconds: float = SECONDS) -> list[dict[str, Any]]:
    script = folder / "faulty.py"
    own = Path(reading.__file__).read_text("utf-8")
    script.write_text(own.replace("    Split.load(path)", f'    if path.name == "x.json":\n        {code}'), "utf-8")
    return _outcomes([Hostile("split", "x.json", b"{}")], folder / str(len(list(folder.iterdir()))), script, seconds)


def _check(inputs: list[Hostile], folder: Path) -> None:
    outcomes = _outcomes(inputs, folder / "inputs")
    assert len(outcomes) == len(inputs)
    faults = [
        f"{inputs[line['end']].kind} {folder}/inputs/{line['end']}/{inputs[line['end']].name}: {line['fault']}"
        for line in outcomes
        if line["fault"] is not None
    ]
    slow = [f"{inputs[line['end']]}: {line['seconds']:.1f} s"[:200] for line in outcomes if line["seconds"] > SECONDS]
    assert faults == [], "\n".join([f"{len(faults)} of {len(inputs)}", *faults])
    assert slow == []
    # It would find nothing if everything were refused at the door.
    kinds = Counter(inputs[line["end"]].kind for line in outcomes if line["read"])
    print(f"{len(inputs)} inputs: {sum(kinds.values())} read by a reader or more ({dict(kinds)}), the others refused")
    assert sum(kinds.values()) > len(inputs) // 20


def _outcomes(
    inputs: list[Hostile], folder: Path, script: Path = Path(reading.__file__), seconds: float = 3 * SECONDS
) -> list[dict[str, Any]]:
    """What became of each input; a process that hangs or dies is started again behind the input that it died of."""
    for number, given in enumerate(inputs):
        (folder / str(number)).mkdir(parents=True)
        reading.place(folder / str(number), given.name, given.content)
        if given.kind == "bundle":  # the other file of the bundle is whole
            _complete_bundle(folder / str(number))
    (folder / "inputs.json").write_text(json.dumps([[given.kind, given.name] for given in inputs]), "utf-8")
    outcomes: list[dict[str, Any]] = []
    while len(outcomes) < len(inputs):
        command = [sys.executable, str(script), str(folder), str(len(outcomes))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment) as process:
            fault = _follow(process, outcomes, seconds)
            process.kill()
        if len(outcomes) < len(inputs):
            outcomes.append({"end": len(outcomes), "read": 0, "refused": 0, "fault": fault, "seconds": 0.0})
    return outcomes


def _follow(process: subprocess.Popen[str], outcomes: list[dict[str, Any]], seconds: float) -> str:
    assert process.stdout is not None
    waits = START_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(waits):
            line = process.stdout.readline()
            if not line:
                return f"the process ended ({process.wait()})"
            said = json.loads(line)
            waits = seconds if "begin" in said else START_S
            if "end" in said:
                outcomes.append(said)
    return "hangs"


def _complete_bundle(folder: Path) -> None:
    from .small_files import small_bundle

    for name, content in small_bundle():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
