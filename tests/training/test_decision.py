"""The decision that a training fits on its validation fold."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.evaluation import laboratories
from atypia.evaluation.external import evaluate, evaluate_shifted, open_target
from atypia.evaluation.laboratories import left_out, prior_of
from atypia.inference.bundles import left_out as left_out_records
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.decision import fit_decision
from atypia.inference.bundles.laboratory import LABORATORIES_KEY
from atypia.inference.bundles.training_look import look_of
from atypia.inference.classifier import Classifier
from atypia.inference.predict import score
from atypia.inference.predictions import read_predictions
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.splits.protocol import make_split
from atypia.statistics import metrics
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest
from atypia.workflows.laboratory.drift import training_look

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
    train(TrainingRequest(name, loaded, phantom, split, tmp_path, folds=("fold-1",)))
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


@pytest.mark.parametrize(("of", "limit"), [("missed", 0.4), ("false-alarms", 0.1)])
def test_the_threshold_keeps_a_risk_within_its_limit(of: str, limit: float, phantom: Manifest, tmp_path: Path) -> None:
    asked = f"decision={{novelty: false, risk: {{of: {of}, at_most: {limit}}}}}"
    name, loaded = load_recipe("probe", ["backbone=tiny-cnn", "input_px=32", "geometry.out_px=32", asked])
    split = make_split("kfold", phantom, 0, folds=2)
    train(TrainingRequest(name, loaded, phantom, split, tmp_path, folds=("fold-1",)))
    decision = load_bundle(tmp_path / "fold-1" / runs.BUNDLE).decision
    assert decision.threshold == decision.points[f"{of}-{limit:.2f}"] != decision.points["balanced"]
    table, _ = read_predictions(tmp_path / "fold-1" / runs.PREDICTIONS)
    y, decided = np.array(table["label"]), np.array(table["decision"])
    wrong = decided[y == (of == "missed")] != (of == "missed")
    # One more wrong would be beyond the limit: (n R + 1) / (n + 1) ≤ limit.
    assert (wrong.sum() + 1) / (len(wrong) + 1) <= limit < (wrong.sum() + 2) / (len(wrong) + 1)


def test_without_a_decision_the_threshold_is_the_recipes(phantom: Manifest, tmp_path: Path) -> None:
    name, loaded = load_recipe("full", ["backbone=tiny-cnn", *SMALL, "threshold=0.3"])
    train(TrainingRequest(name, loaded, phantom, make_split("kfold", phantom, 0, folds=2), tmp_path, folds=("fold-1",)))
    assert load_bundle(tmp_path / "fold-1" / runs.BUNDLE).decision.as_dict() == {"threshold": 0.3}


def part_of(manifest: Manifest, training: int) -> Manifest:
    """The figures with a published part, by case: the first for training, the rest for test."""
    cases = sorted(set(manifest.cases.tolist()))
    part = pa.array(["train" if case in cases[:training] else "test" for case in manifest.cases], pa.string())
    schema = manifest.table.schema
    return replace(
        manifest, table=manifest.table.set_column(schema.get_field_index("part"), schema.field("part"), part)
    )


@pytest.fixture(scope="module")
def published(phantom: Manifest) -> Manifest:
    return part_of(phantom, len(set(phantom.cases.tolist())) * 3 // 4)


@pytest.fixture(scope="module")
def crossed(published: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation of two folds with decisions."""
    out = tmp_path_factory.mktemp("crossed") / "runs"
    name, loaded = load_recipe("full", ["backbone=tiny-cnn", *SMALL, "decision.coverage=0.9"])
    train(TrainingRequest(name, loaded, published, make_split("official", published, 0, folds=2), out))
    return out


FINAL = ("backbone=tiny-cnn", *SMALL, "select.best=false")


