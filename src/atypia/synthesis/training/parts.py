"""The trained networks: the autoencoder on crops, the denoiser on latents; each does one optimiser step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.base.errors import InputError, must
from atypia.methods.averaging import EMA
from atypia.synthesis.model.diffusion import Process
from atypia.synthesis.model.latents import Latents
from atypia.synthesis.model.networks import Denoiser, Discriminator
from atypia.synthesis.model.pixels import VIEWS, crops_to_images, turn_images
from atypia.synthesis.schema import GeneratorRecipe, PartConfig, PerceptualConfig
from atypia.training.epochs.optimisers import clip, make_optimiser
from atypia.training.sections import OptimiserConfig

Losses = dict[str, Tensor]


class Part(Protocol):
    """A network in training.

    Attributes:
        modules: Trained and saved modules, by name.
        optimisers: Its optimisers, by name.
        ema: The moving average used for sampling; None without one.
    """

    modules: nn.ModuleDict
    optimisers: dict[str, torch.optim.Optimizer]
    ema: EMA | None

    def step(self, rows: npt.NDArray[np.int64], generator: torch.Generator, epoch: int) -> Losses:
        """One optimiser step on these figures; the CPU generator determines all random draws.

        Returns:
            ``loss`` and its parts, scalars without gradient.
        """
        ...


class AutoencoderPart:
    """Reconstruction, KL, and optionally a perceptual and an adversarial term.

    ``loss = mean |x − x̂| + w_KL KL/N + w_P perceptual − w_A mean D(x̂)``, with N the number of pixel values.

    Args:
        recipe: The recipe.
        config: Settings of this stage.
        autoencoder: The autoencoder, on its device.
        crops: Shape (n, h, h, 3), uint8, memory-mapped.
        device: Device of the training.
        amp: Precision of the passes; None for single precision.
    """

    def __init__(
        self,
        recipe: GeneratorRecipe,
        config: PartConfig,
        autoencoder: nn.Module,
        crops: npt.NDArray[np.uint8],
        device: torch.device,
        amp: torch.dtype | None = None,
    ) -> None:
        self.recipe, self.config, self.crops, self.device, self.amp = recipe, config, crops, device, amp
        self.autoencoder: Any = autoencoder
        self.modules = nn.ModuleDict({"autoencoder": autoencoder})
        self.optimisers = {"autoencoder": _adamw(config, autoencoder, config.lr)}
        self.ema = None
        settings = recipe.autoencoder
        self.perceptual = Perceptual(settings.perceptual, device) if settings.perceptual else None
        if settings.adversarial is not None:
            self.modules["discriminator"] = Discriminator(settings.adversarial.channels).to(device)
            self.optimisers["discriminator"] = _adamw(config, self.modules["discriminator"], settings.adversarial.lr)

    def step(self, rows: npt.NDArray[np.int64], generator: torch.Generator, epoch: int) -> Losses:
        """See :class:`Part`."""
        images = crops_to_images(self.crops[rows], self.device)
        if self.recipe.turns:
            images = turn_images(images, torch.randint(VIEWS, (len(rows),), generator=generator))
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        settings = self.recipe.autoencoder
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            posterior = self.autoencoder.encode(images).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(self.device)
            made = self.autoencoder.decode(posterior.mean + posterior.std * noise).sample
        difference = made.float() - images
        parts = {
            "reconstruction": difference.abs().mean()
            if settings.reconstruction == "l1"
            else difference.square().mean(),
            "kl": posterior.kl().float().mean() / images[0].numel(),
        }
        total = parts["reconstruction"] + settings.kl_weight * parts["kl"]
        if self.perceptual is not None and settings.perceptual is not None:
            parts["perceptual"] = self.perceptual(made.float(), images)
            total = total + settings.perceptual.weight * parts["perceptual"]
        adversarial = (
            settings.adversarial if settings.adversarial and epoch >= settings.adversarial.start_epoch else None
        )
        if adversarial is not None:
            parts["adversarial"] = -self.modules["discriminator"](made.float()).mean()
            total = total + adversarial.weight * parts["adversarial"]
        self._update("autoencoder", total)
        if adversarial is not None:
            parts["discriminator"] = self._judge(images, made.float().detach())
        return {"loss": total.detach(), **{name: value.detach() for name, value in parts.items()}}

    def _judge(self, real: Tensor, made: Tensor) -> Tensor:
        """One step of the discriminator with loss ``(mean max(0, 1 − D(x)) + mean max(0, 1 + D(x̂))) / 2``."""
        judge = self.modules["discriminator"]
        loss = 0.5 * (F.relu(1 - judge(real)).mean() + F.relu(1 + judge(made)).mean())
        self._update("discriminator", loss)
        return loss

    def _update(self, name: str, loss: Tensor) -> None:
        # The adversarial term leaves gradients in the discriminator that must not be used for its own update.
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip(self.modules[name].parameters(), self.config.clip_norm)
        self.optimisers[name].step()


class Perceptual:
    """Distance of two images on intermediate feature maps of a frozen backbone.

    Args:
        config: Backbone and number of maps, counted from the last.
        device: Device.

    Raises:
        InputError: The backbone has no intermediate maps.
        AbsentError: Its weights are not on this machine.
    """

    def __init__(self, config: PerceptualConfig, device: torch.device) -> None:
        from atypia.backbones.build import build
        from atypia.backbones.catalogue import BACKBONES

        entry = BACKBONES[config.backbone]
        self.net: Any = build(config.backbone).net.to(device).eval().requires_grad_(False)
        if not hasattr(self.net, "forward_intermediates"):
            expected = "a backbone with intermediate maps"
            raise InputError(must("perceptual.backbone", expected, config.backbone, "use efficientnet-lite0"))
        self.maps = config.maps
        self.side = entry.input_px if entry.pooling != "avg" else None
        self.mean = torch.tensor(entry.mean, device=device)[None, :, None, None]
        self.std = torch.tensor(entry.std, device=device)[None, :, None, None]

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean squared distance of feature maps of unit length, a scalar; images are in [−1, 1]."""
        with torch.no_grad():
            wanted = self._features(real)
        return torch.stack(
            [(a - b).square().sum(1).mean() for a, b in zip(self._features(made), wanted, strict=True)]
        ).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        seen = ((images + 1) / 2 - self.mean) / self.std
        if self.side is not None:
            seen = F.interpolate(seen, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False)
        found = self.net.forward_intermediates(seen, intermediates_only=True)[-self.maps :]
        return [F.normalize(one, dim=1) for one in found]


