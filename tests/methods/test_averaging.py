"""SWA and SWAD: which weights are averaged, by hand and against a plain reading of the paper's algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atypia.methods.averaging import RunningMean, Swa, Swad


def weights(value: float) -> dict[str, Tensor]:
    return {"w": torch.tensor([value], dtype=torch.float64), "steps": torch.tensor(int(value))}


def test_a_running_mean_weighs_by_steps_and_copies_integers() -> None:
    mean = RunningMean()
    given_state = weights(2.0)
    mean.add(given_state)
    given_state["w"].zero_()  # what was given may change afterwards
    mean.add(weights(8.0), 2)
    assert mean.values["w"].item() == pytest.approx(6.0) and mean.values["steps"].item() == 8


def test_swa_averages_the_epochs_beyond_its_start() -> None:
    swa = Swa(0.5)
    for epoch in range(4):
        swa.step(weights(100.0))
        swa.end_epoch(weights(float(epoch)), 0.0, (epoch + 1) / 4)
    found = swa.result()
    assert found is not None and found["w"].item() == 2.5  # epochs 2 and 3
    assert Swa(0.5).result() is None


def run(losses: list[float], steps: int = 2, **options: float) -> Swad:
    """Each step of epoch i has the weights i, i + 0.1, …"""
    swad = Swad(**options)  # pyright: ignore[reportArgumentType]
    for epoch, loss in enumerate(losses):
        for step in range(steps):
            swad.step(weights(epoch + 0.1 * step))
        swad.end_epoch(weights(float(epoch)), loss, (epoch + 1) / len(losses))
        kept = swad.state_dict()  # interrupted after every epoch
        swad = Swad(**options)  # pyright: ignore[reportArgumentType]
        swad.load_state_dict(kept)
    return swad


def by_paper(losses: list[float], converge: int, tolerance: int, ratio: float) -> tuple[int, int] | None:
    """First and last averaged epoch, from all losses at once (Cha et al. 2021, algorithm 1)."""
    for start in range(len(losses) - converge + 1):
        if losses[start] == min(losses[start : start + converge]):
            break
    else:
        return None
    limit = ratio * np.mean(losses[start : start + converge])
    for i in range(start + 1, len(losses)):
        if min(losses[i : i + tolerance]) > limit:
            return start, i - 1
    return start, len(losses) - 1


def test_swad_by_hand() -> None:
    # The loss is least in epoch 2 of 2, 3; the limit is 1.2 · (0.5 + 0.6) / 2 = 0.66; epochs 5 and 6 stay above it.
    swad = run([0.9, 0.7, 0.5, 0.6, 0.62, 0.7, 0.8, 0.4], converge=2, tolerance=2, ratio=1.2)
    found = swad.result()
    assert swad.start == 2 and swad.limit == pytest.approx(0.66) and swad.end == 5
    assert found is not None and found["w"].item() == pytest.approx(np.mean([2, 2.1, 3, 3.1, 4, 4.1]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.1, 2.0), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 5), st.floats(1.0, 1.5)
)
def test_swad_against_the_algorithm(losses: list[float], converge: int, tolerance: int, ratio: float) -> None:
    found = run(losses, converge=converge, tolerance=tolerance, ratio=ratio).result()
    expected = by_paper(losses, converge, tolerance, ratio)
    if expected is None:
        assert found is None
        return
    epochs = range(expected[0], expected[1] + 1)
    assert found is not None
    assert found["w"].item() == pytest.approx(np.mean([epoch + 0.1 * step for epoch in epochs for step in (0, 1)]))


def test_swad_lies_closer_to_the_middle_of_a_valley_than_any_step() -> None:
    """Weights that circle around a minimum: their average is near it, though no step is."""
    draw = np.random.default_rng(0)
    swad = Swad(2, 3, 1.3)
    least = np.inf
    for epoch in range(8):
        for _ in range(20):
            point = torch.tensor(draw.normal(size=2) + 0.5 * (epoch < 1), dtype=torch.float64)
            least = min(least, float(point.norm()))
            swad.step({"w": point})
        swad.end_epoch({}, 1.0 + (epoch < 1), (epoch + 1) / 8)
    found = swad.result()
    assert swad.start == 1 and found is not None
    assert float(found["w"].norm()) < 0.25
