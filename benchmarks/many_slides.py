"""A thousand small slides on Ray with two workers: slides per second, and that each is scored once, whatever dies meanwhile.

``python -m benchmarks many_slides``, or ``python -m benchmarks.many_slides FOLDER [--slides 1000] [--workers 2]`` to keep what is written.
Needs ``pip install 'atypia[train,export,scale]'`` and Linux. Slides are tiled TIFF files of 512 px of rendered tissue, each with six points and a
tiny network, so that what a slide costs beside its network is what is measured. In turns:

- *local*: processes of this machine;
- *ray*: a temporary Ray cluster of this machine's cores;
- *ray, killed*: the same, of which one worker is killed after a quarter of the slides, and the calling process with the whole cluster after half;
- *ray, continued*: the same call again.

Checked, else it ends with an error: all slides are done, none twice, what was complete before is kept untouched, and every run gives the
same results. ``slides_per_s`` counts from the first slide that is done to the last: starting Ray is given apart.

Predicted before the first run, two idle cores: local 60 slides a second, Ray 50 (5 ms a task), 4 s to start Ray.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np

from atypia.data.phantom.optics import jpeg_bytes
from atypia.data.phantom.pyramid import TILE_PX, TiledTiff
from atypia.workflows.slides.jobs import TABLE, SlideSettings
from atypia.workflows.slides.predict import predict_slides
from benchmarks.measuring import turns

SLIDES, POINTS, WORKERS = 1000, 6, 2
SIDE_PX, MARGIN_PX = 2 * TILE_PX, 80
MPP, QUALITY = 0.25, 80
MARK = "ATYPIA_BENCHMARK_RUN"
"""Variable of the environment by which processes of a run are found, Ray's too."""
DONE = "done.json"
LONGEST_S = 3600.0


@dataclass(frozen=True)
class Counted:
    """What a call did.

    Attributes:
        done: Slides that it scored.
        kept: Slides that were complete.
        failed: Slides that failed.
        start_s: From its start to the first slide that was done.
        slides_per_s: From the first to the last.
        wall_s: Of the whole call.
    """

    done: int
    kept: int
    failed: int
    start_s: float
    slides_per_s: float
    wall_s: float


def measure(
    slides: int = SLIDES, workers: int = WORKERS, folder: Path | None = None, model: Path | None = None
) -> dict[str, Any]:
    """Slides per second of each engine, and what the killed and the continued call did.

    Args:
        slides: How many are written.
        workers: Slides at once.
        folder: Where everything is written and kept; None: nothing is kept.
        model: An exported model; None: a tiny network of random weights.

    Raises:
        RuntimeError: A slide was lost, scored twice, or gave other results.
    """
    if folder is None:
        with TemporaryDirectory(prefix="atypia-bench-") as temporary:
            return measure(slides, workers, Path(temporary), model)
    listed = write_slides(folder / "slides", slides)
    model = tiny_model(folder / "model") if model is None else model.absolute()
    found: dict[str, Any] = {"slides": slides, "points": slides * POINTS, "workers": workers}
    calls = {}
    for engine in ("local", "ray"):
        calls[engine] = Call(listed, model, folder / engine, engine, workers)
        found[engine] = asdict(calls[engine].finished())
    broken = Call(listed, model, folder / "killed", "ray", workers)
    before = broken.killed(slides)
    found["ray, killed"] = {"done": len(before), "workers_killed": 1}
    continued = broken.finished()
    found["ray, continued"] = asdict(continued)
    check(slides, before, continued, [folder / name for name in ("local", "ray", "killed")])
    rates = [found[engine]["slides_per_s"] for engine in ("ray", "local")]
    return {
        **found,
        "pairs": {"many slides: Ray, against processes of this machine": turns.pairs(rates[:1], rates[1:])},
    }


def write_slides(folder: Path, count: int) -> Path:
    """The slides, their points, and the list of them; no two slides are alike."""
    from benchmarks.whole_slide import tissue_tiles  # here, as the processes of the calls need none of what it imports

    folder.mkdir(parents=True)
    tiles = [jpeg_bytes(tile, QUALITY) for tile in tissue_tiles()[0]]
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        with (folder / f"{number:05}.tif").open("wb") as file:
            across = SIDE_PX // TILE_PX
            chosen = [tiles[place] for place in rng.integers(0, len(tiles), across * across)]
            TiledTiff(file, MPP, False).write(chosen, (SIDE_PX, SIDE_PX))
        places = rng.uniform(MARGIN_PX, SIDE_PX - MARGIN_PX, (POINTS, 2)).round(1)
        _write_rows(folder / f"{number:05}.csv", [("x_px", "y_px"), *places.tolist()])
        rows.append((f"{number:05}.tif", f"{number:05}.csv"))
    return _write_rows(folder / "list.csv", [("slide", "points"), *rows])


