"""The product test: every shipped recipe that trains a network does so, for one epoch, on the phantom set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atypia.base import runs
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predict import score
from atypia.inference.predictions import read_predictions
from atypia.splits.protocol import make_split
from atypia.training.recipe import load_recipe, shipped_recipes
from atypia.training.schema import NetworkRecipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

NETWORKS = [name for name in shipped_recipes() if isinstance(load_recipe(name)[1], NetworkRecipe)]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 160, seed=3, workers=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_recipe_trains_scores_and_reloads(name: str, phantom: Manifest, tmp_path: Path) -> None:
    shipped = load_recipe(name)[1]
    assert isinstance(shipped, NetworkRecipe)
    lora = shipped.adaptation == "lora"
    changes = [
        f"backbone={'tiny-vit' if lora else 'tiny-cnn'}",
        "epochs=1",
        "batch_size=16",
        "input_px=64",
        "geometry.out_px=64",
        "sampler.draws=48",
    ]
    if shipped.patches is not None:  # of slides; see tests/studies/test_ammeling.py
        changes += ["geometry.side_px=null", "patches=null", "view=1.0", "sampler.random_share=0"]
    if shipped.classifiers:
        changes += ["terms.distillation.teachers=[]"]  # the moving average teaches where no other training is there
    key, recipe = load_recipe(name, changes)
    job = TrainingRequest(
        key, recipe, phantom, lambda m: make_split("kfold", m, 0, folds=2), tmp_path / "out", folds=("fold-1",)
    )
    trained = train(job)

    run = trained.folds[0]
    lines = [json.loads(line) for line in (run / runs.METRICS).read_text().splitlines()]
    assert len(lines) == 1 and 0 <= lines[0]["val_balanced_accuracy"] <= 1
    table, _ = read_predictions(run / runs.PREDICTIONS)
    assert set(table["part"].to_pylist()) == {runs.VALIDATION}
    bundle = load_bundle(run / runs.BUNDLE)
    assert bundle.adaptation == recipe.adaptation
    size = sum(tensor.nbytes for tensor in bundle.tensors.values())
    assert size < 3e6
    # The saved classifier, built anew (and, for LoRA, merged), gives the predictions of the trained one.
    again = score(bundle, phantom)
    known = dict(zip(again.manifest.ids, again.probabilities.tolist(), strict=True))
    for figure, p in zip(table["figure_id"].to_pylist(), table["p_atypical"].to_pylist(), strict=True):
        assert known[figure] == pytest.approx(p, abs=1e-5)
