"""Networks in integers, every form of an export, and the backbones that ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from atypia.base import runs
from atypia.base.artifacts import write_json
from atypia.base.errors import InputError, WorkError
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import BIAS, Bundle
from atypia.inference.bundles.decision import Decision
from atypia.inference.classifier import Classifier
from atypia.inference.export import forms, quantise
from atypia.inference.export.forms import FORMS, Options
from atypia.inference.export.onnx import Traced, export_onnx
from atypia.inference.export.quantise import measure_loss, quantise_onnx
from atypia.inference.export.rows import PRODUCT
from atypia.inference.runtimes.catalogue import open_runtime
from atypia.inference.runtimes.graph import exported_config
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

from .exporting import CNN, VIT, reference
from .graphs import STORED, probe_bundle, random_crops


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
    assert ("QuantizeLinear" if method == "static" else PRODUCT) in ops
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


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A training's folder with two folds' bundles."""
    for name, bias in (("fold-1", 0.25), ("fold-2", -0.5)):
        bundle = probe_bundle(CNN, Decision(0.4 + bias / 10))
        bundle = replace(bundle, tensors={**bundle.tensors, BIAS: np.array([bias], np.float32)})
        bundle.save(tmp_path / "my-run" / name / runs.BUNDLE)
        write_json(tmp_path / "my-run" / name / runs.RUN, {})
    return tmp_path / "my-run"


def test_all_folds_of_a_training_become_one_container(training: Path, tmp_path: Path) -> None:
    done = forms.export(training, "challenge", tmp_path / "out")
    crops = random_crops(11, STORED)
    together = Classifier.load([tmp_path / "out" / "model" / name for name in ("fold-1", "fold-2")], runtime="onnx")
    each = [Classifier.load(training / name / runs.BUNDLE, runtime="torch") for name in ("fold-1", "fold-2")]

    assert done.members == ("fold-1", "fold-2") and done.as_dict()["members"] == ["fold-1", "fold-2"]
    p = [one.probabilities(crops) for one in each]
    assert np.abs(p[0] - p[1]).min() > 0.01
    np.testing.assert_allclose(together.probabilities(crops), np.mean(p, axis=0), atol=1e-5)
    assert together.threshold == pytest.approx(np.mean([one.threshold for one in each]))
    assert "my-run, 2 folds" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("form", "options", "words"),
    [
        (
            "onnx",
            Options(),
            r"must be one classifier for --to onnx, got .*my-run, a training of 2 folds \(fold-1, fold-",
        ),
        (
            "challenge",
            Options(int8=True, calibrate="x"),
            r"one classifier for --int8.*fix: name one, for instance .*fold-1",
        ),
    ],
)
def test_folds_that_a_form_cannot_hold_are_refused(
    form: str, options: Options, words: str, training: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        forms.export(training, form, tmp_path / "out.onnx", options)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.usefixtures("quick")
def test_a_run_s_folder_stands_for_its_bundle(training: Path, tmp_path: Path) -> None:
    done = forms.export(training / "fold-2", "onnx", tmp_path / "m.onnx")
    assert done.members == () and open_runtime(tmp_path / "m.onnx").name == "onnx"


@pytest.mark.usefixtures("quick")
def test_a_container_holds_a_network_in_two_files(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atypia.inference.export.onnx.MAX_BYTES", 1000)
    folder = bundles[CNN].save(tmp_path / "bundle")
    forms.export(folder, "challenge", tmp_path / "out")
    crops = random_crops(5, STORED)

    assert (tmp_path / "out" / "model" / "model.onnx.data").stat().st_size > 1000
    got = Classifier.load(tmp_path / "out" / "model").probabilities(crops)
    want = Classifier.load(folder, runtime="torch").probabilities(crops)
    np.testing.assert_allclose(got, want, atol=1e-5)


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


def test_matrices_that_an_exporter_leaves_transposed_are_found(graphs: dict[str, Traced], tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graphs[VIT].model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    shared = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    for number, node in enumerate(shared):  # x · Wᵀ, as PyTorch 2.6 writes it
        tensor = constants[node.input[1]]
        other = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).T.copy(), f"other {number}")
        model.graph.initializer.append(other)
        node.input[1] = f"turned {number}"
        place = list(model.graph.node).index(node)
        model.graph.node.insert(place, onnx.helper.make_node("Transpose", [other.name], [node.input[1]], perm=[1, 0]))
    used = {name for node in model.graph.node for name in node.input}
    for name in constants.keys() - used:
        model.graph.initializer.remove(constants[name])
    for name, written in (("plain", graphs[VIT].model), ("turned", model)):
        onnx.save(written, tmp_path / f"{name}.onnx")
        assert quantise_onnx(tmp_path / f"{name}.onnx", tmp_path / f"{name}.int8.onnx") == "dynamic"
    crops = random_crops(16, STORED, seed=5)
    plain, turned = (OnnxRuntime(tmp_path / f"{name}.int8.onnx").run(crops)[0] for name in ("plain", "turned"))
    np.testing.assert_array_equal(turned, plain)
    products = [
        [n.op_type for n in onnx.load(tmp_path / f"{name}.int8.onnx").graph.node].count(PRODUCT)
        for name in ("plain", "turned")
    ]
    assert products[0] == products[1] > 0


def test_a_graph_in_which_no_matrix_is_found_is_refused(graphs: dict[str, Traced], tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graphs[VIT].model)
    for node in model.graph.node:  # as an exporter writes it that passes each constant through a node of its own
        if node.op_type == "MatMul":
            node.input[1] += "_passed"
    onnx.save(model, tmp_path / "single.onnx")
    with pytest.raises(
        WorkError, match=r"nothing of .*single\.onnx was turned into integers.*fix: export without --int8"
    ):
        quantise_onnx(tmp_path / "single.onnx", tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()
