"""``atypia train adapt``: what begins where, what is mixed, and when the initial model stays."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import AtypiaError, InputError, LeakageError
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.data.sources.opening import open_data
from atypia.evaluation.external import check_set, open_target
from atypia.evaluation.fitted import HASHES, learned_beside
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.bundles.decision import Verdicts
from atypia.inference.classifier import Classifier
from atypia.inference.export.compact import whole
from atypia.methods.network import NetworkSpec
from atypia.splits.protocol import make_split
from atypia.statistics.intervals import Interval
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest
from atypia.workflows.laboratory import adapt as workflow
from atypia.workflows.laboratory import sets
from atypia.workflows.laboratory.adapt import ADAPTED, CV, REPORT, adapt, between, drift, mean_of
from atypia.workflows.laboratory.reasons import SetVerdicts, harm, judged, reason_to_stay

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
    mine = coloured(tmp_path)

    found = adapt(first, str(mine), tmp_path / "out", folds=2, overrides=FAST)

    assert found.kept is None and found.out is not None and found.share > 0
    before, after = (way["balanced_accuracy"].estimate for way in (found.before, found.after))
    assert before < 0.6 < 0.9 < after
    assert load_bundle(found.out).training[ADAPTED]["from"] == found.model
    said = Classifier.load(found.out).predict([tmp_path / f"{n}.png" for n in range(8)]).p_atypical
    assert min(said[1::2]) > max(said[::2])
    assert found.written[1].balanced_accuracy > 0.9 and found.written[1].refused == 0

    # The bundle knows the figures that it learned, wherever it lies and whatever the figures are called.
    moved = Path(shutil.copytree(found.out, tmp_path / "elsewhere" / "mine"))
    rows = mine.read_text().splitlines()
    part, fresh = tmp_path / "part.csv", tmp_path / "fresh"
    part.write_text("\n".join([rows[0], *rows[5:25]]) + "\n")
    fresh.mkdir()
    with pytest.raises(LeakageError, match=r"part holds 20 learned figures by which .*-adapted was adapted \(mine\)"):
        check_set(open_target(moved), open_data(str(part)), own_crops=True)
    with pytest.raises(LeakageError, match=r"was adapted by the figures of mine.*--allow figure-across-sets"):
        check_set(open_target(moved), open_data(str(mine)))
    with pytest.raises(LeakageError, match="-adapted was adapted"):
        adapt(moved, str(mine), tmp_path / "again", folds=2)
    new = coloured(fresh, 24, seed=6)
    assert learned_beside(load_bundle(moved), moved) is None
    assert check_set(open_target(moved), open_data(str(new))).warnings == (), "another set of the same name"
    # Where the folder of its training lies beside it, cases are compared too.
    learned = learned_beside(load_bundle(found.out), found.out)
    assert learned is not None and len(learned) == 96
    bare = load_bundle(found.out)
    facts = {key: value for key, value in bare.training[ADAPTED].items() if key != HASHES}
    replace(bare, training={**bare.training, ADAPTED: facts}).save(tmp_path / "out" / "older")
    with pytest.raises(LeakageError, match="crops with the same pixels"):
        check_set(open_target(tmp_path / "out" / "older"), open_data(str(part)))


def test_weights_lie_between_and_means_are_means(first: Path) -> None:
    begin = whole(load_bundle(first))
    other = replace(begin, tensors={name: np.asarray(v) + 1 for name, v in begin.tensors.items()})
    np.testing.assert_allclose(weights(between(begin, other, 0.25)), weights(begin) + 0.25, atol=1e-5)
    np.testing.assert_allclose(weights(mean_of([begin, other])), weights(begin) + 0.5, atol=1e-5)
    assert between(begin, other, 0.0) is begin and drift(begin, begin) == 0


def interval(estimate: float, low: float) -> Interval:
    return Interval(estimate, low, estimate + 0.05, 0.8, "bca", 0.01, 100, 10)


def test_what_is_better_is_taken_and_what_forgets_is_not() -> None:
    assert reason_to_stay(interval(0.03, 0.01), 0.5, {}) is None
    assert "no surely better" in (reason_to_stay(interval(0.03, -0.01), 0.5, {}) or "")
    unknown = replace(interval(0.5, math.nan), high=math.nan)
    assert "interval unknown" in (reason_to_stay(unknown, 0.5, {}) or "")
    assert reason_to_stay(replace(unknown, se=0.0), 0.5, {}) is None, "the same gain in every draw"
    assert "the weights as they were" in (reason_to_stay(interval(0.03, 0.01), 0.0, {}) or "")
    assert "would lose 0.020" in (
        reason_to_stay(interval(0.03, 0.01), 0.5, {"balanced_accuracy": interval(-0.02, -0.03)}) or ""
    )
    assert reason_to_stay(interval(0.03, 0.01), 0.5, {"balanced_accuracy": interval(-0.005, -0.03)}) is None


def test_a_rendered_set_to_keep_needs_no_images_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "RENDERED", 8)
    rendered = sets.set_to_keep(sets.PHANTOM)
    assert len(rendered) == 8 and set(rendered.labels.tolist()) == {0, 1}
    assert sets.set_to_keep(sets.PHANTOM).fingerprint == rendered.fingerprint, "made once"
    path = saved(rendered.take(np.arange(3)), tmp_path)
    assert len(sets.set_to_keep(path)) == 3, "any other name is a data set"


def test_a_loss_that_is_not_defined_keeps_the_initial_model() -> None:
    assert "not defined" in (
        reason_to_stay(interval(0.03, 0.01), 0.5, {"balanced_accuracy": interval(math.nan, math.nan)}) or ""
    )


def test_weights_that_refuse_or_do_worse_are_not_written() -> None:
    first = SetVerdicts(80, 0.8, 2)
    assert harm(first, SetVerdicts(80, 0.8, 6)) is None and harm(first, SetVerdicts(80, 0.795, 2)) is None
    assert harm(first, SetVerdicts(80, 0.9, 7)) == "it would refuse 7 of your 80 figures; as it was, 2"
    assert "worse on your figures" in (harm(first, SetVerdicts(80, 0.78, 2)) or "")
    assert "worse on your figures" in (harm(first, SetVerdicts(80, math.nan, 2)) or "")


def coloured(folder: Path, count: int = 96, seed: int = 5) -> Path:
    """Figures of another kind than the phantom's, whose class is their colour."""
    rng, rows = np.random.default_rng(seed), ["image,label,case_id"]
    for n in range(count):
        crop = rng.integers(100, 140, (64, 64, 3), np.uint8)
        crop[..., 0] += np.uint8(60 * (n % 2))
        Image.fromarray(crop).save(folder / f"{n}.png")
        rows.append(f"{n}.png,{n % 2},case {n // 6}")
    mine = folder / "mine.csv"
    mine.write_text("\n".join(rows) + "\n")
    return mine


