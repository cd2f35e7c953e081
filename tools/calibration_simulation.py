"""Simulates ``atypia calibrate`` on laboratories that were left out of trainings.

``python tools/calibration_simulation.py RUNS… [--draws 100] [--seed 1]``

RUNS: folders of trainings (``atypia train … --protocol lodo``), studies, or folders above several. Some crops of a
laboratory are drawn as its labelled ones, the decision is fitted to them, and the laboratory's other figures are scored:
against leaving the decision as it is, and against a threshold that is chosen anew on the labelled crops. The prior, and its
strength, come from the other laboratories alone. The *untouched* threshold is that of the best balanced accuracy on the
training's own validation figures.

``--prior FILE`` writes the prior of all laboratories, with the strength that did best on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atypia import __version__
from atypia.base.seeds import generator
from atypia.evaluation.laboratories import LeftOutLaboratory, as_laboratory, left_out, prior_of
from atypia.inference.bundles.calibration import sigmoid
from atypia.inference.bundles.laboratory import MOVED, Own, judge, moved_threshold
from atypia.inference.bundles.operating import balanced_point
from atypia.inference.bundles.reference import log_odds
from atypia.statistics.labelling import spread_over_scores
from atypia.statistics.laboratories import Classes, LaboratoryPrior, affine, class_scores, posterior

SIZES = (25, 50, 100, 200)
STRENGTHS = (1.0, 2.0, 4.0, 8.0)
LEAST_SCORED = 10
"""Atypical figures that must remain to be scored on; a laboratory with fewer is passed over at this size."""
SAME = 0.0005
"""Losses on the worst laboratory that differ by less are equal: so much is chance at 60 draws."""
Rows = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, LeftOutLaboratory, int, float], tuple[Rows, Rows]]
"""From a laboratory and a threshold to labelled rows, and to those that are scored."""


def figures(rng: np.random.Generator, lab: LeftOutLaboratory, n: int, threshold: float) -> tuple[Rows, Rows]:
    """Figures at random."""
    order = rng.permutation(len(lab.figures.labels))
    return order[:n], order[n:]


def cases(rng: np.random.Generator, lab: LeftOutLaboratory, n: int, threshold: float) -> tuple[Rows, Rows]:
    """Whole cases at random, until there are n figures: how a laboratory that labels slide by slide gets them."""
    order = rng.permutation(np.unique(lab.figures.cases))
    rows = np.concatenate([rng.permutation(np.flatnonzero(lab.figures.cases == case)) for case in order])
    return rows[:n], rows[n:]


def _pool(rng: np.random.Generator, lab: LeftOutLaboratory, n: int) -> tuple[Rows, Rows]:
    """Three quarters of the figures, or n: those left over are nobody's choice, so that every choice is scored alike."""
    order = rng.permutation(len(lab.figures.labels))
    size = max(n, round(0.75 * len(order)))
    return order[:size], order[size:]


def at_random(rng: np.random.Generator, lab: LeftOutLaboratory, n: int, threshold: float) -> tuple[Rows, Rows]:
    """Any of a pool."""
    pool, rest = _pool(rng, lab, n)
    return pool[:n], rest


def proposed(rng: np.random.Generator, lab: LeftOutLaboratory, n: int, threshold: float) -> tuple[Rows, Rows]:
    """What ``--propose`` chooses in a pool."""
    pool, rest = _pool(rng, lab, n)
    own = lab.figures.take(pool)
    return pool[spread_over_scores(own.scores, n, threshold)], rest


def nearest(rng: np.random.Generator, lab: LeftOutLaboratory, n: int, threshold: float) -> tuple[Rows, Rows]:
    """The figures of a pool that are nearest to the threshold."""
    pool, rest = _pool(rng, lab, n)
    return pool[np.argsort(np.abs(lab.figures.scores[pool] - threshold), kind="stable")[:n]], rest


DRAWS: dict[str, Draw] = {"figures": figures, "cases": cases}
CHOICES: dict[str, Draw] = {"at random": at_random, "proposed": proposed, "nearest to the threshold": nearest}


@dataclass(frozen=True)
class Result:
    """One draw.

    Attributes:
        calibrated: Balanced accuracy less that of the untouched decision.
        refitted: The same of a threshold that is chosen anew.
        moved: Whether the decision was changed.
        off: Distance of the posterior's threshold from that with all figures of the laboratory, in standard deviations of
            the reference.
    """

    calibrated: float
    refitted: float
    moved: bool
    off: float


