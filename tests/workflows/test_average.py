"""``atypia average``: one classifier of several folds."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from atypia.base import runs
from atypia.base.errors import DataError, InputError
from atypia.cli.average import PARTS
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.decision import fit_decision
from atypia.inference.bundles.left_out import LEFT_OUT_KEY
from atypia.inference.bundles.training_look import LOOK_KEY, look_of
from atypia.inference.classifier import Classifier
from atypia.inference.export.average import LAST_LAYER, average_bundles, rescaled
from atypia.inference.networks import load_network
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.splits.protocol import make_split
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest
from atypia.workflows import average as workflow
from atypia.workflows.average import average
from atypia.workflows.laboratory.drift import training_look

SMALL = ("epochs=1", "batch_size=16", "geometry.out_px=64", "input_px=64", "sampler.draws=48")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 120, seed=7, domains=["rose", "ash"], workers=1)


def trained(data: Manifest, out: Path, backbone: str = "tiny-vit", recipe: str = "lora", *more: str) -> Path:
    name, loaded = load_recipe(recipe, [f"backbone={backbone}", *SMALL, *more])
    train(TrainingRequest(name, loaded, data, make_split("lodo", data, 0), out))
    return out


@pytest.fixture(scope="module")
def labs(phantom: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two laboratories, each left out once."""
    return trained(phantom, tmp_path_factory.mktemp("runs") / "labs")


def test_the_weights_are_the_mean_and_the_decision_is_of_laboratories_left_out(
    labs: Path, phantom: Manifest, tmp_path: Path
) -> None:
    made = average([labs], tmp_path / "mean")
    folds = [load_bundle(run / runs.BUNDLE) for run in runs.run_folders(labs)]
    assert len(folds) == len(made.members) == 2 and made.bundle.name == "mean"
    saved = load_bundle(made.out)
    parts, scale = [load_network(one).state_dict() for one in folds], saved.training["logit_scale"]
    for key, value in load_network(saved).state_dict().items():
        expected = (parts[0][key].double() + parts[1][key].double()) / 2
        if key in LAST_LAYER:
            expected = scale["factor"] * expected + (scale["offset"] if key.endswith("bias") else 0.0)
        np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)

    crops = open_store(phantom, saved.geometry).crops
    every = np.ascontiguousarray(crops[np.arange(len(phantom))])
    mean = np.mean([TorchRuntime(one).run(every)[0] for one in folds], axis=0)
    # The decision was fitted on the members' logits: the average's are on their scale, on all figures (fewer than 512).
    np.testing.assert_allclose(np.polyfit(TorchRuntime(saved).run(every)[0], mean, 1), (1, 0), atol=2e-3)
    split, held, labels = make_split("lodo", phantom, 0), [], []
    for fold in split.folds:
        rows = phantom.rows_of(fold.test)
        held.append(TorchRuntime(load_bundle(labs / fold.name / runs.BUNDLE)).run(np.ascontiguousarray(crops[rows]))[0])
        labels.append(phantom.labels[rows])
    expected = fit_decision(np.concatenate(held), np.concatenate(labels))
    z = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(saved.decision.calibration.apply(z), expected.calibration.apply(z), rtol=1e-6)
    assert saved.threshold == pytest.approx(expected.threshold, rel=1e-6)
    assert saved.decision.novelty is not None and LOOK_KEY in saved.decision.fitted
    assert [one["laboratory"] for one in saved.decision.fitted[LEFT_OUT_KEY]] == sorted(
        set(phantom.table["domain"].to_pylist())
    )
    assert sum(made.figures) == len(phantom) and "balanced accuracy" in made.to_text()
    assert Classifier.load(made.out, runtime="torch").threshold == saved.threshold
    with pytest.raises(InputError, match="a folder that does not exist yet"):
        average([labs], made.out)


def test_each_network_sees_each_figure_once_and_the_look_is_that_of_the_saved_classifier(
    labs: Path, phantom: Manifest, tmp_path: Path
) -> None:
    scored: list[int] = []
    run = TorchRuntime.run

    def counted(runtime: TorchRuntime, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scored.append(len(crops))
        return run(runtime, crops)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TorchRuntime, "run", counted)
        made = average([labs], tmp_path / "mean")
    # The average once; the members their own parts, which are all figures together, and those that the scale is measured on.
    assert sum(scored) == len(phantom) * (1 + 1 + len(made.members))
    saved = Classifier.load(made.out, runtime="torch")
    look, measured = look_of(saved.members[0].decision), training_look(phantom, saved, "all")
    assert look is not None and look.figures == measured.figures and look.ranges.keys() == measured.ranges.keys()
    for measure, by_laboratory in measured.ranges.items():
        for name, one in by_laboratory.items():
            np.testing.assert_allclose(look.ranges[measure][name].figures, one.figures, rtol=2e-3, atol=2e-3)


