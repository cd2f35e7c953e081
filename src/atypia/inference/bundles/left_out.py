"""Results of a classifier in laboratories that were left out of its training, as recorded in its bundle.

The record is a list among the decision's facts (:data:`LEFT_OUT_KEY`), one entry a laboratory: its name, numbers of
atypical and normal figures, sensitivity and specificity at a threshold and, where they are known, the
probabilities of each class (at most :data:`SCORES`), from which both follow at any other threshold. From it, or from
the decision's own validation figures with a stated wider spread, the errors are computed by which a case's rate is
corrected (:func:`errors_at`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.inference.bundles.conformal import CLASSES
from atypia.inference.bundles.decision import Decision
from atypia.statistics.confusion import check_binary
from atypia.statistics.error_rates import BETWEEN_CASES, ErrorRates, KnownErrors, LaboratoryErrors, pooled_errors

LEFT_OUT_KEY: Final = "left_out"
"""Key among a decision's facts."""
SCORES: Final = 101
"""Probabilities of a class that are kept, at most: evenly spaced quantiles."""
FEWEST: Final = 3
"""Laboratories from which their spread is estimated."""
FEWEST_FIGURES: Final = 10
"""Figures of either class from which a laboratory is recorded."""
SAME: Final = 1e-9
"""Thresholds nearer than this are one."""
UNSEEN_SPREAD: Final = 0.4
"""Standard deviation of Φ⁻¹ of sensitivity and specificity between laboratories if a bundle records none: 1.5 times that
of the sensitivity over five laboratories that a similar network was not trained on (``docs/results/rate.md``). Validation
figures come from the training laboratories, so both are also too optimistic by an unknown amount."""
UNSEEN_FREEDOM: Final = 4.0
"""Degrees of freedom of that spread: it is known from five laboratories."""


@dataclass(frozen=True)
class LeftOutRecord:
    """Results of a classifier in one laboratory that it was not trained on.

    Attributes:
        laboratory: Its name.
        atypical: Number of atypical figures.
        normal: Number of normal ones.
        sensitivity: At the threshold.
        specificity: At the threshold.
        threshold: On the probability of atypical.
        scores: Probabilities of normal and of atypical figures, rising; empty if they are not known.
    """

    laboratory: str
    atypical: int
    normal: int
    sensitivity: float
    specificity: float
    threshold: float
    scores: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def knows(self, threshold: float) -> bool:
        """Whether sensitivity and specificity at this threshold are known."""
        return bool(self.scores[0] and self.scores[1]) or abs(threshold - self.threshold) < SAME

    def errors(self, threshold: float) -> LaboratoryErrors:
        """Sensitivity and specificity at a threshold for which they are known.

        Raises:
            InputError: They are not known at this one, or a number is out of range.
        """
        shares = (self.sensitivity, self.specificity)
        if not self.knows(threshold):
            raise InputError(must(f"threshold of {self.laboratory}", f"{self.threshold:g}", threshold, "keep it"))
        if abs(threshold - self.threshold) >= SAME:
            normal, atypical = (np.array(values) for values in self.scores)
            shares = (float(np.mean(atypical >= threshold)), float(np.mean(normal < threshold)))
        return LaboratoryErrors(self.laboratory, self.atypical, self.normal, *shares)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        values: dict[str, Any] = {
            "laboratory": self.laboratory,
            "n_atypical": self.atypical,
            "n_normal": self.normal,
            "sensitivity": self.sensitivity,
            "specificity": self.specificity,
            "threshold": self.threshold,
        }
        if self.scores[0]:
            values["scores"] = {name: list(kept) for name, kept in zip(CLASSES, self.scores, strict=True)}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LeftOutRecord:
        """Reads what :meth:`as_dict` gave.

        Raises:
            InputError: A value is missing or wrong.
        """
        try:
            kept = values.get("scores", dict.fromkeys(CLASSES, ()))
            found = cls(
                str(values["laboratory"]),
                int(values["n_atypical"]),
                int(values["n_normal"]),
                float(values["sensitivity"]),
                float(values["specificity"]),
                float(values["threshold"]),
                (tuple(map(float, kept[CLASSES[0]])), tuple(map(float, kept[CLASSES[1]]))),
            )
            found.errors(found.threshold)
        except (KeyError, TypeError, ValueError) as error:  # an InputError is a ValueError
            fix = "write the record again (tools/bundle_records.py)"
            raise InputError(must(LEFT_OUT_KEY, "a list of laboratories", repr(error), fix)) from None
        return found


