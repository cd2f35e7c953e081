"""A user's own figures: a table with one line per figure, or a folder with one subfolder per class.

Unreadable images are left out and counted in the manifest's notes; errors in the table
itself are raised with the line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa

from atypia.base import records as r
from atypia.base.errors import DataError, count_noun, must
from atypia.data.domains import domain_columns
from atypia.data.manifest import SCHEMA, Manifest
from atypia.data.sources.layouts import (
    CLASS_WORDS,
    IMAGE_SUFFIXES,
    add_image_facts,
    class_crops,
    class_label,
    majority,
    make_unique,
)
from atypia.data.textfiles import TextTable, cleaned_text, number, read_table

VERSION = 3
"""Increased when a reader returns something else for the same files."""

VOTE_COLUMN = re.compile(r"(?i)(vote|rater|expert)[ _-]?\d+(_label)?")
"""Columns that hold one rater's label each; the alternative is one column ``votes`` with «1|0|1»."""

LIST_SEPARATOR = "|"
_DERIVED = (r.WIDTH_PX, r.HEIGHT_PX, r.SHA256)


def image_paths(path: Path) -> list[Path]:
    """The image files named in a user's table, in line order.

    Raises:
        DataError: The table cannot be read or has no column ``image``.
    """
    table = read_table(path)
    table.require(r.IMAGE)
    return [_image_path(path.parent, row[r.IMAGE]) for row in table.rows]


def read_csv(path: Path, task: str = r.ATYPICAL_TASK) -> Manifest:
    """Reads a user's table of figures.

    The one required column is ``image``: a path, relative to the table or absolute. ``label`` may
    be 0 or 1 or a class word, in any case; other columns of a manifest are used if they are
    there. Votes are one column ``votes`` («1|0|1») or one column per rater (``expert1``, ``vote_2``).
    A label that is not given is the majority of the votes, null if they are even. A label that is given
    and contradicts the votes counts as a decision, as by arbitration: its soft label is 0 or 1. Words for
    «not known» (:data:`atypia.data.textfiles.MISSING`: NA, null, unknown, - …) are null in every column but ``image``.

    Args:
        path: CSV, delimited by commas, semicolons or tabs, in any encoding of :func:`read_table`.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.

    Returns:
        A manifest named after the file.

    Raises:
        DataError: A missing or misspelt column, a repeated figure, an unknown label, a value of
            the wrong kind (with the line), or no image that can be read.
    """
    table = read_table(path)
    table.require(r.IMAGE)
    voters = [column for column in table.columns if VOTE_COLUMN.fullmatch(column)]
    ignored = _check_columns(table, voters)
    if not table.rows:
        raise DataError(f"{path.name} has a header but no lines; fix: write one line per figure")
    base = path.parent
    images = [_image_path(base, row[r.IMAGE]) for row in table.rows]
    root = base if all(image.is_relative_to(base) for image in images) else Path(base.anchor)
    rows: list[dict[str, Any]] = []
    for cells, line, image in zip(table.rows, table.lines, images, strict=True):
        where = f"{path.name}, line {line}"
        if cleaned_text(cells[r.IMAGE]) is None:
            raise DataError(f"{where}: `image` is empty; fix: name the image file")
        row = _row(cells, voters, where, task)
        row[r.IMAGE] = image.relative_to(root).as_posix()
        row.setdefault(r.DATASET, path.stem)
        row.setdefault(r.FIGURE_ID, _figure_id(cells[r.IMAGE], row))
        rows.append(row)
    _refuse_repeated(rows, table)
    notes = [*table.notes, *([f"ignored columns: {', '.join(ignored)}"] if ignored else [])]
    decided = sum(_settled_against_votes(row) for row in rows)
    if decided:
        notes.append(
            f"{count_noun(decided, 'label differs', 'labels differ')} from the majority of their votes: the soft label is the label"
        )
    return _finish(rows, root, path.stem, task, notes)


def read_folder(folder: Path, task: str = r.ATYPICAL_TASK) -> Manifest:
    """Reads a folder with one subfolder per class.

    Args:
        folder: Holds images in folders named after the classes (``atypical`` and ``normal``,
            ``AMF`` and ``NMF``, ``1`` and ``0``, in any case), at any depth; the innermost
            class folder counts.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.

    Returns:
        A manifest named after the folder; figure ids are the paths without their suffix.

    Raises:
        DataError: The folder has no images, no class folders, or no image that can be read.
    """
    crops, others = class_crops(folder, task)
    if not crops:
        loose = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in others)
        found = f"{count_noun(loose, 'image')} outside such folders" if loose else "no images"
        words = f"{folder}/{r.CLASS_NAMES[task][1]}/*.png and {folder}/{r.CLASS_NAMES[task][0]}/*.png"
        fix = f"arrange it as {words}; where classes are not known, name a table with a column `image`"
        raise DataError(f"{folder}: {must('folder', 'one with a subfolder a class', found, fix)}")
    rows: list[dict[str, Any]] = []
    for path, label in crops:
        relative = path.relative_to(folder)
        rows.append(
            {
                r.FIGURE_ID: relative.with_suffix("").as_posix(),
                r.DATASET: folder.name,
                r.IMAGE: relative.as_posix(),
                r.LABEL: label,
            }
        )
    make_unique(rows)
    words = "file is no image or lies in no class folder", "files are no images or lie in no class folder"
    notes = [f"{count_noun(len(others), *words)}, first {others[0].name}"] if others else []
    return _finish(rows, folder, folder.name, task, notes)


