"""Distillation from saved classifiers: how teachers see a batch, and which may teach."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atypia.backbones.catalogue import BACKBONES
from atypia.base import runs
from atypia.base.artifacts import read_json
from atypia.base.errors import InputError, LeakageError
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.crops import DeviceCrops, Frame
from atypia.inference.networks import load_network
from atypia.methods.network import Output
from atypia.methods.terms.distillation import distillation_loss
from atypia.splits.protocol import make_split
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.epochs.teachers import Teacher
from atypia.training.recipe import load_recipe, parse_recipe
from atypia.training.schema import NetworkRecipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

SMALL = ("pretrained=false", "epochs=1", "batch_size=16", "geometry.out_px=64", "sampler.draws=32")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_phantom(tmp_path_factory.mktemp("phantom"), 120, seed=5, workers=1)


def run(phantom: Manifest, out: Path, *changes: str, fold: str = "fold-1", allow: tuple[str, ...] = ()) -> Path:
    name, recipe = load_recipe("full", [*SMALL, *changes])
    split = make_split("kfold", phantom, 0, folds=2)
    train(TrainingRequest(name, recipe, phantom, split, out, folds=(fold,), allow=allow))
    return out / fold


@pytest.fixture(scope="module")
def teachers(phantom: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of both folds at 64 px."""
    out = tmp_path_factory.mktemp("teachers") / "t"
    for fold in ("fold-1", "fold-2"):
        run(phantom, out, "backbone=tiny-cnn", "input_px=64", fold=fold)
    return out


def test_a_teacher_sees_what_it_would_see_alone(teachers: Path) -> None:
    """Another normalisation and another size than the student's make no difference but rounding."""
    bundle = load_bundle(teachers / "fold-1" / runs.BUNDLE)
    own, other = BACKBONES["tiny-cnn"], replace(BACKBONES["tiny-cnn"], mean=(0.7, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    crops = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    rows = np.arange(4)
    network = load_network(bundle)
    alone = network(DeviceCrops(crops, own, Frame(64, 0.6)).plain_batch(rows)).logits
    same = Teacher(network, other)(DeviceCrops(crops, other, Frame(64, 0.6)).plain_batch(rows)).logits
    torch.testing.assert_close(same, alone, atol=1e-4, rtol=1e-4)
    larger = Teacher(network, other)(DeviceCrops(crops, other, Frame(128, 0.6)).plain_batch(rows)).logits
    assert larger.shape == (4,) and bool(torch.isfinite(larger).all())


def teacher_warnings(out: Path) -> list[str]:
    return [text for text in read_json(out / runs.TRAINING)["warnings"] if "teacher" in text]


def test_each_fold_may_have_its_own_teacher(phantom: Manifest, teachers: Path, tmp_path: Path) -> None:
    path = f"{teachers}/{{fold}}/bundle"
    folder = run(
        phantom, tmp_path / "student", "backbone=tiny-cnn", "input_px=64", f'terms.distillation.teachers=["{path}"]',
        "terms.distillation.weight=0.9", "terms.distillation.warmup_epochs=0",
    )  # fmt: skip
    line = (folder / runs.METRICS).read_text().splitlines()[0]
    assert '"loss_distillation"' in line
    assert teacher_warnings(folder.parent) == []


def test_a_fold_needs_its_own_teacher_alone(phantom: Manifest, teachers: Path, tmp_path: Path) -> None:
    shutil.copytree(teachers / "fold-1", tmp_path / "some" / "fold-1")
    path = f"{tmp_path}/some/{{fold}}/bundle"
    folder = run(phantom, tmp_path / "s", "backbone=tiny-cnn", "input_px=64", f'terms.distillation.teachers=["{path}"]')
    assert '"loss_distillation"' in (folder / runs.METRICS).read_text()
    assert not (tmp_path / "some" / "fold-2").exists()


def test_a_teacher_of_another_fold_is_leakage(phantom: Manifest, teachers: Path, tmp_path: Path) -> None:
    other = f'terms.distillation.teachers=["{teachers}/fold-2/bundle"]'
    changes = ("backbone=tiny-cnn", "input_px=64", other)
    with pytest.raises(
        LeakageError, match=r"was trained on \d+ figures that fold-1 is measured on .*--allow teacher-across"
    ):
        run(phantom, tmp_path / "student", *changes)
    assert not (tmp_path / "student" / "fold-1").exists()
    run(phantom, tmp_path / "student", *changes, allow=("teacher-across-parts",))
    (said,) = teacher_warnings(tmp_path / "student")
    assert said.startswith("teacher-across-parts: ")


def test_a_bundle_without_its_run_folder_does_not_tell(phantom: Manifest, teachers: Path, tmp_path: Path) -> None:
    load_bundle(teachers / "fold-1" / runs.BUNDLE).save(tmp_path / "alone")
    with pytest.raises(LeakageError, match=r"does not record which of .* it was trained on.*--allow unknown-teacher"):
        run(
            phantom,
            tmp_path / "s",
            "backbone=tiny-cnn",
            "input_px=64",
            f'terms.distillation.teachers=["{tmp_path}/alone"]',
        )


def test_a_teacher_of_another_view_is_refused(phantom: Manifest, teachers: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be of the student's view, 1, got 0.6; fix: set `view`"):
        run(
            phantom, tmp_path / "s", "backbone=tiny-cnn", "input_px=64", "view=1.0",
            f'terms.distillation.teachers=["{teachers}/{{fold}}/bundle"]',
        )  # fmt: skip


def test_some_of_the_teachers_may_score_each_batch() -> None:
    """Each batch has its own draw, which its seed decides; over many all teach equally often."""
    made = parse_recipe(
        {"summary": "x", "adaptation": "full", "backbone": "tiny-cnn",
         "terms": [{"name": "distillation", "teachers": ["a", "b", "c"], "draw": 1, "weight": 1.0, "warmup_epochs": 0}]}, "x",
    )  # fmt: skip
    assert isinstance(made, NetworkRecipe)

    class Says(torch.nn.Module):
        def __init__(self, logit: float) -> None:
            super().__init__()
            self.logit, self.times = logit, 0

        def forward(self, images: torch.Tensor) -> Output:
            self.times += 1
            z = torch.full((len(images),), self.logit)
            return Output(z, z, z, z)

    teachers = [Says(-1.0), Says(0.0), Says(2.0)]
    objective = Objective(made, 8, 1, teachers)

    def loss(seed: int) -> float:
        given = StepInput(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.int64), 0.5, seed)
        return float(objective(Says(0.5), None, given)["loss_distillation"])

    found = {round(loss(seed), 6) for seed in range(300)}
    expected = {round(float(distillation_loss(torch.tensor([0.5]), torch.tensor([t.logit]))), 6) for t in teachers}
    assert found == expected
    assert all(70 <= teacher.times <= 130 for teacher in teachers)
    assert loss(7) == loss(7)
