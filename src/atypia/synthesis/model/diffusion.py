"""The noise process: training targets, classifier-free guidance, DDIM and DDPM sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from atypia.base.errors import InputError, must
from atypia.synthesis.model.networks import Denoiser, require_diffusers
from atypia.synthesis.schema import EPSILON, DiffusionConfig

SAMPLERS: Final = ("ddim", "ddpm")
SamplerName = Literal["ddim", "ddpm"]

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SamplingConfig:
    """How to draw latents.

    Attributes:
        guidance: Strength g of classifier-free guidance, ``unconditional + g (conditional − unconditional)``
            (Ho and Salimans 2022 with w = g − 1): 0 ignores the conditions, 1 follows them, larger values exaggerate them.
        steps: Denoising steps; at most those of the noise process.
        sampler: ``ddim`` (Song et al. 2021, deterministic after the first noise) or ``ddpm`` (Ho et al. 2020).
    """

    guidance: float = 2.0
    steps: int = 50
    sampler: SamplerName = "ddim"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(must("sampler", " or ".join(SAMPLERS), self.sampler, "name one of them"))
        if not 0 <= self.guidance <= 100:
            raise InputError(must("guidance", "between 0 and 100", self.guidance, "for instance 2"))
        if self.steps < 1:
            raise InputError(must("steps", "at least 1", self.steps, "for instance 50"))


class Process:
    """The forward process of a recipe, and its training targets.

    Args:
        config: The recipe's section `diffusion`.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        require_diffusers()
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        self.config = config
        self.scheduler: Any = DDPMScheduler(**self._settings())

    def _settings(self) -> dict[str, Any]:
        prediction = "epsilon" if self.config.prediction == EPSILON else "v_prediction"
        # The published betas are for 1,000 steps; with fewer steps each must be larger, so that the end is pure noise.
        scale = 1000 / self.config.steps
        return {
            "num_train_timesteps": self.config.steps,
            "beta_start": min(1e-4 * scale, 0.5),
            "beta_end": min(0.02 * scale, 0.999),
            "beta_schedule": self.config.schedule,
            "prediction_type": prediction,
            "clip_sample": False,  # latents have no bounds
        }

    def noisy(self, clean: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """``√ᾱ_t z + √(1 − ᾱ_t) ε`` (Ho et al. 2020, equation 4)."""
        return self.scheduler.add_noise(clean, noise, steps)

    def target(self, clean: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """The denoiser's target: ε, or ``v = √ᾱ_t ε − √(1 − ᾱ_t) z`` (Salimans and Ho 2022)."""
        if self.config.prediction == EPSILON:
            return noise
        return self.scheduler.get_velocity(clean, noise, steps)

    def sampler(self, settings: SamplingConfig) -> Any:
        """A scheduler set to this number of steps.

        Raises:
            InputError: More steps than the process has.
        """
        if settings.steps > self.config.steps:
            expected = f"at most {self.config.steps}, the steps of the process"
            raise InputError(must("steps", expected, settings.steps, "use fewer"))
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        kind: Any = DDIMScheduler if settings.sampler == "ddim" else DDPMScheduler
        made = kind(**self._settings(), timestep_spacing="trailing")
        made.set_timesteps(settings.steps)
        return made


def guided(denoiser: Predict, nothing: Tensor, guidance: float) -> Predict:
    """The denoiser under classifier-free guidance.

    Args:
        denoiser: As :class:`atypia.synthesis.model.networks.Denoiser`.
        nothing: Codes without information, one row, shape (1, conditions).
        guidance: As :attr:`SamplingConfig.guidance`; 0 and 1 need one pass, other values two.
    """

    def predict(latents: Tensor, steps: Tensor, codes: Tensor) -> Tensor:
        if guidance == 1:
            return denoiser(latents, steps, codes)
        blank = nothing.expand(len(latents), -1)
        if guidance == 0:
            return denoiser(latents, steps, blank)
        both = denoiser(torch.cat([latents, latents]), torch.cat([steps, steps]), torch.cat([blank, codes]))
        without, told = both.chunk(2)
        return without + guidance * (told - without)

    return predict


def noise_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per sample, so that a sample's noise does not depend on the other samples of its batch."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.inference_mode()
def draw_latents(
    denoiser: Denoiser,
    process: Process,
    codes: Tensor,
    generators: list[torch.Generator],
    settings: SamplingConfig,
    amp: torch.dtype | None = None,
) -> Tensor:
    """Draws latents from noise.

    Args:
        denoiser: In evaluation mode, on its device.
        process: The noise process that it was trained with.
        codes: Conditions, shape (b, conditions), int64, on the denoiser's device.
        generators: One CPU generator per sample.
        settings: Guidance, steps and sampler.
        amp: Precision of the denoiser's passes; None for single precision.

    Returns:
        Standardised latents, shape (b, c, h, w), float32.
    """
    device = codes.device
    config: Any = denoiser.transformer.config
    shape = (config.in_channels, config.sample_size, config.sample_size)
    latents = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)
    scheduler = process.sampler(settings)
    predict = guided(denoiser, denoiser.nothing(1, device), settings.guidance)
    extra = {} if settings.sampler == "ddim" else {"generator": generators}
    for step in scheduler.timesteps.tolist():
        steps = torch.full((len(latents),), step, device=device, dtype=torch.int64)
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            predicted = predict(latents, steps, codes)
        latents = scheduler.step(predicted.float(), step, latents, **extra).prev_sample
    return latents
