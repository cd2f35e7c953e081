"""Texts in CSV files that a spreadsheet takes for nothing else, and back again.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@`` (also in their wide forms), a tab or
a line end as a formula, wherever the text came from: a figure's id or a file's name may then send a
table's content elsewhere. Such texts get an apostrophe before them, which :func:`bare` takes away when
Atypia reads the file: ids stay the same.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import IO, Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def shielded(text: str | None) -> str | None:
    """A text as a cell that no spreadsheet takes for a formula; :func:`bare` is its inverse.

    >>> shielded("=1+1"), bare("'=1+1"), shielded("two poles")
    ("'=1+1", '=1+1', 'two poles')
    """
    return f"'{text}" if text and text.startswith(_FORMULA) else text


def bare(text: str) -> str:
    """What :func:`shielded` was given."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(_FORMULA) else text


class CsvLines:
    """Writes rows as CSV; every text is shielded, null is an empty cell.

    Args:
        file: Open for text.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._plain = csv.writer(file, lineterminator="\n")

    def write(self, row: Iterable[Any]) -> None:
        """Writes a row."""
        cells = [shielded(value) if isinstance(value, str) else value for value in row]
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
