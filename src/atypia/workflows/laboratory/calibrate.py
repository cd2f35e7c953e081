"""A classifier's decision fitted to one's own laboratory: what ``atypia calibrate`` does.

    found = atypia.calibrate("atypia", on="my.csv", out="my-lab")
    print(found.to_text())                       # how good the model is here, what was changed and why
    atypia.Classifier.load("my-lab").predict(crops)  # where something was

The network stays as it is; docs/calibrate.md says how the decision is moved and when it is not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base import runs
from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent
from atypia.base.seeds import generator
from atypia.data.audit.findings import check_codes
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation.external import check_set, open_target
from atypia.evaluation.laboratories import left_out, own_of, prior_of
from atypia.inference.bundles.bundle import MODEL_FILE, Bundle, load_bundle
from atypia.inference.bundles.calibration import sigmoid
from atypia.inference.bundles.decision import REFUSED, Decision
from atypia.inference.bundles.laboratory import (
    NOT_TOLD_APART,
    TOO_FEW,
    UNCHECKED,
    Calibrated,
    fit_laboratory,
    prior_for,
    reference_of,
)
from atypia.inference.bundles.reference import log_odds
from atypia.inference.classifier import Classifier, find_model
from atypia.inference.export.derived import check_new, save_derived
from atypia.inference.predictions import read_predictions
from atypia.statistics.intervals import Bootstrap, Interval, difference_intervals, metric_intervals
from atypia.statistics.laboratories import NO_SHIFT, Classes, LaboratoryPrior, class_scores
from atypia.statistics.metrics import UndefinedMetricWarning
from atypia.statistics.resampling import PredictedLabels
from atypia.workflows.laboratory.own_cases import Cases, with_cases
from atypia.workflows.laboratory.own_figures import (
    ScoredOwnFigures,
    labelled,
    made_from,
    scored,
    with_decisions,
    without_copies,
)
from atypia.workflows.laboratory.told import given, interval_values, outcome_text, table_text

DECIDED: Final = ("balanced_accuracy", "sensitivity", "specificity")
METRICS: Final = (*DECIDED, "auroc")
"""The last one is that of the model: a decision does not change the order of figures."""
FOLDS: Final = 10
"""Parts of the cases, each decided by what was fitted on the others."""
CALIBRATED: Final = "calibrated"
"""Key among a bundle's facts of its training: from which model, on which figures, when."""


