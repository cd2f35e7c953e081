"""Results of a study's complete runs, by row of the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import InputError, must

if TYPE_CHECKING:
    from atypia.inference.predicted import Predictions
    from atypia.reports.drawing.tables import Table
    from atypia.statistics.differences.comparison import Comparison
    from atypia.statistics.intervals import Bootstrap
    from atypia.studies.plan import Plan


class StudyFolderResults:
    """The results of the runs in a study's folder that are complete.

    Attributes:
        plan: The study's plan.
        folder: Its folder.
    """

    plan: Plan
    folder: Path

    @property
    def path(self) -> Path:
        """The study's folder."""
        return self.folder

    @property
    def labels(self) -> list[str]:
        """The rows that the study compares, in its order."""
        return list(dict.fromkeys(training.label for training in self.plan.trainings))

    def predictions(
        self, label: str | None = None, part: str = runs.TEST, dataset: str | None = None, data: str | None = None
    ) -> Predictions:
        """The predictions of all models of a row: of its folds and seeds.

        Args:
            label: The row, one of :attr:`labels`; may be left out where there is one.
            part: ``test``, ``val``, or ``external`` for the study's other data sets.
            dataset: Only figures of this data set.
            data: The training set, where the study has several.

        Raises:
            InputError: There is no such row, or nothing of it is complete.
            DataError: A file is damaged.
        """
        import pyarrow as pa

        from atypia.inference.predicted import Predictions
        from atypia.studies.table import predictions_of

        if label is None and len(self.labels) == 1:
            label = self.labels[0]
        if label not in self.labels:
            raise InputError(must("label", f"one of {', '.join(self.labels)}", label, "name a row of the study"))
        sets = sorted({training.data for training in self.plan.trainings if training.label == label})
        if data is None and len(sets) > 1:
            raise InputError(must("data", f"one of {', '.join(sets)}", "nothing", "name the training set"))
        kept: list[pa.Table] = []
        for found in predictions_of(self.plan, self.folder):
            if found.training.label != label or data not in (None, found.training.data):
                continue
            for table in found.parts:
                wanted = zip(table[r.PART].to_pylist(), table[r.DATASET].to_pylist(), strict=True)
                kept.append(table.filter([of == part and dataset in (None, name) for of, name in wanted]))
        if not sum(table.num_rows for table in kept):
            what = f"{part} of {label}" + (f" on {dataset}" if dataset else "")
            raise InputError(
                must(what, "of complete runs", "no prediction", "look at the study's status, or another part")
            )
        return Predictions(pa.concat_tables(kept), label, self.folder)

    def compare(
        self,
        first: str,
        second: str,
        part: str = runs.TEST,
        *,
        dataset: str | None = None,
        metrics: Sequence[str] | None = None,
        options: Bootstrap | None = None,
    ) -> Comparison:
        """Differences «first − second» of two rows: paired, with intervals over cases and p-values.

        Args:
            first: A row, one of :attr:`labels`.
            second: Another.
            part: As for :meth:`predictions`.
            dataset: Only figures of this data set.
            metrics: Names in :data:`atypia.statistics.metrics.METRICS`; None for the four that tables lead with.
            options: How cases are drawn.
        """
        other = self.predictions(second, part, dataset)
        return self.predictions(first, part, dataset).compare(other, metrics, options)

    def table(self, name: str | None = None) -> Table:
        """The study's main table, or another by its name; nothing is written but the study's result files.

        Raises:
            InputError: There is no such table, or no run is complete.
        """
        from atypia.reports.study.tables import RESULTS, study_tables
        from atypia.studies.table import collect_study

        found = collect_study(self.plan, self.folder)
        title = f"{self.plan.name}, size {self.plan.size}"
        tables = study_tables(found.rows, found.deltas, found.shift, found.matrix, title=title, warnings=found.warnings,
                              baseline=self.plan.baseline)  # fmt: skip
        if (name or RESULTS) not in tables:
            raise InputError(must("name", f"one of {', '.join(tables)}", name, "name one of them"))
        return tables[name or RESULTS]

    def to_pandas(self) -> Any:
        """Result rows as a ``pandas.DataFrame``: one per metric, run, part, data set and domain.

        Raises:
            AbsentError: pandas is not installed.
        """
        from atypia.base.frames import data_frame
        from atypia.studies.table import collect_study

        return data_frame(collect_study(self.plan, self.folder).rows)