def test_the_weights_are_of_other_trainings_and_the_first_ones_only_judge(
    labs: Path, phantom: Manifest, tmp_path: Path
) -> None:
    whole = trained(phantom, tmp_path / "whole", "tiny-vit", "lora", "epochs=2")
    own, made = average([labs], tmp_path / "own"), average([labs], tmp_path / "mean", weights_of=[whole])
    wider = [load_bundle(run / runs.BUNDLE) for run in runs.run_folders(whole)]
    assert len(made.members) == len(wider) == 2 and made.decided_by == own.members
    mean = load_network(average_bundles(wider, wider[0].decision, "mean")).state_dict()
    saved = load_bundle(made.out)
    for key, value in load_network(saved).state_dict().items():
        if key not in LAST_LAYER:
            np.testing.assert_allclose(value.numpy(), mean[key].numpy(), rtol=1e-6, atol=1e-7)
    # The decision and the record of laboratories left out are those of the networks that lacked them.
    assert saved.threshold == own.bundle.threshold and made.records == own.records
    assert saved.training["decided_by"] == list(own.members) and saved.training["of"] == list(made.members)
    assert "decided_by" not in own.bundle.training and "other networks, trained on less" in made.to_text()
    other = trained(phantom, tmp_path / "other", "tiny-vit", "lora", "view=0.5")
    with pytest.raises(InputError, match="of one architecture"):
        average([labs], tmp_path / "mixed", weights_of=[other])
    fewer = trained(phantom.take(np.arange(100)), tmp_path / "fewer")
    with pytest.raises(DataError, match="trained on other figures"):
        average([labs], tmp_path / "mixed", weights_of=[fewer])


def test_the_mean_of_equal_classifiers_is_the_classifier(labs: Path) -> None:
    one = load_bundle(runs.run_folders(labs)[0] / runs.BUNDLE)
    mean = average_bundles([one, one, one], one.decision, "mean")
    for key, value in load_network(mean).state_dict().items():
        np.testing.assert_allclose(value.numpy(), load_network(one).state_dict()[key].numpy(), rtol=1e-6, atol=1e-7)


def test_what_has_no_mean_is_refused(labs: Path, phantom: Manifest, tmp_path: Path) -> None:
    one, other = (load_bundle(run / runs.BUNDLE) for run in runs.run_folders(labs))
    with pytest.raises(InputError, match="at least two, got 1"):
        average_bundles([one], one.decision, "mean")
    wider = replace(other, geometry=replace(other.geometry, out_px=128))
    with pytest.raises(InputError, match="of one crop, got another in"):
        average_bundles([one, wider], one.decision, "mean")
    with pytest.raises(InputError, match="of one architecture"):
        average_bundles([one, replace(other, network={**(other.network or {}), "view": 0.5})], one.decision, "mean")
    batch_norms = trained(phantom, tmp_path / "cnn", "tiny-cnn", "full", "pretrained=false")
    with pytest.raises(InputError, match="without batch norms"):
        average([batch_norms], tmp_path / "mean")
    with pytest.raises(
        InputError, match="of different figures, got a figure that two members share; fix: pass --decide-on validation"
    ):
        average([labs, labs], tmp_path / "mean")
    with pytest.raises(InputError, match="a folder of `atypia train`"):
        average([tmp_path], tmp_path / "mean")
    elsewhere = trained(phantom.take(np.arange(100)), tmp_path / "fewer")
    with pytest.raises(DataError, match="trained on other figures"):
        average([labs, elsewhere], tmp_path / "mean")


def test_an_average_that_ranks_otherwise_than_its_members_is_refused(labs: Path) -> None:
    bundle = load_bundle(runs.run_folders(labs)[0] / runs.BUNDLE)
    z = np.linspace(-1, 1, 9)
    changed, scale = rescaled(bundle, z, 3 * z + 0.5)
    assert (scale.factor, scale.offset, scale.correlation) == pytest.approx((3, 0.5, 1))
    np.testing.assert_allclose(changed.tensors["head.weight"], 3 * bundle.tensors["head.weight"], rtol=1e-6)
    with pytest.raises(InputError, match="began at the same weights"):
        rescaled(bundle, z, -z)


def test_a_network_counts_once_and_each_figure_that_decides_is_read(
    labs: Path, phantom: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(labs, tmp_path / "copied"))
    for twice in ([labs, labs], [labs, copied]):
        with pytest.raises(InputError, match=r"each named once, got (labs|copied)/.*, which is labs/"):
            average([labs], tmp_path / "mean", weights_of=twice)
    store = open_store(phantom, load_bundle(next(labs.glob("*/bundle"))).geometry)
    gone = replace(store, usable=np.arange(len(phantom)) != 5)
    monkeypatch.setattr(workflow, "open_store", lambda *_, **__: gone)
    with pytest.raises(DataError, match="1 figure of the test parts cannot be read any more"):
        average([labs], tmp_path / "mean")


def test_the_part_that_a_refusal_advises_is_one_that_the_command_takes() -> None:
    told = re.findall(r"--decide-on (\w+) \(part='(\w+)'\)", workflow.DECIDE_ON_VALIDATION)
    assert told == [(word, part) for word, part in PARTS.items() if part == runs.VALIDATION]
