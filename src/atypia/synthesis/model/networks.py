"""The networks of a generator: autoencoder, diffusion transformer with additive conditions, discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atypia.base.extras import require
from atypia.synthesis.schema import AutoencoderConfig, GeneratorRecipe

FREQUENCIES = 256
"""Channels of the sinusoidal embedding of a time step (Peebles and Xie 2023)."""


def require_diffusers() -> None:
    """Fails early if diffusers is not installed.

    Raises:
        AbsentError: diffusers is missing; the message names the extra to install.
    """
    require("a generator", "diffusers")


def build_autoencoder(config: AutoencoderConfig, side_px: int) -> Any:
    """The variational autoencoder with random weights, a ``diffusers.AutoencoderKL``.

    Args:
        config: The recipe's section `autoencoder`.
        side_px: Side of the crops in pixels.
    """
    require_diffusers()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    depth = len(config.channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * depth,  # pyright: ignore[reportArgumentType]
        block_out_channels=tuple(config.channels),  # pyright: ignore[reportArgumentType]
        layers_per_block=config.layers,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
        sample_size=side_px,
        mid_block_add_attention=config.attention,
    )


class _Given(nn.Module):
    """Replaces a block's own embedding: the embedding is computed once and passed in place of the time step."""

    def forward(self, timestep: Tensor, class_labels: Tensor | None = None, hidden_dtype: Any = None) -> Tensor:
        return timestep if hidden_dtype is None else timestep.to(hidden_dtype)


class Denoiser(nn.Module):
    """A diffusion transformer (DiT, Peebles and Xie 2023) with additive conditions.

    The embedding of the time step and one learned vector for each condition (class, domain, phase) are
    summed and shared by all blocks, as in the paper; the last row of each table means «not told».
    The modulation of every block and the last layer start at zero (adaLN-Zero), so that every block
    starts as the identity.

    Args:
        recipe: Recipe with the sizes.
        words: The values of each condition, in order.
    """

    def __init__(self, recipe: GeneratorRecipe, words: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        require_diffusers()
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

        config = recipe.denoiser
        width = config.heads * config.head_dim
        self.recipe = recipe
        self.words = {name: tuple(words[name]) for name in recipe.diffusion.conditions}
        self.frequencies = Timesteps(FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(FREQUENCIES, width)
        self.tables = nn.ModuleDict({name: nn.Embedding(len(w) + 1, width) for name, w in self.words.items()})
        self.transformer = DiTTransformer2DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.head_dim,
            in_channels=recipe.autoencoder.latent_channels,
            num_layers=config.layers,
            sample_size=recipe.latent_px,
            patch_size=config.patch,
            num_embeds_ada_norm=1,  # the blocks' own tables, replaced below
        )
        for block in self.transformer.transformer_blocks:
            block.norm1.emb = _Given()  # pyright: ignore[reportAttributeAccessIssue]
        self._start_at_identity()
        if recipe.checkpointing:
            self.transformer.enable_gradient_checkpointing()

    def _start_at_identity(self) -> None:
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=0.02)  # pyright: ignore[reportArgumentType]
        still: list[Any] = [block.norm1.linear for block in self.transformer.transformer_blocks]  # pyright: ignore[reportAttributeAccessIssue]
        for layer in [*still, self.transformer.proj_out_1, self.transformer.proj_out_2]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def nothing(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Codes of «not told» for all conditions, shape (count, conditions), int64."""
        last = torch.tensor([len(words) for words in self.words.values()], device=device)
        return last.repeat(count, 1)

    def forward(self, latents: Tensor, steps: Tensor, codes: Tensor) -> Tensor:
        """Predicts the noise, or the velocity, in noisy latents.

        Args:
            latents: Shape (b, c, h, w), float.
            steps: Time step of each, shape (b,), int64, 0 is the least noisy.
            codes: One code per condition, shape (b, conditions), int64; the last code of each is «not told».

        Returns:
            Shape (b, c, h, w).
        """
        embedding = self.time(self.frequencies(steps).to(self.time.linear_1.weight.dtype))
        for column, table in enumerate(self.tables.values()):
            embedding = embedding + table(codes[:, column])
        return self.transformer(latents, timestep=embedding, return_dict=False)[0]


def carry_over(denoiser: Denoiser, state: Mapping[str, Tensor], words: Mapping[str, Sequence[str]]) -> None:
    """Loads weights of a denoiser with other condition values: rows are matched by value.

    Args:
        denoiser: Receives the weights; rows of new values keep their initialisation.
        state: The other denoiser's state.
        words: The other denoiser's condition values.
    """
    own = denoiser.state_dict()
    taken = {key: value for key, value in state.items() if not key.startswith("tables.")}
    for name, known in denoiser.words.items():
        key = f"tables.{name}.weight"
        table = own[key].clone()
        if key in state:
            before = {word: row for row, word in enumerate(words.get(name, ()))}
            table[-1] = state[key][-1]
            for row, word in enumerate(known):
                # A new value starts from «not told», which the unlabelled stage has learned.
                table[row] = state[key][before[word]] if word in before else state[key][-1]
        taken[key] = table
    denoiser.load_state_dict(taken)


class Discriminator(nn.Sequential):
    """A patch discriminator: convolutions of stride 2 whose output judges overlapping patches (Isola et al. 2017).

    Args:
        channels: Width of the first layer.
    """

    def __init__(self, channels: int) -> None:
        groups = min(8, channels)
        super().__init__(
            nn.Conv2d(3, channels, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            nn.GroupNorm(groups, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 1, 4, 1, 1),
        )


def parameter_count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
