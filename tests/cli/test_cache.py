"""``atypia cache``: what is kept is listed, closed to others, and goes away when it is told to."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.backbones.features import open_features
from atypia.base.artifacts import lock
from atypia.base.cachefiles import KINDS, _measured
from atypia.base.process import crashes
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.sources.opening import open_data

Run = Callable[..., Any]


@pytest.fixture
def filled(own_home: Path, small_csv: Path) -> Path:
    """A cache with crops, features and a manifest, a decision beside it, and somebody's own folder in it."""
    store = open_store(open_data(str(small_csv)), CropGeometry(32))
    open_features(store, "tiny-cnn")
    (own_home / "reviews").mkdir()
    (own_home / "reviews" / "a.sqlite").write_bytes(b"decisions")
    (own_home / "cache" / "mine").mkdir()
    (own_home / "cache" / "mine" / "thesis.txt").write_text("mine")
    return own_home


def listed(atypia: Run) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(atypia("cache", "--json").out)}


def test_what_is_kept_is_listed_by_kind(atypia: Run, filled: Path) -> None:
    rows = listed(atypia)
    assert list(rows) == [kind.name for kind in KINDS]
    for name in ("crops", "features", "manifests", "reviews"):
        assert rows[name]["entries"] == 1 and rows[name]["size_bytes"] > 0 and rows[name]["of_patients"]
    crops = filled / "cache" / "crops"
    assert rows["crops"]["size_bytes"] == sum(p.stat().st_size for p in next(crops.glob("[!.]*")).iterdir())
    text = atypia("cache")
    assert "decoded crops" in text.out and str(filled) in text.err


def test_derived_files_go_and_nothing_else(atypia: Run, filled: Path) -> None:
    ended = atypia("cache", "clear", "--yes", "--json")
    assert ended.code == 0
    gone = json.loads(ended.out)
    assert {one["kind"] for one in gone["deleted"]} == {"crops", "features", "manifests"} and gone["in_use"] == []
    rows = listed(atypia)
    assert all(rows[name]["entries"] == 0 for name in ("crops", "features", "manifests"))
    assert (filled / "cache" / "mine" / "thesis.txt").read_text() == "mine"
    assert (filled / "reviews" / "a.sqlite").is_file()
    assert "0 entries deleted" in atypia("cache", "clear", "--yes").err


def test_kinds_and_age_choose(atypia: Run, filled: Path) -> None:
    (features,) = (path for path in (filled / "cache" / "features").iterdir() if path.is_dir())
    old = time.time() - 40 * 86400
    for path in (*features.iterdir(), features):
        os.utime(path, (old, old))
    assert "0 entries" in atypia("cache", "clear", "--kind", "crops", "--older-than", 30, "--yes").err
    assert "1 entry" in atypia("cache", "clear", "--older-than", 30, "--yes").err
    rows = listed(atypia)
    assert (rows["features"]["entries"], rows["crops"]["entries"]) == (0, 1)


def test_nothing_is_deleted_without_a_yes(atypia: Run, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    ended = atypia("cache", "clear")
    assert ended.code == 2 and "`--yes` must be given where nobody can be asked" in ended.err
    assert listed(atypia)["crops"]["entries"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "crop"], "`kind` must be one of crops, features"),
        (["--kind", "reviews"], "it is not derived: delete its files yourself"),
        (["--older-than", "-1"], "`older-than` must be a number of days from 0"),
        (["--older-than", "nan"], "`older-than` must be a number of days from 0"),
    ],
)
def test_wrong_choices_are_refused(arguments: list[str], words: str, atypia: Run, filled: Path) -> None:
    ended = atypia("cache", "clear", *arguments, "--yes")
    assert ended.code == 2 and words in ended.err
    assert listed(atypia)["crops"]["entries"] == 1


def test_what_another_process_writes_is_left(atypia: Run, filled: Path) -> None:
    (crops,) = (path for path in (filled / "cache" / "crops").iterdir() if path.is_dir())
    with lock(crops):
        ended = atypia("cache", "clear", "--kind", "crops", "--yes")
    assert ended.code == 0 and "is in use and was kept" in ended.err and crops.is_dir()


def test_links_are_not_followed(atypia: Run, filled: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x" * 1000)
    (filled / "cache" / "crops" / "link").symlink_to(tmp_path / "precious")
    assert _measured(filled / "cache" / "crops" / "link")[0] < 1000
    assert atypia("cache", "clear", "--yes").code == 0
    assert (tmp_path / "precious" / "file").is_file() and not (filled / "cache" / "crops" / "link").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")
def test_what_is_kept_of_patients_is_the_owners_alone(filled: Path) -> None:
    for name in ("crops", "features", "manifests"):
        folder = filled / "cache" / name
        assert folder.stat().st_mode & 0o777 == 0o700
        for path in folder.rglob("*"):
            if not path.name.endswith(".lock"):  # empty
                assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_logs_of_what_went_wrong_are_listed_and_cleared(atypia: Run, own_home: Path) -> None:
    try:
        raise RuntimeError("unexpected")
    except RuntimeError as error:
        log = crashes.write_log(error)
    assert log is not None and log.is_relative_to(own_home)
    assert listed(atypia)["logs"]["entries"] == 1
    assert atypia("cache", "clear", "--kind", "logs", "--yes").code == 0
    assert not log.exists() and listed(atypia)["logs"]["entries"] == 0
