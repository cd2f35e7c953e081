"""The table of a training's results, printed and written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from atypia.cli.console import width


def table_files(names: Sequence[str]) -> list[Path]:
    """The files that a table is to be written to, checked before the work whose table it is.

    Raises:
        InputError: A name does not end in a form that tables have.
    """
    from atypia.base.errors import InputError, must
    from atypia.reports.drawing.tables import SUFFIXES

    files = [Path(name) for name in names]
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise InputError(must("--write", f"a name ending in {', '.join(SUFFIXES)}", str(file), "rename it"))
    return files


def show_results(
    folder: Path,
    as_json: bool = False,
    files: Sequence[Path] = (),
    domains: bool = False,
    about: Path | None = None,
) -> None:
    """Recomputes the results under a folder, prints their table and writes it to files.

    Args:
        folder: A training's folder, or one run's.
        as_json: Print JSON instead of text.
        files: Files to write; the suffix decides the form (.md, .csv, .tex, .json, .txt).
        domains: One line a domain.
        about: What was trained or evaluated, where that is another folder.
    """
    from atypia.evaluation.collect import collect
    from atypia.evaluation.summary import summarise
    from atypia.reports.drawing.tables import write_table
    from atypia.reports.study.benchmark import benchmark_table

    collected = collect(folder, about)
    table = benchmark_table(summarise(collected.rows), warnings=collected.warnings, domains=domains)
    sys.stdout.write(table.render("json") if as_json else table.to_text(width=width()))
    for path in files:
        write_table(table, path)
