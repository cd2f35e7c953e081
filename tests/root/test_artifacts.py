"""Files that can be trusted: after a kill, a full disk, or two writers at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base import artifacts
from atypia.base.artifacts import atomic_file, atomic_folder, build_once, canonical_json, fingerprint, lock
from atypia.base.errors import WorkError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Runs code in another process; it prints a line where the test should act."""
    text = "import sys, time\nfrom pathlib import Path\nfrom atypia.base import artifacts\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_at_its_line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n", process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


# --- fingerprints ---------------------------------------------------------------------------------


@given(VALUES)
def test_canonical_json_round_trips_and_ignores_key_order(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == text


def test_canonical_json_refuses_what_json_cannot_say() -> None:
    for value in (float("nan"), float("inf"), Path("x"), {1, 2}):
        with pytest.raises(TypeError):
            canonical_json(value)


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_fingerprints_differ_where_content_differs(a: list[object], b: list[object]) -> None:
    same = [canonical_json(x) for x in a] == [canonical_json(x) for x in b]
    assert (fingerprint(*a) == fingerprint(*b)) == same
    assert len(fingerprint(*a)) == 32


def test_fingerprint_minds_boundaries_and_order_and_takes_bytes() -> None:
    assert len({fingerprint("ab"), fingerprint("a", "b"), fingerprint("b", "a"), fingerprint(["a", "b"])}) == 4
    assert fingerprint(b"ab") != fingerprint(b"a", b"b")
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})


