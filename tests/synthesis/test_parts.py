"""The autoencoder's terms: reconstruction, KL, perceptual and adversarial, against values computed here."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from atypia.base.errors import InputError
from atypia.synthesis.model.networks import Denoiser, build_autoencoder, parameter_count
from atypia.synthesis.model.pixels import crops_to_images
from atypia.synthesis.schema import CLASS, GeneratorRecipe, PerceptualConfig, load_generator_recipe, shipped_generators
from atypia.synthesis.training.parts import AutoencoderPart, Perceptual

CPU = torch.device("cpu")
BACKBONE = "efficientnet-lite0"
COUNT = 6


def part_of(*changes: str) -> AutoencoderPart:
    """A part on noisy discs, with random weights."""
    recipe = load_generator_recipe("small", ["turns=false", *changes])[1]
    side = recipe.geometry.out_px
    torch.manual_seed(3)
    return AutoencoderPart(
        recipe, recipe.pretrain.autoencoder, build_autoencoder(recipe.autoencoder, side), crops(side), CPU
    )


def crops(side: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side] - side / 2
    discs = [np.where(x**2 + y**2 < radius**2, 80, 200) for radius in np.linspace(side / 8, side / 3, COUNT)]
    noisy = np.stack(discs)[..., None] + rng.normal(0, 12, (COUNT, side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def step(part: AutoencoderPart, epoch: int) -> dict[str, float]:
    losses = part.step(np.arange(COUNT), torch.Generator().manual_seed(1), epoch)
    return {name: float(value) for name, value in losses.items()}


def state(module: torch.nn.Module) -> torch.Tensor:
    return parameters_to_vector(module.parameters()).detach().clone()


def test_the_loss_is_the_sum_of_its_terms() -> None:
    part = part_of()
    settings = part.recipe.autoencoder
    assert settings.perceptual is not None
    assert settings.adversarial is not None
    early, late = step(part, epoch=0), step(part, epoch=settings.adversarial.start_epoch)
    assert set(late) - set(early) == {"adversarial", "discriminator"}
    for found in (early, late):
        expected = found["reconstruction"] + settings.kl_weight * found["kl"]
        expected += settings.perceptual.weight * found["perceptual"]
        expected += settings.adversarial.weight * found.get("adversarial", 0.0)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_discriminator_learns_from_its_own_loss_alone() -> None:
    """Its step is one of hinge loss on real and made crops; what the autoencoder's step leaves in it does not count."""
    part = part_of()
    judge, start = part.modules["discriminator"], part.recipe.autoencoder.adversarial.start_epoch  # pyright: ignore[reportOptionalMemberAccess]
    before = state(judge)
    step(part, epoch=start - 1)
    assert torch.equal(state(judge), before)

    images = crops_to_images(part.crops, CPU)
    with torch.no_grad():
        posterior = part.autoencoder.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(1))
        made = part.autoencoder.decode(posterior.mean + posterior.std * noise).sample
    loss = (F.relu(1 - judge(images)).mean() + F.relu(1 + judge(made)).mean()) / 2
    wanted = torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(judge.parameters()))])
    said = step(part, epoch=start)
    assert said["discriminator"] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert said["adversarial"] == pytest.approx(
        -float(judge_before(judge, before)(made).detach().mean()), rel=1e-3, abs=1e-4
    )
    got = torch.cat([one.grad.flatten() for one in judge.parameters() if one.grad is not None])
    scale = got.norm() / wanted.norm()  # clipped
    torch.testing.assert_close(got, wanted * scale, rtol=1e-3, atol=1e-5)
    assert scale <= 1.001
    assert not torch.equal(state(judge), before)


def judge_before(judge: torch.nn.Module, weights: torch.Tensor) -> Any:
    earlier = deepcopy(judge)
    vector_to_parameters(weights, earlier.parameters())
    return earlier.eval()


def test_the_adversarial_term_teaches_the_autoencoder() -> None:
    """Where it weighs most, the autoencoder moves so that the discriminator says more for what it makes."""

    def moved(*changes: str) -> float:
        part = part_of("autoencoder.adversarial.start_epoch=0", *changes)
        images, judge = crops_to_images(part.crops, CPU), part.modules["discriminator"]

        def said() -> float:
            with torch.no_grad():
                return float(judge(part.autoencoder(images).sample).mean())

        weights, before = state(judge), said()
        part.step(np.arange(COUNT), torch.Generator().manual_seed(1), 0)
        vector_to_parameters(weights, judge.parameters())  # the same judge, before and after
        return said() - before

    assert moved("autoencoder.adversarial.weight=1000.0") > moved("autoencoder.adversarial.weight=1.0e-6")


def test_perceptual_distance() -> None:
    """Nothing for equal images, more for blurrier ones; it reaches the images, and no weight of the backbone."""
    measure = Perceptual(PerceptualConfig(backbone=BACKBONE, maps=5), CPU)
    real = crops_to_images(crops(64), CPU)

    def blurred(kernel: int) -> torch.Tensor:
        return F.avg_pool2d(F.pad(real, [kernel // 2] * 4, mode="reflect"), kernel, 1)

    distances = [float(measure(image, real)) for image in (real, blurred(3), blurred(9))]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances[0] < distances[1] < distances[2]
    made = blurred(3).requires_grad_(True)
    measure(made, real).backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert all(one.grad is None for one in measure.net.parameters())


def test_a_backbone_without_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SimpleNamespace(net=torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)))
    monkeypatch.setattr("atypia.backbones.build.build", lambda name: plain)
    with pytest.raises(InputError, match=r"backbone with intermediate maps.*fix: use efficientnet-lite0"):
        Perceptual(PerceptualConfig(backbone=BACKBONE), CPU)


@pytest.mark.parametrize("name", sorted(shipped_generators()))
def test_sizes_are_as_the_docs_say(name: str) -> None:
    recipe: GeneratorRecipe = load_generator_recipe(name)[1]
    with torch.device("meta"):
        sizes = (
            parameter_count(build_autoencoder(recipe.autoencoder, recipe.geometry.out_px)),
            parameter_count(Denoiser(recipe, {CLASS: ("normal", "atypical")})),
        )
    text = (Path(__file__).parents[2] / "docs" / "synthesis.md").read_text("utf-8")
    row = re.search(rf"\| `{name}` \| (\d+) px \| (\S+) \| (\S+) and (\S+) million", text)
    assert row is not None, name
    latent = f"{recipe.latent_px}×{recipe.latent_px}×{recipe.autoencoder.latent_channels}"
    assert (int(row[1]), row[2]) == (recipe.geometry.out_px, latent)
    for said, size in zip(row.groups()[2:], sizes, strict=True):
        assert float(said) == pytest.approx(size / 1e6, rel=0.05), (name, said, size)
