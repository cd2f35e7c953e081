"""Scoring of figures by a bundle."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

import atypia
from atypia.backbones.features import open_features
from atypia.base.errors import AbsentError, InputError
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import BIAS, WEIGHT, Bundle
from atypia.inference.networks import load_network
from atypia.inference.predict import score


def test_a_probe_scores_the_features_of_its_backbone(bundle: Bundle, other_csv: Path) -> None:
    manifest = open_data(str(other_csv))
    scored = score(bundle, manifest)

    store = open_store(manifest, CropGeometry(out_px=32))
    features = np.asarray(open_features(store, "tiny-cnn", 32).values, dtype=np.float64)
    expected = expit(features @ bundle.tensors[WEIGHT] + bundle.tensors[BIAS][0])
    np.testing.assert_allclose(scored.probabilities, expected, rtol=1e-10)
    assert scored.manifest.ids == manifest.ids and scored.quarantined == {}


def test_quarantined_figures_are_left_out_and_the_others_are_scored_alike(
    bundle: Bundle, paint: Callable[..., Path], tmp_path: Path
) -> None:
    table = paint(tmp_path / "set", cases=2)
    whole = score(bundle, open_data(str(table)))
    path = tmp_path / "set" / "s0-007.png"
    path.write_bytes(path.read_bytes()[:-300])
    scored = score(bundle, open_data(str(table)))

    assert list(scored.quarantined) == ["s0-007"] and len(scored.manifest) == 19
    np.testing.assert_allclose(scored.probabilities, np.delete(whole.probabilities, 7), rtol=1e-6)


def test_other_weights_are_refused(bundle: Bundle, other_csv: Path) -> None:
    manifest = open_data(str(other_csv))

    with pytest.raises(AbsentError, match=r"the weights of tiny-cnn here are not those that probe-tiny was made with"):
        score(replace(bundle, weights_sha256="0" * 64), manifest)


def test_a_backbone_that_is_not_here_is_told_before_pixels_are_decoded(
    bundle: Bundle, other_csv: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(AbsentError, match=r"weights of uni are not on this machine.*fix:"):
        score(replace(bundle, backbone="uni", weights_sha256="0" * 64), open_data(str(other_csv)))
    assert not (own_home / "cache" / "crops").exists()


def test_another_task_is_refused(bundle: Bundle, other_csv: Path) -> None:
    with pytest.raises(InputError, match=r"trained for the task 'mitosis', figures is of 'atypical'; fix: choose"):
        score(replace(bundle, task="mitosis"), open_data(str(other_csv)))


def test_a_probe_is_no_network(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"`bundle` must be a network's, with its architecture, got probe"):
        load_network(bundle)


# What must not be in the code -----------------------------------------------------------------

SOURCES = sorted(Path(atypia.__file__).parent.rglob("*.py"))
BANNED = {
    # Its exception may be caught: torch's safe reader raises it.
    "pickle": re.compile(
        r"\bpickle\.(?!UnpicklingError\b)\w|\bfrom\s+pickle\b"
        r"|\b(?:import|from)\s+(?:dill|joblib|cloudpickle|shelve|marshal)\b"
    ),
    "np.load that may unpickle": re.compile(r"np\.load\((?![^)]*allow_pickle=False)|allow_pickle=True"),
    "torch.load that may unpickle": re.compile(r"torch\.load\((?![^)]*weights_only=True)|weights_only=False"),
    "torch.save": re.compile(r"torch\.save\("),
    "eval or exec": re.compile(r"(?<![\w.])(?:eval|exec)\("),
    "yaml that runs code": re.compile(r"yaml\.(?:load|unsafe_load|full_load)\("),
    "a shell": re.compile(r"os\.system\(|shell=True"),
}


@pytest.mark.parametrize("what", BANNED)
def test_the_code_has_no(what: str) -> None:
    assert len(SOURCES) > 50
    found = [path.name for path in SOURCES if BANNED[what].search(path.read_text("utf-8"))]

    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("pickle", "from pickle import loads"),
        ("pickle", "state = pickle.load(file)"),
        ("pickle", "import joblib"),
        ("np.load that may unpickle", "np.load(path, mmap_mode='r')"),
        ("torch.load that may unpickle", "torch.load(file, map_location='cpu')"),
        ("eval or exec", "x = eval(text)"),
        ("yaml that runs code", "yaml.load(file)"),
    ],
)
def test_the_search_would_find_it(what: str, line: str) -> None:
    assert BANNED[what].search(line)
    assert not BANNED["eval or exec"].search("network.eval()")
    assert not BANNED["torch.load that may unpickle"].search("torch.load(file, weights_only=True)")
