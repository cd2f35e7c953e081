"""Reads predictions of anybody's model: Atypia's own files, or a CSV with ``figure_id`` and ``p_atypical``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import file_sha256
from atypia.base.errors import DataError, must
from atypia.base.files.parquet import read_parquet
from atypia.base.files.structured import parse_json
from atypia.data.manifest import Manifest
from atypia.data.textfiles import cleaned_text, number, read_table
from atypia.evaluation.board.testsets import BoardSet, digest
from atypia.inference.predictions import METADATA_KEY

MODEL: Final = "model"
COLUMNS: Final = (
    f"{r.FIGURE_ID} and {r.P_ATYPICAL} (the probability of atypical), and where known {r.LABEL} and {r.THRESHOLD}"
)
TESTED_PARTS: Final = (runs.TEST, runs.EXTERNAL)
"""Parts of a run's predictions that are of a test set."""


@dataclass(frozen=True, eq=False)
class BoardScores:
    """What a file says of a test set's figures, in the order of the sorted figure ids.

    Attributes:
        path: The file.
        sha256: Of the file.
        ids: Figure ids.
        p: Probability of *atypical*, shape (n,), in [0, 1].
        labels: 0 or 1, shape (n,), where the file has them.
        cases: Where the file has them.
        threshold: Where the file has one.
        models: Names and fingerprints that the file gives of its model.
        warnings: What Atypia's own file says against its numbers, for instance leakage that was allowed.
    """

    path: Path
    sha256: str
    ids: tuple[str, ...]
    p: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int8] | None
    cases: tuple[str, ...] | None
    threshold: float | None
    models: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def read_scores(path: Path, board_set: BoardSet, manifest: Manifest | None = None) -> BoardScores:
    """Reads a file and checks that it scores exactly the figures of a test set.

    Args:
        path: ``.csv`` or ``.parquet``: predictions of Atypia, or with the columns of :data:`COLUMNS`. Figures are named by
            id or by the file of their crop.
        board_set: The test set.
        manifest: Its figures, where they are on this machine; the messages are then more precise.

    Raises:
        DataError: The file is none of the kind, has a value that is no probability, or other figures.
    """
    columns, facts = _columns(path)
    missing = [name for name in (r.FIGURE_ID, r.P_ATYPICAL) if name not in columns]
    if missing:
        raise DataError(
            f"{path.name} must have the columns {COLUMNS}, got {', '.join(columns)}; fix: add {' and '.join(missing)}"
        )
    rows = _tested(columns, path)
    taken = {name: [values[i] for i in rows] for name, values in columns.items()}
    ids = _matched([str(value) for value in taken[r.FIGURE_ID]], board_set, manifest, path)
    p = _numbers(taken[r.P_ATYPICAL], r.P_ATYPICAL, ids, path)
    wrong = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(wrong):
        said = f"{p[wrong[0]]:g} for {ids[wrong[0]]} ({len(wrong)} in all)"
        raise DataError(
            must(r.P_ATYPICAL, "a probability between 0 and 1", said, "give probabilities, no logits or per cent")
        )
    labels = cases = None
    if any(value is not None for value in taken.get(r.LABEL, ())):
        labels = _labels(taken[r.LABEL], ids, path)
    if taken.get(r.CASE_ID) and all(value is not None for value in taken[r.CASE_ID]):
        cases = [str(value) for value in taken[r.CASE_ID]]
    order = np.argsort(np.array(ids))
    return BoardScores(
        path,
        file_sha256(path),
        tuple(ids[i] for i in order),
        p[order],
        None if labels is None else labels[order],
        None if cases is None else tuple(cases[i] for i in order),
        _threshold(taken.get(r.THRESHOLD), ids, path),
        _models(taken, facts),
        tuple(str(text) for text in facts.get(runs.WARNINGS, ())),
    )