FAST = ("epochs=4", "optimiser.lr=1e-3")


def test_a_gain_by_weights_that_refuse_all_figures_is_not_written(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the folds' weights is none of the networks that were measured on cases left out."""
    mine, asked = coloured(tmp_path), iter([0, 96])

    def counted(verdicts: Verdicts, labels: np.ndarray) -> SetVerdicts:
        return judged(verdicts, labels)._replace(refused=next(asked))

    monkeypatch.setattr(workflow, "judged", counted)
    found = adapt(first, str(mine), tmp_path / "out", folds=2, overrides=FAST)
    assert found.kept == "it would refuse 96 of your 96 figures; as it was, 0" and found.out is None
    assert found.gain["balanced_accuracy"].estimate > 0 and not (tmp_path / "out" / runs.BUNDLE).exists()
    assert "96 refused; as it was" in found.to_text()
    assert json.loads((tmp_path / "out" / REPORT).read_text())["all_figures"]["after"]["refused"] == 96


def test_the_set_to_keep_is_checked_before_any_training(first: Path, phantom: Manifest, tmp_path: Path) -> None:
    mine, out = saved(phantom, tmp_path), tmp_path / "out"
    other = tmp_path / "other"
    other.mkdir()
    normal = saved(phantom.take(np.flatnonzero(phantom.labels == 0)), other)
    with pytest.raises(InputError, match=r"keep.*figures of either class, got \d+ normal, 0 atypical"):
        adapt(first, mine, out, folds=2, keep=normal)
    with pytest.raises(AtypiaError, match="does not exist"):
        adapt(first, mine, out, folds=2, keep=str(tmp_path / "nofile.csv"))
    assert not out.exists()


def test_a_set_to_keep_that_holds_the_own_figures_is_told(phantom: Manifest) -> None:
    (said, *_) = workflow._shared(phantom, phantom.take(np.arange(9)), None)
    assert said.startswith("the set to keep is to be of other laboratories: ") and "9 figures" in said


def test_crops_of_which_some_state_no_scale_are_refused(first: Path, phantom: Manifest, tmp_path: Path) -> None:
    bundle = replace(load_bundle(first), field_um=8.0)
    rows = [{**row, r.MPP: 0.25} for row in phantom.table.to_pylist()]
    assert bundle.geometry.is_whole

    def of(rows: list[dict[str, object]]) -> Manifest:
        return Manifest.from_rows(rows, "mine", root=phantom.root)

    assert sets.own_geometry(bundle, of(rows)).side_um == 8.0
    assert sets.own_geometry(bundle, of([{**row, r.MPP: None} for row in rows])).is_whole
    mixed = of([{**rows[0], r.MPP: None}, *rows[1:]])
    with pytest.raises(InputError, match=r"known of all figures of mine, or of none, got unknown of 1 of 120 figures"):
        sets.own_geometry(bundle, mixed)
    on_slide = of([{**rows[0], r.MPP: None, r.X_PX: 9.0, r.Y_PX: 9.0}, *rows[1:]])
    assert sets.own_geometry(bundle, on_slide).side_um == 8.0, "the slide states it"


def test_changes_of_the_recipe_are_kept_and_those_of_the_model_refused(first: Path, tmp_path: Path) -> None:
    bundle = load_bundle(first)
    assert bundle.network is not None
    place = Path(shutil.copytree(first, tmp_path / "Größe: ä, {b} 😀"))
    begin = workflow._Begin(place, bundle, NetworkSpec.from_dict(bundle.network), bundle.geometry, [])
    (plain,) = workflow._recipe(begin, []).terms
    assert (plain.name, plain.weight, plain.teachers) == ("distillation", 1, (str(place.resolve()),))
    stronger, added = workflow._recipe(begin, ["terms.distillation.weight=5", "terms.phases={weight: 0.2}"]).terms
    assert (stronger.weight, stronger.teachers, stronger.warmup_epochs) == (5, plain.teachers, 0)
    assert (added.name, added.weight) == ("phases", 0.2)
    for change in ("head.dropout=0.5", "input_px=224", "geometry.side_um=64", "adaptation=lora", "decision={}"):
        with pytest.raises(
            InputError, match=f"of what the initial model does not decide, got {change.split('=')[0].split('.')[0]};"
        ):
            adapt(first, "nothing.csv", tmp_path / "no", overrides=["epochs=1", change])


def test_what_cannot_be_adapted_is_refused(first: Path, phantom: Manifest, tmp_path: Path) -> None:
    few = phantom.take(np.r_[np.flatnonzero(phantom.labels == 0)[:30], np.flatnonzero(phantom.labels == 1)[:9]])
    with pytest.raises(InputError, match="at least 10 of either class"):
        adapt(first, saved(few, tmp_path), tmp_path / "few")
    name, recipe = load_recipe("adapt", [f"init={first}", "input_px=64", "view=0.5", "backbone=tiny-vit", "epochs=1"])
    job = TrainingRequest(name, recipe, phantom, make_split("kfold", phantom, 0, folds=2), tmp_path / "other")
    with pytest.raises(InputError, match="of the recipe's view"):
        train(job)
