"""Weights in 8-bit integers, and networks that compute with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.inference.graphs import STORED, network_bundle, random_crops, write_brightness

from atypia.base.errors import InputError
from atypia.inference.bundles.bundle import MODEL_FILE, load_bundle
from atypia.inference.bundles.packing import INTEGERS, LEVELS, SCALE, pack, quantise_matrix, unpack
from atypia.inference.export.compact import save_compact
from atypia.inference.export.rows import quantise_rows, share
from atypia.inference.networks import load_network
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime

RNG = np.random.default_rng(0)
MATRIX = (RNG.normal(size=(160, 128)) * np.logspace(-3, 1, 160)[:, None]).astype(np.float32)


def test_packed_matrices_come_back_within_half_a_step_of_their_row() -> None:
    tensors = {"a": MATRIX, "bias": np.ones(160, np.float32), "half": MATRIX.astype(np.float16)}
    packed = pack(tensors)

    assert set(packed) == {"a" + INTEGERS, "a" + SCALE, "bias", "half" + INTEGERS, "half" + SCALE}
    assert packed["a" + INTEGERS].dtype == np.int8 and np.abs(packed["a" + INTEGERS]).max() == LEVELS
    back = unpack(packed)
    assert set(back) == set(tensors)
    steps = np.abs(MATRIX).max(axis=1, keepdims=True) / LEVELS
    assert (np.abs(back["a"] - MATRIX) <= steps * 0.5001).all()
    assert back["bias"] is tensors["bias"]
    again = pack(back)
    np.testing.assert_array_equal(again["a" + INTEGERS], packed["a" + INTEGERS])


def test_a_row_of_zeros_stays_zero() -> None:
    weights = np.zeros((2, 3), np.float32)
    weights[1] = 1
    integers, scale = quantise_matrix(weights, axis=1)
    assert integers.tolist() == [[0, 0, 0], [63, 63, 63]] and scale[0] == 1


def test_no_pair_of_products_overflows_16_bits() -> None:
    assert 2 * 255 * LEVELS < 2**15


@pytest.mark.parametrize("tensors", [{"a.int8": MATRIX}, {"a.int8": MATRIX, "a.scale": np.ones(3, np.float32)}])
def test_integers_without_their_scales_are_refused(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"`a.int8` must be a matrix with one scale an output"):
        unpack(tensors)


def linear(path: Path) -> onnx.ModelProto:
    """One product with a constant matrix, as a network whose crops are tokens."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "t", 160])],
        [numpy_helper.from_array(MATRIX.T.copy(), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_a_product_in_integers_is_the_formula(tmp_path: Path) -> None:
    model = linear(tmp_path / "linear.onnx")
    assert quantise_rows(model) == 1
    onnx.checker.check_model(model)
    x = (RNG.normal(size=(3, 5, 128)) * np.logspace(-4, 3, 5)[None, :, None]).astype(np.float32)
    x[0, 0] = 0
    integers, scale = quantise_matrix(MATRIX, axis=1)
    most = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    expected = np.rint(x / most * 127).astype(np.int64) @ integers.T.astype(np.int64) * (scale / 127) * most

    got = run(model, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max(axis=-1, keepdims=True).min())
    exact = x @ MATRIX.T
    assert np.corrcoef(got[0, 1:].ravel(), exact[0, 1:].ravel())[0, 1] > 0.999 and not got[0, 0].any()


def test_nodes_outside_and_small_matrices_stay(tmp_path: Path) -> None:
    model = linear(tmp_path / "linear.onnx")
    assert quantise_rows(model, ["product"]) == 0 and [n.op_type for n in model.graph.node] == ["MatMul"]
    small = onnx.load(write_brightness(tmp_path / "small.onnx"))
    assert quantise_rows(small) == 0


def test_a_bundle_with_packed_weights_is_whole_and_its_graph_shares_them(tmp_path: Path) -> None:
    trained = network_bundle("tiny-vit", "lora")
    written = save_compact(trained, tmp_path / "model", "small")
    bundle = load_bundle(tmp_path / "model")
    crops = random_crops(9, STORED)
    exact = load_network(trained).state_dict()
    stored = load_network(bundle).state_dict()

    assert bundle.fingerprint == written.fingerprint and bundle.adaptation == "full" and bundle.weights_sha256 is None
    assert set(exact) == set(stored)
    packed = [name.removesuffix(INTEGERS) for name in bundle.tensors if name.endswith(INTEGERS)]
    assert len(packed) >= 4
    for name in packed:
        step = exact[name].abs().amax(1, keepdim=True) / LEVELS
        assert ((exact[name] - stored[name]).abs() <= 0.5001 * step).all()
    graph = onnx.load(tmp_path / "model/model.onnx", load_external_data=False).graph
    outside = [t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert {t.name.removesuffix(INTEGERS) for t in outside} <= set(packed) and len(outside) >= 4
    assert not [t for t in graph.initializer if t.data_type == TensorProto.INT8 and t not in outside and t.dims]

    runtime = OnnxRuntime(tmp_path / "model/model.onnx")
    together = runtime.run(crops)
    for i in range(9):
        for one, all_of_them in zip(runtime.run(crops[i : i + 1]), together, strict=True):
            # Integers are exact; what is computed in single precision between them is rounded as kernels do it. A range
            # taken over the batch instead of the token would move answers by a hundredth and more.
            np.testing.assert_allclose(one[0], all_of_them[i], rtol=1e-5, atol=1e-5)
    from atypia.inference.runtimes.torch_runtime import TorchRuntime

    single = TorchRuntime(bundle).run(crops)
    assert np.corrcoef(single[1].ravel(), together[1].ravel())[0, 1] > 0.995


def test_another_bundles_weights_are_not_shared(tmp_path: Path) -> None:
    model = linear(tmp_path / "linear.onnx")
    quantise_rows(model)
    bundle = network_bundle("tiny-vit", "full")
    replace(bundle, tensors=pack(bundle.tensors)).save(tmp_path / "other")
    with pytest.raises(InputError, match=r"must be a matrix of model.safetensors"):
        share(model, tmp_path / "other" / MODEL_FILE)