class DenoiserPart:
    """The mean squared error of the predicted noise or velocity (Ho et al. 2020, equation 14).

    Args:
        recipe: The recipe.
        config: Settings of this stage.
        denoiser: The denoiser, on its device.
        latents: Latents of all training figures.
        codes: Codes of their conditions, shape (n, conditions).
        amp: Precision of the passes; None for single precision.
    """

    def __init__(
        self,
        recipe: GeneratorRecipe,
        config: PartConfig,
        denoiser: Denoiser,
        latents: Latents,
        codes: npt.NDArray[np.int64],
        amp: torch.dtype | None = None,
    ) -> None:
        self.recipe, self.config, self.latents, self.amp = recipe, config, latents, amp
        self.device = next(denoiser.parameters()).device
        self.denoiser = denoiser
        self.codes = torch.from_numpy(codes)
        self.process = Process(recipe.diffusion)
        self.modules = nn.ModuleDict({"denoiser": denoiser})
        self.optimisers = {"denoiser": _adamw(config, denoiser, config.lr)}
        self.ema = EMA(denoiser, recipe.diffusion.ema, debias=True)
        self.predict: Any = torch.compile(denoiser) if recipe.compile else denoiser

    def step(self, rows: npt.NDArray[np.int64], generator: torch.Generator, epoch: int) -> Losses:
        """See :class:`Part`."""
        clean = self.latents.draw(rows, generator).to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        steps = torch.randint(self.recipe.diffusion.steps, (len(rows),), generator=generator).to(self.device)
        told = self.codes[torch.from_numpy(rows)]
        dropped = torch.rand(len(rows), generator=generator) < self.recipe.diffusion.condition_dropout
        told = torch.where(dropped[:, None], self.denoiser.nothing(len(rows)), told).to(self.device)
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            predicted = self.predict(self.process.noisy(clean, noise, steps), steps, told)
        loss = F.mse_loss(predicted.float(), self.process.target(clean, noise, steps))
        loss.backward()
        clip(self.denoiser.parameters(), self.config.clip_norm)
        self.optimisers["denoiser"].step()
        self.optimisers["denoiser"].zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.denoiser)
        return {"loss": loss.detach()}


def _adamw(config: PartConfig, module: nn.Module, lr: float) -> torch.optim.Optimizer:
    settings = OptimiserConfig(name="adamw", lr=lr, weight_decay=config.weight_decay)
    return make_optimiser(settings, module, [])


def cpu_state(module: nn.Module) -> Mapping[str, Tensor]:
    """A module's tensors on the CPU, in single precision."""
    return {name: value.detach().float().cpu().contiguous() for name, value in module.state_dict().items()}
