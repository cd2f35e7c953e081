"""A paper's tables and figures as files: a page that stands alone, Markdown, CSV, LaTeX, SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from atypia.base.artifacts import atomic_file
from atypia.base.errors import AbsentError
from atypia.evaluation.published import PAPERS
from atypia.reports.drawing.page import render
from atypia.reports.drawing.plot_files import write_plots
from atypia.reports.drawing.plot_svg import forest_svg, heat_svg, line_plot_svg, swatch
from atypia.reports.drawing.plots import Drawing, ForestPlot, HeatMap, LinePlot
from atypia.reports.drawing.tables import Table, write_table
from atypia.reports.paper.beside import PaperItem
from atypia.reports.paper.own import OURS, OwnStudy
from atypia.reports.paper.papers import DIFFERS, paper_items
from atypia.reports.study.html import notes_html, table_html

PAGE: Final = "index.html"
MARKDOWN: Final = "paper.md"
PLOTS: Final = "plots"
FORMS: Final = (".md", ".csv", ".tex")


@dataclass(frozen=True)
class WrittenPaper:
    """What was written.

    Attributes:
        page: The page.
        markdown: All tables in one file.
        files: Every other file.
        notes: What could not be written, and the remedy.
    """

    page: Path
    markdown: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def write_paper(
    name: str, items: Sequence[PaperItem], differs: Table, own: Sequence[OwnStudy], out: Path
) -> WrittenPaper:
    """Writes a paper's items; what is there already is replaced, and tables of an earlier run that this one has not are removed.

    Args:
        name: The paper.
        items: Its tables and figures.
        differs: What differs from the paper.
        own: Own studies that stand beside.
        out: Folder.

    Returns:
        What was written. Without matplotlib there are no plots as files, which is told; the page has its own.
    """
    tables = [(item.name, table) for item in items for table in item.tables]
    files = [
        write_table(table, out / f"{stem}{suffix}") for stem, table in [*tables, (DIFFERS, differs)] for suffix in FORMS
    ]
    for stem in {item.name for item in paper_items(name)} - {stem for stem, _ in tables}:
        for suffix in FORMS:  # of other studies, perhaps; the page shows none of it
            (out / f"{stem}{suffix}").unlink(missing_ok=True)
    parts = [f"# {PAPERS[name].citation}\n"]
    for item in items:
        parts.append(f"## {item.heading}\n")
        parts += [table.render("markdown") for table in item.tables]
        parts += [f"![{plot.title}]({PLOTS}/{plot.key}.svg)\n" for plot in item.plots]
        parts += [f"- {note}\n" for note in item.notes]
    parts.append(differs.render("markdown"))
    for path, text in ((out / MARKDOWN, "\n".join(parts)), (out / PAGE, _page(name, items, differs, own))):
        with atomic_file(path, "w") as file:
            file.write(text)
    try:
        files += write_plots([plot for item in items for plot in item.plots], out / PLOTS)
    except AbsentError as error:
        return WrittenPaper(out / PAGE, out / MARKDOWN, tuple(files), (str(error),))
    return WrittenPaper(out / PAGE, out / MARKDOWN, tuple(files))


def _page(name: str, items: Sequence[PaperItem], differs: Table, own: Sequence[OwnStudy]) -> str:
    about = PAPERS[name]
    return render(
        "paper",
        {
            "title": f"{name}: tables and figures",
            "citation": about.citation,
            "note": about.note,
            "own": [study.title for study in own],
            "differs": table_html(differs, top=len(differs.rows)),
            "items": [
                {
                    "key": item.name,
                    "short": item.short,
                    "heading": item.heading,
                    "tables": [table_html(table, top=len(table.rows), own=OURS) for table in item.tables],
                    "plots": [_drawn(plot) for plot in item.plots],
                    "notes": notes_html(item.notes),
                }
                for item in items
            ],
        },
        dress="study",
    )


def _drawn(plot: Drawing) -> dict[str, Any]:
    legend: list[tuple[str, int]] = []
    svg = Markup("")
    if isinstance(plot, LinePlot):
        legend, svg = [(curve.name, curve.tone) for curve in plot.curves], line_plot_svg(plot)
    elif isinstance(plot, ForestPlot):
        legend, svg = list(zip(plot.names, plot.tones, strict=True)), forest_svg(plot)
    elif isinstance(plot, HeatMap):
        svg = heat_svg(plot)
    shown = [{"swatch": swatch(tone), "name": name} for name, tone in legend] if len(legend) > 1 else []
    return {"title": plot.title, "legend": shown, "svg": svg}
