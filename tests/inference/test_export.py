"""Export to ONNX and OpenVINO."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from atypia.base.errors import AbsentError, DataError, InputError, WorkError
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.export import onnx as export
from atypia.inference.export.derived import save_derived
from atypia.inference.export.onnx import Traced, check_differences, drop_source_notes, export_onnx, halve_weights, trace
from atypia.inference.export.openvino import check_replaceable, export_openvino
from atypia.inference.runtimes.catalogue import open_runtime
from atypia.inference.runtimes.graph import deployable, exported_config
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

from .exporting import CNN, VIT, reference
from .graphs import STORED, brightness, probe_bundle, random_crops

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

    assert halve_weights(model) == 1
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

    assert check_differences(known, off_by(0), half=False) == (0, 0)
    assert check_differences(known, off_by(1e-3), half=True)[0] == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(WorkError, match=r"differs from torch by 0\.001 in its logits.*more than 0\.0001; fix: predict"):
        check_differences(known, off_by(1e-3), half=False)
    with pytest.raises(WorkError, match=r"more than 0\.05; fix: export without --half"):
        check_differences(known, off_by(0, 9.0), half=True)
    with pytest.raises(WorkError, match="differs from torch by nan"):
        check_differences(known, off_by(math.nan), half=True)


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
    with pytest.raises(InputError, match=r"fix: export --to onnx, which takes two files"):
        trace(probe_bundle(CNN), half=True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("half", [False, True])
def test_weights_that_one_file_cannot_hold_are_in_a_second_one(
    half: bool, bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export_onnx(bundles[CNN], tmp_path / "whole.onnx", half)
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    done = export_onnx(bundles[CNN], tmp_path / "model.onnx", half)
    crops = random_crops(9, STORED)
    want = OnnxRuntime(whole.path).run(crops)

    files = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.stem.startswith("model")}
    assert set(files) == {"model.onnx", "model.onnx.data"} and sum(files.values()) == done.size_bytes
    assert files["model.onnx"] < 0.2 * files["model.onnx.data"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for runtime in (OnnxRuntime(done.path), OpenVinoRuntime(done.path)):
        np.testing.assert_allclose(runtime.run(crops)[0], want[0], atol=1e-4)
        assert runtime.config == exported_config(bundles[CNN])
    onnx.checker.check_model(str(done.path))  # by its path, which other readers follow to the weights
    (tmp_path / "moved").mkdir()
    done.path.rename(tmp_path / "moved" / "other.onnx")
    with pytest.raises(DataError, match=r"model\.onnx\.data is missing"):
        OnnxRuntime(tmp_path / "moved" / "other.onnx")
    (tmp_path / "model.onnx.data").rename(tmp_path / "moved" / "model.onnx.data")
    np.testing.assert_array_equal(OnnxRuntime(tmp_path / "moved" / "other.onnx").run(crops)[0], want[0])


@pytest.mark.usefixtures("quick")
def test_damage_of_the_second_file_is_noticed(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    path = export_onnx(bundles[CNN], tmp_path / "model.onnx").path
    weights = tmp_path / "model.onnx.data"
    good = weights.read_bytes()
    weights.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    with pytest.raises(DataError, match=r"model\.onnx\.data of .*model\.onnx was changed after it was written"):
        open_runtime(path)
    weights.write_bytes(good)
    graph = path.read_bytes()
    place = graph.index(b"atypia.weights") + 20
    path.write_bytes(graph[:place] + b"0" + graph[place + 1 :])
    with pytest.raises(DataError, match="changed after it was written"):
        open_runtime(path)


def test_a_moved_decision_keeps_the_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = probe_bundle(CNN)
    folder = bundle.save(tmp_path / "bundle")
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    export_onnx(load_bundle(folder), folder / "model.onnx")
    moved = replace(bundle, name="moved", decision=replace(bundle.decision, threshold=0.123))
    runtime = open_runtime(save_derived(folder, moved, tmp_path / "moved"), "onnx")

    crops = random_crops(5, STORED)
    assert runtime.decision.threshold == 0.123 and runtime.config["name"] == "moved"
    np.testing.assert_array_equal(runtime.run(crops)[0], open_runtime(folder, "onnx").run(crops)[0])


def test_absent_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atypia.base.extras.installed", lambda module: False)
    with pytest.raises(AbsentError, match=r"needs onnx.* not installed; fix: pip install 'atypia\[export\]'"):
        trace(probe_bundle(CNN))


def test_clean_drops_notes_of_source_files() -> None:
    model = brightness()
    for part in (model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        part.doc_string = "File secret.py"
        part.metadata_props.add(key="trace", value="File secret.py")
    model.graph.value_info.add(name="mean")
    drop_source_notes(model)

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
