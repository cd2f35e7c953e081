"""The work of ``atypia doctor --tune``: which runtime is the fastest for a model on this machine.

    from atypia.workflows.tuning import tune

    tune("my-lab").chosen        # what `predict` will use for it from now on

Runtimes are timed alternately, so that a busy machine slows all of them alike. Another one than the first takes its place
only where it is clearly faster and gives the same answers; so no result depends on which machine it was made on.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import AtypiaError
from atypia.base.process.progress import Progress, silent
from atypia.data.images.geometry import resize
from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.render import render_crop
from atypia.inference.classifier import SHIPPED, find_model
from atypia.inference.runtimes.catalogue import RUNTIMES, Runtime, packages_here
from atypia.inference.runtimes.chosen import forget_choice, keep_choice

BUDGET_S: Final = 1.5
"""Seconds for which each runtime is timed, after one batch that is not."""
CROPS: Final = 32
"""Crops of one timing."""
LEAST_ROUNDS: Final = 3
FASTER: Final = 1.2
"""A runtime takes the first one's place if it is so many times as fast."""
TOLERANCE: Final = 1e-3
"""And its probabilities differ by at most so much."""


@dataclass(frozen=True)
class Timing:
    """What was measured of one runtime.

    Attributes:
        runtime: Its name.
        crops_per_s: Median over the rounds; 0 where it cannot run the model.
        p_difference: Largest difference of a probability from the first runtime's; 0 where it cannot.
        reason: Why it cannot run the model, or cannot take the first one's place; empty otherwise.
    """

    runtime: str
    crops_per_s: float = 0.0
    p_difference: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Tuned:
    """The result for one model.

    Attributes:
        model: Its folder or file.
        chosen: Name of the runtime that is used for it from now on; empty if none runs it.
        timings: One each of the installed runtimes that read it, in the order in which they are taken.
    """

    model: Path
    chosen: str
    timings: tuple[Timing, ...]


def tune(model: str | Path = SHIPPED, *, budget_s: float = BUDGET_S, progress: Progress = silent) -> Tuned:
    """Times the installed runtimes on the processor, and keeps the choice in the cache.

    Args:
        model: As :meth:`atypia.inference.classifier.Classifier.load` takes it.
        budget_s: Seconds for each runtime.
        progress: Told how many of the seconds are over.

    Raises:
        AbsentError: There is no such model.
        DataError: It is damaged.

    >>> tune(budget_s=0.01).chosen
    'onnx'
    """
    path = find_model(model)
    kinds = [kind for kind in RUNTIMES.values() if kind.installed and kind.finds(path) is not None]
    opened: dict[str, Runtime] = {}
    failed: dict[str, Timing] = {}
    for kind in kinds:
        file = kind.finds(path)
        assert file is not None
        try:
            opened[kind.name] = kind.opened(file, None, "cpu")
        except AtypiaError as error:
            failed[kind.name] = Timing(kind.name, reason=str(error))
    rates, answers = _timed(opened, budget_s, progress)
    first = next(iter(opened), "")
    timings = []
    for kind in kinds:
        if kind.name in failed:
            timings.append(failed[kind.name])
            continue
        difference = float(np.abs(answers[kind.name] - answers[first]).max())
        timings.append(Timing(kind.name, rates[kind.name], difference, _reason(kind.name, first, rates, difference)))
    able = [timing for timing in timings if timing.crops_per_s and not timing.reason]
    chosen = max(able, key=lambda timing: timing.crops_per_s).runtime if able else ""
    if chosen in ("", first):
        forget_choice(path, packages_here())  # the first is used without being told
    else:
        keep_choice(path, packages_here(), chosen, map(asdict, timings))
    return Tuned(path, chosen, tuple(timings))


def _timed(
    opened: dict[str, Runtime], budget_s: float, progress: Progress
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Crops per second, and probabilities of the same crops, of each runtime."""
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    answers, crops = {}, {}
    for name, runtime in opened.items():
        crops[name] = _figures(runtime.side_px)
        answers[name] = runtime.decision.apply(runtime.run(crops[name])[0]).p
    total = budget_s * len(opened)
    while opened and (
        sum(map(sum, seconds.values())) < total or min(len(each) for each in seconds.values()) < LEAST_ROUNDS
    ):
        for name, runtime in opened.items():
            started = time.perf_counter()
            runtime.run(crops[name])
            seconds[name].append(time.perf_counter() - started)
        progress(round(min(total, sum(map(sum, seconds.values())))), round(total), "seconds")
    return {name: CROPS / median(each) for name, each in seconds.items()}, answers


def _figures(side_px: int) -> npt.NDArray[np.uint8]:
    """Rendered figures of several domains and classes, shape (CROPS, side_px, side_px, 3)."""
    domains = list(DOMAINS.values())
    phases = ("metaphase", "tripolar", "anaphase", "bridging")
    return np.stack(
        [
            resize(render_crop(domains[i % len(domains)], phases[i % len(phases)], 0.5, 0, i), side_px)
            for i in range(CROPS)
        ]
    )


def _reason(name: str, first: str, rates: dict[str, float], difference: float) -> str:
    if name == first:
        return ""
    if difference > TOLERANCE:
        return f"its probabilities differ from those of {first} by up to {difference:.1g}"
    if rates[name] < FASTER * rates[first]:
        return f"it is not {FASTER:g} times as fast as {first}"
    return ""
