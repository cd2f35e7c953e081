"""What the rows of a study's findings are known by: values of the plan, never the words of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from atypia.base import records as r
from atypia.base import runs
from atypia.splits.foldnames import domain_of, fraction_of
from atypia.studies.findings.schema import Place
from atypia.studies.plan import Plan, PlannedTraining
from atypia.studies.shift import CROSS_DOMAINS
from atypia.studies.table import TOLD_BY, percentage


class Group(NamedTuple):
    """What tells apart the results of one row of a study; each is None where it tells nothing apart.

    Attributes:
        data: Name of the training set.
        manifest: Fingerprint of the training set.
        fraction: Share of the data that was trained on.
        domain: Domain that was trained on, by its name in folds.
    """

    data: str | None = None
    manifest: str | None = None
    fraction: float | None = None
    domain: str | None = None

    def words(self, titles: Mapping[str, str] | None = None, fraction: bool = True) -> str:
        """The group as tables call it; empty where nothing tells results apart.

        Args:
            titles: Domains by their names in folds.
            fraction: Whether the fraction is said.
        """
        found = [] if self.data is None else [f"on {self.data}"]
        if fraction and self.fraction is not None:
            found.append(percentage(self.fraction))
        if self.domain is not None:
            found.append(f"on {(titles or {}).get(self.domain, self.domain)}")
        return ", ".join(found)


class RowKey(NamedTuple):
    """A row of the findings.

    Attributes:
        row: Label of the study's row, which no other row of the study has.
        group: What tells its results apart.
        decision: One of :data:`atypia.studies.schema.DECISIONS`.
    """

    row: str
    group: Group
    decision: str


class PlaceKey(NamedTuple):
    """What rows are scored on.

    Attributes:
        manifest: Fingerprint of the manifest.
        part: ``val``, ``test`` or ``external``.
    """

    manifest: str
    part: str


Locate = Callable[[Mapping[str, Any]], "tuple[int, int] | None"]
"""From a result row to the positions of its place and of its row in the findings; None where it has none."""


def group_of(plan: Plan, training: PlannedTraining, fold: str) -> Group:
    """What tells a cell's results on a fold from others of the same row.

    Args:
        plan: The study's plan.
        cell: One of its cells.
        fold: Name of the fold.
    """
    several = len({(one.data, one.manifest) for one in plan.trainings}) > 1
    return Group(
        training.data if several else None,
        training.manifest if several else None,
        fraction_of(fold),
        (domain_of(fold) or fold) if plan.protocol[0] in CROSS_DOMAINS else None,
    )


def locator(plan: Plan, about: pa.Table, rows: Mapping[RowKey, int], places: Mapping[PlaceKey, Place]) -> Locate:
    """Finds the place and the row of the findings that a result row is about.

    Args:
        plan: The study's plan.
        about: Runs, with :data:`atypia.studies.table.RUNS_SCHEMA`.
        rows: Position of each row.
        places: What they are scored on, in the order of the findings.
    """
    known: dict[tuple[str | None, ...], tuple[RowKey, str]] = {}
    trainings = [plan.trainings[run.training] for run in plan.runs for _ in plan.decisions]
    for line, training in zip(about.to_pylist(), trainings, strict=True):
        if line[r.RUN_ID] is not None:
            key = RowKey(training.label, group_of(plan, training, line[r.FOLD]), line["decision"])
            known[tuple(line[name] for name in TOLD_BY)] = (key, training.manifest)
    own = {key: number for number, key in enumerate(places) if key.part != runs.EXTERNAL}
    others = {place.dataset: number for number, (key, place) in enumerate(places.items()) if key.part == runs.EXTERNAL}
    named = [place.dataset for place in places.values()]

    def locate(row: Mapping[str, Any]) -> tuple[int, int] | None:
        found = known.get(tuple(row[name] for name in TOLD_BY))
        if found is None:
            return None
        key, manifest = found
        dataset = row[r.DATASET] or ""
        external = row[r.PART] == runs.EXTERNAL
        place = others.get(dataset) if external else own.get(PlaceKey(manifest, row[r.PART]))
        number = rows.get(key)
        # A part of several data sets has rows for each of them beside those of the whole.
        return None if place is None or number is None or named[place] != dataset else (place, number)

    return locate
