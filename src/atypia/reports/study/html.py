"""Tables of a page: sortable by their headings, with all but the first rows folded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from atypia.reports.drawing.tables import Table
from atypia.reports.drawing.values import Spread, Value, format_value

TOP_ROWS = 12
"""Rows of a table shown before it is unfolded."""


def table_html(table: Table, top: int = TOP_ROWS, own: str | None = None) -> Markup:
    """A table as HTML, with headings as sort buttons and notes below.

    Without the page's script every row is shown, and headings have no effect.

    Args:
        table: The table.
        top: Rows shown before it is unfolded.
        own: Rows starting with this text are marked and never folded.
    """
    best = table.best()
    parts = ['<div class="wide"><table class="sortable" data-top="', str(top), '">']
    parts.append("<thead><tr>")
    for column in table.columns:
        kind = ' class="number"' if column.align == "right" else ""
        parts.append(f'<th scope="col"{kind}><button type="button">{escape(format_value(column.title))}</button></th>')
    parts.append("</tr></thead><tbody>")
    for i, row in enumerate(table.rows):
        parts.append('<tr class="own">' if own is not None and row[0] == own else "<tr>")
        for j, (value, column) in enumerate(zip(row, table.columns, strict=True)):
            parts.append(_cell(value, column.digits, column.align == "right", j == 0, (i, j) in best))
        parts.append("</tr>")
    parts.append("</tbody></table></div>")
    notes = [*table.best_note("Bold:"), *table.notes, *(f"Warning: {text}" for text in table.warnings)]
    parts.append(notes_html(notes))
    return Markup("".join(parts))  # noqa: S704 - every text in it is escaped


def notes_html(notes: Sequence[str]) -> Markup:
    """Notes as a list; empty without any."""
    if not notes:
        return Markup("")
    items = "".join(f"<li>{_with_code(format_value(note))}</li>" for note in notes)
    return Markup(f'<ul class="notes">{items}</ul>')  # noqa: S704 - escaped above


def _cell(value: Value, digits: int, number: bool, first: bool, best: bool) -> str:
    text = _with_code(format_value(value, digits))
    tag, kind = ('th scope="row"', "th") if first else ("td", "td")
    attributes = ' class="number"' if number else ""
    key = _key(value)
    if key:
        attributes += f' data-v="{key}"'
    return f"<{tag}{attributes}>{f'<b>{text}</b>' if best else text}</{kind}>"


def _with_code(text: str) -> str:
    """Escaped text, what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))


def _key(value: Value) -> str:
    """Sort key of a number; text sorts by itself, undefined values last."""
    if isinstance(value, Spread):
        value = value.mean
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return "nan" if math.isnan(value) else f"{value:.6g}"
