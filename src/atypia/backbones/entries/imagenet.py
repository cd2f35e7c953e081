"""Networks trained on labelled natural images: the baselines of the benchmark papers.

Revisions are commits that the hub's own pages or several public projects show.
"""

from __future__ import annotations

from atypia.backbones.catalogue import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NO_LORA_CNN,
    TRANSFORMER_LORA,
    HubWeights,
    Paper,
    add,
)

_EFFICIENTNET_V2 = Paper("Tan and Le 2021", "https://arxiv.org/abs/2104.00298")
_VIT = Paper("Dosovitskiy et al. 2021", "https://arxiv.org/abs/2010.11929")
_AUGREG = Paper("Steiner et al. 2022", "https://arxiv.org/abs/2106.10270")

add(
    name="efficientnetv2-s",
    title="EfficientNetV2-S",
    timm_name="tf_efficientnetv2_s",
    weights=HubWeights("timm/tf_efficientnetv2_s.in21k_ft_in1k", revision="212ce86b3cc2aa27505700cd5d1a25dfd2a07dc8"),
    feature_dim=1280,
    params_m=20.2,
    input_px=300,
    multiple_px=32,
    mean=HALF,
    std=HALF,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=_EFFICIENTNET_V2,
)
add(
    name="efficientnetv2-m",
    title="EfficientNetV2-M",
    timm_name="tf_efficientnetv2_m",
    weights=HubWeights("timm/tf_efficientnetv2_m.in21k_ft_in1k", revision="9a2df5ebd3e594d89fd4c635fd6c0db92592a147"),
    feature_dim=1280,
    params_m=52.9,
    input_px=384,
    multiple_px=32,
    mean=HALF,
    std=HALF,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=_EFFICIENTNET_V2,
    note="timm's `efficientnetv2_m`, without `tf_`, has no pretrained weights: a baseline of that name was trained "
    "from scratch.",
)
add(
    name="vit-b16",
    title="ViT-B/16",
    timm_name="vit_base_patch16_224",
    weights=HubWeights(
        "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", revision="3feba41e737e1b28af8e1fd7dca8eed073385972"
    ),
    feature_dim=768,
    params_m=85.8,
    input_px=224,
    multiple_px=16,
    mean=HALF,
    std=HALF,
    pooling="cls",
    lora_targets=TRANSFORMER_LORA,
    licence="Apache-2.0",
    paper=_AUGREG,
)
add(
    name="vit-l16",
    title="ViT-L/16",
    timm_name="vit_large_patch16_224",
    weights=HubWeights("timm/vit_large_patch16_224.augreg_in21k_ft_in1k"),
    feature_dim=1024,
    params_m=303.3,
    input_px=224,
    multiple_px=16,
    mean=HALF,
    std=HALF,
    pooling="cls",
    lora_targets=TRANSFORMER_LORA,
    licence="Apache-2.0",
    paper=_AUGREG,
)
add(
    name="vit-h14",
    title="ViT-H/14",
    timm_name="vit_huge_patch14_224",
    weights=HubWeights("timm/vit_huge_patch14_224.orig_in21k", revision="df7624d578ed2f1d55a4e31f375c73e969d2fa79"),
    feature_dim=1280,
    params_m=630.8,
    input_px=224,
    multiple_px=14,
    mean=HALF,
    std=HALF,
    pooling="cls",
    lora_targets=TRANSFORMER_LORA,
    licence="Apache-2.0",
    paper=_VIT,
)
add(
    name="swin-b",
    title="Swin-B",
    timm_name="swin_base_patch4_window7_224",
    weights=HubWeights(
        "timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k", revision="ed1b4c7be86f695c51631487f0041064c67f5cf9"
    ),
    feature_dim=1024,
    params_m=86.7,
    input_px=224,
    multiple_px=32,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="avg",
    lora_targets=TRANSFORMER_LORA,
    licence="MIT",
    paper=Paper("Liu et al. 2021", "https://arxiv.org/abs/2103.14030"),
    note="At another input side the windows keep their share of the grid and their position biases are resampled.",
)
add(
    name="convnext-s",
    title="ConvNeXt-S",
    timm_name="convnext_small",
    weights=HubWeights("timm/convnext_small.fb_in22k_ft_in1k", revision="adb89ecb994bcffaef1537c955094103b3ef6cc1"),
    feature_dim=768,
    params_m=49.5,
    input_px=224,
    multiple_px=32,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=Paper("Liu et al. 2022", "https://arxiv.org/abs/2201.03545"),
)
add(
    name="resnet50",
    title="ResNet50",
    timm_name="resnet50",
    weights=HubWeights("timm/resnet50.a1_in1k", revision="767268603ca0cb0bfe326fa87277f19c419566ef"),
    feature_dim=2048,
    params_m=23.5,
    input_px=224,
    multiple_px=32,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=Paper("He et al. 2016", "https://arxiv.org/abs/1512.03385"),
)
add(
    name="densenet121",
    title="DenseNet-121",
    timm_name="densenet121",
    weights=HubWeights("timm/densenet121.ra_in1k", revision="e65bed9f92a2e438879b179438d22ed719be26d6"),
    feature_dim=1024,
    params_m=6.95,
    input_px=224,
    multiple_px=32,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=Paper("Huang et al. 2017", "https://arxiv.org/abs/1608.06993"),
)
add(
    name="inception-v3",
    title="Inception v3",
    timm_name="inception_v3",
    weights=HubWeights("timm/inception_v3.tv_in1k"),
    feature_dim=2048,
    params_m=21.8,
    input_px=299,
    multiple_px=1,
    mean=HALF,
    std=HALF,
    pooling="avg",
    lora_reason=NO_LORA_CNN,
    licence="Apache-2.0",
    paper=Paper("Szegedy et al. 2016", "https://arxiv.org/abs/1512.00567"),
    note="for scores of generated crops: the network that gave the Fréchet Inception Distance its name. Published "
    "values use another copy of its weights and resize images otherwise, so they are near these and not equal.",
)
