"""What classifiers said of laboratories that they were not trained on, and the prior that follows for others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError, must
from atypia.inference.bundles.decision import fit_decision
from atypia.inference.bundles.laboratory import Own
from atypia.inference.bundles.left_out import FEWEST_FIGURES, LeftOutRecord, recorded
from atypia.inference.bundles.reference import log_odds
from atypia.inference.predictions import read_predictions
from atypia.statistics.laboratories import (
    Laboratory,
    LaboratoryPrior,
    between_cases,
    check_reference,
    class_scores,
    fit_prior,
)

STRENGTH: Final = 4.0
"""By how much the likeliest prior is sharpened: what loses least on left-out laboratories (docs/results/calibration.md)."""


@dataclass(frozen=True, eq=False)
class LeftOutLaboratory:
    """A laboratory that was left out of a training, and that training's own validation figures."""

    laboratory: str
    run: str
    validation: Own
    figures: Own


def left_out(folders: Iterable[Path], evaluations: bool = False) -> list[LeftOutLaboratory]:
    """Laboratories that trainings below these folders left out, by run and name.

    Of a training with protocol ``lodo`` these are the test parts of its folds. Runs without a validation part of both classes are passed over, and laboratories with
    fewer than :data:`atypia.inference.bundles.left_out.FEWEST_FIGURES` figures of a class.

    Args:
        folders: Trainings, folders of several, or studies.
        evaluations: Whether the domains of their evaluations on other sets count, too: for studies of laboratories. A model's
            record may not depend on what its judges happened to be tested on afterwards.

    Raises:
        InputError: There is none.
    """
    found: list[LeftOutLaboratory] = []
    given = list(folders)
    for folder in given:
        # A training, several below one folder, or a study, whose runs are trainings.
        for place in sorted({path.parent for path in folder.glob(f"**/{runs.TRAINING}")} | {folder}):
            for run in (path.parent for path in sorted(place.glob(f"*/{runs.RUN}"))):
                found += _of_run(place, run, evaluations)
    if not found:
        fix = "name the folder of `atypia train … --protocol lodo`"
        raise InputError(must("laboratories", "left out of a training", f"none in {', '.join(map(str, given))}", fix))
    return sorted(found, key=lambda one: (one.laboratory, one.run))


def _of_run(training: Path, run: Path, evaluations: bool) -> list[LeftOutLaboratory]:
    table = read_predictions(run / runs.PREDICTIONS)[0]
    parts = np.array(table[r.PART].to_pylist())
    validation = _scores(table.filter(pa.array(parts == runs.VALIDATION)))
    if not _enough(validation):
        return []
    others = [table.filter(pa.array(parts == runs.TEST))]
    if evaluations:
        tables = [
            read_predictions(path)[0] for path in sorted(training.glob(f"{runs.EVALUATIONS}/*/{run.name}.parquet"))
        ]
        # Those of the same figures under a fixed change (blurred, restained) lie there too, as part `test`.
        others += [table.filter(pa.array([p == runs.EXTERNAL for p in table[r.PART].to_pylist()])) for table in tables]
    seen = set(table.filter(pa.array(parts == runs.VALIDATION))[r.DOMAIN].to_pylist())
    found = []
    for other in others:
        domains = other[r.DOMAIN].to_pylist()
        for name in sorted({domain for domain in domains if domain is not None} - seen):
            figures = _scores(other.filter(pa.array([domain == name for domain in domains])))
            if _enough(figures):
                found.append(LeftOutLaboratory(name, f"{training.name}/{run.name}", validation, figures))
    return found


def own_of(table: pa.Table, part: str) -> Own:
    """The figures of one part of a run's predictions."""
    return _scores(table.filter(pa.array([one == part for one in table[r.PART].to_pylist()])))


def _scores(table: pa.Table) -> Own:
    if table[r.LABEL].null_count:
        raise DataError(
            "predictions without labels tell nothing of a laboratory; fix: name a training on labelled data"
        )
    known = zip(table[r.CASE_ID].to_pylist(), table[r.FIGURE_ID].to_pylist(), strict=True)
    cases = np.array([case if case is not None else f"figure:{figure}" for case, figure in known], dtype=np.str_)
    return Own(table[r.LABEL].to_numpy() == 1, log_odds(table[r.P_ATYPICAL].to_numpy()), cases)


def _enough(scores: Own) -> bool:
    positives = int(scores.labels.sum())
    return min(positives, len(scores.labels) - positives) >= FEWEST_FIGURES


def left_out_records(laboratories: Sequence[LeftOutLaboratory], threshold: float) -> list[LeftOutRecord]:
    """What classifiers of one recipe gave in laboratories that they were not trained on, for the bundle of another.

    Each training decides by a calibration and threshold that are fitted on its own validation figures; its probabilities are moved to
    the same side of ``threshold``. Of several trainings that left a laboratory out the figures are put together.

    Args:
        laboratories: As :func:`left_out` gives them.
        threshold: Of the bundle that gets the record, in (0, 1).
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for one in laboratories:
        decision = fit_decision(one.validation.scores, one.validation.labels)
        p = decision.calibration.apply(one.figures.scores)
        # Odds relative to the threshold are kept.
        odds = p / np.maximum(1 - p, 1e-9) * ((1 - decision.threshold) / decision.threshold)
        moved = odds * threshold / (1 - threshold)
        found.setdefault(one.laboratory, []).append((one.figures.labels, moved / (1 + moved)))
    records = []
    for name, parts in found.items():
        labels, p = (np.concatenate(values) for values in zip(*parts, strict=True))
        # A figure that several trainings judged is still one figure.
        records += [
            replace(one, atypical=one.atypical // len(parts), normal=one.normal // len(parts))
            for one in recorded([name] * len(p), labels, p, threshold)
        ]
    return records


def prior_of(laboratories: Sequence[LeftOutLaboratory], strength: float = STRENGTH) -> LaboratoryPrior:
    """The prior that follows from laboratories that were left out; see :func:`atypia.statistics.laboratories.fit_prior`.

    Raises:
        InputError: There are fewer than two, or a training does not tell its own classes apart.
    """
    pairs = [(lab.figures, lab.figures.labels == positive) for lab in laboratories for positive in (False, True)]
    groups = [(figures.scores[own], figures.cases[own]) for figures, own in pairs]
    share = between_cases(groups)
    return fit_prior([as_laboratory(lab, share) for lab in laboratories], share, strength)


def as_laboratory(one: LeftOutLaboratory, case_share: float) -> Laboratory:
    """The classes' scores of a laboratory and its reference."""
    reference, own = (
        class_scores(side.labels, side.scores, side.cases, case_share) for side in (one.validation, one.figures)
    )
    return Laboratory(one.laboratory, check_reference(reference), own)
