"""The review server: start, a grid of 100,000 figures, tiles of real slides, 50 reviewers at once, memory.

A server in a process of its own, asked over loopback as a page asks:

- *start*: from the command to the first answer of ``/health``, with the data set's manifest known;
- *first window*: session, 60 figures and their crops, six connections as a browser has;
- *windows*: each of 100 windows of 200 figures all over the grid, in four orders;
- *tiles*: of every slide under ``$ATYPIA_DATA/slides``, one request at a time, on all levels, none twice;
- *reviewers*: 50 clients for 30 s, each listing, looking at crops and deciding without a pause; every
  acknowledged decision is then looked for in the log;
- *memory*: of the server's process before and after the reviewers.

Crops are 128 px PNG files of the phantom set, under 100,000 names.

Predicted before the first run: start 1.5 s, first window 0.4 s, windows 20 ms, tiles p95 25 ms, 400
requests and 100 decisions a second on two cores that the clients share, memory within 40 MiB.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atypia.base.paths import cache_root, data_root
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.results import RESULTS_SCHEMA, with_all_columns
from atypia.review.decisions.log import file_events
from atypia.review.media.slides import TILE_PX, SlideSize

FIGURES, IMAGES = 100_000, 500
WINDOWS, SHOWN, CONNECTIONS = 100, 60, 6
REVIEWERS, SECONDS = 50, 30.0
TILES = 400
ORDERS = ("index", "p", "uncertainty", "novelty")
COMMAND = [sys.executable, "-c", "from atypia.cli.main import main; main()", "serve"]
HEADERS = {"X-Atypia": "1", "Content-Type": "application/json"}


class Caller:
    """A connection that is kept open, as a browser's."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def raw(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and content."""
        self._connection.request(method, path, None if body is None else json.dumps(body), HEADERS)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        status, data = self.raw(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {data[:200]!r}")
        return json.loads(data)


@contextmanager
def server(*arguments: str) -> Iterator[tuple[int, str, float]]:
    """A server: process id, address, and seconds from the command to the first answer."""
    started = time.perf_counter()
    command = [*COMMAND, *arguments, "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        Caller(address)("GET", "/health")
        yield process.pid, address, time.perf_counter() - started
    finally:
        process.terminate()
        process.communicate()


def results(folder: Path, figures: int) -> Path:
    """Results of many figures, whose crops are links to a few files."""
    manifest = write_phantom(cache_root() / "benchmarks" / "review-phantom", IMAGES)
    assert manifest.root is not None
    sources = [manifest.root / name for name in manifest.table["image"].to_pylist()]
    rng = np.random.default_rng(0)
    p = rng.beta(0.6, 1.6, figures)
    columns = {
        "figure_id": [f"figure-{i:06d}" for i in range(figures)],
        "image": [str(sources[i % len(sources)]) for i in range(figures)],
        "x_px": pa.nulls(figures, pa.float64()),
        "y_px": pa.nulls(figures, pa.float64()),
        "p_atypical": p,
        "decision": (p >= 0.5).astype(np.int8),
        "call": np.where(p >= 0.5, "atypical", "normal").tolist(),
        "novelty": rng.gamma(2, 1, figures),
        "threshold": np.full(figures, 0.5),
        "reason": pa.nulls(figures, pa.string()),
        "model": ["benchmark"] * figures,
    }
    pq.write_table(with_all_columns(pa.table(columns)), folder / "results.parquet")
    return folder / "results.parquet"


def first_window(address: str) -> float:
    """Seconds until the first crops are all there."""
    started = time.perf_counter()
    first = Caller(address)
    mark = first("GET", "/session")["fingerprint"]
    shown = first("GET", f"/figures?sort=uncertainty&descending=true&limit={SHOWN}")["figures"]

    def fetch(part: list[dict[str, Any]]) -> None:
        caller = Caller(address)
        for figure in part:
            caller.raw("GET", f"/figures/{figure['index']}/crop?size=128&v={mark}")

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(fetch, [shown[i::CONNECTIONS] for i in range(CONNECTIONS)]))
    return time.perf_counter() - started


def windows(address: str, figures: int) -> list[float]:
    """Seconds of windows all over the grid."""
    caller, times = Caller(address), []
    for step in range(WINDOWS):
        offset = step * figures // WINDOWS
        started = time.perf_counter()
        caller("GET", f"/figures?sort={ORDERS[step % len(ORDERS)]}&offset={offset}&limit=200")
        times.append(time.perf_counter() - started)
    return times


def tiles(folder: Path) -> list[float]:
    """Seconds of tiles of all slides in a folder."""
    paths = sorted(path for path in folder.glob("*") if path.is_file())
    times: list[float] = []
    with TemporaryDirectory() as made:
        lines = [
            {"figure_id": path.name, "image": str(path), "x_px": 100.0, "y_px": 100.0, "p_atypical": 0.5,
             "decision": 1, "call": "atypical", "novelty": None, "threshold": 0.5, "reason": None, "model": "m"}
            for path in paths
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(lines, schema=RESULTS_SCHEMA), f"{made}/results.parquet")
        with server(f"{made}/results.parquet", "--decisions", f"{made}/d.sqlite") as (_, address, _):
            caller = Caller(address)
            for slide in caller("GET", "/slides"):
                for level, column, row in addresses(SlideSize(slide["width_px"], slide["height_px"], None)):
                    started = time.perf_counter()
                    status, _ = caller.raw("GET", f"/slides/{slide['slide']}_files/{level}/{column}_{row}.jpeg")
                    times.append(time.perf_counter() - started)
                    assert status == 200
    return times


def addresses(facts: SlideSize) -> list[tuple[int, int, int]]:
    """Level, column and row of tiles of a slide: all, or evenly drawn ones."""
    found = []
    for level in range(facts.top + 1):
        down = 1 << (facts.top - level)
        columns, rows = (math.ceil(math.ceil(size / down) / TILE_PX) for size in (facts.width_px, facts.height_px))
        found += [(level, column, row) for row in range(rows) for column in range(columns)]
    picked = np.unique(np.linspace(0, len(found) - 1, min(TILES, len(found))).astype(int))
    return [found[i] for i in picked]


def reviewers(address: str, figures: int, seconds: float) -> tuple[list[int], int, int]:
    """Ids of acknowledged decisions, number of requests, number of errors."""
    end = time.monotonic() + seconds

    def review(number: int) -> tuple[list[int], int, int]:
        caller, rng = Caller(address), np.random.default_rng(number)
        rater = f"rater-{number}"
        caller("POST", "/raters", {"name": rater})
        ids, requests, errors = [], 1, 0
        while time.monotonic() < end:
            try:
                offset = int(rng.integers(figures - 60))
                page = caller("GET", f"/figures?rater={rater}&sort=uncertainty&offset={offset}&limit=60")["figures"]
                requests += 1
                for figure in page[:8]:
                    status, _ = caller.raw("GET", f"/figures/{figure['index']}/crop?size=128")
                    errors += status != 200
                    body = {"rater": rater, "index": figure["index"], "decision": "normal"}
                    ids.append(caller("POST", "/decisions", body)["id"])
                    requests += 2
            except (OSError, RuntimeError, http.client.HTTPException):
                errors += 1
                caller = Caller(address)
        return ids, requests, errors

    with ThreadPoolExecutor(REVIEWERS) as pool:
        found = list(pool.map(review, range(REVIEWERS)))
    ids = [one for part, _, _ in found for one in part]
    return ids, sum(part for _, part, _ in found), sum(part for _, _, part in found)


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text("utf-8").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def percentile(times: list[float], share: float) -> float:
    """In milliseconds."""
    return round(1000 * float(np.percentile(times, share)), 1)


def measure(figures: int = FIGURES, seconds: float = SECONDS, slides: Path | None = None) -> dict[str, Any]:
    """All of it.

    Args:
        figures: In the grid.
        seconds: How long the reviewers work.
        slides: Folder of slides; None for ``$ATYPIA_DATA/slides``.
    """
    folder = slides or data_root() / "slides"
    with TemporaryDirectory() as made:
        opened = str(results(Path(made), figures))
        decisions = Path(made) / "d.sqlite"
        starts = []
        for _ in range(3):
            with server(opened, "--decisions", str(decisions)) as (_, _, start):
                starts.append(start)
        with server(opened, "--decisions", str(decisions)) as (pid, address, _):
            first = first_window(address)
            listed = windows(address, figures)
            before = resident_mib(pid)
            ids, requests, errors = reviewers(address, figures, seconds)
            after = resident_mib(pid)
        logged = {event.id for event in file_events(decisions)}
    found = {
        "figures": figures,
        "start_s": round(statistics.median(starts), 2),
        "first_window_s": round(first, 3),
        "window_of_200_p95_ms": percentile(listed, 95),
        "reviewers": REVIEWERS,
        "seconds": seconds,
        "requests_a_second": round(requests / seconds),
        "decisions": len(ids),
        "errors": errors,
        "lost_decisions": len(set(ids) - logged),
        "memory_before_mib": round(before),
        "memory_after_mib": round(after),
    }
    if folder.is_dir():
        times = tiles(folder)
        found |= {"tiles": len(times), "tile_p50_ms": percentile(times, 50), "tile_p95_ms": percentile(times, 95)}
    return found