def _columns(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """A file's columns, null where a cell is empty, and the facts of Atypia's own file."""
    if path.suffix.lower() == ".parquet":
        table = read_parquet(path, f"write a CSV with {COLUMNS}")
        raw = (table.schema.metadata or {}).get(METADATA_KEY)
        facts = parse_json(raw, f"the metadata of {path.name}") if raw else {}
        return table.to_pydict(), facts if isinstance(facts, dict) else {}
    read = read_table(path)
    return {name: [cleaned_text(row[name]) for row in read.rows] for name in read.columns}, {}


def _tested(columns: dict[str, list[Any]], path: Path) -> list[int]:
    """The rows that are of a test set: of a run's own predictions not those of its validation part."""
    parts = columns.get(r.PART)
    every = list(range(len(columns[r.FIGURE_ID])))
    if parts is None or all(part is None for part in parts):
        return every
    rows = [i for i in every if parts[i] in TESTED_PARTS]
    if not rows:
        found = ", ".join(sorted({str(part) for part in parts}))
        raise DataError(must(f"{path.name}", "predictions of a test part", f"parts {found}", "score the test set"))
    return rows


def _matched(named: Sequence[str], board_set: BoardSet, manifest: Manifest | None, path: Path) -> list[str]:
    """The figure ids that a file's names mean.

    Raises:
        DataError: They are other figures than the test set's, or some are named twice.
    """
    stems = [PurePosixPath(name.replace("\\", "/")).stem for name in named]
    ways = (list(named), stems, [f"{board_set.prefix}{stem}" for stem in stems])
    wanted = None if manifest is None else set(manifest.ids)
    known = board_set.ids_sha256
    for ids in ways:
        if (wanted is not None and len(ids) == len(wanted) and set(ids) == wanted) or (known and digest(ids) == known):
            return ids
    raise DataError(_other_figures(ways, board_set, wanted, path))


def _other_figures(ways: Sequence[Sequence[str]], board_set: BoardSet, wanted: set[str] | None, path: Path) -> str:
    ids = max(ways, key=lambda ids: len(set(ids) & wanted)) if wanted else ways[0]
    twice = len(ids) - len(set(ids))
    said = f"{len(ids)} figures" + (f", {twice} of them again" if twice else "")
    if wanted is not None:
        lacks, more = sorted(wanted - set(ids)), sorted(set(ids) - wanted)
        said += f"; {len(lacks)} are missing{f' (first {lacks[0]})' if lacks else ''}"
        said += f", {len(more)} are not of the set{f' (first {more[0]})' if more else ''}"
    else:
        said += f", first {ids[0]}" if ids else ""
    what = f"exactly the {board_set.figures} figures of {board_set.title}, each once"
    fix = "score these figures, one file a model; ids are those of `atypia data`, or names of the crops' files"
    return must(path.name, what, said, fix)


def _numbers(values: Sequence[Any], column: str, ids: Sequence[str], path: Path) -> npt.NDArray[np.float64]:
    found = np.empty(len(values))
    for i, value in enumerate(values):
        if value is None:
            what = f"a number for every figure, got none for {ids[i]}"
            raise DataError(
                f"{path.name}: {column} must be {what}; fix: score it (a refused figure counts as an error)"
            )
        found[i] = number(value, column, f"figure {ids[i]}") if isinstance(value, str) else float(value)
    return found


def _labels(values: Sequence[Any], ids: Sequence[str], path: Path) -> npt.NDArray[np.int8]:
    names = r.CLASS_NAMES[r.ATYPICAL_TASK]
    meant: dict[str, int] = {**{str(code): code for code in (0, 1)}, **{name: i for i, name in enumerate(names)}}
    found = []
    for figure, value in zip(ids, values, strict=True):
        text = "" if value is None else str(value).strip().lower().removesuffix(".0")
        if text not in meant:
            raise DataError(
                f"{path.name}: {r.LABEL} must be 0 or 1, or {names[0]} or {names[1]}, got {value!r} for {figure}; "
                f"fix: correct it, or leave the column out where the set is on this machine"
            )
        found.append(meant[text])
    return np.array(found, dtype=np.int8)


def _threshold(values: Sequence[Any] | None, ids: Sequence[str], path: Path) -> float | None:
    if not values or all(value is None for value in values):
        return None
    found = np.unique(_numbers(values, r.THRESHOLD, ids, path))
    if len(found) > 1:
        said = f"{len(found)} thresholds"
        raise DataError(must(f"{path.name}: {r.THRESHOLD}", "the same for all figures", said, "give --threshold"))
    return float(found[0])


def _models(columns: dict[str, list[Any]], facts: dict[str, Any]) -> tuple[str, ...]:
    """What the file says of the model that made it: fingerprint, run, name."""
    values = [facts.get("bundle"), *columns.get(r.RUN_ID, ()), *columns.get(MODEL, ())]
    return tuple(dict.fromkeys(str(value) for value in values if value))
