"""A backbone: one frozen entry; timm builds the network."""

from atypia.backbones.catalogue import BACKBONES, HALF, NO_LORA_CNN, Backbone, Paper, RandomWeights

BACKBONES.add(
    "mylab-cnn",
    Backbone(
        name="mylab-cnn",
        title="our CNN",
        timm_name="test_efficientnet",
        weights=RandomWeights(),  # for real ones: HubWeights("owner/name", revision="…"), or --weights FILE
        feature_dim=256,
        params_m=0.0992,
        input_px=160,
        multiple_px=32,
        mean=HALF,
        std=HALF,
        pooling="avg",
        licence="Apache-2.0",
        paper=Paper("timm", "https://github.com/huggingface/pytorch-image-models"),
        lora_reason=NO_LORA_CNN,
    ),
    version=1,
)
