"""Downloads files: resumable, verified, never incomplete under their final name.

A transfer is written to ``NAME.part`` beside the target, with the server's data about the file in
``NAME.part.json``. It is resumed only if the server still has the same file, and gets its
name only when size and checksum are right.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from atypia.base.artifacts import CHUNK_BYTES, disk_errors, file_sha256, lock
from atypia.base.errors import AbsentError, DataError, InputError, WorkError, must
from atypia.base.process.progress import Progress, silent

MAX_BYTES = 1 << 40
"""Largest download of unknown size: 1 TiB."""
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_OFFLINE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ECONNREFUSED)
_PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """Retry limits of a transfer.

    Attributes:
        attempts: Attempts without a new byte before giving up.
        first_wait_s: Wait after the first failure; doubled after each further one.
        longest_wait_s: Longest wait in seconds, also for waits requested by the server.
        timeout_s: Seconds without data after which a connection counts as broken.
        sleep: Function that waits; tests pass their own.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class _Wanted:
    """The file to transfer, and known facts about it."""

    url: str
    target: Path
    sha256: str | None
    size: int | None
    source: str

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def facts(self) -> Path:
        return self.target.with_name(self.target.name + ".part.json")

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)

    def by_hand(self) -> str:
        return (
            f"on a machine without one, download {self.url} elsewhere and `atypia data import {self.source} --from DIR`"
        )


