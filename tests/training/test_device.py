"""The device that was asked for is the one that is used, from training to evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from atypia.backbones.features import open_features
from atypia.base.errors import InputError
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.sources.opening import open_data
from atypia.evaluation.external import evaluate, open_target
from atypia.inference import networks
from atypia.inference.networks import device_of
from atypia.inference.runtimes import torch_runtime
from atypia.splits.protocol import make_split
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest


class Chosen(AssertionError):
    """Somebody chose a device although one was named."""


@pytest.fixture
def nobody_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for the best device fails, and so does the computing of features on a GPU."""

    def choose() -> torch.device:
        raise Chosen

    for module in (networks, torch_runtime):
        monkeypatch.setattr(module, "best_device", choose)


def small(recipe: str, folder: Path, paint: Callable[..., Path], device: str) -> TrainingRequest:
    data = open_data(str(paint(folder / "a", cases=8)))
    changes = ["backbone=tiny-cnn", "geometry.out_px=32", "input_px=32", "decision.novelty=true"]
    changes += ["epochs=1", "pretrained=false", "sampler.draws=16"] if recipe == "full" else []
    name, chosen = load_recipe(recipe, changes)
    return TrainingRequest(name, chosen, data, make_split("kfold", data, 0, folds=2), folder / "run", 0, device=device)


@pytest.mark.usefixtures("nobody_may_choose")
@pytest.mark.parametrize("recipe", ["probe", "full"])
def test_the_device_is_kept_in_training_decision_and_evaluation(
    recipe: str, paint: Callable[..., Path], tmp_path: Path
) -> None:
    train(small(recipe, tmp_path, paint, "cpu"))
    other = open_data(str(paint(tmp_path / "b", cases=4, seed=1)))
    files, _ = evaluate(open_target(tmp_path / "run"), other, device="cpu")
    assert len(files) == 2


@pytest.mark.usefixtures("nobody_may_choose")
def test_who_names_none_leaves_the_choice(paint: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(Chosen):
        train(small("full", tmp_path, paint, "auto"))


def test_features_are_computed_where_they_were_asked_for(
    paint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    store = open_store(open_data(str(paint(tmp_path / "a", cases=2))), CropGeometry(32))
    assert open_features(store, "tiny-cnn", device="cpu").meta["device"] == "cpu"
    if not here:  # what is asked to choose would have taken it
        with pytest.raises((RuntimeError, AssertionError), match=r"NVIDIA|CUDA"):
            open_features(store, "tiny-cnn", cache=tmp_path / "other")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="`device` must be one that this machine has, got cuda; fix: leave it out"):
        device_of("cuda")
    with pytest.raises(InputError, match="`device` must be one of auto, cpu, cuda, got gpu; fix: leave it out"):
        device_of("gpu")
