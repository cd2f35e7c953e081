"""How the views of a crop, and the members of a classifier, are brought together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.inference.bundles.decision import REFUSED, UNCERTAIN, Verdicts

Crops = npt.NDArray[np.uint8]
VIEWS: Final = 8
"""Flips and quarter turns of a crop that test-time augmentation averages."""


def dihedral_views(crops: Crops) -> Iterator[Crops]:
    """The eight flips and quarter turns of crops (n, s, s, 3), each contiguous."""
    for flipped in (crops, crops[:, :, ::-1]):
        for turns in range(4):
            yield np.ascontiguousarray(np.rot90(flipped, turns, axes=(1, 2)))


def combined(verdicts: Sequence[Verdicts], threshold: float, classes: tuple[str, str]) -> Verdicts:
    """What several members say together; see :class:`Classifier`."""
    p = np.mean([v.p for v in verdicts], axis=0)
    decision = (p >= threshold).astype(np.int8)
    calls = []
    for i, decided in enumerate(decision.tolist()):
        votes = Counter(v.call[i] for v in verdicts)
        half = len(verdicts) / 2
        if votes[REFUSED] > half:
            calls.append(REFUSED)
        else:
            calls.append(classes[decided] if votes[classes[decided]] > half else UNCERTAIN)
    return Verdicts(p, decision, calls, np.mean([v.novelty for v in verdicts], axis=0))