class _BrokenError(Exception):
    """The transfer was interrupted; received bytes are kept and another attempt resumes it."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def fetch(
    url: str,
    target: Path,
    sha256: str | None = None,
    size: int | None = None,
    progress: Progress = silent,
    *,
    source: str = "NAME",
    patience: Patience | None = None,
) -> Path:
    """Downloads a file unless a correct one exists.

    Args:
        url: An ``https`` address (``http`` for this machine itself only).
        target: The file; its folder is created. An existing file with another size or checksum is
            replaced; if neither is known, an existing file is kept.
        sha256: Expected checksum, 64 hex digits.
        size: Expected size in bytes.
        progress: Receives progress: bytes present.
        source: Name of the data source, for the message without a network.
        patience: Retry limits.

    Returns:
        ``target``.

    Raises:
        InputError: The address or the checksum is malformed.
        AbsentError: The server states that the file does not exist or is not public.
        WorkError: There is no network (at once), the transfer kept breaking off (what has
            arrived is kept for the next call), or the disk is full.
        DataError: Size or checksum differ from the expected ones; nothing is kept.
    """
    check_url(url)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InputError(must("sha256", "64 hex digits", sha256, "copy the published checksum"))
    wanted = _Wanted(url, target, sha256.lower() if sha256 else None, size, source)
    patience = patience or Patience()
    with lock(target):
        if _is_right(wanted):
            return target
        failures = 0
        while True:
            before = _length(wanted.part)
            try:
                _transfer(wanted, patience, progress)
                break
            except _BrokenError as broken:
                # The count starts again whenever bytes arrived: a slow line may break often.
                failures = 1 if _length(wanted.part) > before else failures + 1
                if failures >= patience.attempts:
                    kept = _length(wanted.part)
                    raise WorkError(
                        f"the transfer of {url} kept breaking off ({broken}); {kept:,} bytes are kept; "
                        "fix: run the same command again to resume"
                    ) from broken
                wait = patience.first_wait_s * 2 ** (failures - 1)
                patience.sleep(min(max(wait, broken.wait_s or 0.0), patience.longest_wait_s))
        _finish(wanted)
    return target


def check_url(url: str) -> None:
    """Raises unless an address is ``https``, or ``http`` on this machine.

    Raises:
        InputError: Any other address.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname):
        return
    raise InputError(must("url", "an https address", url, "use the publisher's https address"))


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _is_right(wanted: _Wanted) -> bool:
    if not wanted.target.is_file():
        return False
    if wanted.size is not None and wanted.target.stat().st_size != wanted.size:
        return False
    return wanted.sha256 is None or file_sha256(wanted.target) == wanted.sha256


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _transfer(wanted: _Wanted, patience: Patience, progress: Progress) -> None:
    """One attempt; returns when the part file is complete."""
    known = _known(wanted)
    start = _length(wanted.part) if known is not None else 0
    if start and (start == wanted.size or start == (known or {}).get("total")):
        return  # killed between the last byte and the check
    headers = {"User-Agent": "atypia", "Accept-Encoding": "identity"}
    if start and known is not None:
        headers["Range"] = f"bytes={start}-"
        if known.get("validator"):
            headers["If-Range"] = known["validator"]
    try:
        response = _open(wanted, headers, patience.timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # the part is longer than the file now is
                wanted.drop()
                raise _BrokenError("the file on the server changed") from error
            raise _refusal(wanted, error) from error
    try:
        with response:
            start, total = _agree(wanted, response, start, known)
            _receive(wanted, response, start, total, progress)
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


def _known(wanted: _Wanted) -> dict[str, Any] | None:
    """The server's data about the part file; None if it cannot be resumed."""
    try:
        known = json.loads(wanted.facts.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(known, dict) or known.get("url") != wanted.url:
        return None
    # Without a validator two versions could be spliced; only a checksum would notice.
    return known if known.get("validator") or wanted.sha256 else None


def _open(wanted: _Wanted, headers: dict[str, str], timeout_s: float) -> Any:
    request = urllib.request.Request(wanted.url, headers=headers)  # noqa: S310 - check_url has checked it
    handlers: list[urllib.request.BaseHandler] = [_SafeRedirects()]
    if _is_loopback(urlsplit(wanted.url).hostname):
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _no_connection(wanted, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _no_connection(wanted, error) from error


def _no_connection(wanted: _Wanted, reason: object) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return WorkError(
            f"the certificate of {urlsplit(wanted.url).hostname} is not trusted ({reason}); "
            "fix: set the clock, or name your network's certificates in $SSL_CERT_FILE"
        )
    offline = isinstance(reason, socket.gaierror) or (isinstance(reason, OSError) and reason.errno in _OFFLINE)
    if offline:
        return WorkError(f"{wanted.url} needs a network ({reason}); fix: connect, or {wanted.by_hand()}")
    return _BrokenError(str(reason) or type(reason).__name__)


def _refusal(wanted: _Wanted, error: urllib.error.HTTPError) -> Exception:
    if error.code in _PASSING:
        asked = error.headers.get("Retry-After", "") if error.headers else ""
        return _BrokenError(f"the server answers {error.code}", float(asked) if asked.isdigit() else None)
    return AbsentError(
        f"{wanted.url} cannot be downloaded: the server answers {error.code} {error.reason}; fix: look on the "
        f"publisher's page, download it by hand and `atypia data import {wanted.source} --from DIR`"
    )


def _agree(wanted: _Wanted, response: Any, start: int, known: dict[str, Any] | None) -> tuple[int, int | None]:
    """Offset of the answer's bytes, and the size of the whole file if known."""
    headers: Message = response.headers
    validator = _validator(headers)
    if response.status == 206:
        span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        total = int(span[3]) if span and span[3] != "*" else None
        same = (
            span is not None
            and span[1] == str(start)
            and (known or {}).get("total") in (None, total)
            and (known or {}).get("validator") in (None, validator)
        )
        if not same:
            wanted.drop()
            raise _BrokenError("the file on the server changed")
    else:
        start = 0  # the server ignores ranges, or the file changed: it sends all of it
        length = headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
    if total is not None and wanted.size is not None and total != wanted.size:
        wanted.drop()
        raise DataError(_differs("size", wanted, f"{wanted.size:,} bytes", f"{total:,}"))
    most = wanted.size if wanted.size is not None else MAX_BYTES
    if total is not None and total > most:
        raise DataError(_differs("size", wanted, f"at most {most:,} bytes", f"{total:,}"))
    with disk_errors(wanted.target):
        if start == 0:
            wanted.drop()
        facts = {"url": wanted.url, "validator": validator, "total": total}
        wanted.facts.write_text(json.dumps(facts), encoding="utf-8")
    return start, total


def _validator(headers: Message) -> str | None:
    tag = headers.get("ETag", "").strip()
    if tag and not tag.startswith("W/"):
        return tag
    return headers.get("Last-Modified")


def _receive(wanted: _Wanted, response: IO[bytes], start: int, total: int | None, progress: Progress) -> None:
    most = wanted.size if wanted.size is not None else MAX_BYTES
    expected = total if total is not None else wanted.size
    free = shutil.disk_usage(wanted.target.parent).free
    if expected is not None and expected - start > free:
        raise WorkError(
            f"{wanted.target.name} needs {expected - start:,} more bytes and {free:,} are free; fix: free some "
            "space, or choose another folder with --root"
        )
    what = f"bytes of {wanted.target.name}"
    done = start
    with disk_errors(wanted.part), open(wanted.part, "ab") as file:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                raise
            if not chunk:
                break
            done += len(chunk)
            if done > most:
                file.close()
                wanted.drop()
                raise DataError(_differs("size", wanted, f"at most {most:,} bytes", "more"))
            file.write(chunk)
            progress(done, expected or 0, what)
        file.flush()
        os.fsync(file.fileno())
    if expected is not None and done < expected:
        raise _BrokenError(f"{done:,} of {expected:,} bytes arrived")


def _finish(wanted: _Wanted) -> None:
    """Verifies the part file and renames it."""
    length = _length(wanted.part)
    if wanted.size is not None and length != wanted.size:
        wanted.drop()
        raise DataError(_differs("size", wanted, f"{wanted.size:,} bytes", f"{length:,}"))
    if wanted.sha256 is not None:
        found = file_sha256(wanted.part)
        if found != wanted.sha256:
            wanted.drop()
            raise DataError(_differs("sha256", wanted, wanted.sha256, found))
    with disk_errors(wanted.target):
        wanted.part.replace(wanted.target)
        wanted.facts.unlink(missing_ok=True)


def _differs(what: str, wanted: _Wanted, expected: str, got: str) -> str:
    return must(
        f"{what} of {wanted.url}",
        expected,
        got,
        "try again; if this repeats, the publisher has changed the file: look for a newer Atypia",
    )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed addresses only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Refuses a redirect that leaves https."""
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
