"""Files and folders that only their owner may read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from atypia.base.artifacts import atomic_file, atomic_folder, build_once, private_file, private_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


@pytest.fixture(autouse=True)
def _open_mask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_private_files_and_the_folders_made_for_them_are_the_owners_alone(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new" / "deep" / "file", private=True) as file:
        file.write(b"x")
    assert mode(tmp_path / "new" / "deep" / "file") == 0o600
    assert mode(tmp_path / "new") == mode(tmp_path / "new" / "deep") == 0o700


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir(mode=0o755)
    private_folder(tmp_path / "users" / "ours")
    assert mode(tmp_path / "users") == 0o755
    assert mode(tmp_path / "users" / "ours") == 0o700


def test_a_private_file_keeps_its_content_and_loses_its_readers(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("kept")
    (tmp_path / "open").chmod(0o644)
    assert private_file(tmp_path / "open").read_text() == "kept"
    assert mode(tmp_path / "open") == 0o600
    assert mode(private_file(tmp_path / "fresh")) == 0o600


def test_private_folders_are_built_closed_and_others_follow_the_mask(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "closed", private=True) as part:
        (part / "file").write_text("x")
    build_once(tmp_path / "built", Path.exists, lambda part: (part / "file").touch(), private=True)
    with atomic_folder(tmp_path / "open"):
        pass
    assert mode(tmp_path / "closed" / "file") == mode(tmp_path / "built" / "file") == 0o600
    assert mode(tmp_path / "closed") == mode(tmp_path / "built") == 0o700
    assert mode(tmp_path / "open") == 0o777