def threshold_of(own: Own) -> float:
    """The log odds of the best balanced accuracy; NaN where a class is absent."""
    if own.labels.all() or not own.labels.any():
        return float("nan")
    return float(log_odds([balanced_point(own.labels, sigmoid(own.scores)).threshold])[0])


def posterior_threshold(own: Own, reference: Classes, threshold: float, prior: LaboratoryPrior) -> float:
    """Where the threshold would be moved without any condition."""
    found = affine(
        reference, posterior(reference, class_scores(own.labels, own.scores, own.cases, prior.case_share), prior)
    )
    return threshold if found is None else moved_threshold(threshold, found)


def simulate(
    lab: LeftOutLaboratory, n: int, prior: LaboratoryPrior, draw: Draw, draws: int, seed: int
) -> Iterator[Result]:
    """Draws of n crops of a laboratory; none where too few figures would remain."""
    total = len(lab.figures.labels)
    if lab.figures.labels.sum() * (1 - n / total) < LEAST_SCORED:
        return
    reference = as_laboratory(lab, prior.case_share).reference
    threshold = threshold_of(lab.validation)
    best = posterior_threshold(lab.figures, reference, threshold, prior)
    sd = float(np.mean([c.sd for c in reference]))
    for number in range(draws):
        rng = generator(seed, "calibration", lab.laboratory, lab.run, n, number)
        rows, others = draw(rng, lab, n, threshold)
        rest, own = lab.figures.take(others), lab.figures.take(rows)
        before, again = rest.balanced_accuracy(threshold), threshold_of(own)
        if np.isnan(before):
            continue
        judged = judge(own, reference, threshold, prior)
        yield Result(
            rest.balanced_accuracy(moved_threshold(threshold, judged.map)) - before,
            0.0 if np.isnan(again) else rest.balanced_accuracy(again) - before,
            judged.outcome == MOVED,
            abs(posterior_threshold(own, reference, threshold, prior) - best) / sd,
        )


def gains(labs: Sequence[LeftOutLaboratory], prior: LaboratoryPrior, draws: int, seed: int) -> dict[int, float]:
    """Mean gain of calibration of each size, over draws of cases, of the runs of one laboratory."""
    found = {n: [r.calibrated for lab in labs for r in simulate(lab, n, prior, cases, draws, seed)] for n in SIZES}
    return {n: float(np.mean(values)) for n, values in found.items() if values}


def best_strength(
    labs: Sequence[LeftOutLaboratory], draws: int, seed: int
) -> tuple[float, dict[float, tuple[float, float]]]:
    """The strength that loses least on the worst laboratory and size, each with the prior of the others, and all results.

    Of several that lose alike, the weakest, which gains most where there is something to gain.
    """
    names = sorted({lab.laboratory for lab in labs})
    table: dict[float, tuple[float, float]] = {}
    for strength in STRENGTHS:
        found = []
        for name in names:
            prior = prior_of([lab for lab in labs if lab.laboratory != name], strength)
            found.append(gains([lab for lab in labs if lab.laboratory == name], prior, draws, seed))
        values = [v for one in found for v in one.values()]
        table[strength] = (float(np.mean(values)), min(values))
    least = max(worst for _, worst in table.values())
    return min(s for s, (_, worst) in table.items() if worst >= least - SAME), table


def means(results: Sequence[Result]) -> dict[str, float]:
    """Means of the results' values, in points where they are of balanced accuracy."""
    columns = {key: np.array([getattr(r, key) for r in results], dtype=np.float64) for key in Result.__annotations__}
    return {key: float(v.mean()) * (100 if key in ("calibrated", "refitted") else 1) for key, v in columns.items()}


@dataclass
class Tables:
    """Lines of the tables, and what they are made of."""

    by_laboratory: list[str]
    every: dict[tuple[str, int], list[dict[str, float]]]


