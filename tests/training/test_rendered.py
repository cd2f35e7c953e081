"""Rendered figures beside a training: cut as its crops are, drawn by the seed, never those that it is measured on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atypia.base import runs
from atypia.base.artifacts import fingerprint
from atypia.base.errors import InputError, LeakageError
from atypia.base.process.progress import Progress, silent
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.phantom.chromatin import MORPHOLOGIES
from atypia.data.phantom.dataset import cached_phantom, phantom_kinds
from atypia.methods.network import build_network
from atypia.methods.options import RenderedSet
from atypia.splits.protocol import make_split
from atypia.splits.split import Fold
from atypia.training.epochs import checkpoints
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import Loop, LoopResult
from atypia.training.epochs.objective import Objective
from atypia.training.epochs.rendered import RenderedCrops, leakage_of_rendered, rendered_crops, rendered_geometry
from atypia.training.identity import recipe_identity
from atypia.training.networks import NetworkTrainer, network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

from . import loops

pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = RenderedSet(24, 18, "phases")
SMALL = ("backbone=tiny-cnn", "pretrained=false", "epochs=2", "batch_size=8", "sampler.draws=16", "select.best=false",
         "geometry.out_px=32", "input_px=32", "view=0.75", "augment=none")  # fmt: skip
TERM = "terms.phantom={figures: 24, share: 0.5}"


@pytest.fixture(scope="module")
def data() -> Manifest:
    return cached_phantom(24, 3, workers=1)


def network_recipe(*changes: str) -> NetworkRecipe:
    _, made = load_recipe("full", [*SMALL, *changes])
    assert isinstance(made, NetworkRecipe)
    return made


@pytest.fixture(scope="module")
def crops(data: Manifest) -> RenderedCrops:
    return rendered_crops(ASKED, network_recipe(), data)


def table(mpp: float | None, side_px: int = 128) -> Manifest:
    rows = [{"figure_id": "a", "dataset": "mine", "image": "a.png", "label": 1, "mpp": mpp, "width_px": side_px,
             "height_px": side_px}]  # fmt: skip
    return Manifest.from_rows(rows, "mine")


@pytest.mark.parametrize(
    ("mpp", "side_px", "changes", "side_um"),
    [
        (0.25, 128, [], 32.0),
        (0.5, 64, [], 32.0),
        (0.2, 128, [], 25.6),
        (0.5, 128, ["geometry.side_px=40"], 20.0),
        (0.23, 128, ["geometry.side_um=24"], 24.0),
    ],
)
def test_they_show_the_field_of_the_datas_crops(mpp: float, side_px: int, changes: list[str], side_um: float) -> None:
    geometry, said = rendered_geometry(network_recipe(*changes), table(mpp, side_px))
    assert (geometry.side_um, geometry.side_px, geometry.out_px, said) == (pytest.approx(side_um), None, 32, ())


def test_what_cannot_be_the_same_field_is_said_or_refused() -> None:
    geometry, said = rendered_geometry(network_recipe(), table(None))
    assert geometry.is_whole and said == ("no µm/px of mine is known: rendered figures (32 µm) are shown whole",)
    _, said = rendered_geometry(network_recipe("view=1.0"), table(0.5, 100))
    assert said == ("the network sees 50 µm, rendered figures have 32 µm: these are reflected beyond",)
    assert rendered_geometry(network_recipe("view=0.6"), table(0.5, 100))[1] == ()
    with pytest.raises(InputError, match=r"at most 64 µm, got 128 µm; fix: drop the term \(terms.phantom=null\)"):
        rendered_geometry(network_recipe(), table(1.0))


def test_the_truth_is_that_of_the_rendering() -> None:
    kinds = phantom_kinds(400, 18)
    assert set(kinds.values()) == set(MORPHOLOGIES)
    figures = cached_phantom(24, 18, workers=1)
    votes = dict(zip(figures.ids, figures.table["label"].to_pylist(), strict=True))
    agree = [MORPHOLOGIES[kinds[figure]].atypical == bool(label) for figure, label in votes.items()]
    assert sum(agree) >= 20  # raters err on half-developed figures


@pytest.mark.parametrize("task", ["phases", "classes"])
def test_draws_are_the_crops_themselves_normalised_for_the_network(data: Manifest, task: str) -> None:
    made = network_recipe()
    crops = rendered_crops(replace(ASKED, task=task), made, data)  # pyright: ignore[reportArgumentType]
    spec = network_spec(made)
    frame = loops.Frame(spec.input_px, made.view)
    feed = Feed(crops.store.crops, spec.entry, frame, loops.augmentation("none"), "cpu", True)
    seen = feed.training_batch(np.arange(24), 0)
    present = np.unique(crops.codes)
    assert set(present) == {0, 1} if task == "classes" else len(present) > 5
    images, codes = crops.fed(feed).draw(4, 3 * len(present))
    for image, code in zip(images, codes, strict=True):
        (row,) = [n for n in range(24) if torch.allclose(seen[n], image, atol=1e-4)]
        kind = MORPHOLOGIES[phantom_kinds(24, 18)[crops.manifest.ids[row]]]
        shown = kind.name if task == "phases" else ("atypical" if kind.atypical else "normal")
        assert crops.categories[int(code)] == shown
    assert sorted(codes.tolist()) == sorted([*present.tolist()] * 3)  # each equally often
    again, other = (crops.fed(feed).draw(seed, len(images))[0] for seed in (4, 5))
    assert torch.equal(again, images) and not torch.equal(other, images)


def test_draws_are_in_full_precision_whatever_the_networks(crops: RenderedCrops) -> None:
    spec = network_spec(network_recipe())
    feed = Feed(crops.store.crops, spec.entry, loops.Frame(32), loops.augmentation("robust"), "cpu", True)
    draw = crops.fed(feed).draw
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images, _ = draw(1, 4)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16  # what comes after is as it was
    assert images.dtype == torch.float32 and torch.equal(images, draw(1, 4)[0])


def trained(folder: Path, crops: RenderedCrops, made: NetworkRecipe, progress: Progress = silent) -> LoopResult:
    plan = loops.plan(folder, made)
    network = build_network(network_spec(made), pretrained=False, seed=0)
    feed = Feed(crops.store.crops, network.spec.entry, loops.Frame(32), loops.augmentation(made.augment), "cpu", True)
    objective = Objective(made, network.encoder.feature_dim, 2, rendered={"phantom": crops.fed(feed)})
    folder.mkdir(parents=True, exist_ok=True)
    return Loop(plan, network, objective).run(progress)


class StopError(Exception):
    """An interruption."""


@pytest.mark.parametrize("step", [2, 5])
def test_a_training_that_was_interrupted_ends_with_the_same_weights(
    crops: RenderedCrops, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atypia.training.epochs.loop.CHECKPOINT_EVERY_S", -1.0)
    made = loops.recipe(terms=[{"name": "phantom", "share": 0.5}], ema=None, select={"metric": "auroc"}, epochs=2)
    whole = trained(tmp_path / "whole", crops, made)
    seen = 0

    def stops(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            raise StopError

    with pytest.raises(StopError):
        trained(tmp_path / "cut", crops, made, stops)
    state = checkpoints.load_checkpoint(tmp_path / "cut")
    assert state is not None and sorted(state["objective"]) == ["phantom.head.bias", "phantom.head.weight"]
    resumed = trained(tmp_path / "cut", crops, made)
    for name, value in whole.network.trained_state().items():
        assert torch.equal(resumed.network.trained_state()[name], value), name
    assert [line["loss_phantom"] for line in resumed.history] == [line["loss_phantom"] for line in whole.history]


def test_a_training_has_its_loss_and_its_own_identity(data: Manifest, tmp_path: Path) -> None:
    split = make_split("everything", data, 0)
    found = {}
    for name, changes in (("without", []), ("with", [TERM])):
        made = network_recipe(*changes)
        job = TrainingRequest("full", made, data, split, tmp_path / name)
        inputs = NetworkTrainer(job, made, open_store(data, made.geometry.build())).inputs(split.folds[0])
        (folder,) = train(job).folds
        lines = [json.loads(line) for line in (folder / runs.METRICS).read_text("utf-8").splitlines()]
        tensors = (folder / runs.BUNDLE / "model.safetensors").stat().st_size
        found[name] = (inputs, recipe_identity(made), lines, tensors)
    store = open_store(data, network_recipe().geometry.build())
    assert found["without"][0] == fingerprint(store.fingerprint, None, [])  # as before there was the term
    assert found["with"][0] != found["without"][0]
    assert "terms" not in found["without"][1]
    assert found["with"][1]["terms"] == [{"name": "phantom", "figures": 24, "share": 0.5}]
    assert all("loss_phantom" not in line for line in found["without"][2])
    assert all(0 < line["loss_phantom"] < 10 for line in found["with"][2])
    assert found["with"][3] == found["without"][3]  # the classifier has no part of the term


def test_a_set_that_the_training_is_measured_on_is_refused(data: Manifest, tmp_path: Path) -> None:
    fold = Fold("fold-1", tuple(data.ids[:16]), (), tuple(data.ids[16:]))
    assert leakage_of_rendered(cached_phantom(24, 18, workers=1), fold, data) == []
    assert leakage_of_rendered(data, replace(fold, test=()), data) == []
    made = network_recipe("terms.phantom={figures: 24, seed: 3}")
    job = TrainingRequest("full", made, data, make_split("everything", data, 0), tmp_path)
    trainer = NetworkTrainer(job, made, open_store(data, made.geometry.build()))
    with pytest.raises(LeakageError, match=r"rendered figures beside phantom-3 is refused: .*figure"):
        trainer.check([fold])


def test_figures_of_one_category_are_refused(data: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = cached_phantom(24, 18, workers=1).ids
    monkeypatch.setattr("atypia.training.epochs.rendered.phantom_kinds", lambda n, seed: dict.fromkeys(ids, "ring"))
    with pytest.raises(InputError, match=r"terms.phantom.figures.*enough for two phases, got 24 of one alone; fix: "):
        rendered_crops(ASKED, network_recipe(), data)
