"""The decisions file: one SQLite database with an append-only log of reviewers' actions.

Write-ahead logging with ``synchronous=FULL``: an acknowledged event is on disk, even if the process
is killed. Rows are only ever added; triggers refuse anything else. The current state
is derived from the log alone (:mod:`atypia.review.decisions.state`).

=========  ==========================================================================
table      rows
=========  ==========================================================================
about      ``figures`` (the fingerprint of what was opened), ``title``, ``created``
raters     ``name``, ``time``
log        one a decision, arbitration, import, assignment, added figure or undo: the
           attributes of :class:`Event`
=========  ==========================================================================
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import disk_errors
from atypia.base.errors import AtypiaError, DataError, InputError, WorkError, must
from atypia.review.decisions.schema import (
    ABOUT_COLUMNS,
    GUARDS,
    RATER_COLUMNS,
    SCHEMA_VERSION,
    TABLES,
    log_columns,
    upgrade,
)
from atypia.review.decisions.sqlite_recovery import log_fault
from atypia.review.decisions.words import DECISIONS, KINDS, UNDONE

LAST_VERSION: Final = 999
"""A higher version number means damage, not a later Atypia."""
APPLICATION_ID: Final = 0x41545950
"""``ATYP``: distinguishes a decisions file from other databases."""
BUSY_S: Final = 10.0
PRIVATE_MODE: Final = 0o600
_MAGIC: Final = b"SQLite format 3\0"
SMALLEST_BYTES: Final = 512
"""Smallest size of an intact SQLite file, in bytes."""
LOOKED_AT_BYTES: Final = 64 << 10
"""Bytes read from the start of a file to recognise a decisions file."""


@dataclass(frozen=True)
class Event:
    """One row of the log.

    Attributes:
        id: Ascending number, from 1; 0 before it is written.
        time: UTC, ISO 8601, to the millisecond.
        rater: Name of the rater.
        figure_id: Id of the figure.
        kind: One of :data:`atypia.review.decisions.words.KINDS`.
        decision: Decision after the event; None for none.
        previous: Decision before the event.
        note: Note after the event.
        previous_note: Note before the event.
        undoes: Id of the event that an undo cancels.
        tags: Tags after the event, sorted, joined by «;»; None for none.
        previous_tags: Tags before the event.
        value: What an assignment (names of raters, a JSON list) or an added figure (its place, a JSON object) sets.
        previous_value: The same before the event.
        batch: Number shared by events that were made at once and are undone at once; None for a single one.
    """

    id: int
    time: str
    rater: str
    figure_id: str
    kind: str
    decision: str | None
    previous: str | None
    note: str | None
    previous_note: str | None
    undoes: int | None = None
    tags: str | None = None
    previous_tags: str | None = None
    value: str | None = None
    previous_value: str | None = None
    batch: int | None = None


COLUMNS: Final = tuple(field.name for field in fields(Event))


def _select(version: int = SCHEMA_VERSION) -> str:
    return f"SELECT {', '.join(log_columns(version))} FROM log"  # noqa: S608 - names of this module


_INSERT: Final = f"INSERT INTO log ({', '.join(COLUMNS[1:])}) VALUES ({', '.join('?' * (len(COLUMNS) - 1))})"  # noqa: S608


class DamagedError(DataError):
    """A damaged decisions file."""


def damaged_error(path: Path, reason: str) -> DamagedError:
    """The error for a damaged decisions file."""
    fix = f"`atypia serve WHAT --rescue {path} --to NEW.sqlite` copies the readable part; or use a backup copy of the file"
    return DamagedError(must(str(path), "an intact decisions file", f"a damaged one ({reason})", fix))


def now() -> str:
    """The current time in the format of events."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class DecisionLog:
    """An open decisions file. Not thread-safe: the caller must serialise access.

    Args:
        path: The file; created if it does not exist.
        fingerprint: Fingerprint of the figures under review.
        title: Their name in messages.

    Raises:
        DamagedError: The decisions file is damaged.
        InputError: The file belongs to other figures, has a later version, or is not a decisions file.
        WorkError: It is not writable.
    """

    def __init__(self, path: Path, fingerprint: str, title: str) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():  # may contain patients' names; SQLite gives its companion files the same mode
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, PRIVATE_MODE))
        fault = log_fault(path)  # before SQLite opens the log, which it truncates at the first bad checksum
        if fault is not None:
            raise damaged_error(path, fault)
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise WorkError(f"{path} cannot be opened ({error}); fix: choose a writable folder") from error
        ready = False
        try:
            self._prepare(fingerprint, title)
            ready = True
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from SQLite's own message
            raise _explained(path, error) from error
        finally:
            if not ready:
                self._db.close()

    def _prepare(self, fingerprint: str, title: str) -> None:
        db = self._db
        db.execute("PRAGMA foreign_keys = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        if tables == 0:
            # A process that was killed while it made the file leaves one page at most.
            if application != 0 or db.execute("PRAGMA page_count").fetchone()[0] > 1:
                raise damaged_error(self.path, "its list of tables is empty")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            about = {"figures": fingerprint, "title": title, "created": now()}
            with self._writing():  # in one transaction: a process killed in between leaves an empty file
                for statement in (*TABLES, *GUARDS):
                    db.execute(statement)
                db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        if application != APPLICATION_ID:
            if is_decisions_file(self.path):
                raise damaged_error(self.path, "its header is not that of a decisions file")
            raise InputError(
                must(str(self.path), "a decisions file", "another database", "name another file with --decisions")
            )
        if not 0 < version <= LAST_VERSION:
            raise damaged_error(self.path, f"its version is {version}")
        if version > SCHEMA_VERSION:
            got = f"version {version}"
            raise InputError(must(str(self.path), f"of version {SCHEMA_VERSION} or earlier", got, "update Atypia"))
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        self._check(version)
        about = dict(db.execute("SELECT key, value FROM about"))
        if "figures" not in about:
            raise damaged_error(self.path, "it does not identify its figures")
        if about.get("figures") != fingerprint:
            fix = (
                "open that data set again, or name another file with --decisions; to transfer decisions on figures with the same "
                "id, export and import decisions.csv"
            )
            got = f"those of «{about.get('title', 'unknown')}»"
            raise InputError(must(f"figures of {self.path}", f"those that were opened («{title}»)", got, fix))
        if version < SCHEMA_VERSION:  # last: a file that is refused stays as it was
            db.execute("PRAGMA foreign_keys = OFF")
            with self._writing():
                upgrade(db)
            db.execute("PRAGMA foreign_keys = ON")

    def _check(self, version: int) -> None:
        """Checks the whole file once: structure, tables, triggers, and every value of the log."""
        db = self._db
        found = [text for (text,) in db.execute("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise damaged_error(self.path, "; ".join(" ".join(text.split()) for text in found))
        wanted = {"about": ABOUT_COLUMNS, "raters": RATER_COLUMNS, "log": log_columns(version)}
        for table, columns in wanted.items():
            there = tuple(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
            if there != columns:
                raise damaged_error(self.path, f"its table {table} is missing or has other columns")
        triggers = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        if len(triggers) < len(GUARDS):
            raise damaged_error(self.path, "the triggers that protect its log are missing")
        known = set(self.raters())
        for event in self._events(version):
            fault = fault_of(event)
            if fault is None and event.rater not in known:
                fault = "an unknown rater"
            if fault is not None:
                raise damaged_error(self.path, f"event {event.id} has {fault}")

    def raters(self) -> list[str]:
        """Names of the raters, in the order in which they joined."""
        return [name for (name,) in self._db.execute("SELECT name FROM raters ORDER BY rowid")]

    def add_rater(self, name: str) -> None:
        """Adds a rater with a new name."""
        with self._writing() as db:
            db.execute("INSERT INTO raters VALUES (?, ?)", (name, now()))

    def fill(self, raters: Sequence[tuple[str, str]], events: Sequence[Event]) -> None:
        """Copies the content of another file, including ids and times; for an empty file.

        Args:
            raters: Names and times, in the order in which they joined.
            events: In the order of their ids.
        """
        insert = f"INSERT INTO log ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
        with self._writing() as db:
            db.executemany("INSERT INTO raters VALUES (?, ?)", raters)
            db.executemany(insert, (astuple(event) for event in events))

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Adds events, all or none; when this returns they are on disk.

        Returns:
            The events with their ids.

        Raises:
            WorkError: The disk is full or the file is not writable; nothing was added.
        """
        written = []
        with self._writing() as db:
            for event in events:
                cursor = db.execute(_INSERT, astuple(event)[1:])
                written.append(replace(event, id=int(cursor.lastrowid or 0)))
        return written

    def events(self) -> Iterator[Event]:
        """The whole log, oldest first."""
        return self._events(SCHEMA_VERSION)

    def _events(self, version: int) -> Iterator[Event]:
        try:
            for row in self._db.execute(f"{_select(version)} ORDER BY id"):
                yield Event(*row)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _explained(self.path, error) from error

    def page(self, rater: str | None, figure_id: str | None, after: int, limit: int) -> list[Event]:
        """A part of the log, oldest first.

        Args:
            rater: Only this rater's events; None for all.
            figure_id: Only this figure's; None for all.
            after: Only events with a higher id.
            limit: Largest number of events.
        """
        clauses: list[str] = ["id > ?"]
        values: list[Any] = [after]
        for column, value in (("rater", rater), ("figure_id", figure_id)):
            if value is not None:
                clauses.append(f"{column} = ?")
                values.append(value)
        query = f"{_select()} WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?"
        try:
            return [Event(*row) for row in self._db.execute(query, (*values, limit))]
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _explained(self.path, error) from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            whole = False
            try:
                yield self._db
                self._db.execute("COMMIT")
                whole = True
            finally:
                if not whole and self._db.in_transaction:
                    self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise WorkError(
                f"{self.path} cannot be written ({error}); nothing was changed; fix: free some space, or close the "
                "program that has the file open"
            ) from error


def fault_of(event: Event) -> str | None:
    """What makes an event invalid (in a damaged file); None if it is valid."""
    texts = (event.time, event.rater, event.figure_id)
    optional = (event.previous, event.note, event.previous_note)
    if not all(isinstance(text, str) and text for text in texts):
        return "no time, rater or figure"
    if event.kind not in KINDS:
        return f"the kind {event.kind!r}"
    if any(decision not in (None, *DECISIONS) for decision in (event.decision, event.previous)):
        return "an unknown decision"
    if not all(text is None or isinstance(text, str) for text in optional):
        return "a note that is not text"
    later = (event.tags, event.previous_tags, event.value, event.previous_value)
    if not all(text is None or isinstance(text, str) for text in later):
        return "tags or a value that are not text"
    if event.batch is not None and not isinstance(event.batch, int):
        return "a batch that is not a number"
    if (event.kind == UNDONE) != isinstance(event.undoes, int):
        return "an undo without a target"
    return None


def is_decisions_file(path: Path) -> bool:
    """Whether a file, damaged or not, is or was a decisions file: by its header, or by the names of its tables."""
    try:
        with open(path, "rb") as file:
            head = file.read(LOOKED_AT_BYTES)
    except OSError:
        return False
    stated = head[68:72] == APPLICATION_ID.to_bytes(4) or (head.startswith(_MAGIC) and len(head) < SMALLEST_BYTES)
    return stated or b"the table log is append-only" in head or b"CREATE TABLE log (" in head


def _explained(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> AtypiaError:
    """Converts an SQLite error on opening by its code: damage, another file type, or a problem of disk or folder."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return WorkError(f"{path} is in use by another program ({error}); fix: close that program")
    refused = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
               sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM)  # fmt: skip
    if primary in refused:
        return WorkError(f"{path} cannot be used ({error}); fix: check the file and its folder")
    if primary == sqlite3.SQLITE_NOTADB and not is_decisions_file(path):
        fix = "name another file with --decisions"
        return InputError(must(str(path), "a decisions file", f"something else ({error})", fix))
    return damaged_error(path, str(error))  # no error code: text that is not UTF-8


def file_events(path: Path) -> list[Event]:
    """The log of a decisions file that may be in use; read without changing it.

    Raises:
        DataError: The file is absent or not a decisions file.
    """
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            return [Event(*row) for row in db.execute(f"{_select(version)} ORDER BY id")]
        finally:
            db.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable decisions file ({error}); fix: check the path") from error
