"""Only regular files are opened, and nothing waits."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.base.artifacts import file_sha256, read_json
from atypia.base.config import read_yaml
from atypia.base.errors import AtypiaError, DataError
from atypia.base.files.regularfiles import check_regular, open_regular, read_regular
from atypia.data.images.decoding import read_bytes, read_header, read_rgb
from atypia.data.manifest import Manifest
from atypia.data.points.reading import read_points
from atypia.data.slides.readers import open_slide
from atypia.data.slides.stacks import classify_input
from atypia.data.sources.archives import extract
from atypia.data.textfiles import read_table
from atypia.evaluation.rows import read_rows
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predictions import read_predictions
from atypia.splits.split import Split
from atypia.workflows.slides.jobs import SlideJob
from atypia.workflows.slides.tasks import slide_inputs

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")

READERS: dict[str, Callable[[Path], Any]] = {
    "image": read_rgb,
    "bytes": read_bytes,
    "header": read_header,
    "kind": classify_input,
    "kind, with points": lambda path: classify_input(path, has_points=True),
    "slide": open_slide,
    "points": read_points,
    "table": read_table,
    "yaml": read_yaml,
    "json": read_json,
    "split": Split.load,
    "manifest": Manifest.load,
    "predictions": read_predictions,
    "rows": read_rows,
    "archive": lambda path: extract(path, path.parent / "out"),
    "checksum": file_sha256,
    "evidence": lambda path: slide_inputs(SlideJob(path, path), {}),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["pipe", "pipe.svs", "socket", "device"])
def test_a_reader_refuses_what_is_no_regular_file(reader: str, name: str, tmp_path: Path) -> None:
    path = _made(tmp_path, name)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            READERS[reader](path)
        except BaseException as error:  # noqa: BLE001  told below
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)  # what waits for a writer would wait for ever
    thread.start()
    thread.join(30)

    assert not thread.is_alive(), "it waits"
    assert len(raised) == 1 and isinstance(raised[0], AtypiaError)
    assert ", not a regular file" in str(raised[0])


def test_a_bundle_is_read_from_regular_files_only(trained_folder: Path, tmp_path: Path) -> None:
    bundle = load_bundle(trained_folder / "fold-1" / "bundle").save(tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        kept = (bundle / name).read_bytes()
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        with pytest.raises(DataError, match="is a named pipe, not a regular file"):
            load_bundle(bundle)
        (bundle / name).unlink()
        (bundle / name).write_bytes(kept)
    assert load_bundle(bundle)


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    with open_regular(tmp_path / "b") as file:
        assert file.read() == b"abc"
    assert check_regular(tmp_path / "b").st_size == 3


def test_the_kind_is_looked_at_again_once_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pipe = tmp_path / "a", _made(tmp_path, "pipe")
    file.write_bytes(b"abc")
    whole = os.open
    # As if the file were replaced between the two looks.
    swapped = {os.fspath(file): pipe}
    monkeypatch.setattr(os, "open", lambda path, *rest, **by: whole(swapped.get(os.fspath(path), path), *rest, **by))

    with pytest.raises(DataError, match="a named pipe"):
        open_regular(file)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    pipe = _made(tmp_path, "pipe")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(DataError):
            open_regular(pipe)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # without a byte on the disk
    with pytest.raises(DataError, match=r"a file of at most 10 bytes, got 1,099,511,627,776; fix: "):
        read_regular(path, 10)
    path.write_bytes(b"x" * 10)
    assert read_regular(path, 10) == b"x" * 10


def test_a_zero_byte_in_a_name_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="zero byte"):
        open_regular("a\0b")


def _made(folder: Path, name: str) -> Path:
    path = folder / name
    if name == "device":
        return Path("/dev/zero")
    if name == "socket":
        here = Path.cwd()
        os.chdir(folder)  # the name of a socket may have about 100 characters
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
        os.chdir(here)
    else:
        os.mkfifo(path)
    return path
