"""Noise process, guidance, samplers and conditions, against formulas written out again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.synthesis.model.conditions import (
    codes_of,
    condition_values,
    condition_words,
    drawn_values,
    joint_counts,
    manifest_codes,
)
from atypia.synthesis.model.diffusion import Process, SamplingConfig, draw_latents, guided, noise_generators
from atypia.synthesis.model.networks import Denoiser, carry_over
from atypia.synthesis.model.pixels import crops_to_images, images_to_crops, turn_images
from atypia.synthesis.schema import DiffusionConfig

from .toys import toy_recipe

WORDS = {"class": ("normal", "atypical")}


def alphas(steps: int = 1000) -> np.ndarray:
    """ᾱ of the linear schedule: the product of 1 − β."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, steps))


def test_noise_and_targets_follow_their_formulas() -> None:
    z, noise, steps = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.tensor([0, 10, 500, 999])
    a = torch.from_numpy(alphas()[steps.numpy()]).float()[:, None, None, None]
    epsilon, v = (Process(DiffusionConfig(prediction=name)) for name in ("epsilon", "v"))
    torch.testing.assert_close(epsilon.noisy(z, noise, steps), a.sqrt() * z + (1 - a).sqrt() * noise)
    torch.testing.assert_close(epsilon.target(z, noise, steps), noise)
    torch.testing.assert_close(v.target(z, noise, steps), a.sqrt() * noise - (1 - a).sqrt() * z)


@pytest.mark.parametrize("steps", [20, 50, 1000])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_every_process_ends_in_noise(steps: int, schedule: Literal["linear", "squaredcos_cap_v2"]) -> None:
    process = Process(DiffusionConfig(steps=steps, schedule=schedule))
    last = process.noisy(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([steps - 1]))
    first = process.noisy(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([0]))
    assert float(last) < 0.02 and float(first) > 0.99


class Oracle:
    """Knows the one latent that all samples are to become."""

    def __init__(self, wanted: Tensor, prediction: str) -> None:
        self.wanted, self.prediction = wanted, prediction
        self.transformer = SimpleNamespace(config=SimpleNamespace(in_channels=2, sample_size=4))

    def nothing(self, count: int, device: Any = "cpu") -> Tensor:
        return torch.full((count, 1), 2)

    def __call__(self, latents: Tensor, steps: Tensor, codes: Tensor) -> Tensor:
        a = torch.from_numpy(alphas()[steps.numpy()]).float()[:, None, None, None]
        noise = (latents - a.sqrt() * self.wanted) / (1 - a).sqrt()
        return noise if self.prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * self.wanted


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_perfect_denoiser_is_followed_to_its_latent(
    prediction: Literal["epsilon", "v"], sampler: Literal["ddim", "ddpm"]
) -> None:
    wanted = torch.randn(2, 4, 4)
    oracle: Any = Oracle(wanted, prediction)
    process = Process(DiffusionConfig(prediction=prediction))
    settings = SamplingConfig(guidance=1.0, steps=20, sampler=sampler)
    drawn = draw_latents(oracle, process, torch.zeros(3, 1, dtype=torch.int64), noise_generators([1, 2, 3]), settings)
    assert (drawn - wanted).abs().max() < 0.05


