"""Stain normalisation as a key of any recipe: in the store, in the bundle, and in every way to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base import runs
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.images.stain import reinhard
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.classifier import Classifier
from atypia.inference.predictions import read_predictions
from atypia.training.identity import recipe_identity
from atypia.training.recipe import load_recipe
from atypia.workflows.train import train


@pytest.mark.parametrize(("recipe", "exact"), [("probe", 1e-5), ("full", 2e-6)])  # features are kept in half precision
def test_what_is_trained_on_normalised_crops_predicts_on_them(
    recipe: str, exact: float, small_csv: Path, tmp_path: Path, own_home: Path
) -> None:
    changes = ["geometry.out_px=32", "geometry.stain=reinhard"]
    changes += ["input_px=32", "epochs=1", "batch_size=8", "view=1.0"] if recipe == "full" else []
    done = train(recipe, small_csv, tmp_path / "run", backbone="tiny-cnn", overrides=changes, protocol="kfold",
                 protocol_settings=["folds=2"], folds=["fold-1"])  # fmt: skip
    bundle = load_bundle(done.folds[0] / runs.BUNDLE)
    assert bundle.geometry == CropGeometry(32, stain="reinhard")

    manifest = open_data(str(small_csv))
    plain, cut = (open_store(manifest, CropGeometry(32, stain=stain)).crops for stain in (None, "reinhard"))
    np.testing.assert_array_equal(np.array(cut[3]), reinhard(np.array(plain[3])))
    scored, _ = read_predictions(done.folds[0] / runs.PREDICTIONS)
    want = dict(zip(scored[r.FIGURE_ID].to_pylist(), scored[r.P_ATYPICAL].to_pylist(), strict=True))
    assert manifest.root is not None
    rows = manifest.rows_of(list(want))
    files = [manifest.root / manifest.table[r.IMAGE][int(row)].as_py() for row in rows]
    said = Classifier.load(done.folds[0] / runs.BUNDLE, runtime="torch").predict(files)
    np.testing.assert_allclose(said.p_atypical, list(want.values()), atol=exact)
    other = Classifier.load(done.folds[0] / runs.BUNDLE, runtime="torch").probabilities(np.array(plain[rows]))
    assert np.abs(other - said.p_atypical).max() > 5 * exact


def test_recipes_without_it_are_what_they_were() -> None:
    _, plain = load_recipe("probe", ["geometry.out_px=32"])
    _, asked = load_recipe("probe", ["geometry.out_px=32", "geometry.stain=macenko"])
    assert "stain" not in str(recipe_identity(plain))
    assert recipe_identity(asked) == {**recipe_identity(plain), "geometry": {"out_px": 32, "stain": "macenko"}}
    with pytest.raises(ValueError, match="stain"):
        load_recipe("probe", ["geometry.stain=vahadane"])
