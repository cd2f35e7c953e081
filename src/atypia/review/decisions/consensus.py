"""The raters' joint decisions, and their agreement."""

from __future__ import annotations

import math
import warnings
from itertools import combinations
from typing import Any

import numpy as np

from atypia.review.decisions.listing import rate_of
from atypia.review.decisions.state import DecisionState
from atypia.review.decisions.words import DECISIONS, TIE
from atypia.statistics.metrics import UndefinedMetricWarning


def consensus_report(decision_state: DecisionState) -> dict[str, Any]:
    """Majority, ties and agreement of all raters, JSON-able; what is undefined is None.

    Kappas and the table of raters against the others use only votes on the class (*atypical*,
    *normal*); the majority counts all four decisions and respects arbitrations.
    """
    from atypia.statistics.agreement import agreement

    codes = decision_state.consensus()
    raters = decision_state.raters
    majority = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(DECISIONS)}
    report: dict[str, Any] = {
        "raters": list(raters),
        "figures_with_two": 0,
        "fleiss_kappa": None,
        "pairs": [],
        "against_others": [],
        "ties": int(np.count_nonzero(codes == TIE)),
        "majority": majority,
        "rate": rate_of(majority),
        "disputed": len(decision_state.disputed()),
        "settled": len(decision_state.settled),
    }
    votes = decision_state.vote_matrix()
    votes = votes[~np.isnan(votes).all(axis=1)] if votes.size else votes
    if len(raters) < 2 or not len(votes):
        return report
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # NaN becomes null, shown as n/a on the page
        found = agreement(votes)
    given = ~np.isnan(votes)
    report["figures_with_two"] = found.n
    report["fleiss_kappa"] = _known(found.fleiss)
    report["pairs"] = [
        {
            "first": raters[i],
            "second": raters[j],
            "figures": int(np.count_nonzero(given[:, i] & given[:, j])),
            "kappa": _known(found.cohen[i][j]),
        }
        for i, j in combinations(range(len(raters)), 2)
    ]
    report["against_others"] = [
        {
            "rater": raters[score.rater],
            "compared": score.n,
            "ties": score.ties,
            "sensitivity": _known(score.sensitivity),
            "specificity": _known(score.specificity),
            "balanced_accuracy": _known(score.balanced_accuracy),
        }
        for score in found.scores
    ]
    return report


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
