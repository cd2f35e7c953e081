"""A table in Markdown, as commands print it, taken apart into data: numbers in columns of their own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from documentation.datafiles import Shown

NUMBER: Final = re.compile("[+\N{MINUS SIGN}-]?\\d+(?:,\\d{3})*(?:\\.\\d+)?(?:e-?\\d+)?")
PARTS: Final = {
    (" ± ",): ("mean", "sd"),
    (" to ",): ("low", "high"),
    (" [", ", ", "]"): ("", "low", "high"),
    ("–",): ("least", "most"),
    (" / ",): ("calibrated", "refitted"),
    (", off ",): ("gain", "off"),
    (", worst ", "; moved ", "%; re-fitted ", ", worst "): (
        "gain",
        "worst",
        "moved_percent",
        "refitted",
        "refitted_worst",
    ),
}
"""What stands between the numbers of a cell, and what the numbers are called then."""


def take(text: str) -> tuple[list[Shown], list[dict[str, str]]]:
    """Columns and rows of a Markdown table.

    A column whose cells all have the same words around their numbers becomes one column of data a number; any other stays text.
    """
    lines = [line for line in text.strip().splitlines() if line.startswith("|")]
    titles, rule, *body = [_cells(line) for line in lines]
    columns: list[Shown] = []
    rows: list[dict[str, str]] = [{} for _ in body]
    taken: set[str] = set()
    for place, title in enumerate(titles):
        cells = [line[place] for line in body]
        align = "right" if rule[place].endswith(":") else "left"
        shown, values, best = _column(name := _slug(title) or "row", title, cells)
        number = 2
        while values[0].keys() & taken:
            shown, values, best = _column(f"{name}_{number}", "", cells)
            number += 1
        for row, value in zip(rows, values, strict=True):
            row.update(value)
        taken |= set(values[0])
        columns.append(Shown(title=title, cell=shown, align=align, best=best))  # pyright: ignore[reportArgumentType]
    return columns, rows


def _column(name: str, title: str, cells: Sequence[str]) -> tuple[str, list[dict[str, str]], str | None]:
    plain = [re.sub(r"^\*\*(.*)\*\*$", r"\1", text) for text in cells]
    bold = {i for i, (before, after) in enumerate(zip(cells, plain, strict=True)) if before != after}
    filled = [text for text in plain if text and text != "–"]
    skeletons = {tuple(NUMBER.split(text)) for text in filled}
    as_text = f"{{{name}}}", [{name: text} for text in cells], None
    if len(skeletons) != 1 or "–" in plain:
        return as_text
    skeleton = next(iter(skeletons))
    if len(skeleton) < 2 or any(letter.isalpha() for letter in skeleton[0]):
        return as_text
    keys = _keys(name, title, skeleton)
    template, values = skeleton[0], [dict.fromkeys(keys, "") for _ in plain]
    for place, key in enumerate(keys):
        comma = any("," in found[place] for text in filled if (found := NUMBER.findall(text)))
        template += f"{{{key}:,}}" if comma else f"{{{key}}}"
        template += skeleton[place + 1]
        for row, text in zip(values, plain, strict=True):
            if text:
                row[key] = NUMBER.findall(text)[place].replace("\N{MINUS SIGN}", "-").replace(",", "")
    best = None
    if bold:
        numbers = {i: float(row[keys[0]]) for i, row in enumerate(values) if row[keys[0]]}
        best = next((way for way, f in (("max", max), ("min", min))
                     if bold == {i for i, v in numbers.items() if v == f(numbers.values())}), None)  # fmt: skip
    return (template, values, best) if best or not bold else as_text


def _keys(name: str, title: str, skeleton: Sequence[str]) -> list[str]:
    """Names of the numbers in a column's cells."""
    between = tuple(part for part in skeleton[1:] if part)
    count = len(skeleton) - 1
    if count == 1:
        return [name]
    if between in PARTS:
        return [f"{name}_{part}" if part else name for part in PARTS[between]]
    inside = [_slug(part) for part in re.split(r"[(),]|.*:", title) if _slug(part)]
    if len(inside) == count and len(set(inside)) == count:
        return [f"{name.split('_')[0]}_{part}" for part in inside] if ":" in title else inside
    return [f"{name}_{i + 1}" for i in range(count)]


def _cells(line: str) -> list[str]:
    """The cells of a row, without Markdown's backslashes before brackets and bars."""
    inside = re.split(r"(?<!\\)\|", line.strip().strip("|") if not line.rstrip().endswith("\\|") else line.strip()[1:])
    return [re.sub(r"\\([|\[\]])", r"\1", text.strip()) for text in inside]


def _slug(title: str) -> str:
    text = unicodedata.normalize("NFKD", title.replace("%", " percent ").replace("×", " times ")).lower()
    found = re.sub(r"[^a-z0-9]+", "_", text).strip("_")
    return f"at_{found}" if found[:1].isdigit() else found
