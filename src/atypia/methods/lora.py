"""Low-rank adaptation of attention and MLP, through peft (Hu et al. 2022).

A linear map W becomes ``W + (α / r) B A`` with A (r, in) and B (out, r); B starts at zero, so the
adapted network starts as the pretrained one.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from atypia.base.errors import InputError, must


def add_lora(trunk: nn.Module, targets: str | None, rank: int, alpha: float, dropout: float) -> list[str]:
    """Adds adapters in place and freezes everything else.

    Args:
        trunk: The backbone.
        targets: Full-match pattern of the names of the linear maps: attention and MLP, never the
            patch embedding; None where the backbone has none.
        rank: r ≥ 1.
        alpha: α > 0; the update is scaled by α / r.
        dropout: Dropout on the adapters' input, in [0, 1).

    Returns:
        Names of the adapted maps.

    Raises:
        InputError: The backbone has none of the targets.
    """
    from peft import LoraConfig, inject_adapter_in_model

    adapted = [
        name
        for name, module in trunk.named_modules()
        if targets is not None and isinstance(module, nn.Linear) and re.fullmatch(targets, name)
    ]
    if not adapted:
        raise InputError(
            must(
                "backbone", "a transformer for LoRA", "no attention or MLP to adapt", "use adaptation: full or partial"
            )
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=adapted, bias="none")  # pyright: ignore[reportArgumentType]
    trunk.requires_grad_(False)
    inject_adapter_in_model(config, trunk)
    for name, parameter in trunk.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted


@torch.no_grad()
def merge_lora(trunk: nn.Module) -> nn.Module:
    """Adds the adapters' product to the weights and removes the adapters, in place.

    The merged network gives the adapted one's outputs in evaluation mode, to rounding.
    """
    from peft.tuners.lora import Linear as LoraLinear

    for name, module in list(trunk.named_modules()):
        if isinstance(module, LoraLinear):
            module.merge()
            parent_name, _, child = name.rpartition(".")
            setattr(trunk.get_submodule(parent_name), child, module.get_base_layer())
    return trunk
