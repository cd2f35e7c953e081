"""Delimited text files, as publishers and users write them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from atypia.errors import DataError, must
from atypia.regularfiles import read_regular
from atypia.spreadsheet import bare

MAX_BYTES = 1 << 28
"""Size of a table; in memory it takes several times as much."""

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class TextTable:
    """A delimited text file.

    Attributes:
        path: The file.
        columns: Header, without surrounding spaces.
        rows: One mapping a line, values without surrounding spaces; absent cells are empty.
        lines: Line number of each row in the file, from 1.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]

    def require(self, *columns: str) -> None:
        """Checks that columns are there.

        Raises:
            DataError: One is missing; names it and those that are there.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing:
            there = ", ".join(self.columns)
            raise DataError(f"{self.path.name}: no column `{missing[0]}`; there are: {there}; fix: name the columns so")


def read_table(path: Path) -> TextTable:
    """Reads a table delimited by commas, semicolons or tabs, told from its header line.

    A byte order mark and Windows line ends are accepted; empty lines are skipped. The apostrophe that Atypia's own
    CSV has before what a spreadsheet would take for a formula is taken away (:mod:`atypia.spreadsheet`).

    Raises:
        DataError: The file is absent, no regular file, too large, empty, not UTF-8 text, has an unnamed or repeated column
            beside the first, or a line with more cells than the header.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; fix: check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: name a file that you may read") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is no UTF-8 text ({error.reason}); fix: save it as UTF-8 CSV") from None
    if "\0" in text:
        raise DataError(f"{path.name} is no text (it holds zero bytes); fix: save it as UTF-8 CSV")
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise DataError(f"{path.name} is empty; fix: write a header line and one line a figure")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: tuple[str, ...] = ()
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            stripped = [bare(cell.strip()) for cell in cells]
            if not any(stripped):
                continue
            if not columns:
                columns = tuple(stripped)
                continue
            if len(cells) > len(columns) and any(stripped[len(columns) :]):
                raise DataError(
                    f"{path.name}, line {reader.line_num}: {len(cells)} cells under {len(columns)} columns; "
                    "fix: quote cells that hold the delimiter"
                )
            padded = stripped + [""] * (len(columns) - len(stripped))
            rows.append(dict(zip(columns, padded, strict=False)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num}: {error}; fix: save it as plain CSV") from None
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        raise DataError(f"{path.name}: column `{repeated[0]}` occurs twice; fix: keep one")
    return TextTable(path, columns, tuple(rows), tuple(lines))


def number(text: str, column: str, where: str) -> float:
    """A number of a table cell.

    Raises:
        DataError: It is none; names the place.
    """
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: {must(column, 'a number', repr(text), 'correct the cell')}") from None
