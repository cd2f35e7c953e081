"""Claims: one living process holds a run; those of the dead are void."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atypia.studies import ledger as module
from atypia.studies.ledger import (
    CLAIM,
    DONE,
    EXPIRES_S,
    FAILED,
    PENDING,
    RUNNING,
    Claim,
    Ledger,
    host_name,
    process_start,
)


def place(ledger: Ledger, run: str, **changes: object) -> Path:
    """Writes a claim as some process might have left it."""
    held = {"token": "t", "host": host_name(), "pid": os.getpid(), "born": process_start(os.getpid()), **changes}
    path = ledger.folder(run) / CLAIM
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held), "utf-8")
    return path


def test_a_claim_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.claim("a") as mine:
        assert mine
        assert ledger.state("a") == RUNNING
        with Ledger(tmp_path).claim("a") as other:
            assert not other
        with ledger.claim("b") as another:
            assert another
    assert ledger.state("a") == PENDING
    with ledger.claim("a") as mine:
        assert mine


def test_many_at_once_get_it_one_by_one(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    place(ledger, "a", pid=int(process.stdout), born="1")  # of a process that is no more
    inside, most, got = [0], [0], []
    guard, start = threading.Lock(), threading.Barrier(8)

    def work() -> None:
        start.wait()
        with ledger.claim("a") as mine:
            if mine:
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    got.append(1)
                with guard:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got
    assert most == [1]


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    place(ledger, "living")
    assert ledger.state("living") == RUNNING
    place(ledger, "reused", born="another start of this number")
    assert ledger.state("reused") == PENDING
    far = place(ledger, "far", host="another machine", pid=1)
    assert ledger.state("far") == RUNNING
    os.utime(far, (far.stat().st_atime, far.stat().st_mtime - EXPIRES_S - 1))
    assert ledger.state("far") == PENDING
    with ledger.claim("far") as mine:
        assert mine
        assert module.read_claim(far) != Claim("t", "another machine", 1, "")
    half = ledger.folder("half")
    half.mkdir()
    (half / CLAIM).touch()
    assert ledger.state("half") == RUNNING, "it may be written just now"


def test_the_heart_beats_until_another_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    ledger = Ledger(tmp_path)
    path = ledger.folder("a") / CLAIM
    with ledger.claim("a"):
        os.utime(path, (1, 1))
        for _ in range(500):
            if path.stat().st_mtime > 1:
                break
            threading.Event().wait(0.01)
        assert path.stat().st_mtime > 1
        place(ledger, "a", token="other")
    assert path.exists(), "the claim of another is not removed"


def test_states_and_events(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for run in ("a", "b"):
        ledger.folder(run).mkdir(parents=True)
    ledger.record("a", "start", fold="fold-1")
    ledger.finish("a", 1.25, ["t1"], {"fold": "fold-1"})
    ledger.fail("b", "no luck", "Traceback …")
    assert ledger.states(["a", "b", "c"], ["t1"]) == {"a": DONE, "b": FAILED, "c": PENDING}
    assert ledger.state("a", ["t1", "t2"]) == PENDING, "a test set is still to be scored"
    assert [event["event"] for event in ledger.events("a")] == ["start", "done"]
    with open(ledger.folder("a") / "events.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "sta')  # cut short by a kill
    assert len(ledger.events("a")) == 2
    assert ledger.forgive(["a", "b"]) == 1
    assert ledger.state("b") == PENDING
    (ledger.folder("a") / "done.json").write_text('{"run": "other", "tests": []}', "utf-8")
    assert ledger.state("a") == PENDING
