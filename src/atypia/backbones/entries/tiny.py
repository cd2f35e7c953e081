"""Two very small networks with random weights: they exercise every path in milliseconds.

They have learnt nothing. A result that is as good with one of them says that the task, the split or
the metric leaks.
"""

from __future__ import annotations

from atypia.backbones.catalogue import HALF, NO_LORA_CNN, TRANSFORMER_LORA, Paper, RandomWeights, add

_TIMM = Paper("timm", "https://github.com/huggingface/pytorch-image-models")

add(
    name="tiny-cnn",
    title="tiny CNN, random weights",
    timm_name="test_efficientnet",
    weights=RandomWeights(),
    feature_dim=256,
    params_m=0.0992,
    input_px=160,
    multiple_px=32,
    mean=HALF,
    std=HALF,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=_TIMM,
)
add(
    name="tiny-vit",
    title="tiny ViT, random weights",
    timm_name="test_vit",
    weights=RandomWeights(),
    feature_dim=128,
    params_m=0.306,
    input_px=160,
    multiple_px=16,
    mean=HALF,
    std=HALF,
    pooling="cls+mean",
    lora_targets=TRANSFORMER_LORA,
    licence="Apache-2.0",
    paper=_TIMM,
)