def _write_rows(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def tiny_model(folder: Path) -> Path:
    """An exported network of random weights; torch, which makes it, is not needed by the workers."""
    from benchmarks.predict import made_bundle

    return made_bundle(folder, "tiny-cnn")


@dataclass(frozen=True)
class Call:
    """One call of :func:`atypia.workflows.slides.predict.predict_slides` in a process of its own, which can be killed."""

    listed: Path
    model: Path
    out: Path
    engine: str
    workers: int

    def finished(self) -> Counted:
        """Runs to the end."""
        started = time.time()
        with self._started() as process:
            said, _ = process.communicate(timeout=LONGEST_S)
        wall = time.time() - started
        if process.returncode:
            raise RuntimeError(f"the call with the engine {self.engine} ended with {process.returncode}")
        counts = json.loads(said.splitlines()[-1])
        if counts["failed"]:
            raise RuntimeError(
                f"{counts['failed']} slides failed with the engine {self.engine}; see {self.out / TABLE}"
            )
        times = sorted(at for path in self.out.glob(f"*/{DONE}") if (at := path.stat().st_mtime) >= started)
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        return Counted(
            **counts, start_s=round(times[0] - started, 1), slides_per_s=round(rate, 2), wall_s=round(wall, 1)
        )

    def killed(self, slides: int) -> dict[str, tuple[int, int]]:
        """Kills a worker after a quarter of the slides and everything after half; returns what was complete then: name, and
        file and time of its record."""
        mark = uuid4().hex
        process = self._started(mark)
        try:
            self._wait(process, slides // 4)
            worker = next(pid for pid, title in marked(mark) if title.startswith("ray::"))
            os.kill(worker, signal.SIGKILL)
            self._wait(process, slides // 2)
        finally:
            process.kill()
            process.wait()
            for pid, _ in marked(mark):  # Ray's, where they do not end with the caller
                os.kill(pid, signal.SIGKILL)
        while marked(mark):
            time.sleep(0.1)
        return complete(self.out)

    def _started(self, mark: str = "") -> subprocess.Popen[str]:
        words = [self.listed, self.model, self.out, self.engine, self.workers]
        said = {**os.environ, MARK: mark or uuid4().hex, "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, "-m", "benchmarks.many_slides", "--call", *map(str, words)]
        return subprocess.Popen(command, env=said, stdout=subprocess.PIPE, text=True)

    def _wait(self, process: subprocess.Popen[str], count: int) -> None:
        until = time.monotonic() + LONGEST_S
        while len(complete(self.out)) < count:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    f"the call ended, or took too long, with {len(complete(self.out))} slides of {count}"
                )
            time.sleep(0.2)


def complete(out: Path) -> dict[str, tuple[int, int]]:
    """Slides that are complete: name, and file number and time of their record."""
    return {path.parent.name: ((about := path.stat()).st_ino, about.st_mtime_ns) for path in out.glob(f"*/{DONE}")}


def marked(mark: str) -> list[tuple[int, str]]:
    """Processes of a run and their titles, as Linux lists them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((int(folder.name), (folder / "cmdline").read_bytes().decode("utf-8", "replace")))
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
    return found


def check(slides: int, before: dict[str, tuple[int, int]], continued: Counted, outs: list[Path]) -> None:
    """Raises where a slide was lost, scored twice, or gave other results."""
    import pyarrow.parquet as pq

    if (continued.kept, continued.done, continued.failed) != (len(before), slides - len(before), 0):
        raise RuntimeError(f"{len(before)} of {slides} slides were complete; the second call says {continued}")
    now = complete(outs[2])
    changed = [name for name, record in before.items() if now[name] != record]
    if changed:
        raise RuntimeError(f"{len(changed)} complete slides were scored again: {changed[:3]}")
    for number in range(slides):
        tables = [pq.read_table(out / f"{number:05}" / "results.parquet") for out in outs]
        if tables[0].num_rows != POINTS or not all(table.equals(tables[0]) for table in tables[1:]):
            raise RuntimeError(f"slide {number:05}: {[table.num_rows for table in tables]} rows, or other results")


def call(listed: str, model: str, out: str, engine: str, workers: str) -> None:
    """What the process of a call does."""
    found = predict_slides(listed, out, SlideSettings((model,)), engine=engine, workers=int(workers))
    print(json.dumps({"done": len(found.done), "kept": len(found.kept), "failed": len(found.failed)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call"]:
        call(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("folder", type=Path, help="where everything is written; must not exist")
        parser.add_argument("--slides", type=int, default=SLIDES)
        parser.add_argument("--workers", type=int, default=WORKERS)
        parser.add_argument("--model", type=Path, help="an exported model in place of the tiny network")
        given = parser.parse_args()
        given.folder.mkdir(parents=True)
        print(json.dumps(measure(given.slides, given.workers, given.folder, given.model), indent=2))