def _finish(rows: list[dict[str, Any]], root: Path, name: str, task: str, notes: list[str]) -> Manifest:
    bad = dict(add_image_facts(rows, root))
    for i, row in enumerate(rows):
        if row.get(r.X_PX) is not None and not (root / row[r.IMAGE]).is_file():
            bad[i] = f"{root / row[r.IMAGE]} does not exist"
    if bad:
        first = bad[min(bad)]
        if len(bad) == len(rows):
            raise DataError(f"{name}: none of the {len(rows)} images can be read, the first because: {first}")
        notes.append(
            f"{len(bad)} of {count_noun(len(rows), 'figure')} left out because their image cannot be read; the first: {first}"
        )
    return Manifest.from_rows([row for i, row in enumerate(rows) if i not in bad], name, task, root, notes)


def _image_path(base: Path, text: str) -> Path:
    """The path as meant in the table: absolute, or relative to the table."""
    path = Path(text.replace("\\", "/"))
    joined = path if path.is_absolute() else base / path
    # Links are not followed: the folder of the link is where the user put the figure.
    return Path(*_without_dots(joined.parts))


def _without_dots(parts: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == ".." and len(kept) > 1:
            kept.pop()
        elif part not in (".", ".."):
            kept.append(part)
    return kept


def _check_columns(table: TextTable, voters: Sequence[str]) -> list[str]:
    ignored = [column for column in table.columns if column not in SCHEMA.names and column not in voters]
    for column in ignored:
        near = get_close_matches(column.casefold(), SCHEMA.names, n=1, cutoff=0.8)
        if near and near[0] not in table.columns:
            raise DataError(
                f"{table.path.name}: column `{column}` is not known; fix: did you mean `{near[0]}`? known: "
                f"{', '.join(name for name in SCHEMA.names if name not in _DERIVED)}"
            )
    return [column or "(without a name)" for column in ignored]


def _row(cells: dict[str, str], voters: Sequence[str], where: str, task: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, given in cells.items():
        text = cleaned_text(given)
        if column in _DERIVED or column in (r.IMAGE, r.LABEL, r.VOTES) or column not in SCHEMA.names or text is None:
            continue
        row[column] = _value(column, text, where)
    parts = [cleaned_text(cells.get(part)) for part in r.DOMAIN_PARTS]
    if any(parts):
        row |= domain_columns(*parts)
    if votes := cleaned_text(cells.get(r.VOTES)):
        row[r.VOTES] = [_label(vote, r.VOTES, where, task) for vote in votes.split(LIST_SEPARATOR)]
    elif voters and any(cleaned_text(cells[voter]) for voter in voters):
        row[r.VOTES] = [_label(cells[voter], voter, where, task) for voter in voters]
    row[r.LABEL] = _label(cells.get(r.LABEL, ""), r.LABEL, where, task)
    if row[r.LABEL] is None and r.VOTES in row:
        row[r.LABEL] = majority(row[r.VOTES])
    return row


def _settled_against_votes(row: dict[str, Any]) -> bool:
    """If the label contradicts its votes, sets a soft label that agrees with it; returns whether it did."""
    voted = any(vote is not None for vote in row.get(r.VOTES) or ())
    if row[r.LABEL] is None or not voted or r.SOFT_LABEL in row or majority(row[r.VOTES]) == row[r.LABEL]:
        return False
    row[r.SOFT_LABEL] = float(row[r.LABEL])
    return True


def _label(text: str, column: str, where: str, task: str) -> int | None:
    try:
        return class_label(cleaned_text(text), task)
    except KeyError:
        words = ", ".join(CLASS_WORDS[task])
        raise DataError(f"{where}: {must(column, f'one of {words}', repr(text), 'correct the cell')}") from None


def _value(column: str, text: str, where: str) -> Any:
    kind = SCHEMA.field(column).type
    if pa.types.is_list(kind):
        return [cleaned_text(part) for part in text.split(LIST_SEPARATOR)]
    if pa.types.is_string(kind):
        return text
    value = number(text, column, where)
    if pa.types.is_integer(kind):
        if not value.is_integer():
            raise DataError(f"{where}: {must(column, 'a whole number', repr(text), 'correct the cell')}")
        return int(value)
    return value


def _figure_id(image: str, row: dict[str, Any]) -> str:
    stem = image.replace("\\", "/")
    head, dot, tail = stem.rpartition(".")
    name = head if dot and f".{tail.lower()}" in IMAGE_SUFFIXES else stem
    if row.get(r.X_PX) is None:
        return name
    return f"{name}_{row[r.X_PX]:g}_{row.get(r.Y_PX) or 0:g}"


def _refuse_repeated(rows: Sequence[dict[str, Any]], table: TextTable) -> None:
    seen: dict[str, int] = {}
    for row, line in zip(rows, table.lines, strict=True):
        figure = row[r.FIGURE_ID]
        if figure in seen:
            raise DataError(
                f"{table.path.name}, line {line}: figure {figure!r} is also in line {seen[figure]}; "
                "fix: remove one, or give each its own `figure_id`"
            )
        seen[figure] = line
