"""Writes a study's report below ``report/`` in its folder.

* ``index.html``: the self-contained page;
* every table as Markdown, CSV and LaTeX, and ``report.md``;
* ``figures/``: every plot as SVG and PNG;
* ``study.yaml``: the study with all changes made to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from atypia.base.artifacts import atomic_file
from atypia.base.errors import AbsentError
from atypia.reports.drawing.plot_files import write_plots
from atypia.reports.drawing.tables import Table
from atypia.reports.study.heat import heat_maps
from atypia.reports.study.literature import LITERATURE, PUBLISHED_DIFFERENCES, literature_table, published_differences
from atypia.reports.study.page import study_page
from atypia.reports.study.plots import all_plots
from atypia.reports.study.statistics import statistics_tables
from atypia.reports.study.summary import HEADLINE_NAME, headline_table
from atypia.reports.study.tables import FOLDER, MATRIX, write_study
from atypia.reports.study.unseen import UNSEEN, unseen_table
from atypia.studies.findings.about import StudyAbout
from atypia.studies.findings.schema import Findings

PAGE: Final = "index.html"
FIGURES: Final = "figures"
STUDY_FILE: Final = "study.yaml"


@dataclass(frozen=True)
class WrittenReport:
    """The files of a report.

    Attributes:
        page: The page.
        markdown: All tables in one file.
        figures: Files of the plots.
        notes: What could not be written, with the remedy.
    """

    page: Path
    markdown: Path
    figures: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def write_report(
    about: StudyAbout, found: Findings, tables: Mapping[str, Table], out: Path, failures: str = ""
) -> WrittenReport:
    """Writes a study's report; existing files are replaced, plots only if they changed.

    Args:
        about: The study itself.
        found: Findings from its predictions.
        tables: Its tables from :func:`atypia.reports.study.tables.study_tables`.
        out: The study's folder.
        failures: Reasons and tracebacks of failed runs, for ``report.md``.

    Returns:
        The written files. Without matplotlib no plot files are written, with a note; the page has its own plots.
    """
    every = {**tables, **_more_tables(about, found)}
    folder = out / FOLDER
    markdown = write_study(every, out, failures)
    page = study_page(about, found, every)
    for name, text in ((PAGE, page), (STUDY_FILE, about.study_yaml)):
        with atomic_file(folder / name, "w") as file:
            file.write(text)
    try:
        figures = write_plots(
            [*all_plots(found), *heat_maps(every.get(MATRIX), found.metric, found.every)], folder / FIGURES
        )
    except AbsentError as error:
        return WrittenReport(folder / PAGE, markdown, (), (str(error),))
    return WrittenReport(folder / PAGE, markdown, tuple(figures))


def _more_tables(about: StudyAbout, found: Findings) -> dict[str, Table]:
    """The tables of the findings that have rows, each with the study's warnings."""
    title = f"{about.name}, size {about.size}"
    tables = {
        HEADLINE_NAME: replace(headline_table(found, "headline"), subject=title),
        UNSEEN: unseen_table(found, title),
        **statistics_tables(found, title),
        LITERATURE: literature_table(found, about.name, title, about.protocol),
        PUBLISHED_DIFFERENCES: published_differences(found, about.name, title),
    }
    return {
        name: replace(table, warnings=tuple(dict.fromkeys([*table.warnings, *about.warnings])))
        for name, table in tables.items()
        if table.rows
    }
