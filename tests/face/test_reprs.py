"""What a notebook shows of an object is short, and says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from atypia.backbones.features import open_features
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.splits.protocol import make_split

MOST_LINES, MOST_CHARACTERS = 8, 1200


@pytest.fixture
def manifest(small_csv: Path) -> Manifest:
    return open_data(str(small_csv))


def test_a_manifest_counts_classes_cases_and_domains(manifest: Manifest) -> None:
    assert repr(manifest) == ("<Manifest figures: 80 figures (27 atypical, 53 normal), 8 cases, 2 domains>")


def test_a_split_of_many_folds_shows_a_few(manifest: Manifest) -> None:
    shown = repr(make_split("kfold", manifest, 3, folds=5))
    assert shown.startswith("<Split kfold(") and "seed 3: 5 folds>" in shown
    assert "… and 2 more folds" in shown and " train, " in shown
    assert len(shown.splitlines()) <= MOST_LINES and len(shown) <= MOST_CHARACTERS


def test_stores_and_features_name_their_folder(manifest: Manifest) -> None:
    store = open_store(manifest, CropGeometry(32))
    features = open_features(store, "tiny-cnn")
    assert repr(store) == f"<CropStore: 80 crops of 32 px, {store.path}>"
    assert (
        repr(features) == f"<Features: 80 figures × 256 {features.values.dtype} of tiny-cnn at 32 px, {features.path}>"
    )