def recorded(
    laboratories: Sequence[str | None], labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float
) -> list[LeftOutRecord]:
    """The record of figures from laboratories that a classifier, or those of one cross-validation, never saw.

    Figures without a laboratory, and laboratories with fewer than :data:`FEWEST_FIGURES` figures of a class, are left out.

    Args:
        laboratories: Of each figure, length n.
        labels: Shape (n,), 1 = atypical.
        probabilities: Calibrated as by the decision that gets the record, shape (n,).
        threshold: The decision's.

    Raises:
        InputError: Shapes differ or a label is neither 0 nor 1.
    """
    y, p = check_binary("labels", labels), np.asarray(probabilities, dtype=np.float64)
    if not len(laboratories) == len(y) == len(p):
        raise InputError(must("laboratories", f"one a figure ({len(y)})", len(laboratories), "pass one set's"))
    names, found = np.array([name or "" for name in laboratories]), []
    for name in sorted(set(names.tolist()) - {""}):
        classes = [p[(names == name) & (y == positive)] for positive in (False, True)]
        if min(map(len, classes)) < FEWEST_FIGURES:
            continue
        shares = float(np.mean(classes[1] >= threshold)), float(np.mean(classes[0] < threshold))
        kept = _kept(classes[0]), _kept(classes[1])
        found.append(LeftOutRecord(name, len(classes[1]), len(classes[0]), *shares, threshold, kept))
    return found


def _kept(scores: npt.NDArray[np.float64]) -> tuple[float, ...]:
    many = len(scores) > SCORES
    chosen = np.quantile(scores, (np.arange(SCORES) + 0.5) / SCORES) if many else np.sort(scores)
    return tuple(round(float(value), 4) for value in chosen)


def errors_at(decision: Decision) -> KnownErrors:
    """Sensitivity and specificity of a decision in an unseen laboratory.

    Args:
        decision: At the threshold that is in effect.

    Raises:
        InputError: The record is damaged.
    """
    figures = decision.fitted.get("figures")
    counts = [figures.get(name) for name in CLASSES] if isinstance(figures, Mapping) else []
    normal, atypical = (count if isinstance(count, int) and count > 0 else 0 for count in (counts or [0, 0]))
    prior = atypical / (normal + atypical) if normal and atypical else None
    records = [LeftOutRecord.from_dict(one) for one in decision.fitted.get(LEFT_OUT_KEY, ())]
    records = [one for one in records if one.knows(decision.threshold)]
    if len(records) >= FEWEST:
        pooled = pooled_errors([one.errors(decision.threshold) for one in records])
        return KnownErrors(pooled, prior, f"{len(records)} laboratories that were left out of its training")
    for point in decision.fitted.get("points", {}).values():
        if prior is not None and abs(point["threshold"] - decision.threshold) < SAME:
            # A share of exactly 1 would mean that errors are impossible.
            hits = (point["sensitivity"] * atypical + 0.5) / (atypical + 1)
            right = (point["specificity"] * normal + 0.5) / (normal + 1)
            spread = float(np.hypot(UNSEEN_SPREAD, BETWEEN_CASES))
            words = (
                "its validation figures, as it records no laboratories that were left out: a wide spread between "
                "laboratories is assumed"
            )
            return KnownErrors(ErrorRates(hits, right, (spread, spread), freedom=UNSEEN_FREEDOM), prior, words)
    points = ", ".join(f"{value:.3g} ({name})" for name, value in decision.points.items())
    why = f"at the threshold {decision.threshold:.3g} its errors are not recorded"
    return KnownErrors(None, prior, f"{why}; known at {points}" if points else "the model records no errors")
