"""The module that is exported: its preprocessing and its networks are those of training and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atypia.backbones.build import build, preprocess
from atypia.backbones.catalogue import BACKBONES
from atypia.base.errors import AbsentError
from atypia.inference.crops import DeviceCrops, Frame
from atypia.inference.networks import load_network
from atypia.inference.runtimes.graph import (
    ClassTokenBlock,
    Deployable,
    ProbeScorer,
    deployable,
    resize_matrix,
    sample_crops,
    without_idle_tokens,
)
from atypia.methods.network import stages

from .graphs import INPUT, STORED, VIEW, network_bundle, probe_bundle, random_crops


@pytest.mark.parametrize(
    ("source", "target"), [(76, 128), (77, 128), (128, 126), (128, 32), (40, 224), (9, 8), (16, 16)]
)
def test_two_matrices_resize_as_torch_does(source: int, target: int) -> None:
    images = torch.from_numpy(random_crops(2, source)).permute(0, 3, 1, 2).float()
    matrix = resize_matrix(source, target)
    want = F.interpolate(images, (target, target), mode="bilinear", antialias=True, align_corners=False)

    torch.testing.assert_close(matrix @ images @ matrix.T, want, atol=255e-5, rtol=0)
    torch.testing.assert_close(matrix.sum(1), torch.ones(target), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("side", "frame"),
    [
        (40, Frame(32, 0.6)),
        (41, Frame(32, 0.6)),
        (40, Frame(24, 0.6)),
        (32, Frame(32)),
        (40, Frame(96)),
        (64, Frame(32)),
    ],
    ids=str,
)
def test_preprocessing_is_that_of_training(side: int, frame: Frame) -> None:
    entry = BACKBONES["efficientnetv2-s"], BACKBONES["dinov2-s14"]
    crops = random_crops(3, side)
    for backbone in entry:
        module = Deployable(torch.nn.Identity(), frame, side, backbone.mean, backbone.std)  # type: ignore[arg-type]
        want = DeviceCrops(crops, backbone, frame).plain_batch(np.arange(3))
        torch.testing.assert_close(module.normalised(torch.from_numpy(crops)), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", ["tiny-cnn", "tiny-vit"])
def test_a_probe_scores_the_backbone_s_features(backbone: str) -> None:
    bundle = probe_bundle(backbone)
    crops = random_crops(4, STORED)
    with torch.inference_mode():
        logits, features = deployable(bundle)(torch.from_numpy(crops))
        want = build(backbone, INPUT)(preprocess(crops, BACKBONES[backbone], INPUT)).numpy()

    np.testing.assert_allclose(features.numpy(), want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(logits.numpy(), bundle.logits(want), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "adaptation", "parts"),
    [
        ("tiny-cnn", "full", {"mixstyle_stages": (0,), "checkpointing": True, "dropout": 0.5}),
        ("tiny-cnn", "full", {"cbam": True, "hidden": (8,)}),
        ("tiny-cnn", "partial", {}),
        ("tiny-vit", "lora", {"hidden": (8,), "lora_dropout": 0.5, "drop_path": 0.2}),
    ],
    ids=["mixstyle", "cbam", "partial", "lora"],
)
def test_a_network_scores_as_in_evaluation(backbone: str, adaptation: str, parts: dict[str, object]) -> None:
    bundle = network_bundle(backbone, adaptation, **parts)
    crops = random_crops(6, STORED)
    module = deployable(bundle)
    with torch.inference_mode():
        logits, features = module(torch.from_numpy(crops))
    network = load_network(bundle)
    frame = Frame(INPUT, VIEW)
    maps: list[torch.Tensor] = []
    for stage in stages(network.encoder.net) if backbone == "tiny-cnn" else ():
        assert isinstance(stage, torch.nn.Sequential)
        stage[-1].register_forward_hook(lambda _module, _given, out: maps.append(out))
    tokens: list[torch.Tensor] = []
    net: Any = network.encoder.net
    if backbone == "tiny-vit":
        net.blocks[round(len(net.blocks) / 3) - 1].register_forward_hook(
            lambda _module, _given, out: tokens.append(out)
        )
    with torch.inference_mode():
        want = network(DeviceCrops(crops, BACKBONES[backbone], frame).plain_batch(np.arange(6)))
    # The last stage of each stride; the channel means of strides 8 and 16 follow the pooled features.
    of_side = {made.shape[-1]: made.mean((2, 3)) for made in maps}
    middle = [of_side[INPUT // stride] for stride in (8, 16) if maps]
    middle += [net.norm(made)[:, net.num_prefix_tokens :].mean(1) for made in tokens]
    expected = torch.cat([want.pooled, *middle], dim=1)

    assert float(want.logits.std()) > 1e-3, "the network must tell the crops apart for the comparison to mean anything"
    torch.testing.assert_close(logits, want.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    assert features.shape == (6, module.feature_dim)
    kinds = {type(part).__name__ for part in module.modules()}
    assert not [kind for kind in kinds if "Lora" in kind or kind == "MixStyle"]
    if not parts.get("cbam"):
        assert not [kind for kind in kinds if "BatchNorm" in kind], "batch norms are folded into the convolutions"


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_a_last_block_for_the_class_token_alone_gives_the_same(adaptation: str) -> None:
    bundle = network_bundle("tiny-vit", adaptation, hidden=(8,), pooling="cls")
    crops = torch.from_numpy(random_crops(5, STORED))
    module, lean = deployable(bundle), without_idle_tokens(deployable(bundle))
    skipping = [part for part in lean.modules() if isinstance(part, ClassTokenBlock)]
    tokens: list[torch.Tensor] = []
    skipping[0].block.mlp.register_forward_hook(lambda _module, _given, out: tokens.append(out))  # type: ignore[union-attr]
    with torch.inference_mode():
        want, got = module(crops), lean(crops)

    assert len(skipping) == 1 and tokens[0].shape[1] == 1, "only one token may pass the last block's layers"
    assert float(want[0].std()) > 1e-3
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * float(other.abs().max()), rtol=1e-5)


def test_networks_of_which_more_than_the_class_token_is_read_keep_their_last_block() -> None:
    for bundle in (probe_bundle("tiny-cnn"), network_bundle("tiny-vit", "full", pooling="cls+mean")):
        assert not [
            part for part in without_idle_tokens(deployable(bundle)).modules() if isinstance(part, ClassTokenBlock)
        ]


def test_other_weights_are_refused() -> None:
    from dataclasses import replace

    with pytest.raises(AbsentError, match=r"the weights of tiny-cnn here are not those that probe-tiny-cnn was made w"):
        deployable(replace(probe_bundle("tiny-cnn"), weights_sha256="0" * 64))


def test_the_head_keeps_its_numbers() -> None:
    scorer = ProbeScorer(build("tiny-cnn", 32), np.linspace(-1, 1, 256), 0.25)

    np.testing.assert_allclose(scorer.head.weight.detach().numpy()[0], np.linspace(-1, 1, 256), rtol=1e-6)
    assert scorer.head.bias.item() == 0.25 and scorer.feature_dim == 256


def test_sample_crops_are_random_and_rendered_and_always_the_same() -> None:
    crops = sample_crops(32, 5)
    spread = crops.reshape(5, -1).std(1)

    assert crops.shape == (5, 32, 32, 3) and crops.dtype == np.uint8
    assert np.all(spread[:3] > 70) and np.all(spread[3:] < 70) and np.all(spread[3:] > 5)
    np.testing.assert_array_equal(crops, sample_crops(32, 5))
