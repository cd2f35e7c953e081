"""The work of ``atypia leaderboard``: rows of the public test sets, and another one from a file of predictions.

from atypia.workflows.leaderboard import add_to_leaderboard, leaderboard_table

added = add_to_leaderboard(["predictions.csv"], on="atnorm-br", name="ours", trained_on=["ami-br:train"])
print(leaderboard_table("atnorm-br"))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from atypia.base.errors import InputError, count_noun, must

if TYPE_CHECKING:
    from atypia.evaluation.board.rows import BoardRow
    from atypia.reports.drawing.tables import Table
    from atypia.reports.drawing.values import Value

PUBLISHED: Final = "published"
"""What a published row says of leakage: the paper was believed."""


@dataclass(frozen=True)
class AddedRow:
    """A row that was added.

    Attributes:
        row: The row.
        file: Where it is.
        warnings: Reasons to doubt it.
    """

    row: BoardRow
    file: Path
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        """The row in words."""
        row = self.row
        ba, auroc = (_interval(*row.ends(metric)) for metric in ("balanced_accuracy", "auroc"))
        return (
            f"{row.name} on {row.test_set}: {count_noun(row.figures, 'figure')}, {row.atypical} atypical; balanced accuracy {ba} at "
            f"{row.threshold:.3f}, AUROC {auroc}; intervals over {row.intervals_over}; trained on: {row.trained_on} ({row.leakage})"
        )


def add_to_leaderboard(
    predictions: Sequence[str | PathLike[str]],
    on: str,
    name: str,
    *,
    trained_on: Sequence[str] = (),
    model: str | None = None,
    threshold: float | None = None,
    link: str = "",
    replace: bool = False,
    file: Path | None = None,
    root: Path | None = None,
    command: str = "",
) -> AddedRow:
    """Checks predictions, computes their metrics, and appends a row.

    Args:
        predictions: Files, one a model: predictions of Atypia, or CSV with ``figure_id`` and ``p_atypical``.
        on: Test set, key of :data:`atypia.evaluation.board.testsets.BOARD_SETS`.
        name: Of the row.
        trained_on: What the model was trained on, each compared with the test set: a training's folder, a manifest, a CSV,
            a folder of crops, a source, a source's part (``ami-br:train``).
        model: A bundle or a shipped model that made them, where the files do not name it.
        threshold: On the probability of *atypical*, in (0, 1); None: that of the file, else 0.5.
        link: Where more is said of the model.
        replace: Take the place of the row of this name.
        file: The leaderboard's file; None: the user's own.
        root: Data root; labels and cases come from the data where they are there.
        command: That is recorded in the row.

    Raises:
        InputError: No such set, a name that is taken, a threshold that is none.
        DataError: Other figures or labels than the set's, or values that are no probabilities.
        LeakageError: The model saw the test set.

    >>> add_to_leaderboard(["scored.csv"], on="atnorm-br", name="ours")  # doctest: +SKIP
    """
    from atypia.evaluation.board.leakage import UNDECLARED, check_training
    from atypia.evaluation.board.rows import FIGURES, add_row, judged, own_file
    from atypia.evaluation.board.scores import read_scores
    from atypia.evaluation.board.testsets import BOARD_SETS, board_figures

    board_set = BOARD_SETS[on]
    if board_set.why_not:
        raise InputError(
            f"no row can be added on {board_set.title}: {board_set.why_not}; fix: choose ami-br or atnorm-br"
        )
    if not name.strip():
        raise InputError(must("name", "a name", "an empty one", "give --name"))
    if not predictions:
        raise InputError(must("predictions", "at least one file", "none", "name the file with the probabilities"))
    test = board_figures(board_set, root)
    scores = [read_scores(Path(path), board_set, test) for path in predictions]
    trained = check_training(board_set, scores, test, trained_on, model, root)
    row = judged(board_set, scores, test, name.strip(), trained, threshold, link, command)
    target = own_file() if file is None else file
    add_row(target, row, replace)
    warnings = []
    if row.trained_on == UNDECLARED:
        warnings.append("nothing is declared of its training: leakage was not checked; say --trained-on")
    if row.intervals_over == FIGURES:
        warnings.append("the cases are not known here: intervals are over figures and too narrow")
    if threshold is None and any(one.threshold is None for one in scores):
        warnings.append(f"the file has no threshold: decided at {row.threshold:g}")
    return AddedRow(row, target, tuple(warnings))


def board_rows(on: str | None = None, file: Path | None = None) -> list[BoardRow]:
    """Rows that ship and the user's own, of one test set or of all.

    Args:
        on: Test set; None: all.
        file: The user's file; None: the usual one.
    """
    from atypia.evaluation.board.rows import own_file, read_rows, shipped_file
    from atypia.evaluation.board.testsets import BOARD_SETS

    if on is not None:
        _ = BOARD_SETS[on]
    own = own_file() if file is None else file
    places = [shipped_file(), *([own] if own.resolve() != shipped_file().resolve() else [])]
    return [row for place in places for row in read_rows(place) if on in (None, row.test_set)]


def leaderboard_table(on: str, metric: str = "balanced_accuracy", file: Path | None = None, own: bool = True) -> Table:
    """A test set's leaderboard: rows that were checked, beside the published ones.

    Args:
        on: Test set.
        metric: By which rows are ordered: ``balanced_accuracy`` or ``auroc``.
        file: The user's file; None: the usual one.
        own: Whether the user's own rows are in it.

    Raises:
        InputError: No such set or metric.

    >>> leaderboard_table("atnorm-br").columns[0].title
    'model'
    """
    from atypia.evaluation.board.rows import METRICS, MODEL, read_rows, shipped_file
    from atypia.evaluation.board.testsets import BOARD_SETS
    from atypia.reports.drawing.tables import Column, Table

    board_set = BOARD_SETS[on]
    if metric not in METRICS[:2]:
        raise InputError(must("metric", " or ".join(METRICS[:2]), metric, "choose one of them"))
    rows: list[tuple[float, list[Value]]] = []
    checked = board_rows(on, file) if own else [row for row in read_rows(shipped_file()) if row.test_set == on]
    for row in checked:
        name = row.name if row.models == 1 else f"{row.name} (mean of {row.models} models)"
        shown = [_interval(*row.ends(one)) for one in METRICS]
        kind = "checked" if row.kind == MODEL else row.kind
        threshold = "" if math.isnan(row.threshold) else f"{row.threshold:.3f}"
        line: list[Value] = [name, kind, *shown, threshold, row.trained_on, row.leakage]
        rows.append((row.ends(metric)[0], line))
    rows += [(values[metric], line) for values, line in _published(on)]
    rows.sort(key=lambda one: (math.isnan(one[0]), -one[0]))
    titles = ("model", "row", "BA", "AUROC", "Sens.", "Spec.", "threshold", "trained on, or source", "leakage")
    columns = [Column(title) for title in titles]
    counts = "" if board_set.figures is None else f": {board_set.figures} figures, {board_set.atypical} atypical"
    notes = [
        "checked: metrics from predictions, with 95 % intervals (BCa) over cases where they are known, else over figures.",
        "rater: a rater's votes against the majority of the others, where they have one; models are scored by the majority of all.",
        "published: mean ± sd over fold models as papers report it, or one result; each at the paper's own threshold.",
    ]
    kinds = {f"{line[1]}:" for _, line in rows}
    said = [note for note in notes if note.split(maxsplit=1)[0] in kinds]
    return Table(f"{board_set.title}{counts}", columns, [line for _, line in rows], said)


def narrow(table: Table) -> Table:
    """A leaderboard that fits on a terminal: numbers as columns, thresholds and sources as notes.

    Args:
        table: Of :func:`leaderboard_table`.

    >>> [column.title for column in narrow(leaderboard_table("atnorm-br")).columns]
    ['model', 'row', 'BA', 'AUROC', 'Sens.', 'Spec.']
    """
    from atypia.reports.drawing.tables import Table

    names = [column.title for column in table.columns]
    kept = names.index("Spec.") + 1
    columns = [replace(column, align="right") if n > 1 else column for n, column in enumerate(table.columns[:kept])]
    notes: list[str] = []
    sources: dict[str, list[str]] = {}
    for row in table.rows:
        model, kind, threshold, source, leakage = (str(row[place] or "") for place in (0, 1, *range(kept, len(names))))
        if kind == PUBLISHED:
            sources.setdefault(source, []).append(model)
        elif source or threshold:
            said = (
                f"threshold {threshold}",
                f"trained on {source or '–'}",
                f"leakage checked: {leakage or '–'}",
            )
            notes.append(f"{model}: {'; '.join(said)}")
    for source, models in sources.items():
        notes.append(f"published rows: {source}" if len(sources) == 1 else f"{source}: {'; '.join(models)}")
    return Table(table.title, columns, [row[:kept] for row in table.rows], [*table.notes, *notes])


def _published(on: str) -> list[tuple[dict[str, float], list[Value]]]:
    """Published rows of a set: values by metric, and what is shown."""
    from atypia.evaluation.board.rows import METRICS
    from atypia.evaluation.published import MEAN, PAPERS, SINGLE, published_rows

    found: dict[tuple[str, str, str | None, str], dict[str, tuple[float, float | None]]] = {}
    sources: dict[tuple[str, str, str | None, str], str] = {}
    for row in published_rows(dataset=on):
        if row.kind in (MEAN, SINGLE) and row.metric in METRICS:
            key = (row.paper, row.model, row.adaptation, row.setting)
            found.setdefault(key, {})[row.metric] = (row.value, row.sd)
            sources[key] = row.source
    out: list[tuple[dict[str, float], list[Value]]] = []
    for (paper, model, adaptation, setting), values in found.items():
        name = " · ".join(text for text in (model, adaptation, setting if setting != "test" else None) if text)
        cells = [_published_value(*values[metric]) if metric in values else "" for metric in METRICS]
        numbers = {metric: values[metric][0] if metric in values else math.nan for metric in METRICS}
        author = PAPERS[paper].citation.partition(",")[0]
        out.append(
            (numbers, [name, PUBLISHED, *cells, "", f"{author}, {sources[paper, model, adaptation, setting]}", ""])
        )
    return out


def _published_value(value: float, sd: float | None) -> str:
    return f"{value:.3f}" if sd is None else f"{value:.3f} ± {sd:.3f}"


def _interval(estimate: float, low: float, high: float) -> str:
    """An estimate with its interval; empty where it is not defined."""
    if math.isnan(estimate):
        return ""
    return f"{estimate:.3f}" if math.isnan(low) else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
