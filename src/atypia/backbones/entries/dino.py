"""Self-supervised natural-image encoders: DINOv2 and DINOv3."""

from __future__ import annotations

from typing import Final

from atypia.backbones.catalogue import IMAGENET_MEAN, IMAGENET_STD, TRANSFORMER_LORA, HubWeights, Paper, add

SWIGLU_LORA: Final = r"(?:.*\.)?blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.(?:fc1_g|fc1_x|fc2))"
"""As TRANSFORMER_LORA, of networks whose MLP has a gate of its own."""

_DINOV2 = Paper("Oquab et al. 2024", "https://arxiv.org/abs/2304.07193")
_DINOV3 = Paper("Siméoni et al. 2025", "https://arxiv.org/abs/2508.10104")

for _size, _word, _dim, _params, _revision in (
    ("s", "small", 384, 22.1, "4610ca143709d58a633b6397a74412c2c3842454"),
    ("b", "base", 768, 86.6, "1dc7cda4727a9f4baa37f3ef407928dd642d0149"),
    ("l", "large", 1024, 304.4, "7eb792a1b3aabe5d55f3da6ff9e2e084744e25f9"),
):
    add(
        name=f"dinov2-{_size}14",
        title=f"DINOv2 ViT-{_size.upper()}/14",
        timm_name=f"vit_{_word}_patch14_dinov2",
        weights=HubWeights(f"timm/vit_{_word}_patch14_dinov2.lvd142m", revision=_revision),
        feature_dim=_dim,
        params_m=_params,
        input_px=518,
        multiple_px=14,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        pooling="cls",
        lora_targets=TRANSFORMER_LORA,
        licence="Apache-2.0",
        paper=_DINOV2,
    )

for _size, _word, _dim, _params, _revision in (
    ("s", "small", 384, 21.6, "3bf4720a82ec2066db88137180ff1f83a675cef0"),
    ("b", "base", 768, 85.7, "c6a5fb7d12bbd3cf3b0079253141c3332aaed7da"),
    ("l", "large", 1024, 303.1, "30c1109559f65dea34316b0d4842d35c5771fe11"),
):
    add(
        name=f"dinov3-{_size}16",
        title=f"DINOv3 ViT-{_size.upper()}/16",
        timm_name=f"vit_{_word}_patch16_dinov3",
        weights=HubWeights(f"timm/vit_{_word}_patch16_dinov3.lvd1689m", revision=_revision),
        feature_dim=_dim,
        params_m=_params,
        input_px=256,
        multiple_px=16,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        pooling="cls",
        model_kwargs={"dynamic_img_size": True},
        lora_targets=TRANSFORMER_LORA,
        licence="DINOv3 licence",
        paper=_DINOV3,
        note="Rotary positions: any multiple of 16 without resampling. Four register tokens are left out of pooling.",
    )
add(
    name="dinov3-h16plus",
    title="DINOv3 ViT-H+/16",
    timm_name="vit_huge_plus_patch16_dinov3",
    weights=HubWeights("timm/vit_huge_plus_patch16_dinov3.lvd1689m"),
    feature_dim=1280,
    params_m=840.5,
    input_px=256,
    multiple_px=16,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="cls",
    model_kwargs={"dynamic_img_size": True},
    lora_targets=SWIGLU_LORA,
    licence="DINOv3 licence",
    paper=_DINOV3,
    note="Of the winner of MIDOG 2025's track 2 (recipe `midog25-winner`). Rotary positions: any multiple of 16 without "
    "resampling. Four register tokens are left out of pooling.",
)
