"""Reads delimited text files of publishers and users."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atypia.base.errors import DataError, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.spreadsheet import unescape_formula

MAX_BYTES = 1 << 28
"""Size of a table; in memory it takes several times as much."""

_DELIMITERS = (",", ";", "\t")

MISSING: Final = frozenset(
    {
        "", "na", "n/a", "n.a.", "n/d", "nd", "#n/a", "#na", "<na>", "nan", "nat", "null", "(null)", "nil", "none",
        "unknown", "undefined", "unspecified", "missing", "not available", "not applicable", "not known", "unbekannt",
        "k.a.", "-", "--", "---", "\u2013", "\u2014", "?", "??", "???", ".",
    }
)  # fmt: skip
"""Words for «not known», in lower case; they are null, never the name of a patient or a scanner."""

UTF8: Final = "UTF-8"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig", UTF8),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def cleaned_text(text: str | None) -> str | None:
    """The text without surrounding spaces; None if it is one of :data:`MISSING`.

    >>> cleaned_text(" Berlin "), cleaned_text("N/A"), cleaned_text("unknown"), cleaned_text("")
    ('Berlin', None, None, None)
    """
    bare = (text or "").strip()
    return None if bare.casefold() in MISSING else bare


def decode_text(data: bytes, name: str) -> tuple[str, str]:
    """Decodes a text file in any usual encoding.

    UTF-8 and UTF-16 with or without a byte order mark; anything else is read as Windows-1252, of which Latin-1
    is a part.

    Args:
        data: The file's bytes.
        name: Its name in messages.

    Returns:
        The text without a byte order mark, and the name of the encoding.

    Raises:
        DataError: It is not text.
    """
    for mark, codec, called in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec), called
            except UnicodeDecodeError as error:
                raise DataError(f"{name} is damaged {called} ({error.reason}); fix: save it as UTF-8 CSV") from None
    if b"\0" in data[:4096]:
        # In UTF-16, letters of European languages have a zero byte, always on the same side.
        for codec, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if data[first:4096:2].count(0) * 2 > len(data[first:4096:2]) and 0 not in data[1 - first : 4096 : 2]:
                try:
                    return data.decode(codec), "UTF-16"
                except UnicodeDecodeError:
                    break
    try:
        text, called = data.decode("utf-8"), UTF8
    except UnicodeDecodeError:
        try:
            text, called = data.decode("cp1252"), "Windows-1252"
        except UnicodeDecodeError:
            text, called = data.decode("latin-1"), "Latin-1"
    if "\0" in text:
        raise DataError(f"{name} is not text (it holds zero bytes); fix: save it as UTF-8 CSV")
    if called != UTF8 and _CONTROL.search(text):
        raise DataError(f"{name} is not UTF-8 text, nor another (it holds control bytes); fix: save it as UTF-8 CSV")
    return text, called


@dataclass(frozen=True)
class TextTable:
    """A delimited text file.

    Attributes:
        path: The file.
        columns: Header, without surrounding spaces.
        rows: One mapping per line, values without surrounding spaces; absent cells are empty.
        lines: Line number of each row in the file, from 1.
        delimiter: Separator of cells.
        encoding: Encoding of the file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    delimiter: str = ","
    encoding: str = UTF8

    @property
    def has_header(self) -> bool:
        """Whether the first line may be a header: names, not numbers."""
        return sum(is_number(column) for column in self.columns) < min(2, len(self.columns))

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on how the file was read."""
        return () if self.encoding == UTF8 else (f"{self.path.name} is not UTF-8 and was read as {self.encoding}",)

    def require(self, *columns: str) -> None:
        """Checks that columns are there.

        Raises:
            DataError: One is missing; lists it and the existing ones.
        """
        missing = [column for column in columns if column not in self.columns]
        if missing and not self.has_header:
            fix = f"write the names of the columns ({', '.join(columns)} …) into its first line"
            raise DataError(f"{self.path.name} has no header line, it begins with numbers; fix: {fix}")
        if missing:
            there = ", ".join(self.columns)
            raise DataError(f"{self.path.name}: no column `{missing[0]}`; there are: {there}; fix: name the columns so")


def read_table(path: Path) -> TextTable:
    """Reads a table delimited by commas, semicolons or tabs, which is determined from its header line.

    A byte order mark and Windows line ends are accepted; empty lines are skipped. The encoding is told by
    :func:`decode_text`. The apostrophe that Atypia's CSV files have before texts that a spreadsheet would run as a formula is
    removed (:mod:`atypia.base.files.spreadsheet`).

    Raises:
        DataError: The file is absent, not a regular file, too large, empty, no text, has an unnamed or repeated column
            beside the first, or a line with more cells than the header.
    """
    try:
        text, encoding = decode_text(read_regular(path, MAX_BYTES), path.name)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; fix: check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; fix: name a file that you may read") from error
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise DataError(f"{path.name} is empty; fix: write a header line and one line per figure")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: tuple[str, ...] = ()
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            stripped = [unescape_formula(cell.strip()) for cell in cells]
            if not any(stripped):
                continue
            if not columns:
                columns = tuple(stripped)
                continue
            if len(cells) > len(columns) and any(stripped[len(columns) :]):
                raise DataError(
                    f"{path.name}, line {reader.line_num}: {len(cells)} cells under {len(columns)} columns; "
                    "fix: quote cells that hold the delimiter, or write decimals with a point"
                )
            padded = stripped + [""] * (len(columns) - len(stripped))
            rows.append(dict(zip(columns, padded, strict=False)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num}: {error}; fix: save it as plain CSV") from None
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        raise DataError(f"{path.name}: column `{repeated[0]}` occurs twice; fix: keep one")
    return TextTable(path, columns, tuple(rows), tuple(lines), delimiter, encoding)


def is_number(text: str) -> bool:
    """Whether a cell is a number, with a point or a comma for decimals."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def number(text: str, column: str, where: str) -> float:
    """A number of a table cell.

    Raises:
        DataError: Not a number; states the place.
    """
    try:
        return float(text)
    except ValueError:
        fix = "write decimals with a point" if is_number(text) else "correct the cell"
        raise DataError(f"{where}: {must(column, 'a number', repr(text), fix)}") from None
