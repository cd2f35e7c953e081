"""Decision: from a network's output to what is reported.

A network gives a logit and features. The decision, fitted on figures that the network was not
trained on and saved in the bundle, turns them into a calibrated probability, a class at a threshold
and a *call*: ``normal`` or ``atypical`` if the prediction set contains only this class, ``uncertain`` if it
leaves both open, ``refused`` if the crop is unlike the training data. ``docs/decision.md``
explains how to read them.

Applying a decision needs only NumPy; fitting loads SciPy and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.records import DEFAULT_THRESHOLD
from atypia.inference.bundles.calibration import (
    CALIBRATIONS,
    UNCALIBRATED,
    Calibration,
    Floats,
    calibration_from_dict,
)
from atypia.inference.bundles.conformal import CLASSES, DEFAULT_COVERAGE, Conformal, fit_conformal
from atypia.inference.bundles.novelty import COMPONENTS, QUANTILE, Novelty, fit_novelty
from atypia.inference.bundles.operating import balanced_point, sensitivity_point, specificity_point
from atypia.statistics.confusion import check_binary, check_finite

UNCERTAIN: Final = "uncertain"
REFUSED: Final = "refused"
CALLS: Final = (*CLASSES, UNCERTAIN, REFUSED)
"""What a figure can be called: normal, atypical, uncertain, refused."""
SHARES: Final = (0.9, 0.95)
"""Sensitivities and specificities that get an operating point each."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The result for n figures.

    Attributes:
        p: Calibrated probability of atypical, shape (n,), float64 in [0, 1].
        decision: 1 if p reaches the threshold, shape (n,), int8; given for refused crops as well.
        call: One of :data:`CALLS` per figure.
        novelty: Shape (n,), float64 ≥ 0; NaN without a fitted novelty or without features.
    """

    p: Floats
    decision: npt.NDArray[np.int8]
    call: list[str]
    novelty: Floats


@dataclass(frozen=True, eq=False)
class Decision:
    """How logits and features become verdicts.

    Attributes:
        threshold: A figure is decided atypical if p ≥ threshold; in (0, 1).
        calibration: From logits to p.
        points: Operating points: name to threshold.
        conformal: Limits of the prediction sets; None: nothing is called uncertain.
        coverage: Coverage of the prediction sets.
        novelty: Distance from the training features; None: nothing is called refused.
        fitted: Facts about the figures that the decision was fitted on. JSON-able; not used to decide.
    """

    threshold: float = DEFAULT_THRESHOLD
    calibration: Calibration = UNCALIBRATED
    points: Mapping[str, float] = field(default_factory=dict)
    conformal: Conformal | None = None
    coverage: float = DEFAULT_COVERAGE
    novelty: Novelty | None = None
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {"threshold": self.threshold, **self.points}.items():
            # A bool is an int and would be accepted.
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < 1:
                raise InputError(must(name, "a number between 0 and 1", value, "give a threshold on the probability"))
        if self.conformal is not None:
            self.conformal.limits(self.coverage)

    def apply(self, logits: npt.ArrayLike, features: npt.NDArray[Any] | None = None) -> Verdicts:
        """Decides about figures, each independently of the batch.

        A call never contradicts the decision: if the prediction set contains one class and the threshold
        gives the other (an operating point far from the best), the figure is called uncertain.

        Args:
            logits: As the network gives them, shape (n,), finite.
            features: As the network gives them, shape (n, d); None: nothing is refused.

        Raises:
            InputError: Shapes do not fit, or a value is NaN or infinite.
        """
        p = self.calibration.apply(logits)
        decided = p >= self.threshold
        calls = np.where(decided, CLASSES[1], CLASSES[0]).astype(object)
        if self.conformal is not None:
            sets = self.conformal.sets(p, self.coverage)
            calls[np.where(decided, sets.normal | ~sets.atypical, sets.atypical | ~sets.normal)] = UNCERTAIN
        novelty = np.full(len(p), np.nan)
        if self.novelty is not None and features is not None:
            if len(features) != len(p):
                raise InputError(must("features", f"one row a logit ({len(p)})", len(features), "pass one batch's"))
            novelty = self.novelty.apply(features)
            calls[self.novelty.refused(novelty)] = REFUSED
        return Verdicts(p, decided.astype(np.int8), calls.tolist(), novelty)

    def at(self, name: str) -> Decision:
        """The same decision at another operating point.

        Raises:
            InputError: There is no point of that name.
        """
        if name not in self.points:
            choices = ", ".join(self.points) or "none; this model carries its threshold alone"
            raise InputError(must("operating point", "one of the model's", name, f"choose from: {choices}"))
        return replace(self, threshold=self.points[name])

    def with_coverage(self, coverage: float) -> Decision:
        """The same decision with other prediction sets.

        Raises:
            InputError: No prediction sets were fitted, or the coverage is not stored.
        """
        if self.conformal is None:
            raise InputError(must("coverage", "left out", coverage, "choose a model with fitted prediction sets"))
        return replace(self, coverage=coverage)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, without what :meth:`tensors` gives; a plain threshold is ``{"threshold": t}``."""
        values: dict[str, Any] = {"threshold": self.threshold}
        if self.calibration != UNCALIBRATED:
            values["calibration"] = self.calibration.as_dict()
        if self.points:
            values["points"] = dict(self.points)
        if self.conformal is not None:
            values["coverage"] = self.coverage
            values["conformal"] = self.conformal.as_dict()
        if self.novelty is not None:
            values["novelty"] = self.novelty.as_dict()
        if self.fitted:
            values["fitted"] = dict(self.fitted)
        return values

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays that belong to it, by names that begin with ``novelty.``; empty without a novelty."""
        return {} if self.novelty is None else self.novelty.tensors()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]] | None = None) -> Decision:
        """Reads what :meth:`as_dict` and :meth:`tensors` gave.

        Args:
            values: The JSON form.
            tensors: A bundle's tensors; those of other names are left alone.

        Raises:
            InputError: A key is unknown, or a value is missing or wrong.
        """
        known = {"threshold", "calibration", "points", "conformal", "coverage", "novelty", "fitted"}
        strange = sorted(set(values) - known)
        if strange or "threshold" not in values:
            got = f"unknown {', '.join(strange)}" if strange else "no threshold"
            raise InputError(must("decision", f"of {', '.join(sorted(known))}", got, "update Atypia, or fit it again"))
        parts: dict[str, Any] = {
            key: values[key] for key in ("threshold", "points", "coverage", "fitted") if key in values
        }
        for key in sorted(known - {"threshold", "coverage"}):
            if key in values and not isinstance(values[key], Mapping):
                raise InputError(must(f"decision {key}", "a mapping", values[key], "fit it again"))
        if "calibration" in values:
            parts["calibration"] = calibration_from_dict(values["calibration"])
        if "conformal" in values:
            parts["conformal"] = Conformal.from_dict(values["conformal"])
        if "novelty" in values:
            parts["novelty"] = Novelty.from_tensors(values["novelty"], tensors or {})
        return cls(**parts)


def fit_decision(
    logits_val: npt.ArrayLike,
    labels_val: npt.ArrayLike,
    features_train: npt.NDArray[Any] | None = None,
    labels_train: npt.ArrayLike | None = None,
    features_val: npt.NDArray[Any] | None = None,
    *,
    calibration: str = "platt",
    coverage: float = DEFAULT_COVERAGE,
    sensitivities: Sequence[float] = SHARES,
    specificities: Sequence[float] = SHARES,
    novelty_quantile: float = QUANTILE,
    components: int = COMPONENTS,
    novelty_held_out: Floats | None = None,
) -> Decision:
    """Fits everything; the threshold is that of the best balanced accuracy.

    The network must not have been trained on the validation figures: use a validation fold,
    or the out-of-fold logits of a cross-validation.

    Args:
        logits_val: Shape (n,), finite.
        labels_val: Shape (n,), 1 = atypical, 0 = normal; both must be there.
        features_train: Of the training figures, shape (m, d); None: no novelty is fitted.
        labels_train: Shape (m,), with the features.
        features_val: Of held-out figures through the same network, shape (v, d), with the features.
        calibration: Name in :data:`atypia.inference.bundles.calibration.CALIBRATIONS`.
        coverage: Coverage of the prediction sets, in (0, 0.99].
        sensitivities: Sensitivities that get an operating point each, in (0, 1].
        specificities: Specificities that get one.
        novelty_quantile: Share of held-out figures within the limit of the novelty, in (0, 1).
        components: Components of the novelty's subspace.
        novelty_held_out: Novelty of held-out figures by the classifiers of a cross-validation, shape (v,), in place
            of ``features_val``, where the network was trained on every figure.

    Raises:
        InputError: A class is absent, a value is not finite or out of range, shapes differ, or
            only some of the three arguments of the novelty are given.
    """
    from atypia.inference.bundles.reference import CLASSES_KEY, classes_as_dict, log_odds
    from atypia.statistics.laboratories import class_scores
    from atypia.statistics.metrics import brier, ece

    fitted = CALIBRATIONS[calibration].fit(logits_val, labels_val, None)
    y, z = check_binary("labels_val", labels_val), check_finite("logits_val", logits_val)
    p = fitted.apply(z)
    best = balanced_point(y, p)
    points = [best]
    points += [sensitivity_point(y, p, share) for share in sensitivities]
    points += [specificity_point(y, p, share) for share in specificities]
    conformal = fit_conformal(y, p)
    novelty = None
    held_out = features_val if novelty_held_out is None else novelty_held_out
    given = [argument is not None for argument in (features_train, labels_train, held_out)]
    if features_train is not None and labels_train is not None and held_out is not None:
        novelty = fit_novelty(
            features_train, labels_train, features_val, novelty_quantile, components, novelty_held_out
        )
    elif any(given):
        raise InputError(must("novelty", "fitted with all three of its arguments", sum(given), "give all, or none"))
    decision = Decision(
        threshold=best.threshold,
        calibration=fitted,
        points={point.name: point.threshold for point in points},
        conformal=conformal,
        coverage=coverage,
        novelty=novelty,
    )
    calls = np.array(decision.apply(z).call)
    before = UNCALIBRATED.apply(z)
    facts = {
        "figures": {CLASSES[0]: int(np.count_nonzero(~y)), CLASSES[1]: int(np.count_nonzero(y))},
        "points": {point.name: point.as_dict() for point in points},
        "calibration": {
            "brier": {"before": brier(y, before), "after": brier(y, p)},
            "ece": {"before": ece(y, before), "after": ece(y, p)},
        },
        "uncertain": float(np.mean(calls == UNCERTAIN)),
        # A laboratory's own figures are compared with these: atypia.inference.bundles.laboratory.
        CLASSES_KEY: classes_as_dict(class_scores(y, log_odds(p), None, 0.0)),
    }
    if novelty is not None and features_train is not None and held_out is not None:
        facts["novelty"] = {"training": len(features_train), "held_out": len(held_out)}
    return replace(decision, fitted=facts)