def test_a_training_on_everything_decides_by_what_the_folds_give_out_of_fold(
    published: Manifest, crossed: Path, tmp_path: Path
) -> None:
    name, loaded = load_recipe("full", [*FINAL, f"decision.out_of_fold={crossed}"])
    split = make_split("final", published)
    (fold,) = split.folds
    assert not fold.val and len(fold.train) == sum(part == "train" for part in published.table["part"].to_pylist())
    train(TrainingRequest(name, loaded, published, split, tmp_path / "final"))
    decision = load_bundle(tmp_path / "final" / "all" / runs.BUNDLE).decision

    # The same by hand: each figure judged by the fold's classifier that was not trained on it.
    store = open_store(published, load_bundle(crossed / "fold-1" / runs.BUNDLE).geometry)
    logits, labels, novelty = [], [], []
    for number, own in enumerate(make_split("official", published, 0, folds=2).folds, start=1):
        fellow = load_bundle(crossed / f"fold-{number}" / runs.BUNDLE)
        rows = published.rows_of(own.val)
        z, features = TorchRuntime(fellow).run(np.ascontiguousarray(store.crops[rows]))
        assert fellow.decision.novelty is not None
        logits.append(z), labels.append(published.labels[rows]), novelty.append(fellow.decision.novelty.apply(features))
    expected = fit_decision(np.concatenate(logits), np.concatenate(labels))
    assert decision.threshold == pytest.approx(expected.threshold, abs=1e-6)
    assert dict(decision.points) == pytest.approx(dict(expected.points), abs=1e-6)
    assert decision.novelty is not None
    assert decision.novelty.limit == pytest.approx(max(np.concatenate(novelty)), rel=1e-4)
    table, _ = read_predictions(tmp_path / "final" / "all" / runs.PREDICTIONS)
    assert set(table["part"].to_pylist()) == {runs.TEST}


def test_what_a_training_without_validation_figures_cannot_do(
    published: Manifest, crossed: Path, tmp_path: Path
) -> None:
    split = make_split("final", published)

    def run(*changes: str, data: Manifest = published) -> None:
        name, loaded = load_recipe("full", ["backbone=tiny-cnn", *SMALL, *changes])
        divided = split if data is published else make_split("final", data)
        train(TrainingRequest(name, loaded, data, divided, tmp_path / str(len(list(tmp_path.iterdir())))))

    with pytest.raises(InputError, match=r"or train without select\.best and select\.patience"):
        run("select.patience=2")
    with pytest.raises(InputError, match=r"or name a cross-validation with decision\.out_of_fold"):
        run("select.best=false", "decision.coverage=0.9")
    with pytest.raises(InputError, match="must be of the same network and crops, got another in fold-1"):
        run("select.best=false", f"decision.out_of_fold={crossed}", "view=0.7")
    shutil.copytree(crossed, tmp_path / "none", ignore=shutil.ignore_patterns(runs.RUN))
    with pytest.raises(DataError, match="has no complete fold; fix: train the cross-validation first"):
        run("select.best=false", f"decision.out_of_fold={tmp_path / 'none'}")
    with pytest.raises(InputError, match="must be a cross-validation of the same figures, got another"):
        run("select.best=false", f"decision.out_of_fold={crossed}", data=part_of(published, 3))


def test_a_training_on_everything_decides_by_the_laboratories_that_were_left_out(
    published: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_out_records, "FEWEST_FIGURES", 1)  # the set is small
    name, loaded = load_recipe("full", ["backbone=tiny-cnn", *SMALL, "decision.coverage=0.9"])
    left_out = make_split("lodo", published)
    for fold in left_out.folds:  # as processes side by side do: one folder, a fold each
        train(TrainingRequest(name, loaded, published, left_out, tmp_path / "lodo", folds=(fold.name,)))
    name, loaded = load_recipe("full", [*FINAL, f"decision.out_of_fold={tmp_path / 'lodo'}", "decision.of=test"])
    split = make_split("everything", published)
    (fold,) = split.folds
    assert (len(fold.train), fold.val, fold.test) == (len(published), (), ())
    train(TrainingRequest(name, loaded, published, split, tmp_path / "all"))
    decision = load_bundle(tmp_path / "all" / "all" / runs.BUNDLE).decision

    store = open_store(published, load_bundle(tmp_path / "all" / "all" / runs.BUNDLE).geometry)
    logits, labels = [], []
    for fold in left_out.folds:
        rows = published.rows_of(fold.test)
        fellow = TorchRuntime(load_bundle(tmp_path / "lodo" / fold.name / runs.BUNDLE))
        logits.append(fellow.run(np.ascontiguousarray(store.crops[rows]))[0]), labels.append(published.labels[rows])
    expected = fit_decision(np.concatenate(logits), np.concatenate(labels))
    assert decision.threshold == pytest.approx(expected.threshold, abs=1e-6)
    # and records what each gave there
    records = [left_out_records.LeftOutRecord.from_dict(one) for one in decision.fitted["left_out"]]
    domains = np.array(published.table["domain"].to_pylist())[
        np.concatenate([published.rows_of(f.test) for f in left_out.folds])
    ]
    y, z = np.concatenate(labels), np.concatenate(logits)
    for one in records:
        own = expected.apply(z[domains == one.laboratory]).decision
        truth = y[domains == one.laboratory]
        assert (one.atypical, one.normal) == (truth.sum(), (truth == 0).sum())
        assert one.sensitivity == pytest.approx(own[truth == 1].mean(), abs=1 / one.atypical)
    assert {one.laboratory for one in records} <= set(domains.tolist()) and records
    table, _ = read_predictions(tmp_path / "all" / "all" / runs.PREDICTIONS)
    assert len(table) == 0  # every figure was trained on: there is nothing to predict honestly


