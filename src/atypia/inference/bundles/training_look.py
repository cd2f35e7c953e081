"""Appearance of a classifier's training figures, laboratory by laboratory, as recorded in its bundle.

A mapping among the decision's facts (:data:`LOOK_KEY`), a few kB: for each laboratory and each measure (of the crops,
:data:`atypia.data.images.appearance.MEASURES`; of the classifier, :data:`OF_MODEL`; and µm/px) quantiles of its figures
and of its cases' medians. A drift report compares a case with it (:mod:`atypia.statistics.drift`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.records import CASE_ID, DOMAIN, MPP
from atypia.data.images.appearance import appearance
from atypia.data.manifest import Manifest
from atypia.inference.bundles.decision import Decision, Verdicts
from atypia.statistics.drift import MeasureRange, measure_range

LOOK_KEY: Final = "appearance"
"""Key among a decision's facts."""
NOVELTY, CERTAINTY = "novelty", "certainty"
OF_MODEL: Final = {NOVELTY: "novelty of the features", CERTAINTY: "certainty of the score, |log odds|"}
"""Measures that the classifier gives, and their names in plots."""
OF_SCAN: Final = {MPP: "µm/px"}
EDGE: Final = 1e-6
"""Probabilities nearer to 0 or 1 are taken for this near."""
DIGITS: Final = 5
"""Significant digits that are kept."""

Ranges = Mapping[str, Mapping[str, MeasureRange]]
"""By measure and laboratory."""


@dataclass(frozen=True)
class TrainingLook:
    """Appearance of the training figures.

    Attributes:
        source: The measured figures, in words.
        figures: Number of figures by laboratory.
        ranges: By measure and laboratory; a laboratory without a measure is not in it.
    """

    source: str
    figures: Mapping[str, int]
    ranges: Ranges

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "from": self.source,
            "laboratories": dict(self.figures),
            "measures": {
                measure: {
                    name: {"figures": _short(one.figures), "cases": _short(one.cases)} for name, one in by_name.items()
                }
                for measure, by_name in self.ranges.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingLook:
        """Reads what :meth:`as_dict` gave.

        Raises:
            InputError: A value is missing or wrong.
        """
        try:
            ranges = {
                measure: {
                    name: MeasureRange(tuple(map(float, one["figures"])), tuple(map(float, one["cases"])))
                    for name, one in by_name.items()
                }
                for measure, by_name in values["measures"].items()
            }
            return cls(str(values["from"]), {str(name): int(n) for name, n in values["laboratories"].items()}, ranges)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # an InputError is a ValueError
            fix = "write it again (tools/bundle_records.py)"
            raise InputError(must(LOOK_KEY, "quantiles by measure and laboratory", repr(error), fix)) from None


def look_of(decision: Decision) -> TrainingLook | None:
    """Appearance of the training figures; None if the bundle does not record it.

    Raises:
        InputError: The record is damaged.
    """
    values = decision.fitted.get(LOOK_KEY)
    return None if values is None else TrainingLook.from_dict(values)


def coarsest_mpp(decision: Decision) -> float | None:
    """µm/px of the coarsest case of the training; None if the bundle does not record it.

    Raises:
        InputError: The record is damaged.
    """
    look = look_of(decision)
    cases = [] if look is None else [one.cases[-1] for one in look.ranges.get(MPP, {}).values()]
    return max(cases, default=None)


def measured_look(
    laboratories: Sequence[str | None],
    cases: Sequence[str | None],
    measures: Mapping[str, npt.NDArray[np.float64]],
    source: str,
) -> TrainingLook:
    """The record of a training's figures; figures without a laboratory are left out.

    Args:
        laboratories: Of each figure, length n.
        cases: Of each figure, length n.
        measures: By name, each of shape (n,); NaN if a figure has none.
        source: What was measured, in words.

    Raises:
        InputError: No figure has a laboratory.
    """
    names = np.array([name or "" for name in laboratories])
    figures = {name: int((names == name).sum()) for name in sorted(set(names.tolist()) - {""})}
    if not figures:
        raise InputError(must("laboratories", "known of some figures", "none", "name data with domains"))
    ranges: dict[str, dict[str, MeasureRange]] = {}
    for measure, values in measures.items():
        for name in figures:
            rows = np.flatnonzero(names == name)
            if np.isfinite(values[rows]).sum() >= 2:
                own = measure_range(values[rows], [cases[row] for row in rows.tolist()])
                ranges.setdefault(measure, {})[name] = own
    return TrainingLook(source, figures, ranges)


def look_at(manifest: Manifest, judged: Iterable[tuple[npt.NDArray[np.uint8], Verdicts]], source: str) -> TrainingLook:
    """The record of a training's figures, measured batch by batch; see :func:`measured_look`.

    Args:
        manifest: The figures, with domains (the laboratories), and cases and µm/px where they are known.
        judged: Their crops (b, side, side, 3), in that order, and what the classifier says of these.
        source: What is measured, in words.

    Raises:
        InputError: No figure has a domain, or the crops are too small to be measured.
    """
    pieces: dict[str, list[npt.NDArray[np.float64]]] = {}
    for crops, verdicts in judged:
        for kind, values in {**appearance(crops), **model_measures(verdicts)}.items():
            pieces.setdefault(kind, []).append(values)
    measures = {kind: np.concatenate(parts) for kind, parts in pieces.items()}
    domains, cases, mpp = (manifest.table[name].to_pylist() for name in (DOMAIN, CASE_ID, MPP))
    measures[MPP] = np.array([np.nan if one is None else one for one in mpp], dtype=np.float64)
    return measured_look(domains, cases, measures, source)


def model_measures(verdicts: Verdicts) -> dict[str, npt.NDArray[np.float64]]:
    """:data:`OF_MODEL` of judged crops, each of shape (n,)."""
    p = np.clip(verdicts.p, EDGE, 1 - EDGE)
    return {NOVELTY: np.asarray(verdicts.novelty, dtype=np.float64), CERTAINTY: np.abs(np.log(p) - np.log1p(-p))}


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
