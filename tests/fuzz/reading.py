"""What reads hostile inputs: every public reader of its kind, in a process of its own that has limits.

``python reading.py FOLDER`` reads ``FOLDER/NUMBER/NAME`` in the order of ``FOLDER/inputs.json`` and writes one line of
JSON an input to standard output: before it (``{"begin": 3}``) and after it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY_BYTES = 1 << 30


def image(path: Path) -> None:
    from atypia.data.images.decoding import read_header, read_rgb
    from atypia.data.images.geometry import CropGeometry
    from atypia.data.slides.stacks import classify_input, stack_pages
    from atypia.data.slides.streams import crop_files

    geometry = CropGeometry(out_px=32)
    for read in (
        read_rgb,
        read_header,
        classify_input,
        lambda p: list(crop_files([p], geometry, workers=1)),
        lambda p: [None for _ in stack_pages(p, geometry)],
    ):
        _read(read, path)


def slide(path: Path) -> None:
    from atypia.data.slides.readers import open_slide

    with open_slide(path) as opened:
        opened.read(opened.width_px / 2, opened.height_px / 2, min(opened.width_px, opened.height_px, 64))


def points(path: Path) -> None:
    from atypia.data.points.reading import read_points

    _read(read_points, path)
    _read(lambda p: read_points(p, mpp=0.25, box_format="xywh"), path)


def table(path: Path) -> None:
    from atypia.data.sources.opening import open_data
    from atypia.data.textfiles import read_table
    from atypia.workflows.slides.jobs import read_jobs

    for read in (read_table, lambda p: open_data(str(p)), read_jobs, lambda p: read_jobs(p, p)):
        _read(read, path)


def recipes(path: Path) -> None:
    from atypia.base.errors import AbsentError
    from atypia.studies.files import load_study
    from atypia.studies.plan import make_plan
    from atypia.synthesis.schema import load_generator_recipe
    from atypia.training.recipe import load_recipe

    def absent(data: Any) -> Any:
        raise AbsentError("no data is opened here")

    def plan(p: Path) -> None:
        study = load_study(str(p), ["seeds=[0]"])
        for size in ("full", "cpu", "smoke"):
            _read(lambda _, size=size: make_plan(study.sized(size), p.parent / "plan", opener=absent), p)

    name = path if path.suffix in (".yaml", ".yml", ".special") else path.with_suffix(".yaml")
    for read in (load_recipe, load_generator_recipe, load_study):
        _read(lambda p, read=read: read(str(p)), name)
    _read(plan, name)


def bundle(path: Path) -> None:
    from atypia.inference.bundles.bundle import load_bundle

    load_bundle(path.parent)


def manifest(path: Path) -> None:
    from atypia.data.manifest import Manifest
    from atypia.evaluation.rows import read_rows
    from atypia.inference.predictions import read_predictions

    for read in (Manifest.load, read_predictions, read_rows):
        _read(read, path)


def split(path: Path) -> None:
    from atypia.splits.split import Split

    Split.load(path)


def archive(path: Path) -> None:
    from atypia.data.sources.archives import ArchiveLimits, extract

    extract(path, path.parent / "out", ArchiveLimits(max_bytes=1 << 24))


def challenge(path: Path) -> None:
    from atypia.challenge import find_stack

    find_stack(path.parent)


READERS: dict[str, Callable[[Path], None]] = {
    "image": image, "slide": slide, "points": points, "table": table, "yaml": recipes, "bundle": bundle,
    "manifest": manifest, "split": split, "archive": archive, "challenge": challenge,
}  # fmt: skip

_read_count = 0
_refused_count = 0


def _read(read: Callable[[Path], Any], path: Path) -> None:
    """One reader; its refusal does not keep the next from reading."""
    global _read_count, _refused_count
    from atypia.base.errors import AtypiaError

    try:
        read(path)
        _read_count += 1
    except AtypiaError as error:
        _refused_count += 1
        if not str(error) or len(str(error)) > 20_000:
            raise AssertionError(f"a message of {len(str(error))} characters") from error


def place(folder: Path, name: str, content: bytes) -> Path:
    """Writes an input; a name ending in ``.special`` is something that is no regular file."""
    path = folder / name
    if path.suffix != ".special":
        path.write_bytes(content)
    elif path.stem == "fifo":
        os.mkfifo(path)
    elif path.stem == "socket":
        # The name of a socket may have about 100 characters only.
        here = Path.cwd()
        os.chdir(folder)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
        os.chdir(here)
    elif path.stem == "folder":
        path.mkdir()
    elif path.stem == "dangling":
        path.symlink_to("nothing")
    else:
        path.symlink_to(path.name)
    return path


def main(folder: Path) -> None:
    global _read_count, _refused_count
    from atypia.base.errors import AtypiaError

    warnings.simplefilter("ignore")
    listed = json.loads((folder / "inputs.json").read_text("utf-8"))
    done = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for kind in dict.fromkeys(kind for kind, _ in listed):  # imports do not count
        empty = folder / "warm"
        empty.mkdir(exist_ok=True)
        with suppress(AtypiaError):
            READERS[kind](empty / "absent.yaml")
    importlib.import_module("atypia.studies.synthetic")  # torch, which plans of some studies need
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number, (kind, name) in enumerate(listed):
        if number < done:
            continue
        print(json.dumps({"begin": number}), flush=True)
        began = time.perf_counter()
        _read_count = _refused_count = 0
        fault = None
        try:
            _read(READERS[kind], folder / str(number) / name)
        except BaseException as error:  # noqa: BLE001  it is what is looked for
            frames = traceback.extract_tb(error.__traceback__)
            places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-6:]]
            fault = f"{type(error).__name__}: {str(error)[:300]} ({' < '.join(reversed(places))})"
        seconds = time.perf_counter() - began
        line = {"end": number, "read": _read_count, "refused": _refused_count, "fault": fault, "seconds": seconds}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
