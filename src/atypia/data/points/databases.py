"""Opens databases (SQLite) that a user names: read-only, with limits, and without running what a file may hold."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from atypia.base.errors import DataError

MAX_CELL_BYTES: Final = 1 << 26
"""Size of one value."""


def open_database(path: Path) -> sqlite3.Connection:
    """Opens a database read-only; close it."""
    # Immutable: no lock and no file beside it, so a read-only folder will do. Where a journal waits
    # beside the database, what it holds counts and SQLite has to look at it.
    journal = path.with_name(f"{path.name}-wal")
    immutable = "" if journal.exists() and journal.stat().st_size else "&immutable=1"
    database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro{immutable}", uri=True)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
    # Functions that its own schema names (in views, indices, defaults) do not run.
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def table_names(path: Path) -> frozenset[str]:
    """The names of its tables.

    Raises:
        DataError: It is damaged.
    """
    try:
        with closing(open_database(path)) as database:
            return frozenset(
                str(row[0]) for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            )
    except sqlite3.Error as error:
        raise DataError(f"{path.name} is a damaged database ({error}); fix: save it again") from error
