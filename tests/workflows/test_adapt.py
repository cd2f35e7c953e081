"""``atypia train adapt``: what begins where, what is mixed, and when the initial model stays."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base import runs
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.classifier import Classifier
from atypia.inference.export.compact import whole
from atypia.splits.protocol import make_split
from atypia.statistics.intervals import Interval
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest
from atypia.workflows.laboratory import adapt as workflow
from atypia.workflows.laboratory.adapt import ADAPTED, CV, REPORT, _reason, adapt, between, drift, mean_of

TINY = ("backbone=tiny-vit", "epochs=1", "batch_size=16", "geometry.out_px=64", "input_px=64", "view=1.0", "ema=null",
        "select.of=student", "precision=fp32")  # fmt: skip


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "set", 120, seed=3, workers=1)


@pytest.fixture(scope="module")
def first(phantom: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on a tiny transformer, trained on another phantom set."""
    other = write_phantom(tmp_path_factory.mktemp("other") / "set", 96, seed=8, workers=1)
    name, recipe = load_recipe("lora", TINY)
    out = tmp_path_factory.mktemp("first")
    train(TrainingRequest(name, recipe, other, make_split("kfold", other, 0, folds=2), out, folds=("fold-1",)))
    return out / "fold-1" / runs.BUNDLE


def saved(manifest: Manifest, folder: Path) -> str:
    return str(manifest.save(folder / "mine.parquet"))


def weights(bundle: Bundle) -> np.ndarray:
    return np.concatenate([np.asarray(v, np.float64).ravel() for _, v in sorted(bundle.tensors.items())])


def test_a_model_stays_or_is_written_and_the_report_says_why(first: Path, phantom: Manifest, tmp_path: Path) -> None:
    found = adapt(first, saved(phantom, tmp_path), tmp_path / "out", folds=2, overrides=["epochs=1"])
    assert found.cases > 1 and sum(found.figures) == len(phantom)
    assert (found.out is None) == (found.kept is not None) == (not (tmp_path / "out" / runs.BUNDLE).exists())
    assert "not measured" in found.to_text() and ("kept as it was" in found.to_text()) == (found.out is None)
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report["share"] == found.share and report["before"]["auroc"][0] == pytest.approx(
        found.before["auroc"].estimate
    )
    tuned = load_bundle(tmp_path / "out" / CV / "fold-1" / runs.BUNDLE)
    assert 0 < drift(whole(load_bundle(first)), tuned) < 0.05, "it began with the initial weights, and took small steps"
    if found.out is not None:
        assert load_bundle(found.out).training[ADAPTED]["from"] == found.model


def test_a_surely_better_network_is_written_and_answers(first: Path, tmp_path: Path) -> None:
    """Figures of another kind, whose class is their colour: at the first network's threshold all are one class."""
    rng, rows = np.random.default_rng(5), ["image,label,case_id"]
    for n in range(96):
        crop = rng.integers(100, 140, (64, 64, 3), np.uint8)
        crop[..., 0] += np.uint8(60 * (n % 2))
        Image.fromarray(crop).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{n % 2},case {n // 6}")
    mine = tmp_path / "mine.csv"
    mine.write_text("\n".join(rows) + "\n")

    found = adapt(first, str(mine), tmp_path / "out", folds=2, overrides=["epochs=4", "optimiser.lr=1e-3"])

    assert found.kept is None and found.out is not None and found.share > 0
    before, after = (way["balanced_accuracy"].estimate for way in (found.before, found.after))
    assert before < 0.6 < 0.9 < after
    assert load_bundle(found.out).training[ADAPTED]["from"] == found.model
    said = Classifier.load(found.out).predict([tmp_path / f"{n}.png" for n in range(8)]).p_atypical
    assert min(said[1::2]) > max(said[::2])


def test_weights_lie_between_and_means_are_means(first: Path) -> None:
    begin = whole(load_bundle(first))
    other = replace(begin, tensors={name: np.asarray(v) + 1 for name, v in begin.tensors.items()})
    np.testing.assert_allclose(weights(between(begin, other, 0.25)), weights(begin) + 0.25, atol=1e-5)
    np.testing.assert_allclose(weights(mean_of([begin, other])), weights(begin) + 0.5, atol=1e-5)
    assert between(begin, other, 0.0) is begin and drift(begin, begin) == 0


def interval(estimate: float, low: float) -> Interval:
    return Interval(estimate, low, estimate + 0.05, 0.8, "bca", 0.01, 100, 10)


def test_what_is_better_is_taken_and_what_forgets_is_not() -> None:
    assert _reason(interval(0.03, 0.01), 0.5, {}) is None
    assert "no surely better" in (_reason(interval(0.03, -0.01), 0.5, {}) or "")
    unknown = replace(interval(0.5, math.nan), high=math.nan)
    assert "interval unknown" in (_reason(unknown, 0.5, {}) or "")
    assert _reason(replace(unknown, se=0.0), 0.5, {}) is None, "the same gain in every draw"
    assert "the weights as they were" in (_reason(interval(0.03, 0.01), 0.0, {}) or "")
    assert "would lose 0.020" in (
        _reason(interval(0.03, 0.01), 0.5, {"balanced_accuracy": interval(-0.02, -0.03)}) or ""
    )
    assert _reason(interval(0.03, 0.01), 0.5, {"balanced_accuracy": interval(-0.005, -0.03)}) is None


def test_a_rendered_set_to_keep_needs_no_images_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "RENDERED", 8)
    rendered = workflow.set_to_keep(workflow.PHANTOM)
    assert len(rendered) == 8 and set(rendered.labels.tolist()) == {0, 1}
    assert workflow.set_to_keep(workflow.PHANTOM).fingerprint == rendered.fingerprint, "made once"
    path = saved(rendered.take(np.arange(3)), tmp_path)
    assert len(workflow.set_to_keep(path)) == 3, "any other name is a data set"


def test_what_cannot_be_adapted_is_refused(first: Path, phantom: Manifest, tmp_path: Path) -> None:
    few = phantom.take(np.r_[np.flatnonzero(phantom.labels == 0)[:30], np.flatnonzero(phantom.labels == 1)[:9]])
    with pytest.raises(InputError, match="at least 10 of either class"):
        adapt(first, saved(few, tmp_path), tmp_path / "few")
    name, recipe = load_recipe("adapt", [f"init={first}", "input_px=64", "view=0.5", "backbone=tiny-vit", "epochs=1"])
    job = TrainingRequest(name, recipe, phantom, make_split("kfold", phantom, 0, folds=2), tmp_path / "other")
    with pytest.raises(InputError, match="of the recipe's view"):
        train(job)