def test_guidance_goes_from_ignoring_to_exaggerating() -> None:
    calls = []

    def predict(latents: Tensor, steps: Tensor, codes: Tensor) -> Tensor:
        calls.append(len(latents))
        return codes[:, :1].float()

    nothing, told = torch.tensor([[5]]), torch.tensor([[1], [3]])
    x, t = torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)
    for guidance, wanted in ((0.0, [5, 5]), (1.0, [1, 3]), (3.0, [5 + 3 * -4, 5 + 3 * -2])):
        assert guided(predict, nothing, guidance)(x, t, told).flatten().tolist() == wanted
    assert calls == [2, 2, 4], "only guidance other than 0 and 1 costs a second pass"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guidance": -1.0}, "`guidance` must be between 0 and 100"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"sampler": "euler"}, "`sampler` must be ddim or ddpm"),
    ],
)
def test_bad_settings(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SamplingConfig(**changes)


def test_more_steps_than_the_process_has() -> None:
    with pytest.raises(InputError, match="`steps` must be at most 50, the steps of the process, got 60"):
        Process(DiffusionConfig(steps=50)).sampler(SamplingConfig(steps=60))


# Networks -------------------------------------------------------------------------------------


def test_a_new_denoiser_predicts_nothing_and_learns_its_conditions() -> None:
    denoiser = Denoiser(toy_recipe(), WORDS)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 40])
    codes = torch.tensor([[0], [1]])
    assert denoiser(x, t, codes).shape == x.shape
    assert denoiser(x, t, codes).abs().max() == 0, "adaLN-Zero"
    assert denoiser.nothing(2).tolist() == [[2], [2]]
    optimiser = torch.optim.Adam(denoiser.parameters(), 1e-2)
    for _ in range(5):
        loss = (denoiser(x, t, codes) - torch.tensor([-1.0, 1.0])[:, None, None, None]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        one, other = denoiser(x[:1], t[:1], codes[:1]), denoiser(x[:1], t[:1], codes[1:])
        assert (one - other).abs().max() > 1e-4
        assert (one - denoiser(x[:1], t[1:], codes[:1])).abs().max() > 1e-4, "the time step matters"


def test_weights_are_carried_over_by_words() -> None:
    recipe = toy_recipe("diffusion.conditions=[class, domain]")
    first = Denoiser(recipe, {**WORDS, "domain": ("A", "B")})
    second = Denoiser(recipe, {**WORDS, "domain": ("B", "C")})
    carry_over(second, first.state_dict(), first.words)
    before, after = (d.state_dict()["tables.domain.weight"] for d in (first, second))
    assert torch.equal(after[0], before[1]), "B"
    assert torch.equal(after[1], before[2]), "an unknown word starts from «not told»"
    assert torch.equal(after[2], before[2])
    assert torch.equal(first.time.linear_1.weight, second.time.linear_1.weight)


def test_views_are_the_eight_symmetries_of_the_square() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    views = turn_images(image.expand(8, 1, 3, 3), torch.arange(8))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
    assert views[0].flatten().tolist() == list(range(9))
    assert views[4].flatten().tolist() == [2, 1, 0, 5, 4, 3, 8, 7, 6], "flipped from left to right"
    crops = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    assert np.array_equal(images_to_crops(crops_to_images(crops, torch.device("cpu"))), crops)


# Conditions -----------------------------------------------------------------------------------


def figures() -> Manifest:
    about = [
        (0, "A", ["metaphase", "metaphase", "anaphase"]),
        (1, "A", ["anaphase", "metaphase"]),
        (1, "B", None),
        (1, None, None),
    ]
    rows = [
        {r.FIGURE_ID: str(i), r.DATASET: "d", r.IMAGE: f"{i}.png", r.LABEL: label, r.SCANNER: scanner, r.PHASE: phases}
        for i, (label, scanner, phases) in enumerate(about)
    ]
    return Manifest.from_rows(rows, "d")


def test_codes_of_conditions() -> None:
    words = condition_words(figures(), ("class", "domain", "phase"))
    assert words == {"class": ("normal", "atypical"), "domain": ("A", "B"), "phase": ("metaphase",)}
    assert condition_values(figures(), "phase") == ["metaphase", None, None, None], "a draw of raters is unknown"
    assert manifest_codes(figures(), words, labelled=True).tolist() == [[0, 0, 0], [1, 0, 1], [1, 1, 1], [1, 2, 1]]
    assert manifest_codes(figures(), words, labelled=False)[:, 0].tolist() == [2, 2, 2, 2]
    assert codes_of({"class": ["atypical"], "domain": ["Z"], "phase": [None]}, words).tolist() == [[1, 2, 1]]


def test_other_conditions_are_drawn_as_often_as_in_training() -> None:
    words = condition_words(figures(), ("class", "domain"))
    joint = joint_counts(figures(), words)
    assert sorted(joint, key=str) == [(0, ("A",), 1), (1, ("A",), 1), (1, ("B",), 1), (1, (None,), 1)]
    drawn = [drawn_values(joint, 1, np.random.default_rng(seed))[0] for seed in range(300)]
    assert all(abs(drawn.count(name) / 300 - 1 / 3) < 0.09 for name in ("A", "B", None))
    assert {drawn_values(joint, 0, np.random.default_rng(seed)) for seed in range(9)} == {("A",)}
