"""Protects texts in CSV files from being run as formulas by spreadsheets, and reverses it on reading.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@`` (also in their wide forms), a tab or
a line end as a formula, wherever the text came from: a figure's id or a file's name may then send a
table's content elsewhere. Such texts are prefixed with an apostrophe, which :func:`unescape_formula` removes when
Atypia reads the file: ids do not change.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import IO, Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def escape_formula(text: str | None) -> str | None:
    """A text as a cell that no spreadsheet runs as a formula; :func:`unescape_formula` is the inverse.

    >>> escape_formula("=1+1"), unescape_formula("'=1+1"), escape_formula("two poles")
    ("'=1+1", '=1+1', 'two poles')
    """
    return f"'{text}" if text and text.startswith(_FORMULA) else text


def unescape_formula(text: str) -> str:
    """The original text given to :func:`escape_formula`."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


class CsvLines:
    """Writes rows as CSV; texts are protected with :func:`escape_formula`, null is an empty cell.

    Args:
        file: A file opened for text.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._plain = csv.writer(file, lineterminator="\n")

    def write(self, row: Iterable[Any]) -> None:
        """Writes a row."""
        cells = [escape_formula(value) if isinstance(value, str) else value for value in row]
        # The csv module leaves a lone carriage return without quotes, and readers end the line there. Its mode that
        # quotes everything would also quote what is null, which readers then take for an empty text.
        if any(isinstance(value, str) and "\r" in value for value in cells):
            self._file.write(",".join(_quoted(value) for value in cells) + "\n")
        else:
            self._plain.writerow(cells)


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)
