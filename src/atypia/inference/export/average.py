"""One network whose weights are the mean of several of one architecture, which began at the same weights.

Networks that were tuned from one start lie close together: the mean of their weights gives about what the mean of their
logits gives, at the cost of one (Wortsman et al. 2022, «Model soups», arXiv 2203.05482), but on a smaller scale: what the
networks learned each in its own way is divided by their number. :func:`rescaled` undoes this. The mean of classifiers that
began elsewhere is worth nothing, and nothing here can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.inference.bundles.bundle import FULL, PROBE, Bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.export.compact import whole

LEAST_CORRELATION: Final = 0.5
"""Of an average's logits with the mean of its members', below which it is no classifier."""
LAST_LAYER: Final = ("head.weight", "head.bias")
"""Tensors of the linear layer that gives the logit."""
STATISTICS = ("running_mean", "running_var")
"""Last part of the names of a batch norm's tensors that are measured on crops, and not learned."""


@dataclass(frozen=True)
class LogitScale:
    """The line by which an average's logits became ``factor · logit + offset``.

    Attributes:
        factor: About the number of members where they share little, 1 where they are equal.
        offset: In units of the logit.
        correlation: Of the average's logits with the mean of the members'.
    """

    factor: float
    offset: float
    correlation: float


def average_bundles(bundles: Sequence[Bundle], decision: Decision, name: str) -> Bundle:
    """The classifier whose weights are the mean of those of others.

    Args:
        bundles: At least two, of one architecture, task and crop, each with its backbone's weights here; adapters
            are merged first.
        decision: Of the new one. None of theirs holds for it.
        name: Its name.

    Raises:
        InputError: There are fewer than two, one is a probe, they differ in architecture, weights of the backbone or
            crop, or they have batch norms, whose statistics would have to be measured again.
        AbsentError: The backbone's weights are not here.

    >>> from atypia.inference.classifier import find_model
    >>> from atypia.inference.bundles.bundle import load_bundle
    >>> one = load_bundle(find_model("atypia"))
    >>> mean = average_bundles([one, one], one.decision, "mean")
    >>> mean.name, mean.adaptation
    ('mean', 'full')
    """
    if len(bundles) < 2:
        raise InputError(must("bundles", "at least two", len(bundles), "name more trainings or folds"))
    check_alike(bundles)
    first = bundles[0]
    total: dict[str, npt.NDArray[Any]] = {}
    full = first
    for bundle in bundles:
        full = whole(bundle)
        for key, value in full.tensors.items():
            if key.rpartition(".")[2] in STATISTICS:
                fix = (
                    "average networks without batch norms, or pass all of them to --model, which averages probabilities"
                )
                raise InputError(must(bundle.name, "without batch norms", key, fix))
            total[key] = total[key] + value.astype(np.float64) if key in total else value.astype(np.float64)
    tensors = {key: (value / len(bundles)).astype(np.float32) for key, value in total.items()}
    return replace(full, name=name, decision=decision, adaptation=FULL, tensors=tensors, training={})


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Refuses networks that differ in what an average needs to be equal: architecture, task, crop, weights of the backbone.

    Raises:
        InputError: One is a probe, or differs from the first; the message says in what.
    """
    for other in bundles:
        if other.adaptation == PROBE:
            fix = "average networks; several probes can be passed to --model together"
            raise InputError(must(other.name, "a network", PROBE, fix))
        fault = _difference(bundles[0], other)
        if fault:
            fix = "average the runs of one recipe"
            raise InputError(
                must("bundles", f"of one {fault}", f"another in {other.name} than in {bundles[0].name}", fix)
            )


def rescaled(
    bundle: Bundle, own: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]
) -> tuple[Bundle, LogitScale]:
    """The network with the last layer changed so that its logits are, by least squares, on the scale of others.

    Args:
        bundle: An averaged network.
        own: Its logits of some figures, shape (n,).
        wanted: What they are to be like: the mean of the members' logits of the same figures, shape (n,).

    Returns:
        The network, and the line.

    Raises:
        InputError: The logits do not rise together, so that the average is worth nothing.
    """
    factor, offset = (float(value) for value in np.polyfit(own, wanted, 1))
    correlation = float(np.corrcoef(own, wanted)[0, 1])
    if not (factor > 0 and correlation >= LEAST_CORRELATION):
        expected = (
            f"networks whose average ranks figures as they do (correlation of logits at least {LEAST_CORRELATION:g})"
        )
        raise InputError(
            must("bundles", expected, f"{correlation:.2f}", "average networks that began at the same weights")
        )
    weight, bias = (bundle.tensors[key].astype(np.float64) for key in LAST_LAYER)
    changed = dict(
        zip(
            LAST_LAYER, ((factor * weight).astype(np.float32), (factor * bias + offset).astype(np.float32)), strict=True
        )
    )
    return replace(bundle, tensors={**bundle.tensors, **changed}), LogitScale(factor, offset, correlation)


def _difference(one: Bundle, other: Bundle) -> str:
    """In what two bundles differ, so that their weights have no mean; empty if in nothing."""
    from atypia.methods.network import NetworkSpec

    specs = [None if b.network is None else NetworkSpec.from_dict(b.network) for b in (one, other)]
    compared = {
        "task": (one.task, other.task),
        "architecture": tuple(specs),
        "backbone weights": ((one.backbone, one.weights_sha256), (other.backbone, other.weights_sha256)),
        "crop": ((one.geometry, one.input_px, one.field_um), (other.geometry, other.input_px, other.field_um)),
    }
    return next((what for what, (a, b) in compared.items() if a != b), "")
