"""The tables and figures of each paper by name, what differs from it, and ``docs/papers.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from atypia.base.errors import InputError, must
from atypia.evaluation.papers import paper_text
from atypia.evaluation.published import PAPERS
from atypia.reports.drawing.tables import Column, Table
from atypia.reports.drawing.values import Value
from atypia.reports.paper import ammeling, atey, balezo, banerjee, benito, giedziun
from atypia.reports.paper.beside import PaperItem, cost_item
from atypia.reports.paper.own import OwnStudy, PaperDeparture

_ITEMS: Final[Mapping[str, Callable[[Sequence[OwnStudy]], list[PaperItem]]]] = {
    module.NAME: module.items for module in (banerjee, ammeling, giedziun, benito, atey, balezo)
}
DIFFERS: Final = "differs"
NOT_GIVEN: Final = "Not given by the paper"
"""Part of the values that a paper leaves open."""
EVERYWHERE: Final = "all"
"""Source of what differs whatever the recipe and the study."""


def paper_items(
    name: str, own: Sequence[OwnStudy] = (), table: str | None = None, figure: str | None = None
) -> list[PaperItem]:
    """A paper's tables and figures, then the costs of own runs; or those of one number.

    Args:
        name: Key of :data:`atypia.evaluation.published.PAPERS`.
        own: Own studies, to stand beside.
        table: Number of the only table.
        figure: Number of the only figure.

    Raises:
        InputError: No such paper, table or figure.
    """
    found = [
        replace(item, tables=[replace(one, subject=f"{name}, {item.kind} {item.number}") for one in item.tables])
        for item in [*_ITEMS[PAPERS[name].name](own), cost_item(own)]
    ]
    wanted = [(kind, number) for kind, number in (("table", table), ("figure", figure)) if number is not None]
    if not wanted:
        return found
    for kind, number in wanted:
        known = [item.number for item in found if item.kind == kind]
        if number not in known:
            there = ", ".join(known) or "none is drawn"
            raise InputError(
                must(f"--{kind}", f"one that {name} has ({there})", number, "see `atypia paper " + name + "`")
            )
    return [item for item in found if (item.kind, item.number) in wanted]


def departures_table(name: str, departures: Sequence[PaperDeparture]) -> Table:
    """What differs from a paper, by part: what recipes and studies say, and what holds for all of them."""
    columns = [Column("part"), Column("differs from the paper", "differs"), Column("by")]
    parts = paper_text(name).parts
    general = [PaperDeparture(part.name, part.text, EVERYWHERE) for part in parts if part.text]
    # What a study changes, then the parts in the paper's order, then what the paper leaves open.
    place = {NOT_GIVEN: len(parts), **{part.name: number for number, part in enumerate(parts)}}
    found = sorted([*departures, *general], key=lambda one: place.get(one.part, -1))
    rows: list[list[Value]] = [[one.part, one.text, one.source] for one in found]
    notes = ["generated: from what recipes and studies say of their paper, their values, and the study that was run; "
             f"«{EVERYWHERE}»: whatever the recipe"]  # fmt: skip
    return Table(f"Differs from {PAPERS[name].citation.split(',')[0]}", columns, rows, notes)


def document(departures: Mapping[str, Sequence[PaperDeparture]]) -> str:
    """The tables of ``docs/papers.md``: each part of each paper, where it is, and what differs.

    Args:
        departures: Of each paper, in the order of the page.
    """
    parts = []
    for name, of_paper in departures.items():
        said: dict[str, list[str]] = {}
        for one in of_paper:
            said.setdefault(one.part, []).append(f"{one.text} (`{one.source}`)")
        lines = [
            f"## {name}",
            "",
            f"{PAPERS[name].citation}.",
            "",
            "| item | where | as the paper, or differs |",
            "|---|---|---|",
        ]
        for part in paper_text(name).parts:
            texts = [*([part.text] if part.text else []), *dict.fromkeys(said.get(part.name, ()))]
            where = ", ".join(place if place.startswith("`") or place == "–" else f"`{place}`" for place in part.where)
            lines.append(f"| {part.name} | {where} | {_cell(texts)} |")
        for one in (one for one in of_paper if one.part == NOT_GIVEN):
            where = ", ".join(f"`recipes/{recipe}.yaml`" for recipe in one.source.split(", "))
            lines += [f"| {NOT_GIVEN} | {where} | {_cell([one.text])} |"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(texts: Sequence[str]) -> str:
    if not texts:
        return "as the paper"
    return "<br>".join(text[:1].upper() + text[1:] for text in texts).replace("|", "\\|")
