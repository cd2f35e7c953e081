"""Peak GPU memory of LoRA on a ViT-g (1.1 B parameters) at batch 8 and 224 px; the arithmetic without a GPU.

The network has the architecture of the catalogue's largest entries and random weights, which
need the same memory as trained ones. Goal: under 24 GB.
"""

from __future__ import annotations

from typing import Any

import torch

from atypia.backbones.build import Encoder, architecture
from atypia.backbones.catalogue import BACKBONES
from atypia.methods.lora import add_lora
from atypia.methods.network import Network, NetworkSpec

BACKBONE, BATCH, SIDE, RANK = "h-optimus-0", 8, 224, 8


def arithmetic() -> dict[str, float]:
    """Gigabytes by what needs them: weights, adapters with their optimiser state, kept activations."""
    entry = BACKBONES[BACKBONE]
    with torch.device("meta"):
        net = architecture(entry)
    parameters = sum(p.numel() for p in net.parameters())
    adapted = add_lora(net, entry.lora_targets, RANK, 16, 0.0)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    depth, width = len(list(net.blocks)), int(net.embed_dim)  # pyright: ignore[reportArgumentType]
    tokens = (SIDE // entry.multiple_px) ** 2 + int(net.num_prefix_tokens)  # pyright: ignore[reportArgumentType]
    kept = BATCH * tokens * width * depth * 2  # one bf16 input a block; the rest is recomputed
    block = BATCH * tokens * width * 2 * 34  # one block's activations while it is recomputed
    return {
        "parameters_m": parameters / 1e6,
        "adapted_layers": len(adapted),
        "trained_m": trained / 1e6,
        "weights_fp32_gb": 4 * parameters / 1e9,
        "weights_bf16_gb": 2 * parameters / 1e9,
        "adapters_and_adam_gb": 16 * trained / 1e9,
        "activations_gb": (kept + block) / 1e9,
    }


def peak(weights: torch.dtype, checkpointing: bool) -> float:
    """Measured peak in GB of three training steps."""
    entry = BACKBONES[BACKBONE]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        net = architecture(entry)
        spec = NetworkSpec(BACKBONE, SIDE, "lora", lora_rank=RANK, checkpointing=checkpointing)
        network = Network(Encoder(net, entry, SIDE), spec)
    add_lora(net, entry.lora_targets, RANK, 16, 0.0)
    network.cuda()
    for parameter in network.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(weights)
    net.set_grad_checkpointing(checkpointing)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4, fused=True)
    images = torch.randn(BATCH, 3, SIDE, SIDE, device="cuda")
    network.train()
    for _ in range(3):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            network(images).logits.float().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    found = torch.cuda.max_memory_allocated() / 1e9
    del network, net, optimiser
    torch.cuda.empty_cache()
    return found


def measure() -> dict[str, Any]:
    """The arithmetic, and with a GPU the measured peaks."""
    found: dict[str, Any] = {key: round(value, 2) for key, value in arithmetic().items()}
    if torch.cuda.is_available():
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            for checkpointing in (False, True):
                label = f"peak_gb {name} weights{', checkpointing' if checkpointing else ''}"
                found[label] = round(peak(dtype, checkpointing), 2)
    return found
