"""Common methods of training and evaluation results: predictions, table, comparison and data frame of their folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import InputError, count_noun, must

if TYPE_CHECKING:
    import pyarrow as pa

    from atypia.inference.predicted import Predictions
    from atypia.reports.drawing.tables import Table
    from atypia.statistics.differences.comparison import Comparison
    from atypia.statistics.intervals import Bootstrap

PARTS: Final = (runs.TEST, runs.VALIDATION, runs.EXTERNAL)
"""Role of figures for a fold's model: its test part, its validation part, or another data set."""


class FolderResults:
    """The results in a folder, read from its prediction files.

    Attributes:
        usual_part: The default part.
    """

    usual_part: ClassVar[str] = runs.TEST
    out: Path

    @property
    def path(self) -> Path:
        """The folder."""
        return self.out

    @property
    def about(self) -> Path:
        """The trained or evaluated folder: this one, or another one."""
        return self.out

    def predictions(self, part: str | None = None, dataset: str | None = None, fold: str | None = None) -> Predictions:
        """The predictions of all folds' models on a part.

        Args:
            part: ``test``, ``val``, or ``external`` for other data sets; None for the usual one.
            dataset: Only figures of this data set.
            fold: Only those of this fold's model.

        Raises:
            InputError: There are none, or none with these names.
            DataError: A file is damaged.
        """
        from atypia.inference.predicted import Predictions

        wanted = part or self.usual_part
        if wanted not in PARTS:
            raise InputError(must("part", f"one of {', '.join(PARTS)}", wanted, "name one of them"))
        table = _prediction_rows(self.out)
        said = [(r.PART, wanted), (r.DATASET, dataset), (r.FOLD, fold)]
        for column, value in said:
            if value is None:
                continue
            there = [text for text in table[column].unique().to_pylist() if text is not None]
            if value not in there:
                known = ", ".join(map(str, there)) or "nothing"
                raise InputError(
                    must(column, f"one that {self.out} holds ({known})", value, "name another, or evaluate")
                )
            table = table.filter([text == value for text in table[column].to_pylist()])
        name, classes = _described(self.about)
        return Predictions(table, name, self.out, classes)

    def table(self, domains: bool = False) -> Table:
        """All results, recomputed from the predictions; see :func:`atypia.workflows.tables.results_table`.

        Args:
            domains: One line per domain.
        """
        from atypia.workflows.tables import results_table

        return results_table(self.out, about=self.about, domains=domains)

    def compare(
        self,
        other: FolderResults | Predictions,
        part: str | None = None,
        *,
        dataset: str | None = None,
        metrics: Sequence[str] | None = None,
        options: Bootstrap | None = None,
    ) -> Comparison:
        """Differences «this − other» on the figures that both scored: paired, intervals over cases, p-values.

        Args:
            other: Another training or evaluation, or any predictions.
            part: As for :meth:`predictions`, of both.
            dataset: Only figures of this data set.
            metrics: Names in :data:`atypia.statistics.metrics.METRICS`; None for the four that tables lead with.
            options: How cases are drawn.

        Raises:
            InputError, DataError: As :func:`atypia.statistics.differences.comparison.compare_scored`.
        """
        wanted = part or self.usual_part
        if isinstance(other, FolderResults):
            other = other.predictions(wanted, dataset)
        return self.predictions(wanted, dataset).compare(other, metrics, options)

    def to_pandas(self) -> Any:
        """Result rows as a ``pandas.DataFrame``: one per metric, fold, part, data set and domain.

        Raises:
            AbsentError: pandas is not installed.
        """
        from atypia.base.frames import data_frame
        from atypia.evaluation.collect import collect

        return data_frame(collect(self.out, self.about).rows)


class OpenedResults(FolderResults):
    """The results that :func:`open_results` found.

    Args:
        out: Their folder.
        about: The trained or evaluated folder, if it is another one.
    """

    def __init__(self, out: Path, about: Path | None = None) -> None:
        self.out = out
        self._about = about or out
        self._name = _described(self._about)[0]
        parts = set(_prediction_rows(out)[r.PART].to_pylist())
        self.usual_part = next(part for part in PARTS if part in parts)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def about(self) -> Path:
        """The trained or evaluated folder."""
        return self._about

    def __repr__(self) -> str:
        return f"<Results of {self._name}: {count_noun(len(runs.prediction_files(self.out)), 'prediction file')} in {self.out}>"


def open_results(folder: str | PathLike[str], about: str | PathLike[str] | None = None) -> OpenedResults:
    """The results of a training or an evaluation that was done before.

    Args:
        folder: The ``out`` of a training, one of its folds, or the ``out`` of an evaluation.
        about: The evaluated training's folder or bundle, if the evaluation has a folder of its own.

    Raises:
        InputError: It contains no predictions.
        DataError: A file is damaged, or it is unknown what was evaluated.

    >>> import atypia
    >>> recipe = atypia.load_recipe("probe", {"geometry.out_px": 32}, backbone="tiny-cnn")
    >>> _ = atypia.train(recipe, "mine.csv", "runs/probe", protocol="lodo")
    >>> open_results("runs/probe")
    <Results of probe · tiny-cnn: 2 prediction files in runs/probe>
    """
    return OpenedResults(Path(folder), None if about is None else Path(about))


def joined_rows(files: Iterable[Path]) -> pa.Table:
    """The rows of prediction files, one below the other.

    Raises:
        DataError: A file is damaged.
    """
    import pyarrow as pa

    from atypia.inference.predictions import read_predictions

    return pa.concat_tables([read_predictions(path)[0] for path in files])


def _prediction_rows(folder: Path) -> pa.Table:
    files = runs.prediction_files(folder)
    if not files:
        raise InputError(f"{folder} holds no predictions; fix: train, or evaluate a bundle, first")
    return joined_rows(files)


def _described(folder: Path) -> tuple[str, tuple[str, str]]:
    """Name of a classifier, and of its classes."""
    from atypia.base.artifacts import read_json
    from atypia.evaluation.collect import describe
    from atypia.inference.bundles.bundle import load_bundle

    name = describe(folder)[0].model
    if (folder / runs.TRAINING).is_file():
        task = read_json(folder / runs.TRAINING)["data"]["task"]
    else:
        task = load_bundle(folder / runs.BUNDLE if (folder / runs.BUNDLE).is_dir() else folder).task
    return name, r.CLASS_NAMES[task]
