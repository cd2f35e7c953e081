"""Rows of the leaderboard: metrics of predictions that were checked, with all that is known of where they come from."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from atypia.base import records as r
from atypia.base.artifacts import atomic_file, environment, lock
from atypia.base.errors import DataError, InputError, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.spreadsheet import CsvLines, unescape_formula
from atypia.base.paths import home
from atypia.base.version import VERSION
from atypia.data.manifest import Manifest
from atypia.evaluation.board.leakage import TrainedOn
from atypia.evaluation.board.scores import BoardScores
from atypia.evaluation.board.testsets import BOARD_SETS, BoardSet, digest, known_cases
from atypia.statistics.intervals import Bootstrap, metric_intervals
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.statistics.resampling import PredictedLabels

METRICS: Final = ("balanced_accuracy", "auroc", "sensitivity", "specificity")
MODEL: Final = "model"
RATER: Final = "rater"
CASES: Final = "cases"
FIGURES: Final = "figures"
MAX_BYTES: Final = 1 << 26
DRAWS: Final = 2000
SEED: Final = 0


@dataclass(frozen=True)
class BoardRow:
    """A row.

    Attributes:
        test_set: Key of :data:`atypia.evaluation.board.testsets.BOARD_SETS`.
        name: Of the model, unique in its set.
        kind: ``model``, or ``rater``: a person's votes against the majority of the others.
        figures, atypical: Of the set.
        cases: Number of cases; 0 where they are not known.
        intervals_over: ``cases``, or ``figures`` where cases are not known: such intervals are too narrow.
        models: How many models were scored; metrics are the mean of theirs, not those of their ensemble.
        threshold: Decision threshold on the probability of *atypical*; of several models the mean.
        balanced_accuracy, auroc, sensitivity, specificity: With the ends of their 95 % intervals (BCa).
        trained_on: As it was declared or recorded.
        leakage: How that was compared with the test set.
        predictions_sha256: Of the file, or of several files, one after the other.
        bundle: Fingerprints and names that the files give of their model.
        link: Where more is said of it.
        command: That made the row.
        seed: Of the bootstrap.
        versions: Of Atypia, Python and NumPy.
        date: Day on which it was added.
    """

    test_set: str
    name: str
    kind: str
    figures: int
    atypical: int
    cases: int
    intervals_over: str
    models: int
    threshold: float
    balanced_accuracy: float
    balanced_accuracy_low: float
    balanced_accuracy_high: float
    auroc: float
    auroc_low: float
    auroc_high: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    trained_on: str
    leakage: str
    predictions_sha256: str
    bundle: str = ""
    link: str = ""
    command: str = ""
    seed: int = SEED
    versions: str = ""
    date: str = ""

    def ends(self, metric: str) -> tuple[float, float, float]:
        """A metric with the ends of its interval."""
        return tuple(getattr(self, f"{metric}{end}") for end in ("", "_low", "_high"))


def shipped_file() -> Path:
    """The rows in the package, of which the page of the documentation is made."""
    return Path(str(files("atypia.evaluation.board").joinpath("rows.csv")))


def own_file() -> Path:
    """The user's own rows."""
    return home() / "leaderboard.csv"