def tables_of(labs: Sequence[LeftOutLaboratory], draws: int, seed: int) -> Tables:
    """Every laboratory with the prior, and its strength, of the others."""
    tables = Tables([], {})
    for name in sorted({lab.laboratory for lab in labs}):
        others, mine = ([lab for lab in labs if (lab.laboratory == name) == own] for own in (False, True))
        several = len({lab.laboratory for lab in others}) > 2
        strength = best_strength(others, max(draws // 4, 5), seed)[0] if several else 1.0
        prior = prior_of(others, strength)
        told(f"{name}: strength {strength:g}, location {prior.location:.2f}")
        cells = []
        for how, draw in {**DRAWS, **CHOICES}.items():
            for n in SIZES:
                results = [r for lab in mine for r in simulate(lab, n, prior, draw, draws, seed)]
                if results:
                    tables.every.setdefault((how, n), []).append(means(results))
                if how == "cases":
                    cells.append("{calibrated:+.1f} / {refitted:+.1f}".format(**means(results)) if results else "–")
        size = mine[0].figures
        count = f"{len(size.labels)} ({int(size.labels.sum())}), {len(set(size.cases))}"
        before = np.mean([100 * lab.figures.balanced_accuracy(threshold_of(lab.validation)) for lab in mine])
        first = [name.replace(" | ", ", "), count, str(len(mine)), f"{before:.1f}", f"{strength:g}"]
        tables.by_laboratory.append(line([*first, *cells]))
    return tables


def line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cells) + " |"


def head(*first: str) -> list[str]:
    """The first two rows of a table with a column for each size."""
    columns = [*first, *(f"{n} crops" for n in SIZES)]
    return [line(columns), "|" + "---|" * len(columns)]


def by_draw(tables: Tables, names: Sequence[str], text: str, keys: Sequence[str]) -> list[str]:
    """A row a way of drawing: mean over laboratories, and the worst of them."""
    rows = []
    for how in names:
        cells = [how]
        for n in SIZES:
            found = tables.every.get((how, n), [])
            values = {key: [one[key] for one in found] for key in keys}
            mean = {key: float(np.mean(v)) for key, v in values.items() if v}
            worst = {f"{key}_worst": min(v) for key, v in values.items() if v}
            cells.append(text.format(**mean, **worst) if found else "–")
        rows.append(line(cells))
    return rows


def told(text: str) -> None:
    """Says how far it is."""
    sys.stderr.write(text + "\n")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prior", type=Path, help="write the prior of all laboratories into this file")
    parser.add_argument("--name", default="", help="what the prior is known from, for that file")
    asked = parser.parse_args()
    started = time.perf_counter()
    labs = left_out(asked.runs, evaluations=True)
    tables = tables_of(labs, asked.draws, asked.seed)
    strength, table = best_strength(labs, asked.draws, asked.seed)
    prior = prior_of(labs, strength)
    gain = "{calibrated:+.2f}, worst {calibrated_worst:+.2f}; moved {moved:.0%} | {refitted:+.2f}, worst {refitted_worst:+.2f}"
    both, choice = gain.replace(" | ", "; re-fitted "), "{calibrated:+.2f}, off {off:.3f}"
    out = [
        *head("laboratory", "figures (atypical), cases", "runs", "BA untouched, %", "strength"),
        *tables.by_laboratory,
        "",
        *head("crops drawn as"),
        *by_draw(tables, tuple(DRAWS), both, ("calibrated", "refitted", "moved")),
        "",
        *head("crops chosen"),
        *by_draw(tables, tuple(CHOICES), choice, ("calibrated", "off")),
        "",
        "| strength | mean gain, points | worst laboratory and size |",
        "|---|---|---|",
        *(f"| {s:g} | {100 * mean:+.2f} | {100 * worst:+.2f} |" for s, (mean, worst) in table.items()),
        "",
        f"Prior of all, strength {strength:g}: " + ", ".join(f"{k} {v:.3f}" for k, v in asdict(prior).items()) + ".",
        "",
        f"{len(labs)} pairs of run and laboratory, {asked.draws} draws each, seed {asked.seed}; Atypia {__version__}, "
        f"NumPy {np.__version__}; {time.perf_counter() - started:.0f} s.",
    ]
    sys.stdout.write("\n".join(out) + "\n")
    if asked.prior is not None:
        facts = {**asdict(prior), "strength": strength, "laboratories": sorted({lab.laboratory for lab in labs}),
                 "runs": len({lab.run for lab in labs}), "from": asked.name}  # fmt: skip
        asked.prior.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
