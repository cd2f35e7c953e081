"""Damage of a classifier's files: every runtime refuses, whichever bit of whichever file it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from atypia.base.errors import DataError
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.integrity import (
    BEGINNING,
    CARD_FILE,
    CONFIG_FILE,
    CONFIG_SHA256,
    FILES,
    MODEL_FILE,
    SEALED,
    check_exported,
    old_form,
    read_bundle,
    write_hashes,
)  # fmt: skip
from atypia.inference.classifier import MODELS, SHIPPED
from atypia.inference.export.onnx import serialised
from atypia.inference.export.openvino import save_ir
from atypia.inference.runtimes.catalogue import ONNX_FILE, RUNTIMES, open_runtime
from atypia.inference.runtimes.onnx_runtime import OnnxRuntime
from atypia.inference.runtimes.openvino_runtime import OpenVinoRuntime

from .graphs import CONFIG, brightness, brightness_logits, probe_bundle, random_crops

GOLDEN = Path(__file__).parent / "golden" / "0.1.0"
SHIPPED_FILES = (CARD_FILE, CONFIG_FILE, ONNX_FILE, MODEL_FILE)


def flip(path: Path, rng: np.random.Generator) -> tuple[int, int]:
    """Flips one random bit of a file, in place; the same call with its answer's place flips it back."""
    byte, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
    flip_at(path, byte, bit)
    return byte, bit


