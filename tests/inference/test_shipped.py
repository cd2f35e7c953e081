"""The classifiers inside the package: what a user gets without training anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atypia.data.crops.store import open_store
from atypia.data.phantom.dataset import write_phantom
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import CARD_FILE, load_bundle
from atypia.inference.bundles.left_out import LEFT_OUT_KEY
from atypia.inference.bundles.training_look import look_of
from atypia.inference.classifier import MODELS, SHIPPED, Classifier
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.splits.protocol import make_split
from atypia.statistics import metrics

FOLDER = MODELS / SHIPPED
TESTED = "atypia-amibr"
"""The one that has not seen the test sets."""
PAGE = Path(__file__).parents[2] / "docs/results/model.md"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


def test_it_fits_the_repository_and_says_what_it_is() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 25e6
    card = (FOLDER / CARD_FILE).read_text("utf-8")
    tested = (MODELS / TESTED / CARD_FILE).read_text("utf-8")
    for words in ("not a medical device", "Intended use", "Limits", "AMi-Br", "Aperio XT", "TCGA"):
        assert words in card and words in tested
    assert sum(file.stat().st_size for file in (MODELS / TESTED).iterdir()) < 25e6
    assert load_bundle(MODELS / TESTED).name == TESTED and load_bundle(MODELS / TESTED).training["data"] == "ami-br"
    bundle = load_bundle(FOLDER)
    assert bundle.name == SHIPPED and bundle.field_um == pytest.approx(32.0)
    facts = bundle.training
    assert facts["data"] == "ami-br+atnorm-br" and facts["decided_on"] == "test" and len(facts["of"]) > 1
    assert len(bundle.decision.fitted[LEFT_OUT_KEY]) == len(facts["decided_by"])  # each that judges lacks a laboratory
    assert not set(facts["of"]) & set(facts["decided_by"])
    assert look_of(bundle.decision) is not None
    assert bundle.decision.conformal is not None and bundle.decision.novelty is not None
    assert 0 < bundle.threshold < 1 and set(bundle.decision.points) >= {"balanced", "sensitivity-0.90"}


def test_its_two_forms_agree(classifier: Classifier) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    crops[1] = 235
    fast = classifier.members[0].runtime
    assert fast.name == "onnx"
    logits, features = fast.run(crops)
    single, exact = TorchRuntime(load_bundle(FOLDER)).run(crops)
    np.testing.assert_allclose(logits, single, atol=0.3)  # the exported network computes with integers
    assert np.corrcoef(features.ravel(), exact.ravel())[0, 1] > 0.995
    alone = [fast.run(crops[i : i + 1])[0][0] for i in range(3)]
    assert alone == logits.tolist(), "what a crop is given does not depend on its batch"


def test_it_refuses_what_is_no_figure(classifier: Classifier, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    strange = np.stack(
        [np.full((128, 128, 3), 255), np.zeros((128, 128, 3)), rng.integers(0, 256, (128, 128, 3))]
    ).astype(np.uint8)
    assert classifier.judge(strange).call == ["refused"] * 3


def test_it_answers_without_torch() -> None:
    code = (
        "import sys, numpy as np; from atypia.inference.classifier import Classifier\n"
        "p = Classifier.load().probabilities(np.full((2, 128, 128, 3), 200, np.uint8))\n"
        "assert p.shape == (2,) and p[0] == p[1]\n"
        "print(sorted({'torch', 'timm', 'sklearn', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_the_command_answers_without_a_model_named(tmp_path: Path) -> None:
    manifest = write_phantom(tmp_path / "phantom", 8, seed=1, workers=1)
    assert manifest.root is not None
    crops = sorted(str(manifest.root / image) for image in manifest.table["image"].to_pylist())
    out = tmp_path / "calls.json"
    subprocess.run(
        [sys.executable, "-m", "atypia.cli.main", "predict", *crops, "--out", str(out)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    found = json.loads(out.read_text("utf-8"))
    rows = found["figures"] if isinstance(found, dict) else found
    assert len(rows) == 8 and all(0 <= row["p_atypical"] <= 1 for row in rows)


@pytest.mark.real
def test_the_tested_one_reaches_on_the_hold_out_what_its_page_says(real_root: Path) -> None:
    classifier = Classifier.load(TESTED)
    manifest = open_data("ami-br", real_root)
    (fold,) = make_split("final", manifest).folds
    rows = manifest.rows_of(fold.test)
    verdicts = classifier.judge(np.ascontiguousarray(open_store(manifest, classifier.geometry).crops[rows]))
    labels = manifest.labels[rows]
    row = re.search(r"^\| ami-br, hold-out +\| 826 \(184\) .*$", PAGE.read_text("utf-8"), re.M)
    assert row is not None
    said = [float(cell.split()[0]) for cell in row[0].split("|")[3:5]]
    assert metrics.auroc(labels, verdicts.p) == pytest.approx(said[0], abs=1e-3)
    assert metrics.balanced_accuracy(labels, verdicts.decision) == pytest.approx(said[1], abs=2e-3)
