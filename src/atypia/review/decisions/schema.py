"""Tables of a decisions file, and how a file of an earlier version is brought to the present one.

Version 2 added tags, assignments, figures that a rater added, and decisions on several figures at once. An
older file is rewritten in one transaction when it is opened for writing: all of its rows stay as they are.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from atypia.review.decisions.words import DECISIONS, KINDS

SCHEMA_VERSION: Final = 2
FIRST_COLUMNS: Final = (
    "id", "time", "rater", "figure_id", "kind", "decision", "previous", "note", "previous_note", "undoes",
)  # fmt: skip
"""Columns of the log in version 1."""
LATER_COLUMNS: Final = ("tags", "previous_tags", "value", "previous_value", "batch")
"""Columns of the log that version 2 added; null for events of earlier versions."""
ABOUT_COLUMNS: Final = ("key", "value")
RATER_COLUMNS: Final = ("name", "time")

LOG: Final = f"""CREATE TABLE log (
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
    tags TEXT,
    previous_tags TEXT,
    value TEXT,
    previous_value TEXT,
    batch INTEGER,
    CHECK ((kind = 'undo') = (undoes IS NOT NULL))
) STRICT"""
INDEX: Final = "CREATE INDEX log_by_figure ON log (figure_id)"
TABLES: Final = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE raters (name TEXT PRIMARY KEY, time TEXT NOT NULL) STRICT",
    LOG,
    INDEX,
)
_GUARDED: Final = ("about", "raters", "log")


def guards(*tables: str) -> tuple[str, ...]:
    """Statements that make tables append-only."""
    return tuple(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the table {table} is append-only'); END"
        for table in tables
        for verb in ("UPDATE", "DELETE")
    )


GUARDS: Final = guards(*_GUARDED)


def log_columns(version: int) -> tuple[str, ...]:
    """Columns of the log in a version of the file.

    >>> len(log_columns(1)), len(log_columns(2))
    (10, 15)
    """
    return FIRST_COLUMNS if version < SCHEMA_VERSION else (*FIRST_COLUMNS, *LATER_COLUMNS)


def upgrade(db: sqlite3.Connection) -> None:
    """Brings the log of version 1 to version 2; within a transaction, with foreign keys off.

    A table's checks cannot be changed in SQLite: the rows are copied into a new table of the same name.
    """
    columns = ", ".join(FIRST_COLUMNS)
    db.execute(LOG.replace("CREATE TABLE log (", "CREATE TABLE newer_log (", 1))
    db.execute(f"INSERT INTO newer_log ({columns}) SELECT {columns} FROM log ORDER BY id")  # noqa: S608 - our names
    db.execute("DROP TABLE log")
    db.execute("ALTER TABLE newer_log RENAME TO log")
    db.execute(INDEX)
    for statement in guards("log"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
