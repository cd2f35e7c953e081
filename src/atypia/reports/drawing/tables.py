"""Tables for people and scripts: one object that renders as text, Markdown, CSV, LaTeX or JSON.

=========  ======================  ==========================  =================
value      text, Markdown, LaTeX   CSV                         JSON
=========  ======================  ==========================  =================
NaN        ``n/a``                 ``nan``                     ``null``
None       empty                   empty                       ``null``
spread     ``0.661 ± 0.012``       two columns                 ``mean`` and ``sd``
number     rounded                 in full                     in full
=========  ======================  ==========================  =================

Warnings (for instance known leakage) are part of every format, in CSV as a separate column.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, must
from atypia.base.files.spreadsheet import CsvLines
from atypia.reports.drawing.values import Spread, Value, format_value

TEXT_WIDTH: Final = 100
GAP: Final = "  "
NARROWEST: Final = 24
"""Width in characters to which a text column can always be reduced; below it, only to its longest word."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: Heading for people.
        key: Name for scripts, in CSV and JSON; empty: the title.
        align: ``right`` for numbers.
        digits: Decimals of a float.
        best: Which value is marked as best: ``max``, ``min`` or none.
        spread: Whether the values are :class:`Spread`, so that CSV has two columns.
        sd: Name of the spread in CSV; include the ddof.
        shown: What people are shown in place of a value, in text, Markdown and LaTeX; CSV and JSON have the value.
    """

    title: str
    key: str = ""
    align: Literal["left", "right"] = "left"
    digits: int = 3
    best: Literal["max", "min"] | None = None
    spread: bool = False
    sd: str = "sd"
    shown: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)

    @property
    def name(self) -> str:
        """Name for scripts."""
        return self.key or self.title


@dataclass(frozen=True, repr=False)
class Table:
    """A table, independent of its format.

    Attributes:
        title: One line; may be empty.
        columns: At least one, names unique.
        rows: One value per column.
        notes: Remarks for the reader: how numbers were averaged, the threshold.
        warnings: Reasons to doubt the numbers.
        best_within: Titles of columns; the best value is chosen among rows with equal values in these columns.
        subject: What the table is of; stands before the title where both are given.
        groups: One name a row, where the best value is marked in each group of rows; may be empty.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    best_within: Sequence[str] = ()
    subject: str = ""
    groups: Sequence[str] = ()

    @property
    def heading(self) -> str:
        """Subject and title."""
        return ": ".join(part for part in (self.subject, self.title) if part)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or len(set(names)) != len(names):
            raise InputError(must("columns", "at least one, with unique names", names, "rename them"))
        for row in self.rows:
            if len(row) != len(names):
                raise InputError(must("rows", f"of {len(names)} values", len(row), "give one value per column"))
        unknown = sorted(set(self.best_within) - {column.title for column in self.columns})
        if unknown:
            raise InputError(must("best_within", "titles of columns", unknown, "name columns of this table"))

    def render(self, form: str) -> str:
        """The table in one of :data:`FORMS`, with a final newline.

        Raises:
            InputError: Unknown format.
        """
        if form not in FORMS:
            raise InputError(must("form", " or ".join(FORMS), form, "choose one of them"))
        return FORMS[form](self)

    def to_text(self, width: int = TEXT_WIDTH) -> str:
        """Aligned plain text. To fit ``width``, text is wrapped, then columns continue below."""
        return _to_text(self, width)

    __repr__ = to_text

    def best(self) -> set[tuple[int, int]]:
        """Row and column of every best value; values equal at the shown digits are all best.

        NaN, and the value of a single row, are not marked.
        """
        by = [i for i, column in enumerate(self.columns) if column.title in self.best_within]
        groups: dict[tuple[Value, ...], list[int]] = {}
        for position, row in enumerate(self.rows):
            own = self.groups[position : position + 1]
            groups.setdefault((*own, *(row[i] for i in by)), []).append(position)
        marked: set[tuple[int, int]] = set()
        for place, column in enumerate(self.columns):
            if column.best is None:
                continue
            choose = max if column.best == "max" else min
            for group in groups.values():
                values = {
                    i: round(v, column.digits) for i in group if not math.isnan(v := _number(self.rows[i][place]))
                }
                if len(values) > 1:
                    top = choose(values.values())
                    marked |= {(i, place) for i, value in values.items() if value == top}
        return marked

    def best_note(self, mark: str) -> list[str]:
        """The note that explains the mark, if anything is marked."""
        same = [*(["group"] if self.groups else []), *self.best_within]
        within = f" among rows of the same {' and '.join(same)}" if same else ""
        return [f"{mark} best{within}"] if self.best() else []


