"""Runs: what is complete is kept, a failure stops nothing else, killed work is done again and only that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from atypia.base import records as r
from atypia.base.errors import AbsentError, InputError
from atypia.engines.tasks import Setup
from atypia.evaluation import rows as e
from atypia.inference.predictions import read_predictions
from atypia.studies.ledger import Ledger, read_claim
from atypia.studies.plan import Plan
from atypia.studies.run import run_study, study_status
from atypia.studies.table import collect_study

from .small import carried_out, comparable, counts, plan_of, values


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over another number of threads differ in the last digits, and engines share the cores out differently.

    Processes that are started inherit the one core, and so take one thread as well.
    """
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(1)
    if cores is not None:
        os.sched_setaffinity(0, {min(cores, key=lambda core: (core + os.getpid()) % len(cores))})
    yield
    torch.set_num_threads(threads)
    if cores is not None:
        os.sched_setaffinity(0, cores)


def test_from_plan_to_table(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    plan, out = plan_of(values(small_csv, [other_csv], decisions=["fixed", "fitted"], baseline="probe"), tmp_path)
    assert [(run.fold, plan.trainings[run.training].label) for run in plan.runs] == [
        ("fold-1", "probe"), ("fold-2", "probe"), ("fold-1", "network"), ("fold-2", "network"),
    ]  # fmt: skip
    results = carried_out(plan, out)
    assert set(counts(plan, out).values()) == {(1, 1)}

    rows = results.rows.to_pylist()
    models = {row[e.MODEL] for row in rows}
    assert models == {f"{label} · {d} threshold" for label in ("probe", "network") for d in ("fixed", "fitted")}
    assert {row[r.PART] for row in rows} == {"val", "external"}

    # The threshold that is fitted on validation is the best there, so it is never worse than the fixed one.
    def value(label: str, decision: str, fold: str, metric: str) -> float:
        (found,) = [
            row[e.VALUE] for row in rows
            if (row[e.MODEL], row[r.FOLD], row[e.METRIC], row[r.PART], row[r.DOMAIN])
            == (f"{label} · {decision} threshold", fold, metric, "val", None)
        ]  # fmt: skip
        return found

    for label in ("probe", "network"):
        for fold in ("fold-1", "fold-2"):
            fixed, fitted = (value(label, d, fold, "balanced_accuracy") for d in ("fixed", "fitted"))
            assert fitted >= fixed
            assert value(label, "fixed", fold, "auroc") == value(label, "fitted", fold, "auroc")

    # Differences are of the same fold and decision.
    deltas = results.deltas.to_pylist()
    assert {row[e.MODEL] for row in deltas} == {"network · fixed threshold", "network · fitted threshold"}
    (one,) = [
        row[e.VALUE] for row in deltas
        if (row[e.MODEL], row[r.FOLD], row[e.METRIC], row[r.PART], row[r.DOMAIN])
        == ("network · fixed threshold", "fold-2", "auroc", "val", None)
    ]  # fmt: skip
    assert one == value("network", "fixed", "fold-2", "auroc") - value("probe", "fixed", "fold-2", "auroc")

    # A second call does nothing; its table is the same.
    again = run_study(Plan.load(out), out, "inline")
    assert (again.done, len(again.kept)) == ((), 4)
    assert set(counts(plan, out).values()) == {(1, 1)}
    assert comparable(collect_study(Plan.load(out), out)) == comparable(results)
    assert study_status(plan, out).counts["done"] == 4

    # Another study's folder takes the runs over.
    copy, elsewhere = plan_of(values(small_csv, [other_csv]), tmp_path, "elsewhere")
    ran = run_study(copy, elsewhere, "inline", reuse=[out])
    assert (len(ran.adopted), ran.done) == (4, ())
    assert set(counts(copy, elsewhere).values()) == {(0, 0)}
    assert len(collect_study(copy, elsewhere).rows)


def test_a_new_test_set_is_scored_without_training_again(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    one_model = values(small_csv, [])["models"][:1]
    plan, out = plan_of(values(small_csv, [], models=one_model), tmp_path)
    carried_out(plan, out)
    bundles = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/fold-*/bundle/model.safetensors")}
    more, _ = plan_of(values(small_csv, [other_csv], models=one_model), tmp_path)
    assert study_status(more, out).counts["pending"] == 2
    results = carried_out(more, out)
    assert {path: path.stat().st_mtime_ns for path in bundles} == bundles
    assert "external" in set(results.rows[r.PART].to_pylist())


def test_a_failed_run_stops_no_other_and_is_tried_again_on_request(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atypia.studies import work

    plan, out = plan_of(values(small_csv, [], models=values(small_csv, [])["models"][:1]), tmp_path)
    bad = plan.runs[0].id
    train = work.train

    def broken(job: object, *rest: object) -> object:
        if bad in str(job):
            raise ValueError("a value that cannot be")
        return train(job, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(work, "train", broken)
    ran = run_study(plan, out, "inline")
    assert ran.failed == {bad: "ValueError: a value that cannot be"}
    assert len(ran.done) == 1
    failure = Ledger(out).failure(bad)
    assert failure is not None
    assert "Traceback" in failure["traceback"]
    assert study_status(plan, out).failures == [("probe", "fold-1", bad, "ValueError: a value that cannot be")]

    monkeypatch.undo()
    assert run_study(plan, out, "inline").failed.keys() == {bad}  # told, not tried
    again = run_study(plan, out, "inline", retry=True)
    assert (again.done, again.failed) == ((bad,), {})
    assert Ledger(out).failure(bad) is None


def test_the_end_of_the_process_is_no_failure_of_a_run(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atypia.studies import work

    plan, out = plan_of(values(small_csv, [], models=values(small_csv, [])["models"][:1]), tmp_path)

    def stop(*_: object) -> object:
        raise SystemExit(3)

    monkeypatch.setattr(work, "train", stop)
    with pytest.raises(SystemExit):
        run_study(plan, out, "inline")
    assert all(Ledger(out).failure(run.id) is None for run in plan.runs)


def stopped(pid: int) -> bool:
    """Stops a process and waits until it stands still; False where it has ended."""
    with suppress(ProcessLookupError, OSError):
        os.kill(pid, signal.SIGSTOP)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "T":
                return True
            time.sleep(0.001)
    return False


def test_a_worker_that_is_killed_is_replaced(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    given = values(small_csv, [other_csv])
    plan, out = plan_of(given, tmp_path, "undisturbed")
    expected = comparable(carried_out(plan, out))

    killed: set[int] = set()

    def kill(done: int, total: int, what: str) -> None:
        if not 1 <= done < total or killed:  # the next run has been given to the worker: its claim names the process
            return
        for _ in range(40):
            for claim in out.glob("runs/*/claim.json"):
                held = read_claim(claim)
                if held is None or not stopped(held.pid):
                    continue
                happened = {event["event"] for event in Ledger(out).events(claim.parent.name)}
                if "start" in happened and "done" not in happened:  # between the two, for it does not move meanwhile
                    killed.add(held.pid)
                    os.kill(held.pid, signal.SIGKILL)
                    return
                os.kill(held.pid, signal.SIGCONT)
            time.sleep(0.05)

    for attempt in range(4):  # on a busy machine the worker may be through before this process looks
        plan, out = plan_of(given, tmp_path, f"disturbed-{attempt}")
        plan.save(out)
        ran = run_study(plan, out, "local", Setup(workers=1, progress=kill))
        if killed:
            break
    assert killed
    assert (len(ran.done), ran.failed) == (4, {})
    assert comparable(collect_study(plan, out)) == expected
    times = counts(plan, out)
    assert {done for _, done in times.values()} == {1}
    assert sum(begun for begun, _ in times.values()) == 5


def test_two_calls_share_the_work(small_csv: Path, tmp_path: Path) -> None:
    plan, out = plan_of(values(small_csv, []), tmp_path)
    plan.save(out)
    command = [sys.executable, "-m", "tests.studies.small", str(out), "inline"]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) for _ in range(2)]
    said = [[int(word) for word in process.communicate(timeout=300)[0].split()] for process in both]
    assert sum(done for done, _, _ in said) == 4
    assert all(done + kept == 4 and failed == 0 for done, kept, failed in said)
    assert set(counts(plan, out).values()) == {(1, 1)}


def test_sigterm_ends_the_workers_too(small_csv: Path, tmp_path: Path) -> None:
    """As a scheduler does at the end of a job's time; the worker writes its checkpoint and ends."""

    given = values(small_csv, [], epochs=500)
    _, out = plan_of({**given, "models": given["models"][1:]}, tmp_path)
    command = [sys.executable, "-m", "atypia.cli.main", "study", "run", str(tmp_path / "small.yaml"), "--size", "smoke"]
    process = subprocess.Popen([*command, "--workers", "1", "--out", str(out)], stderr=subprocess.PIPE, text=True)
    checkpoints: list[Path] = []
    until = time.monotonic() + 120
    while not checkpoints and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
        checkpoints = list(out.glob("runs/*/*/metrics.jsonl"))  # an epoch of the network is over
    claims = [claim for path in out.glob("runs/*/claim.json") if (claim := read_claim(path)) is not None]
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, len(checkpoints), len(claims)) == (130, 1, 1), said
    assert "the same command continues" in said
    with pytest.raises(ProcessLookupError):
        os.kill(claims[0].pid, 0)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    given = values(small_csv, [other_csv], epochs=3)
    plan, out = plan_of(given, tmp_path, "undisturbed")
    started = time.monotonic()
    expected = comparable(carried_out(plan, out))
    usual_s = time.monotonic() - started

    plan, out = plan_of(given, tmp_path, "disturbed")
    plan.save(out)
    rng = np.random.default_rng(0)
    command = [sys.executable, "-m", "tests.studies.small", str(out), "local"]
    for _ in range(20):
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True)
        with suppress(subprocess.TimeoutExpired):
            process.wait(float(rng.uniform(0.2, 1.2)) * usual_s)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the workers with it
        process.wait()
    assert not run_study(Plan.load(out), out, "inline").failed
    assert comparable(collect_study(plan, out)) == expected
    assert {done for _, done in counts(plan, out).values()} == {1}


@pytest.mark.slow
def test_ray_gives_the_same_results_though_a_worker_dies(small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    given = values(small_csv, [other_csv])
    plan, out = plan_of(given, tmp_path, "inline")
    expected = comparable(carried_out(plan, out))
    plan, out = plan_of(given, tmp_path, "ray")
    plan.save(out)
    killed = set()

    def kill(done: int, total: int, what: str) -> None:

        for _ in range(600 if done == 1 and not killed else 0):
            held = [read_claim(claim) for claim in out.glob("runs/*/claim.json")]
            if held and held[0] is not None:
                killed.add(held[0].pid)
                os.kill(held[0].pid, signal.SIGKILL)
                return
            time.sleep(0.05)

    ran = run_study(plan, out, "ray", Setup(workers=2, progress=kill))
    assert killed
    assert (len(ran.done), ran.failed) == (4, {})
    assert comparable(collect_study(plan, out)) == expected


def test_nothing_can_be_run(small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    plan, out = plan_of(values(small_csv, [], models=[{"recipe": "probe", "backbones": ["uni"]}]), tmp_path)
    with pytest.raises(AbsentError, match=r"nothing of small can be run here: weights of uni: .*; fix: accept"):
        run_study(plan, out, "inline")
    assert study_status(plan, out).counts["lacking"] == 2


def test_bad_setup(small_csv: Path, tmp_path: Path) -> None:
    plan, out = plan_of(values(small_csv, []), tmp_path)
    with pytest.raises(InputError, match=r"unknown engine 'slurm'.*choices: local, ray, inline"):
        run_study(plan, out, "slurm")
    with pytest.raises(InputError, match=r"`address` must be left out with the local engine"):
        run_study(plan, out, "local", Setup(address="auto"))
    with pytest.raises(InputError, match="no run of small is complete"):
        collect_study(plan, out)


def test_a_damaged_prediction_file_is_named(small_csv: Path, tmp_path: Path) -> None:
    plan, out = plan_of(values(small_csv, [], models=values(small_csv, [])["models"][:1]), tmp_path)
    carried_out(plan, out)
    (file, *_) = out.glob("runs/*/fold-1/predictions.parquet")
    table, _ = read_predictions(file)
    assert table.num_rows
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"predictions.parquet is not a readable Parquet file"):
        collect_study(plan, out)
