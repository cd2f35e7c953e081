"""Export to ONNX and OpenVINO, quantisation, and the command's options."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from atypia.base.errors import AbsentError, InputError, WorkError
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.bundles.novelty import fit_novelty
from atypia.inference.export import forms, quantise
from atypia.inference.export import onnx as export
from atypia.inference.export.forms import FORMS, Options
from atypia.inference.export.onnx import Traced, checked, clean, export_onnx, halve, trace
from atypia.inference.export.openvino import check_replaceable, export_openvino
from atypia.inference.export.quantise import measure_loss, quantise_onnx
from atypia.inference.runtimes.catalogue import open_runtime
from atypia.inference.runtimes.graph import deployable, exported_config
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

from .graphs import STORED, brightness, network_bundle, probe_bundle, random_crops

CNN, VIT = "tiny-cnn", "tiny-vit"

FEATURES = 336
"""Of tiny-cnn: 256 pooled, and the channel means of two stages."""


def with_novelty() -> Decision:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, FEATURES)).astype(np.float32)
    novelty = fit_novelty(train, np.arange(60) % 2, rng.normal(size=(40, FEATURES)).astype(np.float32), k=4)
    return Decision(0.3, novelty=novelty)


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return {
        CNN: network_bundle(CNN, "full", with_novelty(), mixstyle_stages=(0,), checkpointing=True, dropout=0.5),
        VIT: network_bundle(VIT, "lora", hidden=(8,)),
    }


@pytest.fixture(scope="module")
def graphs(bundles: dict[str, Bundle]) -> dict[str, Traced]:
    """Both bundles' graphs; capturing one takes seconds, so it is done once."""
    logging.disable(logging.DEBUG)  # torch's own trace, which the test runner would format and keep
    try:
        return {name: trace(bundle) for name, bundle in bundles.items()}
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture
def quick(graphs: dict[str, Traced], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what exports take those graphs instead of capturing them again."""

    def again(bundle: Bundle, weights_file: Path | None = None, half: bool = False) -> Traced:
        known = graphs[bundle.backbone]
        return replace(known, model=deepcopy(known.model))

    for module in ("onnx", "openvino"):
        monkeypatch.setattr(f"atypia.inference.export.{module}.trace", again)


def reference(bundle: Bundle, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        logits, features = deployable(bundle)(torch.from_numpy(crops))
    return logits.numpy(), features.numpy()


# ONNX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CNN, VIT])
@pytest.mark.usefixtures("quick")
def test_an_onnx_file_scores_as_torch_for_any_batch(name: str, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    done = export_onnx(bundles[name], tmp_path / "model.onnx")
    crops = random_crops(37, STORED, seed=3)
    logits, features = OnnxRuntime(done.path).run(crops)
    want = reference(bundles[name], crops)

    np.testing.assert_allclose(logits, want[0], atol=1e-4)
    np.testing.assert_allclose(features, want[1], atol=1e-4 * np.abs(want[1]).max())
    assert want[0].std() > 1e-3
    np.testing.assert_allclose(OnnxRuntime(done.path).run(crops[5:6])[0], want[0][5:6], atol=1e-4)
    assert done.logit_difference <= 1e-4 and done.feature_difference <= 1e-4
    assert done.size_bytes == done.path.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"], "one file, nothing left beside it"


@pytest.mark.parametrize("name", [CNN, VIT])
def test_the_graph_is_standard_dynamic_and_says_nothing_of_this_machine(name: str, graphs: dict[str, Traced]) -> None:
    model = graphs[name].model
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()

    assert [(o.domain, o.version >= 17) for o in model.opset_import if o.domain in ("", "ai.onnx")] == [("", True)]
    assert {node.op_type for node in model.graph.node} & {"BatchNormalization", "Resize", "Dropout"} == set()
    (crops,) = model.graph.input
    dims = crops.type.tensor_type.shape.dim
    assert crops.type.tensor_type.elem_type == TensorProto.UINT8
    assert dims[0].dim_param and [dim.dim_value for dim in dims[1:]] == [STORED, STORED, 3]
    assert [output.name for output in model.graph.output] == ["logits", "features"]
    for word in (b"site-packages", b".py", str(Path.home()).encode() + b"/", b"Traceback"):
        assert word not in data


@pytest.mark.usefixtures("quick")
def test_the_file_alone_carries_configuration_and_decision(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    bundle = bundles[CNN]
    runtime = open_runtime(export_onnx(bundle, tmp_path / "alone.onnx").path)
    logits, features = runtime.run(random_crops(5, STORED))
    said, want = runtime.decision.apply(logits, features), bundle.decision.apply(logits, features)

    assert runtime.config == exported_config(bundle)
    np.testing.assert_array_equal(said.p, want.p)
    np.testing.assert_array_equal(said.novelty, want.novelty)
    assert said.call == want.call and np.isfinite(said.novelty).all()


@pytest.mark.usefixtures("quick")
def test_beside_its_bundle_the_exported_network_is_used(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    folder = bundles[CNN].save(tmp_path / "bundle")
    assert open_runtime(folder).name == "torch"
    export_onnx(load_bundle(folder), folder / "model.onnx")

    assert open_runtime(folder).name == "onnx"


@pytest.mark.parametrize("name", [CNN, VIT])
@pytest.mark.usefixtures("quick")
def test_half_precision_halves_the_file(name: str, bundles: dict[str, Bundle], tmp_path: Path) -> None:
    whole = export_onnx(bundles[name], tmp_path / "whole.onnx")
    half = export_onnx(bundles[name], tmp_path / "half.onnx", half=True)
    weights = sum(p.numel() for p in deployable(bundles[name]).parameters())
    crops = random_crops(16, STORED)
    logits = [OnnxRuntime(done.path).run(crops)[0] for done in (whole, half)]

    assert half.size_bytes < whole.size_bytes - 1.8 * weights
    assert whole.logit_difference < half.logit_difference < 0.01
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.01 * max(1, np.abs(logits[0]).max())
    assert logits[1].dtype == np.float32
    np.testing.assert_allclose(OpenVinoRuntime(half.path).run(crops)[0], logits[1], atol=1e-4)


def test_half_precision_spares_what_it_cannot_hold_and_the_preprocessing() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "matrix": rng.normal(size=(32, 32)), "weight": rng.normal(size=(8, 3, 4, 4)),
        "large": np.full((8, 8, 8), 1e6), "bias": rng.normal(size=8),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["resized"]),
        helper.make_node("Conv", ["resized", "weight", "bias"], ["maps"]),
        helper.make_node("MatMul", ["maps", "large"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [], [], [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    )
    model = helper.make_model(graph)

    assert halve(model) == 1
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored == {"matrix": 1, "weight.half": TensorProto.FLOAT16, "large": 1, "bias": 1}
    assert [node.op_type for node in model.graph.node] == ["Cast", "MatMul", "Conv", "MatMul"]
    assert list(model.graph.node[0].output) == ["weight"], "what follows finds the weight by its name"


def test_a_network_that_differs_is_not_exported(graphs: dict[str, Traced]) -> None:
    known = graphs[CNN]

    def off_by(logit: float, feature: float = 0.0) -> Callable[[Any], Any]:
        def run(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = [int(np.flatnonzero((known.crops == crop).all((1, 2, 3)))[0]) for crop in crops]
            return known.logits[rows] + np.float32(logit * unit), known.features[rows] + np.float32(feature)

        return run

    unit = max(1.0, float(np.abs(known.logits).max()))

    assert checked(known, off_by(0), half=False) == (0, 0)
    assert checked(known, off_by(1e-3), half=True)[0] == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(WorkError, match=r"differs from torch by 0\.001 in its logits.*more than 0\.0001; fix: predict"):
        checked(known, off_by(1e-3), half=False)
    with pytest.raises(WorkError, match=r"more than 0\.05; fix: export without --half"):
        checked(known, off_by(0, 9.0), half=True)
    with pytest.raises(WorkError, match="differs from torch by nan"):
        checked(known, off_by(math.nan), half=True)


@pytest.mark.usefixtures("quick")
def test_nothing_is_written_where_the_check_fails(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(WorkError, match="differs from torch"):
        export_onnx(bundles[CNN], tmp_path / "model.onnx")
    with pytest.raises(WorkError, match="differs from torch"):
        export_openvino(bundles[CNN], tmp_path / "ir")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_in_one_file_is_told_before_it_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"`network` must be at most 1e-06 GB.*fix: store half precision"):
        trace(probe_bundle(CNN))
    with pytest.raises(InputError, match=r"fix: predict by torch"):
        trace(probe_bundle(CNN), half=True)


def test_absent_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AbsentError, match=r"onnx is not installed; fix: pip install 'atypia\[export\]'"):
        trace(probe_bundle(CNN))


def test_clean_drops_notes_of_source_files() -> None:
    model = brightness()
    for part in (model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        part.doc_string = "File secret.py"
        part.metadata_props.add(key="trace", value="File secret.py")
    model.graph.value_info.add(name="mean")
    clean(model)

    assert b"secret" not in model.SerializeToString() and not model.graph.value_info


# OpenVINO -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_an_openvino_model_scores_as_torch_and_carries_the_same(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    done = export_openvino(bundles[CNN], tmp_path / "ir")
    crops = random_crops(9, STORED)
    runtime = open_runtime(done.path)
    logits, features = runtime.run(crops)
    want = reference(bundles[CNN], crops)

    assert sorted(path.name for path in done.path.iterdir()) == ["model.bin", "model.xml"]
    assert runtime.name == "openvino" and runtime.config == exported_config(bundles[CNN])
    np.testing.assert_allclose(logits, want[0], atol=1e-4)
    np.testing.assert_allclose(features, want[1], atol=1e-4 * np.abs(want[1]).max())
    novelty = bundles[CNN].decision.apply(logits, features).novelty
    np.testing.assert_array_equal(runtime.decision.apply(logits, features).novelty, novelty)

    half = export_openvino(bundles[CNN], tmp_path / "ir", half=True)
    assert half.size_bytes < done.size_bytes and half.logit_difference < 0.01


def test_a_folder_with_other_things_is_not_replaced(tmp_path: Path) -> None:
    names = ("model.xml", "model.bin")
    check_replaceable(tmp_path / "new", names)
    check_replaceable(tmp_path, names)
    (tmp_path / "model.xml").write_text("x")
    check_replaceable(tmp_path, names)
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(InputError, match=r"`out` must be a new or empty folder.*which holds thesis\.doc; fix: choose"):
        check_replaceable(tmp_path, names)
    with pytest.raises(InputError, match=r"must be a folder, got the file"):
        check_replaceable(tmp_path / "thesis.doc", names)


# Integers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "method"), [(CNN, "static"), (VIT, "dynamic")])
def test_quantised_networks_are_smaller_and_nearly_the_same(
    name: str, method: str, graphs: dict[str, Traced], tmp_path: Path
) -> None:
    source, target = tmp_path / "single.onnx", tmp_path / "int8.onnx"
    onnx.save(graphs[name].model, source)
    crops = random_crops(48, STORED, seed=5)
    assert quantise_onnx(source, target, crops[:32] if method == "static" else None) == method
    single, int8 = OnnxRuntime(source), OnnxRuntime(target)
    before, after = single.run(crops)[0], int8.run(crops)[0]

    assert target.stat().st_size < 0.6 * source.stat().st_size
    assert np.abs(before - after).max() > 0 and np.corrcoef(before, after)[0, 1] > 0.9
    assert int8.config == single.config
    ops = [node.op_type for node in onnx.load(target).graph.node]
    assert ("QuantizeLinear" if method == "static" else "MatMulInteger") in ops
    assert list(tmp_path.iterdir()) != [] and {path.name for path in tmp_path.iterdir()} == {source.name, target.name}


def test_preprocessing_stem_and_head_are_not_quantised(graphs: dict[str, Traced], tmp_path: Path) -> None:
    onnx.save(graphs[CNN].model, tmp_path / "single.onnx")
    quantise_onnx(tmp_path / "single.onnx", tmp_path / "int8.onnx", random_crops(8, STORED))
    model = onnx.load(tmp_path / "int8.onnx")
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    integer = [made_by.get(node.input[1]) == "DequantizeLinear" for node in convolutions]
    (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]

    assert integer[:3] == [False] * 3 and all(integer[3:]) and len(integer) > 3
    assert head.input[1] not in made_by
    assert made_by[model.graph.node[0].output[0]] != "QuantizeLinear"


def test_a_convolutional_network_needs_crops(graphs: dict[str, Traced], tmp_path: Path) -> None:
    onnx.save(graphs[CNN].model, tmp_path / "single.onnx")
    with pytest.raises(InputError, match=r"`crops` must be a few hundred crops to calibrate on, got none; fix: give -"):
        quantise_onnx(tmp_path / "single.onnx", tmp_path / "int8.onnx")


class Fixed:
    """A runtime whose logit is the first pixel's red less 100, times a factor, plus a shift."""

    name, side_px, config = "fixed", 4, {}
    decision = Decision(0.5)

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = (crops[:, 0, 0, 0].astype(np.float32) - 100) / 10 + np.float32(self.shift)
        return logits, np.zeros((len(crops), 1), np.float32)


def test_the_loss_is_the_difference_of_two_balanced_accuracies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "CHUNK", 7)
    rng = np.random.default_rng(0)
    crops = np.zeros((50, 4, 4, 3), np.uint8)
    crops[:, 0, 0, 0] = rng.integers(80, 121, 50)
    labels = (crops[:, 0, 0, 0] + rng.normal(0, 15, 50) > 100).astype(np.int8)
    rows = np.arange(5, 50)
    loss = measure_loss(Fixed(0), Fixed(1), crops, labels, rows)
    z = (crops[rows, 0, 0, 0].astype(float) - 100) / 10
    before, after = z >= 0, z + 1 >= 0

    assert loss.figures == 45
    assert loss.balanced_accuracy_before == pytest.approx(balanced_accuracy_score(labels[rows], before))
    assert loss.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels[rows], after))
    assert loss.lost == pytest.approx(loss.balanced_accuracy_before - loss.balanced_accuracy) and loss.lost != 0
    assert loss.auroc == loss.auroc_before == pytest.approx(roc_auc_score(labels[rows], z))
    assert loss.decisions_changed == np.mean(before != after) > 0
    p = [1 / (1 + np.exp(-(z + shift))) for shift in (0, 1)]
    assert loss.p_difference == pytest.approx(np.abs(p[0] - p[1]).max(), rel=1e-5)


# Forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("quick")
def test_every_form_is_written_plain_and_in_integers(
    form: str, bundles: dict[str, Bundle], small_csv: Path, tmp_path: Path
) -> None:
    bundle = bundles[CNN]
    folder = bundle.save(tmp_path / "bundle")
    out = tmp_path / ("model.onnx" if form == "onnx" else "out")
    plain = forms.export(folder, form, out)
    assert (plain.form, plain.exported.path, plain.loss) == (form, out, None)
    int8 = forms.export(folder, form, out, Options(int8=True, calibrate=str(small_csv)))
    network = out / "model" if form == "challenge" else out

    assert open_runtime(network).config == exported_config(bundle)
    assert int8.method == "static"
    if form != "openvino":  # of so small a network the description is larger than the weights
        assert int8.exported.size_bytes < plain.exported.size_bytes
    assert int8.loss is not None and int8.loss.figures == 40 and 0 < int8.loss.balanced_accuracy < 1
    said = int8.as_dict()
    assert said["to"] == form and said["path"] == str(out) and said["quantised"] == "static"
    assert said["loss"]["balanced_accuracy_lost"] == int8.loss.lost


@pytest.mark.parametrize(
    ("form", "out", "options", "words"),
    [
        (
            "onx",
            "m.onnx",
            Options(),
            r"unknown form of export 'onx'; did you mean 'onnx'\? choices: challenge, onnx, openvino",
        ),
        ("onnx", "m.bin", Options(), r"`out` must be a file ending in \.onnx"),
        ("onnx", "m.onnx", Options(half=True, int8=True, calibrate="x"), r"`--int8` must be given without --half"),
        (
            "onnx",
            "m.onnx",
            Options(int8=True),
            r"`--int8` must be given with the other, got alone; fix: give --int8 --",
        ),
        ("onnx", "m.onnx", Options(calibrate="x"), r"`--calibrate` must be given with the other"),
        ("openvino", "taken", Options(), r"`out` must be a new or empty folder"),
        ("challenge", "taken", Options(), r"`out` must be a new or empty folder"),
        ("onnx", "m.onnx", Options(), r"is no bundle: config\.json is missing"),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    form: str, out: str, options: Options, words: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=words):
        forms.export(tmp_path, form, tmp_path / out, options)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# Real backbones -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "adaptation", "side", "megabytes"),
    [("efficientnet-lite0", "full", 128, 13.6), ("vit-s14-focus", "lora", 126, 87.0)],
)
def test_the_backbones_that_ship_are_exported(
    backbone: str, adaptation: str, side: int, megabytes: float, tmp_path: Path
) -> None:
    from atypia.backbones.weights import availability, locate
    from atypia.methods.network import NetworkSpec, build_network

    state = availability(backbone)
    if not state.ok:
        pytest.skip(f"{state.reason}: {state.remedy}")
    spec = NetworkSpec(backbone, side, adaptation, view=0.6, lora_rank=8 if adaptation == "lora" else 0)
    network = build_network(spec)
    tensors = {k: v.numpy() for k, v in network.trained_state().items()}
    tensors.update({k: v + np.random.default_rng(0).normal(0, 0.02, v.shape).astype(np.float32)
                    for k, v in tensors.items() if "lora_" in k or k == "head.weight"})  # fmt: skip
    stands_on = None if adaptation == "full" else locate(backbone).sha256
    bundle = Bundle(
        "real", "atypical", adaptation, backbone, stands_on, side, CropGeometry(), tensors, Decision(), spec.as_dict()
    )
    done = export_onnx(bundle, tmp_path / "model.onnx")
    crops = random_crops(40, 128)
    want = reference(bundle, crops)
    logits, features = OnnxRuntime(done.path).run(crops)

    np.testing.assert_allclose(logits, want[0], atol=1e-4 * max(1, np.abs(want[0]).max()))
    np.testing.assert_allclose(features, want[1], atol=1e-4 * np.abs(want[1]).max())
    assert done.size_bytes / 1e6 == pytest.approx(megabytes, rel=0.05)
    openvino = OpenVinoRuntime(done.path).run(crops)[0]
    np.testing.assert_allclose(openvino, logits, atol=1e-3 * max(1, np.abs(logits).max()))
