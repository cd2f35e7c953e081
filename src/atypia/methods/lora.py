"""Low-rank adaptation of attention and MLP, through peft (Hu et al. 2022).

A linear map W becomes ``W + (α / r) B A`` with A (r, in) and B (out, r); B starts at zero, so the
adapted network starts as the pretrained one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import torch
from torch import Tensor, nn

from atypia.base.errors import InputError, must

PARTS: Final = ("q", "k", "v", "qkv", "proj", "mlp")
"""What can be adapted of a transformer's blocks: query, key and value, each alone or by one adapter for the map that gives
all three; the attention's output; the linear maps of the MLP."""
FUSED: Final = ("q", "k", "v")
"""Parts of the map that timm keeps as one, in the order of its rows."""


class SplitAttentionInput(nn.Module):
    """Query, key and value as three linear maps in the place of the one that timm keeps; the same output.

    Args:
        fused: Linear map from (…, c) to (…, 3 c).
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        width = fused.out_features // len(FUSED)
        for number, name in enumerate(FUSED):
            rows = slice(number * width, (number + 1) * width)
            part = nn.Linear(fused.in_features, width, fused.bias is not None, device="meta", dtype=fused.weight.dtype)
            part.weight = nn.Parameter(fused.weight[rows].detach().clone())
            if fused.bias is not None:
                part.bias = nn.Parameter(fused.bias[rows].detach().clone())
            setattr(self, name, part)

    def forward(self, tokens: Tensor) -> Tensor:
        """Query, key and value of tokens (b, t, c), one after the other: (b, t, 3 c)."""
        return torch.cat([getattr(self, name)(tokens) for name in FUSED], dim=-1)

    def fused(self) -> nn.Linear:
        """The three maps as one again."""
        parts = [getattr(self, name) for name in FUSED]
        first = parts[0]
        whole = nn.Linear(first.in_features, len(FUSED) * first.out_features, first.bias is not None, device="meta")
        whole.weight = nn.Parameter(torch.cat([part.weight for part in parts]))
        if first.bias is not None:
            whole.bias = nn.Parameter(torch.cat([part.bias for part in parts]))
        return whole


def add_lora(
    trunk: nn.Module, targets: str | None, rank: int, alpha: float, dropout: float, parts: Collection[str] = ()
) -> list[str]:
    """Adds adapters in place and freezes everything else.

    Args:
        trunk: The backbone.
        targets: Full-match pattern of the names of the linear maps: attention and MLP, never the
            patch embedding; None if the backbone has none.
        rank: r ≥ 1.
        alpha: α > 0; the update is scaled by α / r.
        dropout: Dropout on the adapters' input, in [0, 1).
        parts: Which of them, of :data:`PARTS`; none: all. Of query, key and value alone, r (c + c) numbers are trained each.

    Returns:
        Names of the adapted maps.

    Raises:
        InputError: The backbone has none of the targets.
    """
    from peft import LoraConfig, inject_adapter_in_model

    found = [
        name
        for name, module in trunk.named_modules()
        if targets is not None and isinstance(module, nn.Linear) and re.fullmatch(targets, name)
    ]
    adapted = [name for name in found if not parts or _part(name) in parts]
    split = [part for part in FUSED if part in parts]
    for name in [name for name in found if split and _part(name) == "qkv"]:
        _replace(trunk, name, SplitAttentionInput(_linear(trunk, name)))
        adapted += [f"{name}.{part}" for part in split]
    if not adapted:
        asked = "no attention or MLP to adapt" if not parts else f"none of {', '.join(parts)}"
        raise InputError(must("backbone", "a transformer for LoRA", asked, "use adaptation: full or partial"))
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=adapted, bias="none")  # pyright: ignore[reportArgumentType]
    trunk.requires_grad_(False)
    inject_adapter_in_model(config, trunk)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted


def _part(name: str) -> str:
    """Which of :data:`PARTS` a map is, by its name in timm.

    >>> _part("blocks.3.attn.qkv"), _part("blocks.3.mlp.fc1_g")
    ('qkv', 'mlp')
    """
    *_, block, last = name.split(".")
    return "mlp" if block == "mlp" else last.removesuffix("_proj")


def _linear(trunk: nn.Module, name: str) -> nn.Linear:
    found = trunk.get_submodule(name)
    assert isinstance(found, nn.Linear)
    return found


def _replace(trunk: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(trunk.get_submodule(parent), child, module)


@torch.no_grad()
def merge_lora(trunk: nn.Module) -> nn.Module:
    """Adds the adapters' product to the weights and removes the adapters, in place.

    The merged network gives the adapted one's outputs in evaluation mode, to rounding.
    """
    from peft.tuners.lora import Linear as LoraLinear

    for name, module in list(trunk.named_modules()):
        if isinstance(module, LoraLinear):
            module.merge()
            _replace(trunk, name, module.get_base_layer())
    for name, module in list(trunk.named_modules()):
        if isinstance(module, SplitAttentionInput):
            _replace(trunk, name, module.fused())
    return trunk
