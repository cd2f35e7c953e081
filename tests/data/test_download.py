"""Downloads against a server that breaks off, lies, changes its mind or refuses."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from atypia.base.errors import AbsentError, DataError, InputError, WorkError
from atypia.data.sources import download
from atypia.data.sources.download import Patience, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Served:
    """A server's file and its manners; requests are kept in ``asked``."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.ranges = True
        self.length = True
        self.break_after: list[int] = []  # bytes after which an answer breaks off, one an answer
        self.codes: list[int] = []  # answers before the file is sent
        self.wrong_range = False
        self.location: str | None = None
        self.asked: list[dict[str, str]] = []
        self.url = ""


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(dict(self.headers))
            if state.location:
                self.send_response(302)
                self.send_header("Location", state.location)
                self.end_headers()
                return
            if state.codes:
                self.send_response(state.codes.pop(0))
                self.send_header("Retry-After", "7")
                self.end_headers()
                return
            start = 0
            wanted = self.headers.get("Range")
            same = self.headers.get("If-Range") in (None, state.etag)
            if wanted and state.ranges and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.content):
                    self.send_response(416)
                    self.end_headers()
                    return
                self.send_response(206)
                first = start + 1 if state.wrong_range else start
                self.send_header("Content-Range", f"bytes {first}-{len(state.content) - 1}/{len(state.content)}")
            else:
                self.send_response(200)
            if state.etag:
                self.send_header("ETag", state.etag)
            body = state.content[start:]
            if state.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.break_after:
                body = body[: state.break_after.pop(0)]
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Keeps the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/file.bin"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def patience(waits: list[float]) -> Patience:
    return Patience(attempts=3, timeout_s=5, sleep=waits.append)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_a_file_arrives_whole(served: Served, tmp_path: Path, patience: Patience):
    told: list[tuple[int, int]] = []
    path = fetch(
        served.url,
        tmp_path / "sub" / "f.bin",
        DIGEST,
        len(CONTENT),
        lambda done, total, what: told.append((done, total)),
        patience=patience,
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert leftovers(tmp_path / "sub") == ["f.bin"]


def test_a_right_file_is_not_asked_for_again(served: Served, tmp_path: Path):
    (tmp_path / "f.bin").write_bytes(CONTENT)
    fetch(served.url, tmp_path / "f.bin", DIGEST)
    assert served.asked == []


def test_a_wrong_file_under_the_name_is_replaced(served: Served, tmp_path: Path):
    (tmp_path / "f.bin").write_bytes(b"older")
    fetch(served.url, tmp_path / "f.bin", DIGEST)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_a_broken_transfer_is_continued(served: Served, tmp_path: Path, patience: Patience, waits: list[float]):
    served.break_after = [100_000, 50_000]
    fetch(served.url, tmp_path / "f.bin", DIGEST, patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert [asked.get("Range") for asked in served.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert served.asked[1]["If-Range"] == '"one"'
    assert waits == [1.0, 1.0]  # bytes arrived each time, so the wait does not grow


def test_a_transfer_that_keeps_breaking_is_kept_for_the_next_call(served: Served, tmp_path: Path, patience: Patience):
    served.break_after = [120_000, 0, 0, 0]
    with pytest.raises(
        WorkError, match=r"kept breaking off .* 120,000 bytes are kept; fix: run the same command again"
    ):
        fetch(served.url, tmp_path / "f.bin", DIGEST, patience=patience)
    assert leftovers(tmp_path) == ["f.bin.part", "f.bin.part.json"]
    served.break_after = []
    fetch(served.url, tmp_path / "f.bin", DIGEST, patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert served.asked[-1]["Range"] == "bytes=120000-"
    assert leftovers(tmp_path) == ["f.bin"]


def test_a_server_without_ranges_starts_anew(served: Served, tmp_path: Path, patience: Patience):
    served.ranges = False
    served.break_after = [100_000]
    fetch(served.url, tmp_path / "f.bin", patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_a_file_that_changed_between_is_not_spliced(served: Served, tmp_path: Path, patience: Patience):
    served.break_after = [100_000, 0, 0, 0]
    with pytest.raises(WorkError):
        fetch(served.url, tmp_path / "f.bin", patience=patience)
    served.break_after = []
    served.content, served.etag = bytes(200_000), '"two"'
    fetch(served.url, tmp_path / "f.bin", patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == bytes(200_000)


def test_an_answer_for_another_range_starts_anew(served: Served, tmp_path: Path, patience: Patience):
    served.break_after = [100_000]
    served.wrong_range = True
    fetch(served.url, tmp_path / "f.bin", DIGEST, patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert [asked.get("Range") for asked in served.asked] == [None, "bytes=100000-", None]


def test_a_shorter_file_now_starts_anew(served: Served, tmp_path: Path, patience: Patience):
    (tmp_path / "f.bin.part").write_bytes(bytes(400_000))
    facts = {"url": served.url, "validator": '"one"', "total": 500_000}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(facts))
    fetch(served.url, tmp_path / "f.bin", patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("facts", ["", "[]", '{"url": "https://elsewhere.example/f.bin", "validator": "\\"one\\""}'])
def test_a_part_of_unknown_origin_is_not_continued(served: Served, tmp_path: Path, patience: Patience, facts: str):
    (tmp_path / "f.bin.part").write_bytes(b"?" * 1000)
    (tmp_path / "f.bin.part.json").write_text(facts)
    fetch(served.url, tmp_path / "f.bin", patience=patience)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert "Range" not in served.asked[0]


def test_without_validator_only_a_checksum_allows_to_continue(served: Served, tmp_path: Path, patience: Patience):
    served.etag = None
    served.break_after = [100_000]
    fetch(served.url, tmp_path / "a.bin", patience=patience)
    assert "Range" not in served.asked[1]
    served.break_after = [100_000]
    fetch(served.url, tmp_path / "b.bin", DIGEST, patience=patience)
    assert served.asked[3]["Range"] == "bytes=100000-"
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes() == CONTENT


def test_a_whole_part_is_verified_without_asking(served: Served, tmp_path: Path):
    (tmp_path / "f.bin.part").write_bytes(CONTENT)
    facts = {"url": served.url, "validator": '"one"', "total": len(CONTENT)}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(facts))
    fetch(served.url, tmp_path / "f.bin", DIGEST)
    assert served.asked == []
    assert leftovers(tmp_path) == ["f.bin"]


def test_wrong_bytes_never_take_the_name(served: Served, tmp_path: Path, patience: Patience):
    served.content = bytes(len(CONTENT))
    with pytest.raises(DataError, match=rf"`sha256 of .*` must be {DIGEST}, got [0-9a-f]{{64}}; fix:"):
        fetch(served.url, tmp_path / "f.bin", DIGEST, len(CONTENT), patience=patience)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("length", [True, False], ids=["declared", "undeclared"])
def test_another_size_is_refused(served: Served, tmp_path: Path, patience: Patience, length: bool):
    served.length = length
    with pytest.raises(DataError, match=r"`size of .*` must be .*299,999 bytes, got"):
        fetch(served.url, tmp_path / "f.bin", size=299_999, patience=patience)
    assert leftovers(tmp_path) == []


def test_without_a_size_there_is_a_limit(
    served: Served, tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="at most 1,000 bytes"):
        fetch(served.url, tmp_path / "f.bin", patience=patience)
    served.length = False
    with pytest.raises(DataError, match="at most 1,000 bytes"):
        fetch(served.url, tmp_path / "f.bin", patience=patience)
    assert leftovers(tmp_path) == []


def test_a_busy_server_is_asked_again(served: Served, tmp_path: Path, patience: Patience, waits: list[float]):
    served.codes = [503, 429]
    fetch(served.url, tmp_path / "f.bin", DIGEST, patience=patience)
    assert waits == [7.0, 7.0]  # what the server asked for is longer than 1 and 2 s
    served.codes = [500, 500, 500]
    with pytest.raises(WorkError, match="the server answers 500"):
        fetch(served.url, tmp_path / "g.bin", DIGEST, patience=patience)


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_told_at_once(served: Served, tmp_path: Path, patience: Patience, waits: list[float], code: int):
    served.codes = [code]
    with pytest.raises(
        AbsentError, match=rf"the server answers {code} .*; fix: .*`atypia data import ami-br --from DIR`"
    ):
        fetch(served.url, tmp_path / "f.bin", source="ami-br", patience=patience)
    assert waits == []
    assert len(served.asked) == 1


def test_no_network_is_told_at_once(tmp_path: Path, waits: list[float], patience: Patience):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/f.bin"
    with pytest.raises(
        WorkError, match=rf"{url} needs a network .*; fix: connect, or .*`atypia data import omg --from DIR`"
    ):
        fetch(url, tmp_path / "f.bin", source="omg", patience=patience)
    assert waits == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (socket.gaierror(-3, "Temporary failure in name resolution"), "needs a network"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "needs a network"),
        (ssl.SSLCertVerificationError("self-signed"), "certificate .* is not trusted"),
    ],
)
def test_what_keeps_a_machine_off_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: Patience, reason: OSError, words: str
):
    def fail(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", fail)
    with pytest.raises(WorkError, match=words):
        fetch("https://data.example/f.bin", tmp_path / "f.bin", patience=patience)


@pytest.mark.parametrize(
    "url",
    [
        "http://data.example/f",
        "ftp://data.example/f",
        "file:///etc/passwd",
        "https:///f",
        "f.bin",
        "http://127.1.evil/f",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, url: str):
    with pytest.raises(InputError, match=r"`url` must be an https address"):
        fetch(url, tmp_path / "f.bin")


def test_a_redirect_may_not_leave_https(served: Served, tmp_path: Path, patience: Patience):
    served.location = "http://data.example/f.bin"
    with pytest.raises(InputError, match=r"must be an https address, got http://data\.example"):
        fetch(served.url, tmp_path / "f.bin", patience=patience)


def test_a_malformed_checksum_is_refused(served: Served, tmp_path: Path):
    with pytest.raises(InputError, match="`sha256` must be 64 hex digits"):
        fetch(served.url, tmp_path / "f.bin", sha256="abc")


def test_a_full_disk_is_told_before_the_transfer(
    served: Served, tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(WorkError, match=r"300,000 more bytes and 1,000 are free; fix: free some space"):
        fetch(served.url, tmp_path / "f.bin", patience=patience)


def test_a_disk_that_fills_up_keeps_what_arrived(
    served: Served, tmp_path: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(WorkError, match=r"cannot write .*No space left on device; fix: free some space"):
        fetch(served.url, tmp_path / "f.bin", patience=patience)
    assert not (tmp_path / "f.bin").exists()


def test_two_at_once_fetch_one_file(served: Served, tmp_path: Path):
    threads = [threading.Thread(target=fetch, args=(served.url, tmp_path / "f.bin", DIGEST)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert len(served.asked) == 1