def write_table(table: Table, path: Path) -> Path:
    """Writes a table, atomically; the suffix determines the format.

    Raises:
        InputError: The suffix is not in :data:`SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        expected = f"a name ending in {', '.join(SUFFIXES)}"
        raise InputError(must(str(path), expected, path.suffix or "no suffix", "rename"))
    with atomic_file(path, "w") as file:
        file.write(table.render(SUFFIXES[path.suffix.lower()]))
    return path


def _number(value: Value) -> float:
    if isinstance(value, Spread):
        return value.mean
    return math.nan if value is None or isinstance(value, str | bool) else float(value)


def _cells(table: Table, mark: Callable[[str, bool], str], escape: Callable[[str], str] = str) -> list[list[str]]:
    best = table.best()
    lines = [[escape(format_value(column.title)) for column in table.columns]]
    for i, row in enumerate(table.rows):
        shown = [column.shown.get(str(value), value) for value, column in zip(row, table.columns, strict=True)]
        texts = [escape(format_value(value, c.digits)) for value, c in zip(shown, table.columns, strict=True)]
        lines.append([mark(text, (i, j) in best) for j, text in enumerate(texts)])
    return lines


def _columns_across(text: str) -> int:
    """Width of a text on a terminal, in columns."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _pad(text: str, width: int, align: str) -> str:
    space = " " * (width - _columns_across(text))
    return space + text if align == "right" else text + space


def _to_text(table: Table, width: int) -> str:
    starred = {place for _, place in table.best()}
    lines = _cells(table, lambda text, best: text + "*" * best)
    # A value without the star gets a space instead, so that the digits stay aligned.
    for i, line in enumerate(lines):
        lines[i] = [t + " " * (j in starred and not (i and t.endswith("*"))) for j, t in enumerate(line)]
    widths = _widths(table, lines, width)
    panels = [_panel(table, lines, widths, chosen) for chosen in _panels(table, widths, width)]
    head = [format_value(table.heading)] if table.heading else []
    notes = [*table.best_note("*"), *table.notes, *(f"warning: {text}" for text in table.warnings)]
    foot = [wrapped_notes(notes, width)] if notes else []
    return "\n\n".join([*head, *panels, *foot]) + "\n"


def wrapped_notes(notes: Sequence[str], width: int = TEXT_WIDTH) -> str:
    """Notes as lines of text; a path or another long word is never broken."""
    lines = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines.fill(format_value(note)) for note in notes)


def _widths(table: Table, lines: list[list[str]], width: int) -> list[int]:
    """Width of each column: full; if too wide, with wrapped text; else two fifths of the width for text."""
    widths = [max(_columns_across(line[j]) for line in lines) for j in range(len(table.columns))]
    words = {j: 1 for j, column in enumerate(table.columns) if column.align == "left"}
    for j in words:
        words[j] = min(NARROWEST, max((_columns_across(word) for line in lines for word in line[j].split()), default=1))
    numbers = sum(w for j, w in enumerate(widths) if j not in words)
    room = width - len(GAP) * (len(widths) - 1) - numbers
    if sum(words.values()) > room:
        room = width * 2 // 5  # the number columns continue below
    while sum(widths[j] for j in words) > room:
        wide = [j for j in words if widths[j] > words[j]]
        if not wide:
            break
        widths[max(wide, key=lambda j: widths[j])] -= 1
    return widths


def _panels(table: Table, widths: list[int], width: int) -> list[list[int]]:
    """Columns of each panel; the leading text columns are repeated in each panel."""
    n = len(widths)
    keys = next((i for i, column in enumerate(table.columns) if column.align == "right"), n)
    keys = min(keys, n - 1)
    taken = start = sum(widths[:keys]) + len(GAP) * keys
    panels: list[list[int]] = [list(range(keys))]
    for i in range(keys, n):
        if taken + widths[i] > width and len(panels[-1]) > keys:
            panels.append(list(range(keys)))
            taken = start
        panels[-1].append(i)
        taken += widths[i] + len(GAP)
    return panels


def _panel(table: Table, lines: list[list[str]], widths: list[int], chosen: list[int]) -> str:
    out: list[str] = []
    for i, line in enumerate(lines):
        wrapped = [
            textwrap.wrap(line[j], widths[j], break_on_hyphens=False) if table.columns[j].align == "left" else [line[j]]
            for j in chosen
        ]
        for k in range(max(1, *(len(w) for w in wrapped))):
            texts = [w[k] if k < len(w) else "" for w in wrapped]
            padded = [_pad(t, widths[j], table.columns[j].align) for t, j in zip(texts, chosen, strict=True)]
            out.append(GAP.join(padded).rstrip())
        if i == 0:
            out.append(GAP.join("-" * widths[j] for j in chosen))
    return "\n".join(out)


