"""Recipes of generators: all settings that determine a generator and its training, as strict YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from atypia.base.config import StrictModel, parse, read_shipped, shipped_yaml
from atypia.training.sections import GeometryConfig, Precision

CLASS, DOMAIN, PHASE = "class", "domain", "phase"
CONDITIONS: Final = (CLASS, DOMAIN, PHASE)
"""Conditions that a generator can be given: the class, the domain, and the phase that most raters named."""

EPSILON, V = "epsilon", "v"
PRETRAIN, FINETUNE = "pretrain", "finetune"
AUTOENCODER, DENOISER = "autoencoder", "denoiser"


class PerceptualConfig(StrictModel):
    """A perceptual term: distance between intermediate maps of a frozen backbone of the catalogue.

    Maps are scaled to unit length along their channels, as in LPIPS (Zhang et al. 2018) without its
    learned weights.
    """

    backbone: str
    weight: float = Field(default=0.5, gt=0)
    maps: int = Field(default=3, ge=1, le=12)


class DiscriminatorConfig(StrictModel):
    """An adversarial term: a patch discriminator with the hinge loss (Esser et al. 2021).

    ``start_epoch``: first epoch of the discriminator, when reconstructions are good enough to judge.
    """

    weight: float = Field(default=0.1, gt=0)
    start_epoch: int = Field(default=1, ge=0)
    channels: int = Field(default=64, ge=8)
    lr: float = Field(default=1e-4, gt=0)


class AutoencoderConfig(StrictModel):
    """The variational autoencoder; each entry of ``channels`` after the first halves the side.

    ``kl_weight``: weight of the KL term, which is summed over the latent and divided by the number of
    pixel values, so that its ratio to the mean reconstruction error is as in
    Rombach et al. (2022).
    """

    channels: tuple[Annotated[int, Field(ge=4)], ...] = Field(min_length=2, max_length=5)
    layers: int = Field(default=1, ge=1, le=4)
    latent_channels: int = Field(default=4, ge=1, le=32)
    groups: int = Field(default=8, ge=1)
    attention: bool = False
    reconstruction: Literal["l1", "l2"] = "l1"
    kl_weight: float = Field(default=1e-6, ge=0)
    perceptual: PerceptualConfig | None = None
    adversarial: DiscriminatorConfig | None = None

    @model_validator(mode="after")
    def _divides(self) -> AutoencoderConfig:
        wrong = [width for width in self.channels if width % self.groups]
        if wrong:
            raise ValueError(
                f"channels must be multiples of groups ({self.groups}), got {wrong[0]}; fix: change groups"
            )
        return self

    @property
    def factor(self) -> int:
        """Side of a crop divided by the side of its latent, in pixels."""
        return 2 ** (len(self.channels) - 1)


class DenoiserConfig(StrictModel):
    """The diffusion transformer (Peebles and Xie 2023): ``width = heads · head_dim``."""

    layers: int = Field(ge=1, le=48)
    heads: int = Field(ge=1, le=32)
    head_dim: int = Field(ge=8, le=128)
    patch: int = Field(default=2, ge=1, le=8)


class DiffusionConfig(StrictModel):
    """The noise process, and the conditions given to the denoiser.

    ``condition_dropout``: share of training samples whose conditions are all dropped, so that the same
    network also learns the unconditional model that classifier-free guidance needs (Ho and Salimans 2022).
    ``ema``: momentum of the averaged weights used for sampling.
    """

    steps: int = Field(default=1000, ge=2, le=10_000)
    schedule: Literal["linear", "squaredcos_cap_v2"] = "linear"
    prediction: Literal["epsilon", "v"] = EPSILON
    conditions: tuple[Literal["class", "domain", "phase"], ...] = (CLASS,)
    condition_dropout: float = Field(default=0.1, ge=0, lt=1)
    ema: float = Field(default=0.9999, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_class(self) -> DiffusionConfig:
        if CLASS not in self.conditions or len(set(self.conditions)) != len(self.conditions):
            raise ValueError("conditions must name `class`, and each once; fix: conditions: [class]")
        return self


class PartConfig(StrictModel):
    """How one part (autoencoder or denoiser) is trained in one stage; ``epochs: 0`` skips it.

    ``balanced``: classes are drawn equally often (labelled figures only).
    ``schedule``: learning rate after the warm-up. A denoiser is sampled from its moving average, which has
    the effect of a falling rate; an autoencoder has no average, and a short training benefits from a cosine.
    """

    epochs: int = Field(ge=0)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_epochs: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = Field(default=1.0, gt=0)
    balanced: bool = False


class StageConfig(StrictModel):
    """One stage: both parts, one after the other."""

    autoencoder: PartConfig
    denoiser: PartConfig

    def part(self, name: str) -> PartConfig:
        """The training settings of a part."""
        return self.autoencoder if name == AUTOENCODER else self.denoiser


class GeneratorRecipe(StrictModel):
    """A generator and its training.

    Attributes:
        summary: One line for listings.
        geometry: How real crops are cut, and the side of generated ones.
        autoencoder: Maps pixels to latents and back.
        denoiser: The diffusion transformer.
        diffusion: Noise process and conditions.
        pretrain: First stage, without labels.
        finetune: Second stage, on the labelled training part of a fold.
        turns: Whether figures are trained in all eight flips and quarter turns.
        precision: ``auto`` uses bf16 where the hardware multiplies in it (GPU, AMX, AMD with AVX-512), else fp32.
        channels_last: Memory layout of the autoencoder.
        compile: Whether the denoiser is compiled for training.
        checkpointing: Whether activations of the denoiser are recomputed instead of stored.
        sheet_every: Epochs between two sheets; 0 draws only one at the end of each part.
    """

    summary: str
    geometry: GeometryConfig
    autoencoder: AutoencoderConfig
    denoiser: DenoiserConfig
    diffusion: DiffusionConfig = DiffusionConfig()
    pretrain: StageConfig
    finetune: StageConfig
    turns: bool = True
    precision: Precision = "auto"
    channels_last: bool = True
    compile: bool = False
    checkpointing: bool = False
    sheet_every: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> GeneratorRecipe:
        step = self.autoencoder.factor * self.denoiser.patch
        if self.geometry.out_px % step:
            raise ValueError(f"geometry.out_px must be a multiple of {step} (autoencoder × patch); fix: change one")
        return self

    @property
    def latent_px(self) -> int:
        """Side of the latent."""
        return self.geometry.out_px // self.autoencoder.factor

    def stage(self, name: str) -> StageConfig:
        """The settings of a stage."""
        return self.pretrain if name == PRETRAIN else self.finetune


def shipped_generators() -> dict[str, Path]:
    """Name and file of every shipped generator recipe, in alphabetical order."""
    return shipped_yaml("synthesis", "recipes")


def load_generator_recipe(reference: str, overrides: Sequence[str] = ()) -> tuple[str, GeneratorRecipe]:
    """Reads a generator recipe and applies ``key=value`` overrides.

    Args:
        reference: A shipped recipe's name, or the path of a YAML file.
        overrides: In the form of ``--set``.

    Returns:
        The recipe's name (the file's stem) and the recipe.

    Raises:
        InputError: No such recipe, or an invalid one.
    """
    name, values = read_shipped("generator recipe", reference, shipped_generators(), overrides)
    return name, parse(GeneratorRecipe, values, f"generator recipe {reference}")
