"""A protocol: from figures, options and seed to the rows of each fold's parts."""

import numpy as np
from pydantic import Field

from atypia.base.config import StrictModel
from atypia.splits.catalogue import GROUPED, PROTOCOLS, Division, FoldRows, Protocol
from atypia.splits.figures import LabelledFigures


class EveryNthOptions(StrictModel):
    """Options of the protocol.

    Attributes:
        n: Every n-th case is a validation case; one fold for each offset.
    """

    n: int = Field(default=2, ge=2)


def divide(figures: LabelledFigures, options: EveryNthOptions, seed: int) -> Division:
    rows = np.arange(len(figures))
    held = [figures.cases % options.n == offset for offset in range(options.n)]
    return Division([FoldRows(f"fold-{k}", rows[~val], rows[val]) for k, val in enumerate(held, 1)])


PROTOCOLS.add(
    "mylab-every-nth",
    Protocol(
        name="mylab-every-nth",
        summary="every n-th case is held out",
        source="MyLab et al., 2026",
        leakage=GROUPED,
        options=EveryNthOptions,
        divide=divide,
    ),
)
