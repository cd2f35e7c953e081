"""Runtimes: what they give, what they take, and which one is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from atypia.base.errors import AbsentError, DataError, InputError
from atypia.inference.bundles.bundle import CONFIG_FILE, FINGERPRINT
from atypia.inference.bundles.integrity import CONFIG_SHA256, FILES
from atypia.inference.runtimes import catalogue as runtimes
from atypia.inference.runtimes.catalogue import open_runtime
from atypia.inference.runtimes.exported import CONFIG_KEY, TENSORS_KEY, carried, in_batches
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

from .graphs import CONFIG, SIDE, brightness, brightness_logits, probe_bundle, random_crops, write_brightness

EXPORTED = {"onnx": OnnxRuntime, "openvino": OpenVinoRuntime}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brightness(tmp_path_factory.mktemp("network") / "model.onnx")


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("count", [0, 1, 32, 71])
def test_any_number_of_crops_is_scored_as_the_network_says(name: str, count: int, network: Path) -> None:
    crops = random_crops(count)
    logits, features = EXPORTED[name](network).run(crops)

    np.testing.assert_allclose(logits, brightness_logits(crops), atol=1e-5)
    np.testing.assert_allclose(features, crops.mean((1, 2)) / 255, atol=1e-6)
    assert logits.dtype == features.dtype == np.float32
    assert logits.shape == (count,) and features.shape == (count, 3)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_runtime_says_what_it_runs(name: str, network: Path) -> None:
    opened = open_runtime(network, name)

    assert (opened.name, opened.side_px, opened.config) == (name, SIDE, CONFIG)
    assert opened.decision.threshold == 0.5


def test_crops_in_any_memory_order_are_scored_alike(network: Path) -> None:
    crops = random_crops(5)
    runtime = OnnxRuntime(network)
    turned = np.asfortranarray(crops)

    np.testing.assert_array_equal(runtime.run(turned)[0], runtime.run(crops)[0])
    # Kernels may round the first crop of a batch otherwise than the last.
    np.testing.assert_allclose(runtime.run(crops[::-1])[0], runtime.run(crops)[0][::-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((2, SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((2, SIDE + 1, SIDE, 3), np.uint8),
        np.zeros((2, 3, SIDE, SIDE), np.uint8),
        np.zeros((2, SIDE, SIDE, 4), np.uint8),
    ],
    ids=["float", "one crop", "other side", "channels first", "alpha"],
)
def test_other_crops_are_refused(crops: np.ndarray, network: Path) -> None:
    with pytest.raises(InputError, match=r"`crops` must be of shape \(b, 16, 16, 3\), uint8, got \(.*fix: cut RGB"):
        OnnxRuntime(network).run(crops)


def test_batches_bound_what_is_scored_at_once() -> None:
    seen = []

    def score(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(piece))
        return piece[:, 0, 0, 0], piece[:, 0, 0, :2]

    crops = random_crops(10)
    logits, features = in_batches(crops, SIDE, 2, score, batch=4)

    assert seen == [4, 4, 2]
    np.testing.assert_array_equal(logits, crops[:, 0, 0, 0])
    np.testing.assert_array_equal(features, crops[:, 0, 0, :2])


# Which one is opened --------------------------------------------------------------------------


def test_the_first_runtime_that_is_installed_and_has_its_file(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_runtime(network.parent).name == "onnx"
    monkeypatch.setattr(runtimes, "installed", lambda module: module != "onnxruntime")
    assert open_runtime(network.parent).name == "openvino"
    monkeypatch.setattr(runtimes, "installed", lambda module: False)
    with pytest.raises(AbsentError, match=r"onnxruntime is not installed, and .* needs it; fix: pip install onnxr"):
        open_runtime(network)
    with pytest.raises(AbsentError, match=r"openvino is not installed.*fix: pip install 'atypia\[export\]'"):
        open_runtime(network, "openvino")


def test_a_bundle_without_an_exported_network_runs_through_torch(tmp_path: Path) -> None:
    bundle = probe_bundle("tiny-cnn")
    folder = bundle.save(tmp_path / "bundle")
    opened = open_runtime(folder)
    features = opened.run(random_crops(3, 40))[1]

    assert opened.name == "torch" and opened.side_px == 40
    written = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    assert opened.config == {key: value for key, value in written.items() if key not in (FILES, CONFIG_SHA256)}
    np.testing.assert_allclose(opened.run(random_crops(3, 40))[0], bundle.logits(features), atol=1e-5)
    with pytest.raises(AbsentError, match=r"that onnx reads, got one without; fix: `atypia export .*--to onnx --out"):
        open_runtime(folder, "onnx")


def test_an_exported_network_alone_has_no_torch_form(network: Path) -> None:
    with pytest.raises(AbsentError, match=r"that torch reads, got one without; fix: name a bundle's folder"):
        open_runtime(network, "torch")


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a bundle or an exported network, got neither; fix: name a trained"):
        open_runtime(tmp_path)
    with pytest.raises(
        InputError, match=r"unknown runtime 'onx'; did you mean 'onnx'\? choices: onnx, openvino, torch"
    ):
        open_runtime(tmp_path, "onx")


def test_a_network_of_another_state_of_the_bundle_is_refused(tmp_path: Path) -> None:
    file = write_brightness(tmp_path / "model.onnx")
    config = tmp_path / CONFIG_FILE
    config.write_text(json.dumps(CONFIG), "utf-8")
    assert open_runtime(tmp_path).name == "onnx"

    config.write_text(json.dumps({**CONFIG, FINGERPRINT: "f" * 32}), "utf-8")
    for path in (tmp_path, file):
        with pytest.raises(DataError, match=r"exported from another state of the bundle beside it; fix: export the b"):
            open_runtime(path)
    config.write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"config\.json is damaged"):
        open_runtime(tmp_path)


# Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTED)
def test_a_damaged_file_is_refused(name: str, network: Path, tmp_path: Path) -> None:
    data = network.read_bytes()
    for kind, damaged in (("short", data[: len(data) // 2]), ("text", b"no network"), ("empty", b"")):
        file = tmp_path / f"{kind}.onnx"
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"fix: (`atypia export`|export it again)"):
            open_runtime(file, name)


@pytest.mark.parametrize("name", EXPORTED)
def test_a_network_of_somebody_else_is_refused(name: str, tmp_path: Path) -> None:
    model = brightness()
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")

    with pytest.raises(DataError, match=r"model\.onnx was not exported by Atypia: it carries no configuration; fix: "):
        open_runtime(tmp_path, name)


@pytest.mark.parametrize(
    "values",
    [
        {CONFIG_KEY: "{"},
        {CONFIG_KEY: "[]"},
        {CONFIG_KEY: "{}"},
        {CONFIG_KEY: '{"decision": 3}'},
        {CONFIG_KEY: '{"decision": {"threshold": 7}}'},
        {CONFIG_KEY: json.dumps(CONFIG), TENSORS_KEY: "no base64!"},
        {CONFIG_KEY: json.dumps(CONFIG), TENSORS_KEY: "AAAA"},
    ],
)
def test_damaged_metadata_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"m\.onnx is damaged \(.*\); fix: export it again"):
        carried(values, "m.onnx")


# What is loaded -------------------------------------------------------------------------------


def test_an_exported_network_is_run_without_torch(network: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from atypia.inference.runtimes.catalogue import open_runtime\n"
        f"open_runtime(Path(sys.argv[1])).run(np.zeros((2, {SIDE}, {SIDE}, 3), np.uint8))\n"
        "heavy = {'torch', 'timm', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'onnx', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(network.parent)], capture_output=True, text=True, check=False
    )

    assert ended.stderr == "" and ended.stdout.strip() == "[]"
