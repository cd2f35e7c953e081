"""Ctrl-C: what the message says is kept is really there, and the same command continues with it.

Each command runs in a process of its own, which gets SIGINT when its progress reaches a number: no test depends on time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from tests.studies.small import values

from atypia.base import runs
from atypia.cli.shared.console import counted
from atypia.workflows.slides.tasks import DONE_FILE

CHILD = """
import os, signal, sys
from contextlib import contextmanager
from atypia.cli.shared import console

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
what, at = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
real = console.bars

@contextmanager
def bars():
    with real() as report:
        def told(done, total, name):
            report(done, total, name)
            if name.startswith(what) and done == at:
                os.kill(os.getpid(), signal.SIGINT)
        yield told

console.bars = bars  # before the commands take it
from atypia.cli.main import main
main()
"""


def run(home: Path, *arguments: object, stop: tuple[str, int] = ("never", -1)) -> tuple[int, str]:
    """Exit code and messages of a command, which gets SIGINT at that progress."""
    words = [sys.executable, "-c", CHILD, stop[0], str(stop[1]), *map(str, arguments)]
    mine = {"ATYPIA_HOME": str(home), "ATYPIA_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment = {key: value for key, value in os.environ.items() if key != "ATYPIA_DATA"} | mine
    ended = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=300)
    return ended.returncode, ended.stderr


def test_slides_that_are_finished_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["slide,points,mpp"]
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.csv").write_text("x_px,y_px\n100,100\n", "utf-8")
        lines.append(f"{name}.png,{name}.csv,0.25")
    (tmp_path / "slides.csv").write_text("\n".join(lines) + "\n", "utf-8")
    out = tmp_path / "out"
    command = ("predict", "--slides", tmp_path / "slides.csv", "--workers", 1, "--out", out)
    code, said = run(tmp_path / "home", *command, stop=("slides", 1))

    assert code == 130 and "stopped; 1 finished slide is kept, the same command continues" in said
    assert len(list(out.glob(f"*/{DONE_FILE}"))) == 1 and "Traceback" not in said
    code, said = run(tmp_path / "home", *command)
    assert "slides: 2 done, 1 kept, 0 failed" in said


def test_folds_that_are_complete_are_kept(tmp_path: Path, small_csv: Path) -> None:
    out = tmp_path / "out"
    command = (
        "train", "full", "--data", small_csv, "--protocol", "kfold", "--protocol-set", "folds=2", "--backbone", "tiny-cnn",
        "--set", "geometry.out_px=32", "--set", "input_px=32", "--set", "epochs=2", "--set", "pretrained=false",
        "--out", out,
    )  # fmt: skip
    code, said = run(tmp_path / "home", *command, stop=("fold-2, epoch 2", 1))

    assert code == 130 and "stopped; 1 complete fold and 1 checkpoint are kept, the same command continues" in said
    assert (out / "fold-1" / runs.RUN).is_file() and not (out / "fold-2" / runs.RUN).exists()
    assert (out / "fold-2" / runs.CHECKPOINT).is_dir()


def test_runs_that_are_complete_are_kept(tmp_path: Path, small_csv: Path, other_csv: Path) -> None:
    given = values(small_csv, [other_csv])
    given["models"] = given["models"][:1]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(given), "utf-8")
    out = tmp_path / "out"
    command = ("study", "run", tmp_path / "mine.yaml", "--size", "smoke", "--out", out, "--engine", "inline")
    code, said = run(tmp_path / "home", *command, stop=("runs", 1))

    assert code == 130 and "stopped; 1 complete run is kept, the same command continues" in said
    assert len(list(out.glob(f"runs/*/{DONE_FILE}"))) == 1 and not (out / "report").exists()


def test_what_is_there_is_counted(tmp_path: Path) -> None:
    told = counted(tmp_path, "*/run.json", "complete fold", "complete folds", "*/checkpoint-last")
    assert told() == "no complete fold is there yet"
    for fold, file in (("fold-1", "run.json"), ("fold-1", "checkpoint-last"), ("fold-2", "checkpoint-last")):
        (tmp_path / fold).mkdir(exist_ok=True)
        (tmp_path / fold / file).touch()
    (tmp_path / ".fold-3.part").mkdir()
    (tmp_path / ".fold-3.part/run.json").touch()
    assert told() == "1 complete fold and 1 checkpoint are kept"
    (tmp_path / "fold-2/run.json").touch()
    assert told() == "2 complete folds are kept"