def test_file_sha256_of_a_known_file(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert artifacts.file_sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- atomic files ---------------------------------------------------------------------------------


def test_a_file_appears_whole_with_its_folder_and_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_file(path, "w") as file:
        file.write("µ\n")
        assert not path.exists()
    assert path.read_bytes() == "µ\n".encode()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_file(path, "w") as file:
        file.write("new")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    process = start(
        """
        with artifacts.atomic_file(Path(sys.argv[1]), "w") as file:
            file.write("new"); file.flush()
            print("now", flush=True); time.sleep(60)
        """,
        path,
    )
    kill_at_its_line(process)
    assert path.read_text() == "old"
    with atomic_file(path, "w") as file:
        file.write("newer")
    assert path.read_text() == "newer"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "No space left on device; fix: free some space, or choose another folder"),
        (errno.EROFS, "Read-only file system; fix: choose a folder that can be written"),
        (errno.EACCES, "Permission denied; fix: choose a folder that you may write"),
    ],
)
def test_disk_errors_name_the_remedy_and_leave_nothing(tmp_path: Path, code: int, message: str) -> None:
    path = tmp_path / "file.bin"
    with pytest.raises(WorkError, match=f"cannot write .*file.bin: {message}"), atomic_file(path):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_other_operating_system_errors_are_not_reworded(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), atomic_file(tmp_path / "file.bin"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_write_that_the_disk_refuses_leaves_nothing(tmp_path: Path) -> None:
    process = start(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            with artifacts.atomic_file(Path(sys.argv[1])) as file:
                file.write(b"x" * 100_000)
        except artifacts.WorkError as error:
            print(error)
        """,
        tmp_path / "file.bin",
    )
    out, err = process.communicate()
    assert "cannot write" in out, err
    assert "File too large; fix: raise the limit on file sizes" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WorkError, match="fix: choose a folder that you may write"), atomic_file(tmp_path / "file"):
        pass


def test_a_file_in_place_of_a_folder_and_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkError, match="a file is in the way"), atomic_file(tmp_path / "file" / "below.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(WorkError, match="a folder is in the way"), atomic_file(tmp_path / "folder"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


# --- atomic folders -------------------------------------------------------------------------------


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for text in ("first", "second"):
        with atomic_folder(path) as part:
            (part / f"{text}.txt").write_text(text)
            assert not (path / f"{text}.txt").exists()
        assert [p.name for p in path.iterdir()] == [f"{text}.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with atomic_folder(path) as part:
        (part / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(path) as part:
        (part / "a").write_text("new")
        raise RuntimeError
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_hidden_and_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "run[1]"
    process = start(
        """
        with artifacts.atomic_folder(Path(sys.argv[1])) as part:
            (part / "a").write_text("half")
            print("now", flush=True); time.sleep(60)
        """,
        path,
    )
    kill_at_its_line(process)
    assert not path.exists()
    assert [p.name[0] for p in tmp_path.iterdir()] == ["."]
    with atomic_folder(path) as part:
        (part / "a").write_text("whole")
    assert (path / "a").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_the_swapped_out_folder_of_a_killed_writer_is_removed_too(tmp_path: Path) -> None:
    (tmp_path / ".run.abcd1234.old").mkdir()
    with atomic_folder(tmp_path / "run"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_writer_of_a_longer_name_is_left_alone(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "run.v2") as longer:
        (longer / "a").write_text("mine")
        with atomic_folder(tmp_path / "run"):
            pass
        assert (longer / "a").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.v2"]


# --- locks and building once ----------------------------------------------------------------------


def test_a_lock_waits_no_longer_than_told(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    process = start(
        """
        with artifacts.lock(Path(sys.argv[1])):
            print("now", flush=True); sys.stdin.readline()
        """,
        path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    message = r"thing has been locked by another process for 0 s; fix: wait for it to end, or stop it"
    with pytest.raises(WorkError, match=message), lock(path, timeout_s=0.1):
        pass
    process.communicate("\n")
    with lock(path, timeout_s=5):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    holder = """
        with artifacts.lock(Path(sys.argv[1])):
            print("now", flush=True); sys.stdin.readline()
    """
    kill_at_its_line(start(holder, path))
    # It would have held the lock for ever, so whoever gets it got it by the kill; the time is for a busy machine.
    kill_at_its_line(start(holder.replace("argv[1])", "argv[1]), timeout_s=60"), path))
    with lock(path, timeout_s=60), pytest.raises(WorkError), lock(path, timeout_s=0):
        pass


def test_an_error_under_a_lock_frees_it(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), lock(tmp_path / "thing", timeout_s=1):
            raise RuntimeError


BUILD = """
    path, log = Path(sys.argv[1]), Path(sys.argv[2])

    def build(part):
        with log.open("a") as file:
            file.write("built\\n")
        time.sleep(0.3)
        (part / "done").write_text("whole")

    print("ready", flush=True); sys.stdin.readline()
    artifacts.build_once(path, lambda p: (p / "done").is_file(), build)
    print((path / "done").read_text())
"""


def test_two_processes_build_once(tmp_path: Path) -> None:
    processes = [start(BUILD, tmp_path / "store", tmp_path / "log") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate() for process in processes]
    assert [out for out, _ in outputs] == ["whole\n", "whole\n"], outputs
    assert (tmp_path / "log").read_text() == "built\n"


def test_build_once_builds_again_after_a_kill_and_when_invalid(tmp_path: Path) -> None:
    path = tmp_path / "store"
    kill_at_its_line(
        start(
            """
            def build(part):
                (part / "done").write_text("half")
                print("now", flush=True); time.sleep(60)

            artifacts.build_once(Path(sys.argv[1]), lambda p: (p / "done").is_file(), build)
            """,
            path,
        )
    )
    built: list[str] = []

    def build(part: Path) -> None:
        built.append("built")
        (part / "done").write_text("whole")

    for _ in range(2):
        assert build_once(path, lambda p: (p / "done").is_file(), build) == path
    assert (path / "done").read_text() == "whole"
    assert built == ["built"]
    (path / "done").unlink()
    build_once(path, lambda p: (p / "done").is_file(), build)
    assert built == ["built", "built"]


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        (part / "done").write_text("half")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(WorkError, match="free some space"):
        build_once(tmp_path / "store", lambda p: p.is_dir(), fail)
    assert not (tmp_path / "store").exists()
    build_once(tmp_path / "store", lambda p: p.is_dir(), lambda part: (part / "done").write_text("whole") and None)
    assert (tmp_path / "store" / "done").read_text() == "whole"


# --- JSON and environment -------------------------------------------------------------------------


def test_json_files_round_trip_and_are_for_people(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    artifacts.write_json(path, {"b": [1, 2.5, None], "a": "µm"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "µm",\n  "b": [\n    1,\n    2.5,\n    null\n  ]\n}\n'
    assert artifacts.read_json(path) == {"a": "µm", "b": [1, 2.5, None]}


def test_json_that_cannot_be_said_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    artifacts.write_json(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(path, float("nan"))
    assert artifacts.read_json(path) == 1


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xff"])
def test_damaged_json_is_said_to_be_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(WorkError, match=r"value.json is damaged \(.*\); fix: delete it and repeat the step"):
        artifacts.read_json(path)
    with pytest.raises(WorkError, match="does not exist; fix: check the path"):
        artifacts.read_json(tmp_path / "absent.json")


def test_environment_names_versions_and_is_json() -> None:
    import numpy as np

    found = artifacts.environment()
    assert found["numpy"] == np.__version__
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert json.loads(json.dumps(dict(found))) == found
