"""Simulates the rate of cases of which people decided a part and a classifier called the rest.

``python tools/review_simulation.py [--cases 500] [--seed 1]``

Each case comes from a laboratory of its own, whose sensitivity and specificity are drawn from the distribution that the
correction is told. Scores of both classes are normal; reviewers decide a share of the figures without error: a random one,
the most uncertain ones, those with the highest scores, or the clearest ones. Compared: the share of atypical figures where
the model's other calls are taken as they are (with an exact interval), :func:`~atypia.statistics.reviewed.reviewed_rate`, and
double sampling (Tenenbein 1970), which learns the errors from the decided figures as if they were a random part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, xlog1py, xlogy

from atypia import __version__
from atypia.base.seeds import generator
from atypia.statistics.error_rates import CONFIDENCE, ErrorRates
from atypia.statistics.rates import GRID, densest, exact_interval, likelihood
from atypia.statistics.reviewed import ReviewedCounts, reviewed_rate

TOLD: Final = ErrorRates(0.8, 0.9, (0.3, 0.25), 0.75, 4.0)
SIZES: Final = (40, 150)
RATES: Final = (0.1, 0.3)
SHARES: Final = (0.3, 0.7)
Order = Callable[[npt.NDArray[np.float64], np.random.Generator], npt.NDArray[np.int64]]
ORDERS: Final[dict[str, Order]] = {
    "at random": lambda scores, rng: rng.permutation(len(scores)),
    "most uncertain first": lambda scores, _: np.argsort(np.abs(scores)),
    "highest score first": lambda scores, _: np.argsort(-scores),
    "clearest first": lambda scores, _: np.argsort(-np.abs(scores)),
}


@dataclass(frozen=True)
class SimulatedReview:
    """Counts of a case, and for double sampling the atypical ones among decided figures by their call."""

    counts: ReviewedCounts
    truly: tuple[int, int]


def simulated(figures: int, rate: float, share: float, order: Order, rng: np.random.Generator) -> SimulatedReview:
    """One case of an unseen laboratory."""
    z = rng.normal(size=2) * np.sqrt(TOLD.freedom / rng.chisquare(TOLD.freedom))
    hit = ndtri(TOLD.sensitivity) + TOLD.spread[0] * z[0]
    mixed = TOLD.together * z[0] + np.sqrt(1 - TOLD.together**2) * z[1]
    false = ndtri(1 - TOLD.specificity) + TOLD.spread[1] * mixed
    atypical = rng.random(figures) < rate
    scores = rng.normal(size=figures) + np.where(atypical, hit, false)  # called atypical above 0
    called = scores > 0
    decided = np.zeros(figures, np.bool_)
    decided[order(scores, rng)[: round(share * figures)]] = True
    pairs = [
        (int(np.sum(x & called)), int(np.sum(x & ~called))) for x in (decided | True, ~decided, decided & atypical)
    ]
    people = int(np.sum(decided & atypical)), int(np.sum(decided & ~atypical))
    return SimulatedReview(ReviewedCounts(*people, pairs[0], pairs[1]), pairs[2])


def double_sampling(case: SimulatedReview, errors: ErrorRates) -> tuple[float, float]:
    """Interval of the rate where decided figures are taken for a random part of those with the same call."""
    counts, (hits, false, weights) = case.counts, errors.nodes(31)
    rates = np.linspace(0, 1, GRID)
    q = rates[:, None] * hits + (1 - rates[:, None]) * false
    logs = np.log(np.maximum(likelihood(counts.called[0], sum(counts.called), rates, hits, false), 1e-300))
    with np.errstate(divide="ignore", invalid="ignore"):
        for number, (value, all_) in enumerate(((rates[:, None] * hits, q), (rates[:, None] * (1 - hits), 1 - q))):
            known = counts.called[number] - counts.rest[number]
            true = np.clip(np.nan_to_num(value / all_), 0, 1)
            logs += xlogy(case.truly[number], true) + xlog1py(known - case.truly[number], -true)
    return densest(rates, np.exp(logs - logs.max()) @ weights, CONFIDENCE)


def rows(cases: int, seed: int) -> Iterator[str]:
    """One row for each way to review."""
    for figures in SIZES:
        for rate in RATES:
            for share in SHARES:
                for name, order in ORDERS.items():
                    rng = generator(seed, "review", figures, rate, share, name)
                    found: list[tuple[float, ...]] = []
                    for _ in range(cases):
                        case = simulated(figures, rate, share, order, rng)
                        told, c = reviewed_rate(case.counts, TOLD), case.counts
                        naive = c.atypical + c.rest[0]
                        ends = (exact_interval(naive, figures), (told.low, told.high), double_sampling(case, TOLD))
                        held = [float(low - 1e-9 <= rate <= high + 1e-9) for low, high in ends]
                        found.append((*held, *(high - low for low, high in ends)))
                    mean = np.mean(found, axis=0)
                    yield (
                        f"| {figures} | {rate:.0%} | {share:.0%} | {name} | {mean[0]:.0%}, {mean[3]:.2f} | "
                        f"{mean[1]:.0%}, {mean[4]:.2f} | {mean[2]:.0%}, {mean[5]:.2f} |"
                    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.perf_counter()
    out = [
        "| figures | true rate | decided | order of review | calls taken as they are | corrected | double sampling |",
        "|---|---|---|---|---|---|---|",
        *rows(asked.cases, asked.seed),
    ]
    seconds = time.perf_counter() - started
    out += [
        "",
        f"Share of cases whose 95 % interval holds the true rate, and its mean width; {asked.cases} cases a row, seed "
        f"{asked.seed}; Atypia {__version__}, NumPy {np.__version__}; {seconds:.0f} s.",
    ]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
