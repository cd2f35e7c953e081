"""The decisions file: one SQLite database with an append-only log of what reviewers did.

Write-ahead logging with ``synchronous=FULL``: an event that was acknowledged is on the disk, whatever
becomes of the process. Rows are only ever added; triggers refuse anything else. What is current
follows from the log alone (:mod:`atypia.review.board`).

=========  ==========================================================================
table      rows
=========  ==========================================================================
about      ``figures`` (the fingerprint of what was opened), ``title``, ``created``
raters     ``name``, ``time``
log        ``id, time, rater, figure_id, kind, decision, previous, note,
           previous_note, undoes``; ``undoes`` is the id of the event that an undo takes back
=========  ==========================================================================
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from atypia.artifacts import disk_errors
from atypia.errors import DataError, InputError, WorkError, must
from atypia.review.words import DECISIONS, KINDS

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x41545950
"""``ATYP``: tells a decisions file from any other database."""
BUSY_S: Final = 10.0

_TABLES: Final = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE raters (name TEXT PRIMARY KEY, time TEXT NOT NULL) STRICT",
    f"""CREATE TABLE log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    rater TEXT NOT NULL REFERENCES raters (name),
    figure_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ({", ".join(f"'{kind}'" for kind in KINDS)})),
    decision TEXT CHECK (decision IN ({", ".join(f"'{name}'" for name in DECISIONS)})),
    previous TEXT,
    note TEXT,
    previous_note TEXT,
    undoes INTEGER REFERENCES log (id),
    CHECK ((kind = 'undo') = (undoes IS NOT NULL))
) STRICT""",
    "CREATE INDEX log_by_figure ON log (figure_id)",
)
_GUARDS: Final = tuple(
    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, 'the table {table} is append-only'); END"
    for table in ("about", "raters", "log")
    for verb in ("UPDATE", "DELETE")
)


@dataclass(frozen=True)
class Event:
    """One line of the log.

    Attributes:
        id: Ascending number, from 1; 0 before it is written.
        time: UTC, ISO 8601, to the millisecond.
        rater: Who.
        figure_id: Of which figure.
        kind: One of :data:`atypia.review.words.KINDS`.
        decision: What holds from now on; None for none.
        previous: What held before.
        note: The note that holds from now on.
        previous_note: The note before.
        undoes: Id of the event that an undo takes back.
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


COLUMNS: Final = tuple(field.name for field in fields(Event))
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM log"  # noqa: S608 - names of this module
_INSERT: Final = f"INSERT INTO log ({', '.join(COLUMNS[1:])}) VALUES ({', '.join('?' * (len(COLUMNS) - 1))})"  # noqa: S608


def now() -> str:
    """The time as events carry it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Book:
    """An open decisions file. The caller sees to it that one thread uses it at a time.

    Args:
        path: The file; made where it is absent.
        fingerprint: Of the figures that are reviewed.
        title: What they are called, for messages.

    Raises:
        InputError: The file is of other figures, of a later version, or no decisions file.
        WorkError: It cannot be written.
    """

    def __init__(self, path: Path, fingerprint: str, title: str) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise WorkError(f"{path} cannot be opened ({error}); fix: choose a folder that you may write") from error
        ready = False
        try:
            self._prepare(fingerprint, title)
            ready = True
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise WorkError(f"{path} cannot be used ({error}); fix: check the file and its folder") from error
            fix = "name another file with --decisions"
            raise InputError(must(str(path), "a decisions file", f"something else ({error})", fix)) from error
        finally:
            if not ready:
                self._db.close()

    def _prepare(self, fingerprint: str, title: str) -> None:
        db = self._db
        db.execute("PRAGMA foreign_keys = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            about = {"figures": fingerprint, "title": title, "created": now()}
            with self._writing():  # as a whole: a process that is killed in between leaves an empty file
                for statement in (*_TABLES, *_GUARDS):
                    db.execute(statement)
                db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise InputError(
                must(str(self.path), "a decisions file", "another database", "name another file with --decisions")
            )
        if version != SCHEMA_VERSION:
            got = f"version {version}"
            raise InputError(must(str(self.path), f"of version {SCHEMA_VERSION}", got, "update Atypia"))
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        about = dict(db.execute("SELECT key, value FROM about"))
        if about.get("figures") != fingerprint:
            fix = (
                "open that data set again, or name another file with --decisions; decisions on figures of the same id "
                "go over by exporting and importing decisions.csv"
            )
            got = f"those of «{about.get('title', 'unknown')}»"
            raise InputError(must(f"figures of {self.path}", f"those that were opened («{title}»)", got, fix))

    def raters(self) -> list[str]:
        """Names of the raters, in the order in which they joined."""
        return [name for (name,) in self._db.execute("SELECT name FROM raters ORDER BY rowid")]

    def add_rater(self, name: str) -> None:
        """Adds a rater whose name is not taken."""
        with self._writing() as db:
            db.execute("INSERT INTO raters VALUES (?, ?)", (name, now()))

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Adds events, all or none; when this returns they are on the disk.

        Returns:
            The events with their ids.

        Raises:
            WorkError: The disk is full or the file cannot be written; nothing was added.
        """
        written = []
        with self._writing() as db:
            for event in events:
                cursor = db.execute(_INSERT, astuple(event)[1:])
                written.append(replace(event, id=int(cursor.lastrowid or 0)))
        return written

    def events(self) -> Iterator[Event]:
        """The whole log, oldest first."""
        return (Event(*row) for row in self._db.execute(f"{_SELECT} ORDER BY id"))

    def page(self, rater: str | None, figure_id: str | None, after: int, limit: int) -> list[Event]:
        """A part of the log, oldest first.

        Args:
            rater: Only this rater's events; None for all.
            figure_id: Only this figure's; None for all.
            after: Only events of a higher id.
            limit: How many at most.
        """
        clauses: list[str] = ["id > ?"]
        values: list[Any] = [after]
        for column, value in (("rater", rater), ("figure_id", figure_id)):
            if value is not None:
                clauses.append(f"{column} = ?")
                values.append(value)
        query = f"{_SELECT} WHERE {' AND '.join(clauses)} ORDER BY id LIMIT ?"
        return [Event(*row) for row in self._db.execute(query, (*values, limit))]

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
                f"{self.path} cannot be written ({error}); nothing was changed; fix: free some space, or close what "
                "else has the file open"
            ) from error


def file_events(path: Path) -> list[Event]:
    """The log of a decisions file that may be in use, read without changing it.

    Raises:
        DataError: The file is absent or no decisions file.
    """
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return [Event(*row) for row in db.execute(f"{_SELECT} ORDER BY id")]
        finally:
            db.close()
    except sqlite3.Error as error:
        raise DataError(f"{path} is no readable decisions file ({error}); fix: check the path") from error
