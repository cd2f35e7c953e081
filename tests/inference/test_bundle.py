"""Bundles: round trip, damage, and probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy.special import expit

from atypia.base.errors import DataError, InputError
from atypia.data.images.geometry import CropGeometry
from atypia.inference.bundles.bundle import (
    BIAS,
    CARD_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    PROBE,
    WEIGHT,
    Bundle,
    load_bundle,
    probe_tensors,
)
from atypia.inference.bundles.decision import Decision, fit_decision


def head(weight: list[float], bias: float) -> Bundle:
    tensors = probe_tensors(np.array(weight), bias)
    return Bundle("b", "atypical", PROBE, "tiny-cnn", None, 32, CropGeometry(), tensors, Decision(0.5))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text("utf-8"))
    change(config)
    path.write_text(json.dumps(config), "utf-8")


def test_a_bundle_comes_back_as_it_was(bundle: Bundle, tmp_path: Path) -> None:
    read = load_bundle(bundle.save(tmp_path / "bundle"))

    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {MODEL_FILE, CONFIG_FILE, CARD_FILE}
    assert read.config == bundle.config and read.fingerprint == bundle.fingerprint
    assert read.geometry == CropGeometry(out_px=32) and read.threshold == 0.4
    for name in (WEIGHT, BIAS):
        assert read.tensors[name].dtype == np.float64
        np.testing.assert_array_equal(read.tensors[name], bundle.tensors[name])
    x = np.random.default_rng(0).normal(size=(9, 256))
    np.testing.assert_array_equal(read.probabilities(x), bundle.probabilities(x))


def test_the_card_says_what_it_is_and_what_it_is_not_for(bundle: Bundle, tmp_path: Path) -> None:
    text = (bundle.save(tmp_path / "b") / CARD_FILE).read_text("utf-8")

    assert text.startswith("# probe-tiny\n")
    assert "*atypical* (1)" in text and "`tiny-cnn` at 32 px" in text and "0.4" in text
    assert "not a medical device" in text and '- data: `"made up"`' in text


@pytest.mark.parametrize(
    "changed",
    [
        {"decision": Decision(0.5)},
        {"field_um": 32.0},
        {"task": "mitosis"},
        {"input_px": 64},
        {"geometry": CropGeometry(out_px=64)},
        {"weights_sha256": "0" * 64},
        {"backbone": "tiny-vit"},
        {"tensors": probe_tensors(np.linspace(-1, 1, 256), 0.2500000001)},
        {"training": {}},
    ],
)
def test_the_fingerprint_covers_everything(changed: dict[str, Any], bundle: Bundle) -> None:
    assert replace(bundle, **changed).fingerprint != bundle.fingerprint


def test_tensors_keep_their_shape_kind_and_order(bundle: Bundle, tmp_path: Path) -> None:
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {"count": np.array(3, dtype=np.int64), "turned": grid.T, "half": np.ones((0, 2), dtype=np.float16)}
    network = replace(bundle, adaptation="full", tensors=tensors, network={"hidden": (8, 4), "cbam": False})
    read = load_bundle(network.save(tmp_path / "b"))

    for name, tensor in tensors.items():
        assert read.tensors[name].shape == tensor.shape and read.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read.tensors[name], tensor)
    assert replace(network, tensors={**tensors, "turned": grid}).fingerprint != network.fingerprint
    assert replace(network, tensors={**tensors, "count": np.array([3])}).fingerprint != network.fingerprint


@pytest.mark.parametrize("missing", [MODEL_FILE, CONFIG_FILE])
def test_a_missing_file_is_named(missing: str, bundle: Bundle, tmp_path: Path) -> None:
    (bundle.save(tmp_path / "b") / missing).unlink()

    with pytest.raises(DataError, match=rf"b is no bundle: {missing} is missing; fix:"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", [MODEL_FILE, CONFIG_FILE])
@pytest.mark.parametrize("keep", [0, 7, 60, -9])
def test_a_cut_file_is_damage(name: str, keep: int, bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "b") / name
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(DataError, match=r"damaged.*fix: train it again"):
        load_bundle(tmp_path / "b")


def test_one_flipped_bit_of_a_weight_is_noticed(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "b") / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))

    with pytest.raises(DataError, match=r"was changed after it was written, or is damaged; fix: train it again"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["decision"].update(threshold=0.9),
        lambda c: c["classes"].reverse(),
        lambda c: c["backbone"].update(name="tiny-vit"),
        lambda c: c["geometry"].update(out_px=64),
        lambda c: c.pop("fingerprint"),
        lambda c: c.pop("task"),
        lambda c: c.update(task="mood"),
        lambda c: c.update(geometry={"side": 3}),
        lambda c: c.update(geometry=None),
        lambda c: c.update(backbone="tiny-cnn"),
        lambda c: c.update(training=[1]),
    ],
)
def test_a_changed_configuration_is_refused(
    change: Callable[[dict[str, Any]], None], bundle: Bundle, tmp_path: Path
) -> None:
    edit(bundle.save(tmp_path / "b"), change)

    with pytest.raises(DataError, match=r"fix: train it again"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"'])
def test_a_configuration_that_is_no_mapping_is_damage(content: str, bundle: Bundle, tmp_path: Path) -> None:
    (bundle.save(tmp_path / "b") / CONFIG_FILE).write_text(content, "utf-8")

    with pytest.raises(DataError, match="damaged bundle"):
        load_bundle(tmp_path / "b")


def test_another_format_version_is_told(bundle: Bundle, tmp_path: Path) -> None:
    edit(bundle.save(tmp_path / "b"), lambda c: c.update(format=99))

    with pytest.raises(DataError, match=r"format` must be 1, got 99; fix: update Atypia"):
        load_bundle(tmp_path / "b")


def test_renamed_tensors_are_damage(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "b") / MODEL_FILE
    save_file({name.upper(): value for name, value in load_file(path).items()}, path)

    with pytest.raises(DataError, match="damaged"):
        load_bundle(tmp_path / "b")


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")

    with pytest.raises(DataError, match="is no bundle"):
        load_bundle(tmp_path)
    with pytest.raises(DataError, match="fix:"):
        load_bundle(tmp_path / "file")


# Probabilities --------------------------------------------------------------------------------


def test_probabilities_by_hand() -> None:
    p = head([2.0, -1.0], 0.5).probabilities(np.array([[0.0, 0.5], [1.0, 0.0], [0.0, 2.0]]))

    # Logits 0, 2.5 and -1.5.
    np.testing.assert_allclose(p, [0.5, 0.924141819978757, 0.182425523806356], rtol=1e-14)


def test_probabilities_of_huge_logits_neither_overflow_nor_vanish() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = head([1.0], 0.0).probabilities(np.array([[1000.0], [-1000.0], [700.0], [-700.0], [30.0], [-30.0]]))

    assert p[0] == 1 and p[1] == 0
    np.testing.assert_allclose(p[2:], expit([700.0, -700.0, 30.0, -30.0]), rtol=1e-12)
    assert 0 < p[3] < 1e-300


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_probabilities_are_monotone_and_symmetric(logits: list[float]) -> None:
    x = np.sort(np.array(logits))[:, None]
    p = head([1.0], 0.0).probabilities(x)

    assert np.all(np.diff(p) >= 0) and np.all((p >= 0) & (p <= 1))
    np.testing.assert_allclose(p + head([1.0], 0.0).probabilities(-x), 1, rtol=1e-15)


def test_half_precision_features_are_scored_in_double_precision_in_pieces() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9001, 5)).astype(np.float16)
    weight = rng.normal(size=5)

    p = head(weight.tolist(), -0.3).probabilities(x)

    np.testing.assert_allclose(p, expit(x.astype(np.float64) @ weight - 0.3), rtol=1e-12)


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="`logits` must be finite, got NaN or infinity in 1 of 2"):
        head([1.0, 1.0], 0.0).probabilities(np.array([[np.nan, 0.0], [0.0, 0.0]]))


def test_a_fitted_decision_travels_with_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, features = rng.integers(0, 2, 400), rng.normal(size=(400, 12))
    features[:, 0] += 2 * labels
    logits = 3 * features[:, 0] - 2
    decision = fit_decision(logits, labels, features[:200], labels[:200], features[200:], components=4)
    made = replace(bundle, decision=decision, field_um=32.0)
    made.save(tmp_path / "b")
    read = load_bundle(tmp_path / "b")

    assert read.fingerprint == made.fingerprint != bundle.fingerprint
    assert set(read.tensors) == set(bundle.tensors)  # what the decision needs is not the network's
    assert read.field_um == 32.0 and read.threshold == decision.threshold
    one, other = decision.apply(logits, features), read.decision.apply(logits, features)
    assert one.call == other.call
    np.testing.assert_allclose(one.p, other.p)
    np.testing.assert_allclose(one.novelty, other.novelty, rtol=1e-5)


def test_features_of_another_backbone_are_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"`features` must be of shape \(n, 256\), got \(3, 128\)"):
        bundle.probabilities(np.zeros((3, 128)))
    with pytest.raises(InputError, match="a probe to score features, got full"):
        replace(bundle, adaptation="full").probabilities(np.zeros((3, 256)))
