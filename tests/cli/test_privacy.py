"""A prediction leaves nothing behind but what was asked for, and asks nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.process.telemetry import REPORTERS, SWITCHES

WATCH = '''
"""Loaded by every Python process of the test: notes what is opened for writing, and every use of a socket."""
import atexit, os, sys

log = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
NET = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname")

def hook(event, arguments):
    if event in NET:
        os.write(log, f"net {event}\\n".encode())
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        os.write(log, f"write {os.fspath(arguments[0]) if not isinstance(arguments[0], int) else ''}\\n".encode())

def last():
    # Native code has no audit events: what it holds open at the end is seen here.
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            where = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if where.startswith("socket:") and int(fd) > 2:
            os.write(log, f"net {where}\\n".encode())

sys.addaudithook(hook)
atexit.register(last)
'''


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("home", "tmp", "work/crops", "watch"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH, "utf-8")
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)).save(tmp_path / f"work/crops/{i}.png")
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    """A user's, with nothing of Atypia's or anybody's settings, and all their folders below one."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    own = os.pathsep.join([str(place / "watch"), *(path for path in sys.path if path)])
    xdg = {
        f"XDG_{kind}_HOME": str(place / "home" / f".{kind.lower()}") for kind in ("CACHE", "CONFIG", "DATA", "STATE")
    }
    return {
        **kept, **xdg, "HOME": str(place / "home"), "USERPROFILE": str(place / "home"), "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": own, "PYTHONDONTWRITEBYTECODE": "1", "WATCHED": str(place / "watch/log"),
    }  # fmt: skip


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if "watch" not in path.relative_to(place).parts}


def predict(place: Path, runtime: str, *before: str) -> None:
    command = [*before, sys.executable, "-m", "atypia.cli.main", "predict", "crops", "--out", "calls.csv",
               "--page", "case.html", "--runtime", runtime]  # fmt: skip
    run(place, command)


def run(place: Path, command: list[str]) -> None:
    """Runs a command that classifies; noise is refused as unlike the training data, which is exit code 1."""
    done = subprocess.run(
        command, cwd=place / "work", env=environment(place), capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1 and "every figure (" in done.stderr, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="folders of a user are named otherwise")
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_prediction_writes_the_named_output_and_asks_nobody(runtime: str, place: Path) -> None:
    before = files(place)
    predict(place, runtime)
    assert files(place) - before == {"work/calls.csv", "work/case.html"}
    log = (place / "watch/log").read_text("utf-8").splitlines()
    assert [line for line in log if line.startswith("net ")] == []
    written = {line.removeprefix("write ") for line in log if line.startswith("write ")} - {os.devnull}
    allowed = (str(place / "work"), ".", str(place / "tmp"))  # what is written under tmp is gone at the end
    assert written and all(path.startswith(allowed) or "/" not in path for path in written), written


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_the_system_saw_no_socket(runtime: str, place: Path) -> None:
    predict(place, runtime, "strace", "-f", "-qq", "-e", "trace=network", "-o", str(place / "watch/trace"))
    calls = (place / "watch/trace").read_text("utf-8").splitlines()
    assert [line for line in calls if "socket(" in line or "connect(" in line] == []


def test_what_is_handed_on_shows_no_folders(place: Path) -> None:
    damaged = place / "work/crops/damaged.png"
    damaged.write_bytes(b"no image")
    pages = ["case.html", "case.json", "case.txt"]
    for summary in pages[1:]:
        command = [sys.executable, "-m", "atypia.cli.main", "predict", str(place / "work/crops"), "--page", pages[0],
                   "--summary", summary]  # fmt: skip
        run(place, command)
    for page in pages:
        text = (place / "work" / page).read_text("utf-8")
        assert "crops" in text and str(place) not in text


@pytest.mark.parametrize(
    "start", ["atypia", "atypia.cli.main", "atypia.challenge", "atypia.inference.runtimes.onnx_runtime"]
)
def test_reports_are_switched_off_before_anything_is_imported(start: str) -> None:
    code = (
        f"import os, sys\nos.environ['ORT_DISABLE_TELEMETRY'] = '0'\nimport {start}, json\n"
        f"print(json.dumps([{{n: os.environ.get(n) for n in {list(SWITCHES)}}}, "
        f"[n for n in {list(REPORTERS)} if sys.modules.get(n, 0) is not None]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [SWITCHES, []]


def test_openvino_works_without_its_reporter() -> None:
    code = "import atypia, openvino, sys; openvino.Core(); print(sys.modules['openvino_telemetry'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "None"
