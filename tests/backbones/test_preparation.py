"""Normalisation, pooling and view of a recipe: they reach features, probes, networks, bundles and exports alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atypia.backbones.build import build, preprocess
from atypia.backbones.catalogue import BACKBONES
from atypia.backbones.features import open_features
from atypia.backbones.preparation import AS_CATALOGUED, STATISTICS, Preparation
from atypia.base import runs
from atypia.base.errors import InputError
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predict import score
from atypia.inference.predictions import read_predictions
from atypia.inference.runtimes.graph import deployable
from atypia.methods.network import NetworkSpec, build_network
from atypia.splits.protocol import make_split
from atypia.training.identity import recipe_identity
from atypia.training.recipe import load_recipe, parse_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = Preparation(*STATISTICS["imagenet"], pooling="cls", view=0.5)
"""Of tiny-vit, whose own are 0.5, class token and mean, and the whole crop."""
PROBE = {"summary": "s", "adaptation": "probe", "backbone": "tiny-vit", "probe": "banerjee", "options": {"epochs": 4}}
LORA = {"summary": "s", "adaptation": "lora", "backbone": "tiny-vit"}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 60, seed=3, workers=1)


def test_an_entry_as_it_is_used() -> None:
    entry = OWN.entry("tiny-vit")
    assert (entry.mean, entry.pooling, entry.feature_dim) == (STATISTICS["imagenet"][0], "cls", 64)
    assert AS_CATALOGUED.entry("tiny-vit") is BACKBONES["tiny-vit"]
    assert Preparation.from_dict(OWN.as_dict()) == OWN and AS_CATALOGUED.as_dict() == {}
    with pytest.raises(InputError, match=r"`pooling` must be avg for resnet50, got cls; fix: omit it to use avg"):
        Preparation(pooling="cls").entry("resnet50")


def test_features_are_those_of_what_was_asked_for(phantom: Manifest) -> None:
    store = open_store(phantom, load_recipe("probe", ["geometry.out_px=64"])[1].geometry.build())
    plain, found = (
        open_features(store, "tiny-vit", 32, dtype="float32", preparation=one) for one in (AS_CATALOGUED, OWN)
    )
    assert plain.fingerprint != found.fingerprint and found.values.shape == (60, 64)
    middle = store.crops[:3, 16:48, 16:48]
    encoder = build("tiny-vit", 32, pooling="cls")
    with torch.inference_mode():
        want = encoder(preprocess(middle, OWN.entry("tiny-vit"), 32)).numpy()
    np.testing.assert_allclose(found.values[:3], want, atol=1e-4)


@pytest.mark.parametrize("values", [PROBE, {**LORA, "epochs": 1, "batch_size": 16}])
def test_a_training_is_saved_and_read_with_them(values: dict[str, object], phantom: Manifest, tmp_path: Path) -> None:
    keys = {"normalisation": "imagenet", "pooling": "cls", "view": 0.5, "input_px": 32, "geometry": {"out_px": 64}}
    recipe = parse_recipe({**values, **keys}, "a recipe")
    job = TrainingRequest(
        "own", recipe, phantom, lambda m: make_split("kfold", m, 0, folds=2), tmp_path / "out", folds=("fold-1",)
    )
    run = train(job).folds[0]
    bundle = load_bundle(run / runs.BUNDLE)
    assert bundle.preparation == OWN
    table, _ = read_predictions(run / runs.PREDICTIONS)
    again = score(bundle, phantom)
    known = dict(zip(again.manifest.ids, again.probabilities.tolist(), strict=True))
    for figure, p in zip(table["figure_id"].to_pylist(), table["p_atypical"].to_pylist(), strict=True):
        assert known[figure] == pytest.approx(p, abs=1e-5)
    # What is exported sees the same.
    store = open_store(phantom, bundle.geometry)
    with torch.inference_mode():
        logits, features = deployable(bundle)(torch.from_numpy(np.array(store.crops[:8])))
    assert features.shape[1] >= 64
    expected = [known[figure] for figure in phantom.ids[:8]]
    assert bundle.decision.calibration.apply(logits.double().numpy()) == pytest.approx(expected, abs=1e-4)


def test_what_the_catalogue_says_anyway_makes_no_other_training() -> None:
    plain = parse_recipe(LORA, "a recipe")
    half = parse_recipe({**LORA, "normalisation": "half", "pooling": "cls+mean"}, "a recipe")
    spelled = parse_recipe({**LORA, "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}}, "a recipe")
    assert recipe_identity(half) == recipe_identity(spelled) == recipe_identity(plain)
    for other in ({"normalisation": "imagenet"}, {"pooling": "cls"}, {"view": 0.5}):
        assert recipe_identity(parse_recipe({**LORA, **other}, "a recipe")) != recipe_identity(plain)


def test_a_network_s_saved_architecture_without_them_is_what_it_was() -> None:
    assert not {"mean", "std", "pooling", "lora_targets"} & set(
        NetworkSpec("tiny-vit", 32, "lora", lora_rank=2).as_dict()
    )
    spec = NetworkSpec("tiny-vit", 32, "lora", lora_rank=2, pooling="cls", lora_targets=("q", "v"))
    assert NetworkSpec.from_dict(spec.as_dict()) == spec
    assert build_network(spec).head.in_features == 64


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ({"normalisation": "imagnet"}, r"`normalisation"),
        ({"normalisation": {"mean": [0.5] * 3, "std": [0, 1, 1]}}, r"std"),
        ({"pooling": "mean"}, r"`pooling`: Input should be 'cls', 'cls\+mean', 'cls\+rest' or 'avg', got 'mean'"),
        ({"weights": "in1k"}, r"`weights` must be one of tiny-vit's others \(none but its own\), got in1k"),
    ],
)
def test_what_cannot_be_is_refused(key: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_recipe({**LORA, **key}, "a recipe")


def test_other_weights_are_another_entry() -> None:
    recipe = load_recipe("banerjee-e2e", ["weights=in1k"])[1]
    assert (recipe.backbone, recipe.weights) == ("efficientnetv2-m-in1k", None)
    assert recipe == load_recipe("banerjee-e2e", ["backbone=efficientnetv2-m-in1k"])[1]
    for entry in BACKBONES.values():
        for tag, name in entry.other_weights:
            other = BACKBONES[name]
            assert other.timm_name == entry.timm_name and other.weights != entry.weights, tag
