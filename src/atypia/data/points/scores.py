"""Scores of a detector: where files have them, and which figures have enough."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must

SCORES: Final = ("probability", "prob", "score", "confidence", "conf", "detection_probability", "type_prob")
"""Names of scores in files, in plain spelling, the first that is there counts."""
_SPACES: Final = re.compile(r"[\s_-]+")


def as_score(value: Any) -> float:
    """A score as a number, in a text also with a decimal comma; NaN where it is none.

    >>> as_score("0.75"), as_score("0,75"), as_score(None), as_score(True)
    (0.75, 0.75, nan, nan)
    """
    if value is None or isinstance(value, bool):
        return math.nan
    if isinstance(value, str) and "." not in value:
        value = value.replace(",", ".", 1)
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def score_in(values: Mapping[str, Any]) -> Any:
    """The score among named values, in any case of letters, with spaces or without; None if there is none.

    >>> score_in({"type": "mitosis", "Probability": 0.5}), score_in({"Detection probability": 0.25})
    (0.5, 0.25)
    """
    plain = {_SPACES.sub("_", str(name).strip().casefold()): value for name, value in values.items()}
    return next((plain[name] for name in SCORES if plain.get(name) is not None), None)


def enough(
    scores: npt.NDArray[np.float64] | None, least: float | None
) -> tuple[npt.NDArray[np.bool_] | None, list[str]]:
    """Which figures have at least a score.

    Args:
        scores: One per figure, shape (n,), NaN without one; None if the file has none.
        least: The least score; None to take all.

    Returns:
        One truth value per figure, None for all of them; and notes.

    Raises:
        InputError: ``least`` is not finite, or is given and the file has no scores, or no figure has that much.
    """
    if least is None:
        if scores is None:
            return None, []
        low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
        if low == high:
            return None, []
        return None, [f"points have scores from {low:.3g} to {high:.3g}, and all are used; --min-score takes fewer"]
    if not math.isfinite(least):
        raise InputError(must("--min-score", "a finite number", least, "for instance 0.5"))
    if scores is None:
        raise InputError(must("--min-score", "left out where points have no scores", least, "leave it out"))
    taken = scores >= least
    if not taken.any():
        got = f"{least:g}, and the highest is {np.nanmax(scores):.3g}"
        raise InputError(must("--min-score", "at most the highest score of the points", got, "give a smaller one"))
    without = int(np.isnan(scores).sum())
    notes = []
    if (below := int((~taken).sum()) - without) > 0:
        notes.append(f"left out: {below:,} of {len(scores):,} points with a score below {least:g}")
    if without:
        notes.append(f"left out: {without:,} of {len(scores):,} points without a score")
    return taken, notes
