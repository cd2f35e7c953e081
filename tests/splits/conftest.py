"""A fabricated set with everything that a protocol may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from atypia.base import records as r
from atypia.data.manifest import Manifest

SCANNERS = ("Alpha", "Beta | 2", "Gamma")


def fabricate(
    cases: int = 60,
    seed: int = 0,
    task: str = r.ATYPICAL_TASK,
    mean_size: float = 6.0,
    prevalence: float = 0.3,
    **columns: Any,
) -> Manifest:
    """Cases of 1 and more figures, three scanners, a published test part of every fourth case.

    Args:
        cases: Number of cases.
        seed: Of sizes, labels and row order.
        task: Task of the manifest.
        mean_size: Mean number of figures a case.
        prevalence: Share of class 1.
        **columns: Values that replace a column in every row.
    """
    rng = np.random.default_rng(seed)
    rows = [
        {
            r.FIGURE_ID: f"f{case:05d}-{number}",
            r.DATASET: "fabricated",
            r.IMAGE: f"{case}-{number}.png",
            r.CASE_ID: f"case-{case}",
            r.SLIDE_ID: f"slide-{case}.tiff",
            r.PART: "test" if case % 4 == 0 else "train",
            r.LABEL: int(rng.random() < prevalence),
            r.SCANNER: SCANNERS[case % 3],
            **columns,
        }
        for case in range(cases)
        for number in range(1 + rng.poisson(mean_size - 1))
    ]
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    return Manifest.from_rows(shuffled, "fabricated", task)


@pytest.fixture
def make() -> Callable[..., Manifest]:
    """:func:`fabricate`."""
    return fabricate


@pytest.fixture
def fabricated() -> Manifest:
    """The fabricated set with its defaults."""
    return fabricate()