def flip_at(path: Path, byte: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / SHIPPED
    shutil.copytree(MODELS / SHIPPED, folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network alone, and its OpenVINO form."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "network.onnx").write_bytes(serialised(brightness()))
    (folder / "ir").mkdir()
    save_ir(serialised(brightness()), folder / "ir")
    return folder


# The model that ships -------------------------------------------------------------------------


def test_it_names_all_its_files_and_they_are_whole() -> None:
    read = read_bundle(MODELS / SHIPPED)
    assert read.names == {name for name in SHIPPED_FILES if name != CONFIG_FILE}
    assert {file.name for file in (MODELS / SHIPPED).iterdir() if file.is_file()} == set(SHIPPED_FILES)
    assert old_form(MODELS / SHIPPED) is None


@pytest.mark.parametrize("file", SHIPPED_FILES)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("count", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_one_flipped_bit_is_refused_by_every_runtime(count: int, runtime: str, file: str, shipped: Path) -> None:
    rng = np.random.default_rng([count, *file.encode(), *runtime.encode()])
    answered = []
    for _ in range(count):
        place = flip(shipped / file, rng)
        try:
            open_runtime(shipped, runtime)
            answered.append(place)
        except DataError as error:
            assert "fix:" in str(error)
        finally:
            flip_at(shipped / file, *place)
    assert answered == []
    read_bundle(shipped)  # all bits are back


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("file", [CARD_FILE, MODEL_FILE])
def test_a_file_that_is_gone_is_named(file: str, runtime: str, shipped: Path, tmp_path: Path) -> None:
    moved = (shipped / file).rename(tmp_path / file)
    try:
        with pytest.raises(DataError, match=rf"{file} is missing|a classifier that torch reads"):
            open_runtime(shipped, runtime if file != MODEL_FILE else "onnx")
    finally:
        shutil.move(moved, shipped / file)


def test_its_network_without_its_configuration_is_refused(shipped: Path, tmp_path: Path) -> None:
    for name in (ONNX_FILE, MODEL_FILE):
        shutil.copy(shipped / name, tmp_path / name)
    for runtime in ("onnx", "openvino"):
        with pytest.raises(DataError, match=r"config\.json is missing; fix: name the bundle's whole folder"):
            open_runtime(tmp_path, runtime)


# Bundles --------------------------------------------------------------------------------------


def test_every_single_bit_of_a_configuration_counts(tmp_path: Path) -> None:
    path = probe_bundle("tiny-cnn").save(tmp_path / "b") / CONFIG_FILE
    for byte in range(path.stat().st_size):
        for bit in range(8):
            flip_at(path, byte, bit)
            with pytest.raises(DataError):
                load_bundle(path.parent)
            flip_at(path, byte, bit)
    load_bundle(path.parent)


def test_the_card_of_a_bundle_is_its_owners(tmp_path: Path) -> None:
    folder = probe_bundle("tiny-cnn").save(tmp_path / "b")
    (folder / CARD_FILE).write_text("Mine.", "utf-8")
    load_bundle(folder)
    write_hashes(folder)
    (folder / CARD_FILE).write_text("Other.", "utf-8")
    with pytest.raises(DataError, match=r"card\.md was changed after it was written, or is damaged; fix: train it"):
        load_bundle(folder)


def test_a_config_that_lost_one_of_its_hashes_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    path = probe_bundle("tiny-cnn").save(tmp_path / "b") / CONFIG_FILE
    config = json.loads(path.read_text("utf-8"))
    for key in (FILES, CONFIG_SHA256):
        path.write_text(json.dumps({k: v for k, v in config.items() if k != key}, indent=2, sort_keys=True) + "\n")
        with pytest.raises(DataError, match="was changed"):
            load_bundle(path.parent)


# Exported files -------------------------------------------------------------------------------


def test_an_exported_file_says_at_its_beginning_that_it_ends_with_its_hash(alone: Path) -> None:
    for path in (alone / "network.onnx", alone / "ir/model.xml"):
        assert SEALED.encode() in path.read_bytes()[:BEGINNING]
        assert old_form(path) is None
    assert onnx.load(alone / "network.onnx").domain == SEALED  # the hash does not disturb whoever reads it
    assert old_form(alone / "ir") is None


@pytest.mark.parametrize("name", ["onnx", "xml", "bin"])
def test_every_single_bit_of_an_exported_file_counts(name: str, alone: Path) -> None:
    network, xml, weights = (
        (alone / file).read_bytes() for file in ("network.onnx", "ir/model.xml", "ir/model.bin")
    )  # fmt: skip
    given = {"onnx": network, "xml": xml, "bin": weights}
    assert check_exported(network, "n") and check_exported(xml, "n", weights)
    # Every bit of what is small; of the XML those of its ends, where the hash and the marks are, and each 97th.
    size = len(given[name])
    places = [b for b in range(size) if size < 2000 or b < 200 or b > size - 400 or b % 97 == 0]
    for byte in places:
        for bit in range(8):
            changed = bytearray(given[name])
            changed[byte] ^= 1 << bit
            now = {**given, name: bytes(changed)}
            with pytest.raises(DataError, match="was changed after it was written, or is damaged; fix: export it"):
                if name == "onnx":
                    check_exported(now["onnx"], "n")
                else:
                    check_exported(now["xml"], "n", now["bin"])


@pytest.mark.parametrize("runtime", [OnnxRuntime, OpenVinoRuntime])
def test_the_runtimes_look(runtime: type[OnnxRuntime | OpenVinoRuntime], alone: Path, tmp_path: Path) -> None:
    crops = random_crops(5)
    np.testing.assert_allclose(runtime(alone / "network.onnx").run(crops)[0], brightness_logits(crops), atol=1e-5)
    data = bytearray((alone / "network.onnx").read_bytes())
    data[data.index(b"\x00\x00\x80\x40")] ^= 1  # the weight 4.0
    (tmp_path / "n.onnx").write_bytes(data)
    with pytest.raises(DataError, match=r"n\.onnx was changed"):
        runtime(tmp_path / "n.onnx")


def test_openvinos_form_is_checked_with_its_weights(alone: Path, tmp_path: Path) -> None:
    shutil.copytree(alone / "ir", tmp_path / "ir")
    opened = open_runtime(tmp_path / "ir")
    assert opened.name == "openvino"
    crops = random_crops(5)
    np.testing.assert_allclose(opened.run(crops)[0], brightness_logits(crops), atol=1e-5)
    flip_at(tmp_path / "ir/model.bin", 2, 3)
    with pytest.raises(DataError, match=r"model\.bin of .*model\.xml was changed"):
        open_runtime(tmp_path / "ir")


def test_a_network_made_of_another_does_not_keep_its_hash() -> None:
    model = onnx.load_from_string(serialised(brightness()))
    model.graph.name = "changed"
    assert check_exported(serialised(model), "n")


# The form before hashes -----------------------------------------------------------------------


def test_what_was_written_before_there_were_hashes_is_read_with_a_note() -> None:
    crops = random_crops(5)
    for path in (GOLDEN / "brightness.onnx", GOLDEN / "ir"):
        for runtime in ("onnx", "openvino") if path.is_file() else ("openvino",):
            opened = open_runtime(path, runtime)
            assert opened.config == CONFIG
            np.testing.assert_allclose(opened.run(crops)[0], brightness_logits(crops), atol=1e-5)
        note = old_form(path)
        assert note is not None and "before classifiers held hashes" in note and "fix:" in note
    bundle = load_bundle(GOLDEN / "bundle")
    assert bundle.fingerprint == probe_bundle("tiny-cnn").fingerprint
    for runtime in RUNTIMES:
        assert open_runtime(GOLDEN / "bundle", runtime).decision.threshold == 0.4
    assert "train or export it again" in (old_form(GOLDEN / "bundle") or "")


def test_its_fingerprint_still_counts(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "bundle", tmp_path / "b")
    config = json.loads((tmp_path / "b" / CONFIG_FILE).read_text("utf-8"))
    config["decision"]["threshold"] = 0.9
    (tmp_path / "b" / CONFIG_FILE).write_text(json.dumps(config), "utf-8")
    for runtime in RUNTIMES:
        with pytest.raises(DataError, match=r"was changed after|from another state"):
            open_runtime(tmp_path / "b", runtime)
