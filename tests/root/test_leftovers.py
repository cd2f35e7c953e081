"""What a killed process left half-written, names of many bytes, and file systems that lack something."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from atypia.base import artifacts
from atypia.base.artifacts import LEFT_AFTER_S, atomic_file, atomic_folder, disk_errors, lock, read_json
from atypia.base.errors import WorkError

WAITS = """
import sys, time
from pathlib import Path
from atypia.base.artifacts import atomic_file
with atomic_file(Path(sys.argv[1]), "w") as file:
    print("x", flush=True)
    sys.stdin.read()
    file.write("whole")
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_tidied", set())


def _writing(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "x\n"
    return process


def test_what_a_killed_writer_left_goes_with_the_next_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    killed, living = _writing(tmp_path / "domains.csv"), _writing(tmp_path / "other.csv")
    killed.kill()
    killed.communicate()
    (tmp_path / ".mine.part").write_text("not Atypia's")
    assert len(list(tmp_path.glob(".*.part"))) == 3

    with atomic_file(tmp_path / "third.csv", "w") as file:
        file.write("x")

    assert {path.name.rpartition(".csv")[0] for path in tmp_path.glob(".*.part")} == {"", ".other"}
    living.communicate("")
    assert living.returncode == 0 and (tmp_path / "other.csv").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "other.csv", "third.csv"]


def test_without_locks_only_what_is_a_day_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / ".a.csv.abcdefgh.part", tmp_path / ".b.csv.abcdefgh.part"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time() - LEFT_AFTER_S - 60,) * 2)
    monkeypatch.setattr(artifacts, "_try_lock", lambda _: None)

    with atomic_file(tmp_path / "c.csv", "w") as file:
        file.write("x")

    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "c.csv"]


@pytest.mark.parametrize("name", ["n" * 250, "é" * 120, "n" * 201])
def test_a_name_that_the_file_system_takes_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with lock(path), atomic_file(path, "w") as file:
        file.write("x")
    assert path.read_text() == "x"
    with atomic_folder(tmp_path / f"{name}f") as part:
        (part / "a").write_text("y")
    assert (tmp_path / f"{name}f" / "a").read_text() == "y"


def test_a_name_that_it_does_not_take_is_refused_before_the_work(tmp_path: Path) -> None:
    begun = []
    with (
        pytest.raises(WorkError, match=r"File name too long; fix: choose a shorter name"),
        atomic_file(tmp_path / ("n" * 264)),
    ):
        begun.append(1)
    assert begun == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")
def test_a_folder_that_takes_no_files_is_named() -> None:
    with (
        pytest.raises(WorkError, match=r"cannot write /proc/x.csv: .*; fix: choose another folder"),
        atomic_file(Path("/proc/x.csv")),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_and_the_work_goes_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    done = []
    with pytest.warns(UserWarning, match="has no locks: do not start two at once there"), lock(tmp_path / "a"):
        done.append(1)
    assert done == [1]


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG]
)
def test_errors_of_the_disk_name_the_remedy(number: int) -> None:
    with pytest.raises(WorkError, match=r"cannot write /x: .+; fix: "), disk_errors(Path("/x")):
        raise OSError(number, "")


def test_damaged_json_is_refused_with_its_reason(tmp_path: Path) -> None:
    for content in (b"[" * 5000, b"\xff", b"[NaN]", b""):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(WorkError, match=r"a\.json is damaged \(.+\); fix: delete it"):
            read_json(tmp_path / "a.json")
