"""Tables of the documentation as data: ``docs/results/data/PAGE/TABLE.csv``, and what is known of them in ``PAGE.yaml``.

A page shows a table between ``<!-- data: PAGE/TABLE -->`` and ``<!-- /data -->``; :func:`render` writes it from the file.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "docs" / "results" / "data"
UNKNOWN: Final = "unknown"
"""What is said of a table where the fact is not known: nothing is made up."""
MINUS: Final = "\N{MINUS SIGN}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(_Strict):
    """A column of a page's table.

    Attributes:
        title: Heading.
        cell: What stands in a cell, with names of the file's columns in braces: ``{auroc:.3f} ± {auroc_sd:.3f}``.
        align: Of the page's column.
        best: Whether the greatest or the least value of the first name is set in bold.
    """

    title: str
    cell: str
    align: Literal["left", "right"] = "left"
    best: Literal["max", "min"] | None = None


class About(_Strict):
    """What is known of a table.

    Attributes:
        of: What it holds, one line.
        command: What made it.
        seed: Of that command.
        versions: Of Python and packages.
        wall_time: How long it took.
        inputs: Fingerprints of what it was made from.
        date: Day on which it was measured, or, where that is not recorded, of the commit that has it first.
        origin: Whether a command wrote the file, or the figures were taken from a page, and when.
        sha256: Of the CSV file: figures that were changed by hand are noticed.
        columns: How the page shows it.
    """

    of: str
    command: str = UNKNOWN
    seed: str = UNKNOWN
    versions: str = UNKNOWN
    wall_time: str = UNKNOWN
    inputs: str = UNKNOWN
    date: str = UNKNOWN
    origin: str
    sha256: str
    columns: tuple[Shown, ...] = Field(min_length=1)


class Cell(str):
    """A value of a CSV file as its text; with a format it is a number, and a leading minus is typeset."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        """The text as it is, or the number in the format; an empty or other text stays."""
        try:
            number = float(self)
        except ValueError:
            return str(self)
        text = str(self) if not spec else format(int(number) if spec == "," else number, spec)
        return MINUS + text[1:] if text.startswith("-") else text


class Data:
    """A table and what is known of it.

    Args:
        name: ``PAGE/TABLE``.
        about: What is known.
        rows: By the names of the file's columns.
    """

    def __init__(self, name: str, about: About, rows: Sequence[Mapping[str, str]]) -> None:
        self.name, self.about, self.rows = name, about, rows

    def one(self, **where: str) -> Mapping[str, str]:
        """The one row with these values.

        Raises:
            KeyError: None or several.
        """
        found = [row for row in self.rows if all(row[key] == value for key, value in where.items())]
        if len(found) != 1:
            raise KeyError(f"{self.name}: {len(found)} rows with {where}")
        return found[0]


def csv_file(name: str, folder: Path = DATA) -> Path:
    """The CSV file of ``PAGE/TABLE``."""
    return folder / f"{name}.csv"


def names(folder: Path = DATA) -> list[str]:
    """All tables, ``PAGE/TABLE``, in the order of their pages' files."""
    return [f"{path.stem}/{name}" for path in sorted(folder.glob("*.yaml")) for name in _page(path)]


def read(name: str, folder: Path = DATA) -> Data:
    """A table.

    Raises:
        SystemExit: It is not there, or its file is not the one that was recorded.
    """
    page, _, table = name.partition("/")
    facts = _page(folder / f"{page}.yaml").get(table)
    path = csv_file(name, folder)
    if facts is None or not path.is_file():
        raise SystemExit(f"no data of {name!r}; fix: name one of {', '.join(names(folder))}")
    about = About.model_validate(facts)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about.sha256:
        raise SystemExit(
            f"{path} is not the file that was recorded (sha256); fix: run its command again, or, where the change is meant, "
            f"`python tools/results.py --record {name}`"
        )
    return Data(name, about, list(csv.DictReader(io.StringIO(content.decode("utf-8")))))


def write(
    name: str, columns: Sequence[Shown], rows: Sequence[Mapping[str, Any]], *, folder: Path = DATA, **facts: str
) -> None:
    """Writes a table and what is known of it.

    Args:
        name: ``PAGE/TABLE``.
        columns: How the page shows it.
        rows: At least one; the first one's keys are the file's columns.
        folder: Of the data.
        facts: Fields of :class:`About`, apart from hash and columns.
    """
    text = io.StringIO()
    written = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    written.writeheader()
    written.writerows(rows)
    path = csv_file(name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue(), "utf-8", newline="\n")
    record(name, folder, columns=[column.model_dump(exclude_defaults=True) for column in columns], **facts)


def record(name: str, folder: Path = DATA, **facts: Any) -> None:
    """Records a file's hash, and facts where they are given."""
    page, _, table = name.partition("/")
    path = folder / f"{page}.yaml"
    tables = _page(path)
    digest = hashlib.sha256(csv_file(name, folder).read_bytes()).hexdigest()
    before = tables.get(table, {})
    about = About.model_validate({**before, **facts, "sha256": digest})
    values = about.model_dump(exclude_defaults=True)
    tables[table] = {key: values[key] for key in About.model_fields if key in values}
    tables[table]["columns"] = [dict(one) for one in values["columns"]]
    text = yaml.safe_dump({"tables": dict(sorted(tables.items()))}, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(text, "utf-8", newline="\n")


def render(data: Data) -> str:
    """The table as Markdown."""
    columns = data.about.columns
    best = {i: _best(data, column) for i, column in enumerate(columns) if column.best}
    lines = [[column.title for column in columns]]
    for number, row in enumerate(data.rows):
        cells = []
        for i, column in enumerate(columns):
            text = cell(column.cell, row)
            cells.append(f"**{text}**" if number in best.get(i, ()) else text)
        lines.append(cells)
    return markdown(lines, ["--:" if column.align == "right" else "---" for column in columns])


def markdown(lines: Sequence[Sequence[str]], rule: Sequence[str]) -> str:
    """Rows of Markdown cells, the first one being the titles, as a table without a final newline."""
    shown = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
    return "\n".join([shown[0], "|" + "|".join(rule) + "|", *shown[1:]]).replace("|  |", "| |").replace("|  |", "| |")


def cell(template: str, row: Mapping[str, str]) -> str:
    """A cell; empty where every value in it is."""
    values = {key: Cell(value) for key, value in row.items()}
    used = [key for key in values if f"{{{key}}}" in template or f"{{{key}:" in template]
    return template.format(**values) if any(values[key] for key in used) or not used else ""


def _best(data: Data, column: Shown) -> set[int]:
    """Rows with the best value, of those that are shown alike all."""
    first = column.cell.partition("{")[2].partition("}")[0]
    key = first.partition(":")[0]
    shown = {i: float(row[key]) for i, row in enumerate(data.rows) if row[key]}
    digits = max((len(row[key].partition(".")[2]) for row in data.rows), default=3)
    top = (max if column.best == "max" else min)(shown.values())
    return {i for i, value in shown.items() if round(value, digits) == round(top, digits)}


def _page(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf-8"))["tables"]) if path.is_file() else {}
