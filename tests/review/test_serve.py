"""The command: a real server in a process of its own, many clients, and a sudden end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atypia.inference.results import RESULTS_SCHEMA
from atypia.review.decisions.log import file_events
from atypia.review.figures.opening import Opening, open_figures

COMMAND = [sys.executable, "-c", "from atypia.cli.main import main; main()", "serve"]
HEADERS = {"X-Atypia": "1", "Content-Type": "application/json"}
REVIEWERS = 50


class Caller:
    """A connection that is kept open, as a browser's."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        self._connection.request(method, path, None if body is None else json.dumps(body), HEADERS)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--port", "0", "--no-open"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.stderr.read() if process.stderr else ""
        yield process, address
    finally:
        process.kill()
        process.communicate()


def test_no_acknowledged_decision_is_lost_by_a_kill(small_csv: Path, tmp_path: Path) -> None:
    """Reviewers decide as fast as they can; the process is killed; everything that was acknowledged is there."""
    file = tmp_path / "d.sqlite"
    acknowledged: list[tuple[int, str, int, str]] = []
    stop = Flag()

    def burst(rater: str, address: str) -> None:
        call = Caller(address)
        step = 0
        while not stop.is_set():
            decision = ("atypical", "normal")[step % 2]
            try:
                status, answer = call("POST", "/decisions", {"rater": rater, "index": step % 80, "decision": decision})
            except (OSError, http.client.HTTPException, ValueError):
                return
            if status == 201:
                acknowledged.append((answer["id"], rater, step % 80, decision))
            step += 1

    with serving(str(small_csv), "--decisions", str(file)) as (process, address):
        raters = [f"rater {n}" for n in range(4)]
        for rater in raters:
            assert Caller(address)("POST", "/raters", {"name": rater})[0] == 201
        with ThreadPoolExecutor(len(raters)) as pool:
            done = [pool.submit(burst, rater, address) for rater in raters]
            end = time.monotonic() + 60
            while len(acknowledged) < 150 and time.monotonic() < end:
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            stop.set()
            for one in done:
                one.result()
    assert len(acknowledged) >= 150
    logged = {(event.id, event.rater, int(event.figure_id[-3:]), event.decision) for event in file_events(file)}
    assert set(acknowledged) <= logged
    assert len(logged) - len(acknowledged) <= len(raters)  # at most what was on its way back
    with serving(str(small_csv), "--decisions", str(file)) as (_, address):
        status, page = Caller(address)("GET", "/figures?rater=rater%200&limit=1")
        assert status == 200 and page["figures"][0]["decision"] in ("atypical", "normal")


def test_fifty_reviewers_at_once(small_csv: Path, tmp_path: Path) -> None:
    """No error, no lost decision, no foreign one."""
    file = tmp_path / "d.sqlite"

    def review(number: int, address: str) -> list[int]:
        call, statuses = Caller(address), []
        rater = f"rater {number}"
        statuses.append(call("POST", "/raters", {"name": rater})[0])
        for step in range(6):
            statuses.append(call("GET", f"/figures?rater=rater%20{number}&undecided=true&limit=20")[0])
            body = {"rater": rater, "index": (number + step) % 80, "decision": "atypical", "seen_previous": 0}
            statuses.append(call("POST", "/decisions", body)[0])
        statuses.append(call("POST", "/decisions/undo", {"rater": rater})[0])
        return statuses

    with serving(str(small_csv), "--decisions", str(file)) as (_, address):
        with ThreadPoolExecutor(REVIEWERS) as pool:
            found = list(pool.map(lambda number: review(number, address), range(REVIEWERS)))
        assert all(statuses == [201, *[200, 201] * 6, 200] for statuses in found)
        raters = Caller(address)("GET", "/raters")[1]
        assert len(raters) == REVIEWERS and {rater["decided"] for rater in raters} == {5}
        in_use = subprocess.run(
            [*COMMAND, str(small_csv), "--decisions", str(file), "--port", "0", "--no-open"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert in_use.returncode == 1 and "in use by another" in in_use.stderr
    events = file_events(file)
    assert len(events) == REVIEWERS * 7 and [event.id for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("what", ["results", "data"])
def test_nothing_heavy_is_loaded_at_the_start(small_csv: Path, tmp_path: Path, what: str) -> None:
    """What takes seconds to import stays out until it is needed."""
    opened = small_csv
    if what == "results":
        opened = tmp_path / "results.parquet"
        line = {"figure_id": "a", "image": "a.png", "p_atypical": 0.5, "call": "normal", "threshold": 0.5, "model": "m"}
        pq.write_table(pa.Table.from_pylist([line], schema=RESULTS_SCHEMA), opened)
    open_figures(Opening((str(opened),)))  # derives the manifest from the table, once
    code = f"""
import sys
from pathlib import Path
import atypia.review.server.serving
from atypia.review.server.app import create_app
from atypia.review.server.context import Review
from atypia.review.figures.opening import Opening, open_figures
from atypia.review.server.safety import Access
figures = open_figures(Opening(({str(opened)!r},)))
create_app(Review(figures, Path({str(tmp_path / "d.sqlite")!r})), Access("127.0.0.1"))
heavy = {{"torch", "sklearn", "scipy", "cleanlab", "matplotlib", "timm", "onnxruntime"}}
if {what!r} == "results":
    heavy.add("pandas")
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--port", "0"), 2, "nothing to open"),  # the usual port may be taken on this machine
        (("{csv}", "--host", "0.0.0.0", "--token", "short"), 2, "at least 16"),
        (("{csv}", "--model", "nothing"), 2, "`model` must be"),
        (("{csv}", "--port", "{port}"), 1, "`--port` must be free"),
    ],
)
def test_bad_starts(small_csv: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    import socket

    from typer.testing import CliRunner

    from atypia.cli.main import app

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {"csv": str(small_csv), "port": str(taken.getsockname()[1])}
        given = [argument.format(**values) for argument in arguments]
        result = CliRunner().invoke(app, ["serve", *given, "--no-open"])
    error: Any = result.exception
    assert getattr(error, "exit_code", None) == code and words in str(error), (result.output, error)