def judged(
    board_set: BoardSet,
    scores: Sequence[BoardScores],
    test: Manifest | None,
    name: str,
    trained: TrainedOn,
    threshold: float | None = None,
    link: str = "",
    command: str = "",
) -> BoardRow:
    """Metrics of predictions, by the set's labels, with intervals over its cases.

    Args:
        board_set: The test set.
        scores: One a model, all of the same figures.
        test: The figures, where they are on this machine: labels and cases are then theirs.
        name: Of the row.
        trained: What was found out about its training.
        threshold: Of all models; None: each file's own, else 0.5.
        link: Where more is said of it.
        command: That made the row.

    Raises:
        DataError: There are no labels, or other ones than the published.
        InputError: The threshold is not between 0 and 1.
    """
    labels = _labels(board_set, scores, test)
    cases = _cases(board_set, scores, test)
    used = [threshold if threshold is not None else one.threshold or r.DEFAULT_THRESHOLD for one in scores]
    for value in used:
        if not 0 < value < 1:
            raise InputError(must("threshold", "between 0 and 1", value, "give it as a probability of atypical"))
    p = np.stack([one.p for one in scores])
    decisions = (p >= np.array(used)[:, None]).astype(np.int8)
    over = cases if cases is not None else list(scores[0].ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # an undefined end is an empty cell
        found = metric_intervals(
            labels, PredictedLabels(p, decisions), over, METRICS, Bootstrap(draws=DRAWS, seed=SEED)
        )
    values: dict[str, Any] = {
        f"{metric}{end}": round(value, 6)
        for metric in METRICS
        for end, value in (("", found[metric].estimate), ("_low", found[metric].low), ("_high", found[metric].high))
    }
    versions = environment()
    return BoardRow(
        board_set.name,
        name,
        MODEL,
        len(labels),
        int(labels.sum()),
        0 if cases is None else len(set(cases)),
        FIGURES if cases is None else CASES,
        len(scores),
        round(float(np.mean(used)), 6),
        **values,
        trained_on=trained.declared,
        leakage=trained.checked,
        predictions_sha256=" ".join(one.sha256 for one in scores),
        bundle=", ".join(dict.fromkeys(text for one in scores for text in one.models)),
        link=link,
        command=command,
        versions=f"atypia {VERSION}, python {versions['python']}, numpy {versions['numpy']}",
        date=datetime.now(UTC).date().isoformat(),
    )


def read_rows(path: Path) -> list[BoardRow]:
    """The rows of a file; none where it does not exist.

    Raises:
        DataError: It is no file of rows.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a leaderboard ({error}); fix: name another --file") from error
    read = csv.DictReader(io.StringIO(text))
    names = [field.name for field in fields(BoardRow)]
    if list(read.fieldnames or ()) != names:
        raise DataError(
            must(f"{path}", "a leaderboard's file", f"the columns {read.fieldnames}", "name another --file")
        )
    return [_row(path, number, row) for number, row in enumerate(read, 2)]


def add_row(path: Path, row: BoardRow, replace: bool = False) -> None:
    """Appends a row.

    Args:
        path: The file; made where it does not exist.
        row: The row.
        replace: Take the place of the row of this name.

    Raises:
        InputError: Its set has a row of this name, and ``replace`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path):
        rows = read_rows(path)
        places = [i for i, one in enumerate(rows) if (one.test_set, one.name) == (row.test_set, row.name)]
        if places and not replace:
            raise InputError(f"{path} has a row {row.name!r} on {row.test_set}; fix: another --name, or --replace")
        if places:
            rows[places[0]] = row
        else:
            rows.append(row)
        with atomic_file(path, "w") as file:
            lines = CsvLines(file)
            lines.write([field.name for field in fields(BoardRow)])
            for one in rows:
                lines.write("" if isinstance(v, float) and math.isnan(v) else v for v in asdict(one).values())


def _labels(board_set: BoardSet, scores: Sequence[BoardScores], test: Manifest | None) -> Any:
    """Labels in the order of the sorted ids."""
    if test is not None:
        of = dict(zip(test.ids, test.labels.tolist(), strict=True))
        labels = np.array([of[figure] for figure in scores[0].ids], dtype=np.int8)
    elif scores[0].labels is not None and board_set.labels_sha256 is not None:
        labels = scores[0].labels
        if digest(scores[0].ids, labels.tolist()) != board_set.labels_sha256:
            said = f"other ones ({int(labels.sum())} atypical, published: {board_set.atypical})"
            raise DataError(
                must(f"{scores[0].path.name}: {r.LABEL}", "the published labels", said, "take them from the source")
            )
    else:
        raise DataError(
            f"the labels of {board_set.title} must be known, got none: its figures are not on this machine, and {scores[0].path.name} has no "
            f"column {r.LABEL}; fix: `atypia data get {board_set.name}`, or add the column"
        )
    for one in scores:
        if one.labels is not None and (wrong := int((one.labels != labels).sum())):
            first = one.ids[int(np.flatnonzero(one.labels != labels)[0])]
            said = f"{wrong} others, first {first}"
            raise DataError(
                must(f"{one.path.name}: {r.LABEL}", "the published labels", said, "take them from the source")
            )
    return labels


def _cases(board_set: BoardSet, scores: Sequence[BoardScores], test: Manifest | None) -> list[str] | None:
    """Cases in the order of the sorted ids; None where they are not known for certain."""
    known = known_cases(board_set, test)
    if test is not None and known is not None:
        of = dict(zip(test.ids, known, strict=True))
        return [of[figure] for figure in scores[0].ids]
    for one in scores:
        if one.cases is not None and digest(one.ids, one.cases) == board_set.cases_sha256:
            return list(one.cases)
    return None


def _row(path: Path, line: int, row: Mapping[str, str]) -> BoardRow:
    kinds = {field.name: field.type for field in fields(BoardRow)}
    values: dict[str, Any] = {}
    try:
        for name, text in row.items():
            kind = kinds[name]
            values[name] = (
                int(text) if kind == "int" else float(text or "nan") if kind == "float" else unescape_formula(text)
            )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}, line {line}: {error}; fix: remove the line") from None
    _ = BOARD_SETS[values["test_set"]]
    return BoardRow(**values)