def test_laboratories_left_out_are_those_of_the_training_whatever_it_was_tested_on(
    phantom: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laboratories, "FEWEST_FIGURES", 3)  # the set is small
    name, loaded = load_recipe("probe", ["backbone=tiny-cnn", "input_px=32", "geometry.out_px=32"])
    split = make_split("lodo", phantom, 0)
    train(TrainingRequest(name, loaded, phantom, split, tmp_path / "lodo"))
    before = left_out([tmp_path / "lodo"])
    target = open_target(tmp_path / "lodo")
    other = write_phantom(tmp_path / "other", 48, seed=9, domains=["rose"], workers=1)
    renamed = [{**row, r.DOMAIN: "elsewhere"} for row in other.table.to_pylist()]
    _ = evaluate(target, Manifest.from_rows(renamed, "elsewhere", other.task, other.root))
    blurred = Manifest.from_rows(
        [{**row, r.FIGURE_ID: f"blurred {row[r.FIGURE_ID]}"} for row in phantom.table.to_pylist()],
        "blurred",
        phantom.task,
        phantom.root,
    )
    _ = evaluate_shifted(target, blurred, "blur", {fold.name: phantom.rows_of(fold.test) for fold in split.folds})
    after, more = left_out([tmp_path / "lodo"]), left_out([tmp_path / "lodo"], evaluations=True)
    assert [one.laboratory for one in after] == [one.laboratory for one in before] and prior_of(after) == prior_of(
        before
    )
    assert {one.laboratory for one in more} == {one.laboratory for one in before} | {"elsewhere"}
    assert len(more) == len(before) + len(split.folds), "the same laboratory, blurred, is no further one"


def test_a_training_with_laboratories_left_out_gives_a_prior(
    phantom: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laboratories, "FEWEST_FIGURES", 3)  # the set is small
    monkeypatch.setattr(left_out_records, "FEWEST_FIGURES", 3)
    tiny = ["backbone=tiny-cnn", "input_px=32", "geometry.out_px=32"]
    name, loaded = load_recipe("probe", tiny)
    lodo = make_split("lodo", phantom, 0)
    train(TrainingRequest(name, loaded, phantom, lodo, tmp_path / "lodo"))
    _, deciding = load_recipe("probe", [*tiny, f"decision.laboratories={tmp_path / 'lodo'}"])
    train(
        TrainingRequest(
            name, deciding, phantom, make_split("kfold", phantom, 0, folds=2), tmp_path / "own", folds=("fold-1",)
        )
    )
    facts = load_bundle(tmp_path / "own" / "fold-1" / runs.BUNDLE).decision.fitted[LABORATORIES_KEY]
    own = prior_of(left_out([tmp_path / "lodo"]))
    assert {key: facts[key] for key in ("location", "together", "scale", "case_share")} == asdict(own)
    assert "laboratories that probe left out" in facts["from"]
    # what they gave there corrects rates, and how the training's figures look lets drift be told: no tool is needed
    decision = load_bundle(tmp_path / "own" / "fold-1" / runs.BUNDLE).decision
    records = [left_out_records.LeftOutRecord.from_dict(one) for one in decision.fitted[left_out_records.LEFT_OUT_KEY]]
    assert records and {one.laboratory for one in records} <= {one.laboratory for one in left_out([tmp_path / "lodo"])}
    look = look_of(decision)
    own = make_split("kfold", phantom, 0, folds=2).folds[0].train
    assert look is not None and sum(look.figures.values()) == len(own) and f"{len(own)} figures" in look.source
    assert set(look.figures) == set(phantom.take(phantom.rows_of(own)).table["domain"].to_pylist())
    by_hand = training_look(
        phantom.take(phantom.rows_of(own)), Classifier.load(tmp_path / "own" / "fold-1" / runs.BUNDLE), look.source
    )
    assert set(look.ranges) == set(by_hand.ranges) and "sharpness" in look.ranges
    for measure, by_laboratory in by_hand.ranges.items():
        for name, one in by_laboratory.items():
            np.testing.assert_allclose(look.ranges[measure][name].figures, one.figures, rtol=1e-3, atol=1e-3)
