"""Simulates the corrected rate of cases, and measures it on laboratories that were left out of trainings.

``python tools/rate_simulation.py [RUNS…] [--cases 2000] [--seed 1]``

Without RUNS: simulated cases alone. Each comes from a laboratory of its own, whose sensitivity and specificity are drawn
from the distribution that the correction is told, or from a wider one than it is told; the figures are drawn one by one.

RUNS: folders of trainings (``atypia train … --protocol lodo``), studies, or folders above several. The decision of each
training is fitted on its own validation figures, as that of a bundle is. Cases of a laboratory are corrected with the
sensitivities and specificities in the *other* laboratories that were left out, or with the validation's own and the wide
spread of a bundle that records none; the raters' share of atypical figures in the case is the truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from atypia import __version__
from atypia.base.seeds import generator
from atypia.evaluation.laboratories import LeftOutLaboratory, left_out
from atypia.inference.bundles.decision import Decision, fit_decision
from atypia.inference.bundles.left_out import LEFT_OUT_KEY, errors_at, recorded
from atypia.statistics.error_rates import ErrorRates, KnownErrors
from atypia.statistics.rates import CorrectedRate, corrected_rate, expected_rate, likeliest_rate

RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
SIZES = (20, 60, 200)
TOLD = ErrorRates(0.8, 0.9, (0.3, 0.25), 0.75, 4.0)
"""As pooled from five laboratories: ``docs/results/rate.md``."""
FEWEST = 5
"""Figures of a case that is scored."""

corrected = lru_cache(maxsize=None)(corrected_rate)


@dataclass
class Score:
    """Sums over cases."""

    cases: int = 0
    covered: int = 0
    said: int = 0
    width: float = 0.0
    raw: float = 0.0
    rate: float = 0.0
    covered_raw: int = 0

    def add(self, found: CorrectedRate, called: int, figures: int, truth: float) -> None:
        """Counts one case."""
        from atypia.statistics.rates import exact_interval

        low, high = exact_interval(called, figures)
        self.cases += 1
        self.covered += found.low - 1e-9 <= truth <= found.high + 1e-9
        self.covered_raw += low <= truth <= high
        self.said += found.says
        self.width += found.high - found.low
        self.raw += abs(called / figures - truth)
        # Where nothing is said the reader is left with the raw rate.
        self.rate += abs((found.rate if found.says else called / figures) - truth)


def simulate(rate: float, figures: int, told: ErrorRates, true: ErrorRates, cases: int, seed: int) -> Score:
    """Cases of unseen laboratories whose errors are drawn from ``true`` and corrected with ``told``."""
    rng = generator(seed, "rate", rate, figures, true.spread)
    score = Score()
    z = rng.normal(size=(cases, 2))
    if not np.isinf(true.freedom):
        z *= np.sqrt(true.freedom / rng.chisquare(true.freedom, cases))[:, None]
    mixed = true.together * z[:, 0] + np.sqrt(1 - true.together**2) * z[:, 1]
    hits = ndtr(ndtri(true.sensitivity) + true.spread[0] * z[:, 0])
    false = ndtr(ndtri(1 - true.specificity) + true.spread[1] * mixed)
    for called in rng.binomial(figures, rate * hits + (1 - rate) * false).tolist():
        score.add(corrected(called, figures, told), called, figures, rate)
    return score


def simulated(cases: int, seed: int) -> Iterator[str]:
    """Rows by true rate, number of figures and spread."""
    none = ErrorRates(TOLD.sensitivity, TOLD.specificity)
    wider = ErrorRates(TOLD.sensitivity, TOLD.specificity, (0.6, 0.5), 0.75, 4.0)
    ways = {"none": (none, none), "as told": (TOLD, TOLD), "as told, taken for none": (none, TOLD),
            "twice what is told": (TOLD, wider)}  # fmt: skip
    for name, (told, true) in ways.items():
        for figures in SIZES:
            for rate in RATES:
                s = simulate(rate, figures, told, true, cases, seed)
                yield (
                    f"| {name} | {figures} | {rate:.0%} | {s.raw / s.cases:.3f} | {s.rate / s.cases:.3f} | "
                    f"{s.covered_raw / s.cases:.1%} | {s.covered / s.cases:.1%} | {s.width / s.cases:.2f} | "
                    f"{1 - s.said / s.cases:.0%} |"
                )


def measured(labs: Sequence[LeftOutLaboratory]) -> Iterator[str]:
    """Rows by laboratory and by size of the case; cases of all trainings that left the laboratory out."""
    decisions = {lab.run: fit_decision(lab.validation.scores, lab.validation.labels) for lab in labs}
    names = sorted({lab.laboratory for lab in labs})
    by_laboratory: dict[str, dict[str, Score]] = {name: defaultdict(Score) for name in [*names, "5 to 14 figures",
                                                  "15 or more", "all"]}  # fmt: skip
    likeliest: dict[str, list[float]] = defaultdict(list)
    expected: dict[str, list[float]] = defaultdict(list)
    for lab in labs:
        decision = decisions[lab.run]
        known = {"others": errors_of_others(lab, labs, decisions), "validation": errors_at(decision)}
        p = decision.calibration.apply(lab.figures.scores)
        for case in np.unique(lab.figures.cases):
            rows = lab.figures.cases == case
            figures, truth = int(rows.sum()), float(lab.figures.labels[rows].mean())
            if figures < FEWEST:
                continue
            called = int((p[rows] >= decision.threshold).sum())
            size = "15 or more" if figures >= 15 else "5 to 14 figures"
            for group in (lab.laboratory, size, "all"):
                for way, errors in known.items():
                    if errors.errors is not None and errors.prior is not None:
                        by_laboratory[group][way].add(corrected(called, figures, errors.errors), called, figures, truth)
                        if way == "validation":
                            likeliest[group].append(abs(likeliest_rate(p[rows], errors.prior) - truth))
                            expected[group].append(abs(expected_rate(p[rows], errors.prior, errors.prior) - truth))
    for group, ways in by_laboratory.items():
        if not ways:
            continue
        own, others = ways["validation"], ways.get("others", Score())
        n, m = own.cases, max(others.cases, 1)
        yield (
            f"| {plain(group)} | {n} | {own.raw / n:.3f} | {others.rate / m:.3f} | {own.rate / n:.3f} | "
            f"{np.mean(likeliest[group]):.3f} | {np.mean(expected[group]):.3f} | {own.covered_raw / n:.0%} | {others.covered / m:.0%} | "
            f"{own.covered / n:.0%} | {others.width / m:.2f} | {own.width / n:.2f} |"
        )


def errors_of_others(
    lab: LeftOutLaboratory, labs: Sequence[LeftOutLaboratory], decisions: dict[str, Decision]
) -> KnownErrors:
    """What the other laboratories say of this one: as a bundle would that had recorded them."""
    others = {one.laboratory: one for one in labs if one.laboratory != lab.laboratory}  # one run of each
    decision = decisions[lab.run]
    records = []
    for one in others.values():
        its = decisions[one.run]
        p = its.calibration.apply(one.figures.scores)
        found = recorded([one.laboratory] * len(p), one.figures.labels, p, its.threshold)
        # Sensitivity and specificity are those at the other run's own threshold, which is this one's to its scores.
        records += [{**record.as_dict(), "threshold": decision.threshold} for record in found]
    facts = {**decision.fitted, LEFT_OUT_KEY: records}
    return errors_at(Decision(decision.threshold, decision.calibration, decision.points, fitted=facts))


def laboratories(labs: Sequence[LeftOutLaboratory]) -> Iterator[str]:
    """Sensitivity and specificity at the transported threshold; runs are numbered, as their folders' names are anybody's."""
    numbers = {run: number for number, run in enumerate(dict.fromkeys(lab.run for lab in labs), start=1)}
    for lab in labs:
        decision = fit_decision(lab.validation.scores, lab.validation.labels)
        best = decision.fitted["points"]["balanced"]
        called = decision.calibration.apply(lab.figures.scores) >= decision.threshold
        y = lab.figures.labels
        yield (
            f"| {plain(lab.laboratory)} | {numbers[lab.run]} | {y.sum()}, {(~y).sum()} | {best['sensitivity']:.3f}, "
            f"{best['specificity']:.3f} | {called[y].mean():.3f}, {(~called[~y]).mean():.3f} |"
        )


def plain(laboratory: str) -> str:
    """A name that does not end a table's cell."""
    return laboratory.replace(" | ", ", ")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.perf_counter()
    out = [
        "| spread between laboratories | figures | true rate | MAE raw | MAE corrected | coverage, Clopper-Pearson of the raw "
        "rate | coverage | mean width | nothing said |",
        "|---|---|---|---|---|---|---|---|---|",
        *simulated(asked.cases, asked.seed),
    ]
    if asked.runs:
        labs = left_out(asked.runs, evaluations=True)
        out += [
            "",
            "| laboratory left out | run | atypical, normal | validation: sensitivity, specificity | there |",
            "|---|---|---|---|---|",
            *laboratories(labs),
            "",
            "| cases | n | MAE raw | corrected, other laboratories | corrected, validation | likeliest rate | sum of probabilities | coverage raw | "
            "other laboratories | validation | width, other laboratories | width, validation |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
            *measured(labs),
        ]
    seconds = time.perf_counter() - started
    out += [
        "",
        f"{asked.cases} cases a row, seed {asked.seed}; Atypia {__version__}, NumPy {np.__version__}; {seconds:.0f} s.",
    ]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
