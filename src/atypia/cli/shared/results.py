"""The table of a training's results, printed and written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atypia.cli.shared.console import width

if TYPE_CHECKING:
    from atypia.reports.drawing.tables import Table


def show_results(table: Table, as_json: bool = False, files: Sequence[Path] = ()) -> None:
    """Prints a table and writes it to files.

    Args:
        table: The table.
        as_json: Print JSON instead of text.
        files: Files to write; the suffix decides the form (.md, .csv, .tex, .json, .txt).
    """
    from atypia.reports.drawing.tables import write_table

    sys.stdout.write(table.render("json") if as_json else table.to_text(width=width()))
    for path in files:
        write_table(table, path)
