"""Networks for the tests of runtimes and export: one made by hand, and bundles of tiny backbones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from atypia.backbones.catalogue import BACKBONES
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import PROBE, Bundle, probe_tensors
from atypia.inference.bundles.decision import Decision
from atypia.inference.export.onnx import stamp

SIDE = 16
STORED, INPUT, VIEW = 40, 32, 0.6
"""Side of the crops of the tiny bundles, side of their networks, and the share of the crop that these see."""

CONFIG: dict[str, Any] = {
    "name": "brightness",
    "task": "atypical",
    "geometry": {"out_px": SIDE, "side_um": None, "side_px": None},
    "decision": {"threshold": 0.5},
    "fingerprint": "0" * 32,
}


def brightness(**changes: Any) -> onnx.ModelProto:
    """A network by hand: features are the mean of each channel in [0, 1], the logit is 4 · red − 4 · blue."""
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "most"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["logits"]),
    ]
    constants = {
        "axes": np.array([1, 2]), "most": np.float32(255), "last": np.array([1]),
        "head": np.array([[4], [0], [-4]], np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "by hand",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["b", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b"]),
         helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    stamp(model, {**CONFIG, **changes}, {})
    return model


def write_brightness(path: Path, **changes: Any) -> Path:
    """Writes :func:`brightness` and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(brightness(**changes), path)
    return path


def brightness_logits(crops: np.ndarray) -> np.ndarray:
    """What that network gives, by its definition."""
    mean = crops.mean((1, 2), dtype=np.float64) / 255
    return 4 * mean[:, 0] - 4 * mean[:, 2]


def random_crops(count: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Crops of random pixels about a random colour each, so that their means differ."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(40, 216, (count, 1, 1, 3))
    return np.clip(colour + rng.integers(-40, 40, (count, side, side, 3)), 0, 255).astype(np.uint8)


def network_bundle(backbone: str, adaptation: str, decision: Decision | None = None, **spec: Any) -> Bundle:
    """A bundle of a tiny network whose weights and running statistics are none that a fresh network has."""
    from atypia.methods.network import NetworkSpec, build_network

    made = NetworkSpec(backbone, INPUT, adaptation, view=VIEW, lora_rank=4 if adaptation == "lora" else 0, **spec)
    network = build_network(made)
    rng = np.random.default_rng(1)
    tensors = {name: _changed(name, value.numpy(), rng) for name, value in network.trained_state().items()}
    return _bundle(backbone, adaptation, tensors, decision, made.as_dict())


def probe_bundle(backbone: str, decision: Decision | None = None) -> Bundle:
    """A bundle of a probe with a random head."""
    weight = np.random.default_rng(2).normal(size=BACKBONES[backbone].feature_dim)
    return _bundle(backbone, PROBE, probe_tensors(weight, 0.25), decision, None)


def _bundle(
    backbone: str, adaptation: str, tensors: Mapping[str, Any], decision: Decision | None, network: Any
) -> Bundle:
    return Bundle(
        name=f"{adaptation}-{backbone}",
        task="atypical",
        adaptation=adaptation,
        backbone=backbone,
        weights_sha256=None,
        input_px=INPUT,
        geometry=CropGeometry(out_px=STORED),
        tensors=tensors,
        decision=decision or Decision(0.4),
        network=network,
        training={"recipe": "made up"},
    )


def _changed(name: str, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return value
    if name.endswith("running_var"):
        return (value * rng.uniform(0.2, 0.6, value.shape)).astype(value.dtype)  # keeps the signal alive to the end
    scale = 0.5 if name.startswith("head.") else 0.02
    return (value + rng.normal(0, scale, value.shape)).astype(value.dtype)