_MARKDOWN: Final = str.maketrans({c: f"\\{c}" for c in "\\|*_`<>[]"})


def _to_markdown(table: Table) -> str:
    lines = _cells(table, lambda text, best: f"**{text}**" if best else text, lambda text: text.translate(_MARKDOWN))
    widths = [max(3, *(_columns_across(line[j]) for line in lines)) for j in range(len(table.columns))]
    aligns = [column.align for column in table.columns]
    rule = ["-" * (w - 1) + ":" if a == "right" else "-" * w for w, a in zip(widths, aligns, strict=True)]
    padded = [[_pad(t, w, a) for t, w, a in zip(line, widths, aligns, strict=True)] for line in lines]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])
    title = [f"**{format_value(table.heading).translate(_MARKDOWN)}**"] if table.heading else []
    notes = [format_value(note).translate(_MARKDOWN) for note in [*table.best_note("Bold:"), *table.notes]]
    notes += [f"**Warning:** {format_value(text).translate(_MARKDOWN)}" for text in table.warnings]
    return "\n\n".join([*title, rows, *notes]) + "\n"


_LATEX: Final = str.maketrans(
    {
        **{c: f"\\{c}" for c in "{}$&#_%"},
        **{c: f"{{{c}}}" for c in "[]*"},  # after a row's end these would be read as its arguments
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "∞": r"$\infty$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "−": r"$-$",
        "µ": r"\textmu{}",
        "μ": r"\textmu{}",
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
        **{c: rf"$\{name}$" for c, name in zip("ακχ→", ("alpha", "kappa", "chi", "to"), strict=True)},
    }
)

LATEX_COLUMNS: Final = 8
"""From this number of columns on, a table is scaled to the page width."""


def _to_latex(table: Table) -> str:
    lines = _cells(table, lambda t, best: rf"\textbf{{{t}}}" if best else t, lambda text: text.translate(_LATEX))
    rows = [f"{' & '.join(line)} \\\\" for line in lines]
    notes = [format_value(note).translate(_LATEX) for note in [*table.best_note("Bold:"), *table.notes]]
    notes += [rf"\textbf{{Warning:}} {format_value(text).translate(_LATEX)}" for text in table.warnings]
    wide = len(table.columns) > LATEX_COLUMNS
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}" + (r" and \usepackage{graphicx}" if wide else ""),
            r"\begin{table}",
            r"\centering",
            *([rf"\caption{{{format_value(table.heading).translate(_LATEX)}}}"] if table.heading else []),
            *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
            rf"\begin{{tabular}}{{{''.join('r' if c.align == 'right' else 'l' for c in table.columns)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}}" if wide else r"\end{tabular}",
            *(rf"\par\smallskip{{\footnotesize {note}}}" for note in notes),
            r"\end{table}",
            "",
        ]
    )


def _to_csv(table: Table) -> str:
    head: list[str] = []
    for column in table.columns:
        head += [f"{column.name}_mean", f"{column.name}_{column.sd}"] if column.spread else [column.name]
    warned = [" | ".join(table.warnings)] if table.warnings else []
    out = io.StringIO()
    lines = CsvLines(out)
    lines.write([*head, *(["warnings"] if warned else [])])
    for row in table.rows:
        line: list[Any] = []
        for value, column in zip(row, table.columns, strict=True):
            if column.spread:
                line += [value.mean, value.sd] if isinstance(value, Spread) else [value, None]
            else:
                line.append(value.mean if isinstance(value, Spread) else value)
        lines.write([*line, *warned])
    return out.getvalue()


def _to_json(table: Table) -> str:
    return json.dumps(as_dict(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(table: Table) -> dict[str, Any]:
    """The table as JSON-able values: ``title, columns, rows`` (by name), ``notes, warnings``."""
    names = [column.name for column in table.columns]
    return {
        "title": table.heading,
        "columns": [{"name": column.name, "title": column.title} for column in table.columns],
        "rows": [dict(zip(names, (_plain(value) for value in row), strict=True)) for row in table.rows],
        "notes": list(table.notes),
        "warnings": list(table.warnings),
    }


def _plain(value: Value) -> Any:
    if isinstance(value, Spread):
        return {"mean": _plain(value.mean), "sd": _plain(value.sd)}
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMS: Final[dict[str, Callable[[Table], str]]] = {
    "text": Table.to_text,
    "markdown": _to_markdown,
    "csv": _to_csv,
    "latex": _to_latex,
    "json": _to_json,
}
"""Name of each format, and its renderer."""

SUFFIXES: Final = {".txt": "text", ".md": "markdown", ".csv": "csv", ".tex": "latex", ".json": "json"}
"""Format of each file suffix."""
