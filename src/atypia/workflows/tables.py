"""The table of a training's or an evaluation's results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atypia.base import records as r
from atypia.base.errors import InputError, must

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.reports.drawing.tables import Table


def results_table(folder: Path, about: Path | None = None, domains: bool = False) -> Table:
    """Recomputes all results under a folder from its predictions, writes ``results.parquet`` and gives their table.

    Where several folds scored the same figures, the row of their ensemble stands beneath the row of their mean.

    Args:
        folder: A training's folder, one run's, or one that evaluations were written to.
        about: What was trained or evaluated, where that is another folder.
        domains: One line per domain.

    Raises:
        InputError: There are no predictions.
        DataError: A file is damaged.
    """
    from atypia.evaluation.collect import collect
    from atypia.evaluation.rows import MODEL
    from atypia.evaluation.summary import summarise
    from atypia.reports.study.benchmark import benchmark_table

    collected = collect(folder, about)
    title, rows = None, collected.rows
    if len(collected.ensembles):
        title, rows = str(rows[MODEL][0].as_py()), _beside(rows, collected.ensembles)
    return benchmark_table(summarise(rows), title=title, warnings=collected.warnings, domains=domains)


def _beside(rows: pa.Table, ensembles: pa.Table) -> pa.Table:
    """Result rows in which those of an ensemble follow those of its runs."""
    import pyarrow as pa

    joined = pa.concat_tables([rows, ensembles])
    places: dict[tuple[str | None, str | None], int] = {}
    of = [
        places.setdefault(key, len(places))
        for key in zip(joined[r.DATASET].to_pylist(), joined[r.PART].to_pylist(), strict=True)
    ]
    return joined.take(pa.array(sorted(range(len(of)), key=of.__getitem__), pa.int64()))


def table_files(names: Sequence[str]) -> list[Path]:
    """The files that a table is to be written to, checked before the work whose table it is.

    Raises:
        InputError: A name does not end in a form that tables have.
    """
    from atypia.reports.drawing.tables import SUFFIXES

    files = [Path(name) for name in names]
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise InputError(must("--write", f"a name ending in {', '.join(SUFFIXES)}", str(file), "rename it"))
    return files
