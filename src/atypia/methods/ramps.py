"""How the weight of a term grows over a training."""

from __future__ import annotations

import math

from atypia.base.errors import InputError, must


def dann_ramp(progress: float, steepness: float = 10.0) -> float:
    """``2 / (1 + exp(−γ p)) − 1``: from 0 at the start of training to almost 1 at its end.

    Ganin et al. 2016, section 5.2.2; used by Atey et al. for the alignment weight.

    Args:
        progress: p in [0, 1], the share of training that is done.
        steepness: γ, 10 in the paper.

    >>> dann_ramp(0.0)
    0.0
    >>> round(dann_ramp(1.0), 4)
    0.9999
    """
    if not 0 <= progress <= 1:
        raise InputError(must("progress", "between 0 and 1", progress, "divide the step by the number of steps"))
    return 2 / (1 + math.exp(-steepness * progress)) - 1


def linear_warmup(epoch: float, epochs: float) -> float:
    """Share in [0, 1] that grows linearly over the first ``epochs``; 1 where there is no warm-up.

    >>> linear_warmup(5, 10)
    0.5
    """
    return 1.0 if epochs <= 0 else min(1.0, max(0.0, epoch / epochs))
