"""One network whose weights are the mean of several of one architecture, which began at the same weights.

Networks that were tuned from one start lie close together: the mean of their weights gives about what the mean of their
logits gives, at the cost of one (Wortsman et al. 2022, «Model soups», arXiv 2203.05482). The mean of classifiers that
began elsewhere is worth nothing, and nothing here can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.inference.bundles.bundle import FULL, PROBE, Bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.export.compact import whole

STATISTICS = ("running_mean", "running_var")
"""Last part of the names of a batch norm's tensors that are measured on crops, and not learned."""


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
    first = bundles[0]
    for other in bundles:
        if other.adaptation == PROBE:
            fix = "average networks; several probes can be passed to --model together"
            raise InputError(must(other.name, "a network", PROBE, fix))
        fault = _difference(first, other)
        if fault:
            fix = "average the runs of one recipe"
            raise InputError(must("bundles", f"of one {fault}", f"another in {other.name} than in {first.name}", fix))
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