@dataclass(frozen=True, eq=False, repr=False)
class CalibratedModel:
    """How good a model is on one's own figures, and what they were reason to change.

    Attributes:
        model: Its name.
        data: What the figures are called.
        figures: Normal and atypical figures.
        cases: Their cases; as many as figures where no case is known.
        before: Metrics of the model as it is, with 95 % intervals over cases; empty where a class is absent.
        after: The same of the new decision, each case decided by what was fitted on other cases; empty likewise, and where
            the other cases are never enough to fit.
        gain: Paired differences «after − before»; empty as ``after``.
        result: The decision for the laboratory and the reasons for it.
        refused: Figures that the model as it is refuses as unlike its training, and the new decision; the metrics count them, too.
        threshold: Probability by the model as it is, from which on a figure was called atypical, and is now.
        prior: How much laboratories differ, and where that is known from.
        exact: Whether the model says what its decision was fitted on; else that was read off its prediction sets.
        out: The calibrated model; None where nothing is written.
        notes: What was left out or must be known, in words.
    """

    model: str
    data: str
    figures: tuple[int, int]
    cases: int
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    result: Calibrated
    refused: tuple[int, int]
    threshold: tuple[float, float]
    prior: tuple[LaboratoryPrior, str]
    exact: bool
    out: Path | None
    notes: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the new decision is another one."""
        return self.result.changed

    def __repr__(self) -> str:
        return f"<CalibratedModel {self._subject()}, {'a new decision' if self.changed else 'as it was'}>"

    def _subject(self) -> str:
        return f"{self.model} on {self.data}: {given(self.figures, self.cases)}"

    def to_text(self) -> str:
        """What a person reads."""
        lines = [self._subject()]
        if self.before:
            titles = ("", "as it is", "calibrated, on cases left out", "difference")
            lines += table_text(titles, METRICS, (self.before, self.after, self.gain))
        if any(self.refused):
            lines.append(
                f"refused as unlike the training: {self.refused[0]} of {sum(self.figures)} by the model as it is, {self.refused[1]} from "
                "here on; the table counts what would be called of them"
            )
        lines += outcome_text(self.result, self.threshold)
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        judged, shift = self.result.judged, self.result.judged.shift

        return {
            "model": self.model,
            "data": self.data,
            "figures": dict(zip(("normal", "atypical"), self.figures, strict=True)),
            "cases": self.cases,
            "before": interval_values(self.before),
            "after": interval_values(self.after),
            "difference": interval_values(self.gain),
            "outcome": judged.outcome,
            "changed": self.changed,
            "refused": dict(zip(("before", "after"), self.refused, strict=True)),
            "missing": dict(zip(("normal", "atypical"), judged.more, strict=True)),
            "evidence": judged.evidence,
            "shift": None if shift is None else {"means": shift.shifts, "errors": shift.errors, "ratios": shift.ratios},
            "map": judged.map._asdict(),
            "threshold": dict(zip(("before", "after"), self.threshold, strict=True)),
            "own_prediction_sets": dict(zip(("normal", "atypical"), self.result.sets, strict=True)),
            "refusal_limit_raised": self.result.novelty,
            "prior": self.prior[1],
            "out": None if self.out is None else str(self.out),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class _Model:
    """A bundle, where it lies, and what its decision was fitted on."""

    folder: Path
    bundle: Bundle
    classifier: Classifier
    reference: Classes
    exact: bool


def calibrate(
    model: str | Path,
    on: str | PathLike[str] | Manifest,
    out: str | Path | None = None,
    *,
    decisions: str | Path | None = None,
    cases: Cases = "given",
    prior: str | Path | None = None,
    runtime: str | None = None,
    allow: Iterable[str] = (),
    root: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> CalibratedModel:
    """Measures a model on one's own labelled figures and fits its decision to them, as far as they are reason to.

    Args:
        model: A shipped model's name, a bundle's folder, or one run of a training.
        on: The figures: a manifest, or what :func:`atypia.data.sources.opening.open_data` takes, for instance a CSV with
            ``image`` and ``label`` (and ``case_id``, ``mpp``), the review page's ``manifest.parquet``.
        out: Folder of the calibrated model, which must not exist; None: nothing is written.
        decisions: The review page's ``decisions.csv``, for the labels of figures of ``on``.
        cases: ``given``: those of the data; ``folder``: where a figure has none, the folder of its crop, class folders apart.
        prior: Folder of a training with protocol ``lodo``, whose left-out laboratories tell how much laboratories
            differ, in place of what the model says of that or the default.
        runtime: What runs the network; None for the first that is there, as for ``atypia predict``.
        allow: Leakage findings that are named as exceptions: figures that the model was trained on tell nothing.
        root: Data root; None for the user's setting.
        seed: Of the parts of cases and of the intervals.
        progress: Told how many figures are scored.

    Raises:
        InputError: The model has no fitted decision or was calibrated before, ``out`` exists, the task is another, or no
            finding has a code of ``allow``.
        DataError: A figure has no label, none gives a crop, or a file is damaged.
        LeakageError: The model was trained on these figures.

    >>> found = calibrate("atypia", "mine.csv", "my-lab")  # striped squares, of which the model makes nothing
    >>> found
    <CalibratedModel atypia on mine: 48 figures (16 atypical), 8 cases, as it was>
    >>> found.out is None  # and so no model is written
    True
    """
    allowed = check_codes(allow)
    if out is not None:
        check_new(Path(out))
    opened = _opened(model, runtime)
    manifest, notes = on if isinstance(on, Manifest) else open_data(labelled(on), root), []
    if decisions is not None:
        manifest, said = with_decisions(manifest, Path(decisions))
        notes += said
    manifest, said = with_cases(manifest, cases)
    notes += said
    _ = manifest.labels  # every figure needs one
    manifest, said = without_copies(manifest, progress)
    notes += said
    target = open_target(opened.folder)
    checked = check_set(target, manifest, allowed, progress, own_crops=True)
    if target.manifest is None:
        notes.append(
            f"whether {opened.bundle.name} was trained on these figures is told by the names of data sets alone: its "
            "training figures are not stored with it"
        )
    notes += checked.warnings
    own = scored(manifest, opened.classifier, progress)
    notes += own.notes
    how = prior_for(opened.bundle.decision)
    if prior is not None:
        how = prior_of(left_out([Path(prior)])), f"laboratories left out of {prior}"
    return _calibrated(opened, own, how, None if out is None else Path(out), seed, tuple(notes))


def _calibrated(
    opened: _Model,
    own: ScoredOwnFigures,
    how: tuple[LaboratoryPrior, str],
    out: Path | None,
    seed: int,
    notes: tuple[str, ...],
) -> CalibratedModel:
    decision, labels, cases = opened.bundle.decision, own.manifest.labels == 1, own.manifest.cases

    def fitted(rows: npt.NDArray[np.int64]) -> Calibrated:
        features = own.features[rows]
        return fit_laboratory(decision, own.logits[rows], labels[rows], cases[rows], opened.reference, how[0], features)

    result = fitted(np.arange(len(labels)))
    before, after, gain = _measured(decision, own, fitted, seed)
    if not after and result.judged.outcome not in (TOO_FEW, NOT_TOLD_APART):
        # What was fitted on some of the cases could be tried on no other, so nobody knows whether it does good or harm.
        judged = replace(result.judged, outcome=UNCHECKED, map=NO_SHIFT, more=(0, 0))
        result = Calibrated(decision, judged, (False, False), False)
    found = CalibratedModel(
        opened.bundle.name,
        own.manifest.name,
        (int(np.count_nonzero(~labels)), int(np.count_nonzero(labels))),
        len(np.unique(cases)),
        before,
        after,
        gain,
        result,
        (_refused(decision, own), _refused(result.decision, own)),
        (decision.threshold, _old_probability(decision, result)),
        how,
        opened.exact,
        None,
        notes,
    )
    if out is None or not result.changed:
        return found
    facts = {
        **made_from(opened.bundle, own.manifest),
        "figures": dict(zip(("normal", "atypical"), found.figures, strict=True)),
        "cases": found.cases,
        "outcome": result.judged.outcome,
        "map": result.judged.map._asdict(),
        "prior": how[1],
    }
    training = {**opened.bundle.training, CALIBRATED: facts}
    bundle = replace(opened.bundle, name=out.name, decision=result.decision, training=training)
    return replace(found, out=save_derived(opened.folder, bundle, out))


def _refused(decision: Decision, own: ScoredOwnFigures) -> int:
    return decision.apply(own.logits, own.features).call.count(REFUSED)


def _old_probability(decision: Decision, result: Calibrated) -> float:
    """What the probability of the model as it is must reach for the new decision to call a figure atypical."""
    moved = result.judged.map
    if moved == NO_SHIFT:
        return decision.threshold  # by its log odds it would differ in the last digit
    odds = (float(log_odds([decision.threshold])[0]) - moved.offset) / moved.factor
    return float(sigmoid(np.array(odds)))


def _opened(model: str | Path, runtime: str | None) -> _Model:
    """Opens a model whose decision can be fitted to a laboratory.

    Raises:
        InputError: It is an exported file, several runs, was calibrated before, or does not say what it was fitted on.
    """
    path = find_model(model)
    if path.is_file():
        fix = "name the bundle that it was exported from, and export the calibrated one"
        raise InputError(must("model", "a bundle's folder", f"the file {path}", fix))
    if not (path / MODEL_FILE).is_file():
        complete = runs.run_folders(path)
        if len(complete) != 1:
            names = ", ".join(run.name for run in complete[:5]) or "none"
            raise InputError(
                must("model", "one bundle or run", f"{path} with {len(complete)} runs", f"name one: {names}")
            )
        path = complete[0] / runs.BUNDLE
    bundle = load_bundle(path)
    if CALIBRATED in bundle.training:
        first = bundle.training[CALIBRATED].get("from")
        fix = f"calibrate {first} on all figures together"
        raise InputError(must("model", "one that was not calibrated before", bundle.name, fix))
    known = reference_of(bundle.decision) or _validation(path)
    if known is None:
        fix = "train it by a recipe with a `decision` section, or name its run's folder in the training"
        raise InputError(must("model", "with a fitted decision", f"{bundle.name} without one", fix))
    return _Model(path, bundle, Classifier.load(path, runtime=runtime), *known)


def _validation(bundle: Path) -> tuple[Classes, bool] | None:
    """The reference of a run whose decision was not fitted: its own validation figures."""
    path = bundle.resolve().parent / runs.PREDICTIONS
    if not path.is_file():
        return None
    own = own_of(read_predictions(path)[0], runs.VALIDATION)
    if own.labels.all() or not own.labels.any():
        return None
    return class_scores(own.labels, own.scores, own.cases, 0.0), True


def _measured(decision: Decision, own: ScoredOwnFigures, fitted: Any, seed: int) -> tuple[dict[str, Interval], ...]:
    """Metrics before, after on cases left out, and their difference.

    All are empty where a class is absent, the last two where no case can be left out: the others are none, or too few to fit.
    """
    labels, cases = own.manifest.labels == 1, own.manifest.cases
    if labels.all() or not labels.any():
        return {}, {}, {}
    names = np.unique(cases)
    part = generator(seed, "calibrate").permutation(np.arange(len(names)) % min(FOLDS, len(names)))
    of = part[np.searchsorted(names, cases)]
    first = decision.apply(own.logits, own.features)
    p, decided, tried = first.p.copy(), first.decision.copy(), False
    for fold in np.unique(part) if len(names) > 1 else ():
        rest, mine = np.flatnonzero(of != fold), np.flatnonzero(of == fold)
        found = fitted(rest)
        tried |= found.judged.outcome != TOO_FEW
        verdicts = found.decision.apply(own.logits[mine])
        p[mine], decided[mine] = verdicts.p, verdicts.decision
    one, two = PredictedLabels(first.p, first.decision), PredictedLabels(p, decided)
    options = Bootstrap(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # shown as –
        return (
            metric_intervals(labels, one, cases, METRICS, options),
            metric_intervals(labels, two, cases, DECIDED, options) if tried else {},
            difference_intervals(labels, two, one, cases, DECIDED, options) if tried else {},
        )
