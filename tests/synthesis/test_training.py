"""Training of generators: falling loss, resuming, provenance, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atypia.base.errors import InputError, LeakageError, WorkError
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.splits.split import Split
from atypia.synthesis.generator import load_generator
from atypia.synthesis.schema import load_generator_recipe
from atypia.synthesis.training import loop, train
from atypia.synthesis.training.train import Synthesis, train_generators

from .toys import halves, paint_toys, toy_recipe, train_toys


def weights(folder: Path) -> dict[str, torch.Tensor]:
    made = load_generator(folder)
    return {
        f"{part}/{name}": value for part in ("autoencoder", "denoiser") for name, value in made.weights(part).items()
    }


def test_the_loss_falls_on_the_phantom_set(phantom_folder: Path, tmp_path: Path) -> None:
    """The shipped tiny recipe, cut to a few steps on small crops."""
    changes = [
        "geometry.out_px=16", "autoencoder.channels=[8, 16, 16]", "denoiser.layers=2", "denoiser.heads=2", "turns=false",
        "pretrain.autoencoder={epochs: 4, batch_size: 8, lr: 0.003}", "sheet_every=2",
        "pretrain.denoiser={epochs: 8, batch_size: 8, lr: 0.005}", "finetune.denoiser={epochs: 0}",
    ]  # fmt: skip
    name, recipe = load_generator_recipe("tiny", changes)
    phantom = open_data(str(phantom_folder)).take(range(48))
    made = train_generators(Synthesis(name, recipe, tmp_path / "out", pretrain=phantom))

    lines = [json.loads(line) for line in (tmp_path / "out" / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    for part in ("autoencoder", "denoiser"):
        losses = [line["loss"] for line in lines if line["part"] == part]
        assert losses[-1] < 0.98 * losses[0], part
    facts = made.generators[0].facts
    assert (facts.labelled, facts.fold, facts.counts) == (False, None, (0, 0))
    assert len(made.generators[0].seen()) == len(phantom)
    sheets = sorted(path.name for path in (tmp_path / "out" / "pretrain" / "sheets").iterdir())
    assert sheets == [f"pretrain-autoencoder-epoch-0000{n}.png" for n in (2, 4)] + [
        f"pretrain-denoiser-epoch-0000{n}.png" for n in (2, 4, 6, 8)
    ]


def test_a_cosine_falls_where_it_is_asked_for(toys: Path, tmp_path: Path) -> None:
    changes = ("pretrain.autoencoder.schedule=cosine", "pretrain.denoiser.schedule=constant")
    train_generators(
        Synthesis("toy", toy_recipe(*changes), tmp_path / "out", pretrain=open_data(str(toys)).take(range(24)))
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    rates = {part: [line["lr"] for line in lines if line["part"] == part] for part in ("autoencoder", "denoiser")}
    assert rates["denoiser"] == [0.003, 0.003]
    assert rates["autoencoder"] == pytest.approx([0.0015, 0.0])  # half of a cosine, and its end


def test_a_generator_saw_its_training_part_alone(trained: Path, toys: Path) -> None:
    manifest = open_data(str(toys))
    for fold in halves(manifest).folds:
        made = load_generator(trained / fold.name)
        assert sorted(made.seen().ids) == sorted(fold.train)
        labels = manifest.take(manifest.rows_of(fold.train)).labels
        assert made.facts.counts == (int((labels == 0).sum()), int((labels == 1).sum()))
        assert (made.facts.fold, made.facts.labelled) == (fold.name, True)
        assert not (trained / fold.name / "work").exists()


def test_what_is_complete_is_kept_and_another_request_refused(trained: Path, toys: Path) -> None:
    before = (trained / "fold-1" / "generator.json").stat().st_mtime_ns
    again = train_toys(toys, trained, toy_recipe(), folds=())
    assert again.trained == ()
    assert (trained / "fold-1" / "generator.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"holds another training \(it differs in: seed\); fix: choose another --out"):
        train_toys(toys, trained, toy_recipe(), folds=(), seed=1)


def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    toys: Path, trained: Path, tmp_path: Path
) -> None:
    """Killed in the second epoch of the denoiser's first stage: two epochs of three steps are the autoencoder's."""
    step, out = 11, tmp_path / "killed"
    command = [sys.executable, str(Path(__file__).with_name("toys.py")), str(step), str(toys), str(out)]
    ended = subprocess.run(command, check=False, capture_output=True, env=os.environ, timeout=600)
    assert ended.returncode == -9, ended.stderr.decode()[-500:]
    assert not (out / "fold-1" / "generator.json").exists()

    train_toys(toys, out, toy_recipe())
    resumed, undisturbed = weights(out / "fold-1"), weights(trained / "fold-1")
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in resumed)


def test_ctrl_c_keeps_the_work(toys: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    seen: list[str] = []

    def stop_once(done: int, total: int, what: str) -> None:
        if "denoiser" in what and not seen:
            seen.append(what)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_toys(toys, tmp_path / "out", toy_recipe(), stop_once)
    assert (tmp_path / "out" / "fold-1" / "work" / "0-pretrain" / "denoiser" / "checkpoint-last").is_dir()
    train_toys(toys, tmp_path / "out", toy_recipe())
    one, other = weights(tmp_path / "out" / "fold-1"), weights(trained / "fold-1")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_stages_start_from_an_unlabelled_generator(toys: Path, tmp_path: Path) -> None:
    other = open_data(str(paint_toys(tmp_path / "other", cases=4, seed=5)))
    recipe = toy_recipe("finetune.autoencoder.epochs=1", "finetune.autoencoder.batch_size=8")
    made = train_toys(toys, tmp_path / "out", recipe, pretrain=other)
    first, second = made.generators
    assert made.trained == ("pretrain", "fold-1")
    assert second.facts.parent == first.fingerprint
    assert set(second.seen().ids) == {*other.ids, *halves(open_data(str(toys))).folds[0].train}
    lines = [json.loads(line) for line in (second.folder / "metrics.jsonl").read_text().splitlines()]
    assert {(line["stage"], line["part"]) for line in lines} == {("finetune", "autoencoder"), ("finetune", "denoiser")}

    again = train_toys(toys, tmp_path / "again", recipe, start=first.folder)
    assert all(torch.equal(a, b) for a, b in zip(weights(again.generators[0].folder).values(),
                                                 weights(second.folder).values(), strict=True))  # fmt: skip


def test_pretraining_on_what_a_fold_is_measured_on_is_leakage(toys: Path, tmp_path: Path) -> None:
    manifest = open_data(str(toys))
    with pytest.raises(LeakageError, match=r"the pretrained generator .* saw what is in the validation and test part"):
        train_toys(toys, tmp_path / "out", toy_recipe(), pretrain=manifest)
    assert not (tmp_path / "out" / "fold-1").exists()


# Bad input ------------------------------------------------------------------------------------


def test_one_class_only(toys: Path, tmp_path: Path) -> None:
    manifest = open_data(str(toys))
    negatives = manifest.take(manifest.labels == 0)
    split = halves(manifest)
    fold = split.folds[0]
    kept = set(negatives.ids)
    parts = {name: tuple(i for i in ids if i in kept) for name, ids in fold.parts().items()}
    bad = Split("kfold", {}, 0, negatives.fingerprint, (type(fold)(fold.name, **parts),))
    with pytest.raises(
        InputError, match=r"`training part of fold-1` must be of both classes.*got 16 normal and 0 atyp"
    ):
        train_generators(Synthesis("toy", toy_recipe(), tmp_path / "out", negatives, bad))


def test_three_images(tmp_path: Path) -> None:
    few = open_data(str(paint_toys(tmp_path / "few", cases=3, per_case=1)))
    with pytest.raises(InputError, match=r"must be of at least 16 crops that can be read, got 3; fix: give more crops"):
        train_generators(Synthesis("toy", toy_recipe(), tmp_path / "out", pretrain=few))


def test_mixed_sizes(tmp_path: Path) -> None:
    table = paint_toys(tmp_path / "mixed")
    image = Image.open(table.parent / "toy0-000.png")
    image.resize((24, 24)).save(table.parent / "toy0-000.png")
    mixed = open_data(str(table))
    with pytest.raises(InputError, match=r"must be of one size, got 2 sizes \(16×16, 24×24\); fix: cut one field"):
        train_generators(Synthesis("toy", toy_recipe(), tmp_path / "out", pretrain=mixed))
    assert train._store(toy_recipe("geometry.side_px=16"), mixed, lambda *_: None).crops.shape == (48, 16, 16, 3)


def test_no_disk(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 10 << 20})
    monkeypatch.setattr(train.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WorkError, match=r"200 MiB are needed, 10 MiB are free; fix: free some space"):
        train_toys(toys, tmp_path / "out", toy_recipe())


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)
    monkeypatch.setattr("atypia.training.epochs.checkpoints._save_tensors", full)
    with pytest.raises(WorkError, match="No space left on device; fix: free some space"):
        train_toys(toys, tmp_path / "out", toy_recipe())
    monkeypatch.undo()


def test_a_loss_that_is_not_finite(toys: Path, tmp_path: Path) -> None:
    hot = toy_recipe("pretrain.autoencoder={epochs: 3, batch_size: 8, lr: 1.0e+30, clip_norm: null}")
    with pytest.raises(WorkError, match=r"fold-1, pretrain, autoencoder: the loss is not finite .* fix: lower `lr`"):
        train_toys(toys, tmp_path / "out", hot)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["denoiser.widths=3"], r"`denoiser.widths` is not a known key"),
        (["geometry.out_px=100"], r"out_px must be a multiple of 8"),
        (["autoencoder.groups=7"], r"channels must be multiples of groups"),
        (["diffusion.conditions=[domain]"], r"conditions must name `class`"),
        (["diffusion.prediction=x0"], r"Input should be 'epsilon' or 'v'"),
    ],
)
def test_recipes_are_strict(changes: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_generator_recipe("tiny", changes)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to train on; fix: pass --data, --pretrain or both"):
        train_generators(Synthesis("toy", toy_recipe(), tmp_path / "out"))


def test_rare_positives_are_drawn_as_often(toys: Path, tmp_path: Path) -> None:
    manifest: Manifest = open_data(str(toys))
    config = toy_recipe().finetune.denoiser
    plan = loop.StagePlan("x", config, np.arange(48), manifest.labels, 0, tmp_path, "run")
    part = type("part", (), {"optimisers": {}, "modules": torch.nn.ModuleDict(), "ema": None})
    order = np.concatenate([loop._Loop(plan, part).order(epoch) for epoch in range(40)])  # pyright: ignore[reportArgumentType]
    assert manifest.labels.mean() < 0.34
    assert abs(manifest.labels[order].mean() - 0.5) < 0.03
