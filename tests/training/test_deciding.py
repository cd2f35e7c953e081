"""The decision that a training fits on its validation fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atypia import metrics, runs
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.data.store import open_store
from atypia.inference.bundle import load_bundle
from atypia.inference.classifier import Classifier
from atypia.inference.predict import score
from atypia.inference.predictions import read_predictions
from atypia.splits.protocol import make_split
from atypia.training.fit import train
from atypia.training.fitted import Training
from atypia.training.recipe import load_recipe

SMALL = ("pretrained=false", "epochs=1", "batch_size=16", "geometry.out_px=64", "input_px=64", "sampler.draws=48")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 160, seed=7, workers=1)


@pytest.mark.parametrize(("recipe", "changes"), [("full", SMALL), ("probe", ("input_px=32", "geometry.out_px=32"))])
def test_the_bundle_decides_as_its_validation_fold_says(
    recipe: str, changes: tuple[str, ...], phantom: Manifest, tmp_path: Path
) -> None:
    name, loaded = load_recipe(recipe, ["backbone=tiny-cnn", *changes, "decision.coverage=0.8"])
    split = make_split("kfold", phantom, 0, folds=2)
    train(Training(name, loaded, phantom, split, tmp_path, folds=("fold-1",)))
    bundle = load_bundle(tmp_path / "fold-1" / runs.BUNDLE)
    decision = bundle.decision

    assert decision.coverage == 0.8 and decision.novelty is not None and decision.conformal is not None
    assert bundle.field_um == 32.0  # 128 px at 0.25 µm/px
    table, _ = read_predictions(tmp_path / "fold-1" / runs.PREDICTIONS)
    p, y = np.array(table["p_atypical"]), np.array(table["label"])
    assert set(table["threshold"].to_pylist()) == {decision.threshold}
    # No other threshold does better on the fold that it was fitted on.
    best = max(metrics.balanced_accuracy(y, (p >= t).astype(int)) for t in np.unique(p))
    assert metrics.balanced_accuracy(y, np.array(table["decision"])) == pytest.approx(best)
    # Whoever opens the bundle gets the same calibrated probabilities.
    known = dict(zip(table["figure_id"].to_pylist(), p.tolist(), strict=True))
    again = score(bundle, phantom)
    for figure, value in zip(again.manifest.ids, again.probabilities.tolist(), strict=True):
        assert known.get(figure, value) == pytest.approx(value, abs=1e-5)
    store = open_store(phantom, bundle.geometry)
    rows = phantom.rows_of(split.folds[0].val)
    verdicts = Classifier.load(tmp_path / "fold-1" / runs.BUNDLE).judge(np.ascontiguousarray(store.crops[rows]))
    np.testing.assert_allclose(verdicts.p, [known[phantom.ids[row]] for row in rows], atol=1e-4)
    assert np.isfinite(verdicts.novelty).all()


def test_without_a_decision_the_threshold_is_the_recipes(phantom: Manifest, tmp_path: Path) -> None:
    name, loaded = load_recipe("full", ["backbone=tiny-cnn", *SMALL, "threshold=0.3"])
    train(Training(name, loaded, phantom, make_split("kfold", phantom, 0, folds=2), tmp_path, folds=("fold-1",)))
    assert load_bundle(tmp_path / "fold-1" / runs.BUNDLE).decision.as_dict() == {"threshold": 0.3}
