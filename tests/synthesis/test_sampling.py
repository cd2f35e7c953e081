"""Samples: determinism, resuming, provenance; and whether conditions matter."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atypia.base import records as r
from atypia.base.errors import DataError, InputError, WorkError
from atypia.data.audit.provenance import generator_records
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.synthesis.generator import Generator, GeneratorSampler, load_generator
from atypia.synthesis.model.diffusion import SamplingConfig
from atypia.synthesis.sampling import SamplingRequest, counts_of, sample_set
from atypia.synthesis.training import train

from .toys import paint_toys, toy_recipe, train_toys

FEW = SamplingConfig(1.5, 4)


def bytes_of(manifest: Manifest) -> dict[str, bytes]:
    assert manifest.root is not None
    return {image: (manifest.root / image).read_bytes() for image in manifest.table[r.IMAGE].to_pylist()}


def test_a_set_is_an_ordinary_data_set_that_tells_its_origin(samples: Manifest, generator: Generator) -> None:
    assert samples.root is not None
    opened = open_data(str(samples.root))
    assert opened.fingerprint == samples.fingerprint
    assert opened.labels.tolist() == [0] * 6 + [1] * 10
    assert opened.synthetic.all()
    row = opened.table.slice(7, 1).to_pylist()[0]
    assert (row[r.GENERATOR], row[r.GENERATOR_FOLD], row[r.GUIDANCE]) == (generator.fingerprint, "fold-1", 1.5)
    assert (row[r.SAMPLE_SEED], row[r.SAMPLE_INDEX], row[r.CASE_ID]) == (0, 1, None)
    (maker,) = generator_records(opened)
    assert maker.seen is not None and sorted(maker.seen.ids) == sorted(generator.seen().ids)
    picture = Image.open(samples.root / row[r.IMAGE])
    assert (picture.size, picture.mode) == ((16, 16), "RGB")


def test_a_set_says_whose_features_its_generator_was_taught_by(
    samples: Manifest, generator: Generator, tmp_path: Path
) -> None:
    """A perceptual term makes crops look right to its backbone, whose distances say less from then on."""
    assert not any("flatter" in note for note in samples.notes)
    recipe = toy_recipe("autoencoder.perceptual={backbone: efficientnet-lite0}").model_dump(mode="json")
    taught = replace(generator, facts=replace(generator.facts, recipe=recipe))
    made = sample_set(taught, tmp_path / "made", SamplingRequest(1, 1, settings=FEW), "cpu")
    assert "features of efficientnet-lite0, so distances on these features are too optimistic" in made.notes[0]


def test_the_same_seed_gives_the_same_files(samples: Manifest, generator: Generator, tmp_path: Path) -> None:
    wanted = SamplingRequest(6, 10, settings=FEW, batch=8)
    again = sample_set(generator, tmp_path / "again", wanted, "cpu")
    assert bytes_of(again) == bytes_of(samples)
    other = sample_set(generator, tmp_path / "other", SamplingRequest(6, 10, settings=FEW, batch=8, seed=1), "cpu")
    assert not set(other.ids) & set(samples.ids)
    assert not set(bytes_of(other).values()) & set(bytes_of(samples).values())


def test_a_crop_does_not_depend_on_its_batch(generator: Generator) -> None:
    sampler = GeneratorSampler(generator, torch.device("cpu"), FEW)
    labels, seeds = [0, 1, 1, 0, 1], [11, 12, 13, 14, 15]
    together = sampler.draw(labels, seeds).astype(int)
    alone = np.concatenate([sampler.draw([label], [seed]) for label, seed in zip(labels, seeds, strict=True)])
    difference = np.abs(together - alone)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    assert np.abs(together[1] - together[2]).mean() > 1, "seeds differ"


def test_a_stopped_set_is_completed_to_the_same_files(samples: Manifest, generator: Generator, tmp_path: Path) -> None:
    assert samples.root is not None
    folder = tmp_path / "half"
    shutil.copytree(samples.root, folder)
    (folder / "manifest.parquet").unlink()
    for image in samples.table[r.IMAGE].to_pylist()[9:13]:
        (folder / image).unlink()
    whole = next(folder.glob("normal/*.png"))
    whole.write_bytes(whole.read_bytes()[:40])  # cut short by a kill
    completed = sample_set(generator, folder, SamplingRequest(6, 10, settings=FEW, batch=8), "cpu")
    assert bytes_of(completed) == bytes_of(samples)
    assert completed.fingerprint == samples.fingerprint

    more = sample_set(generator, folder, SamplingRequest(6, 12, settings=FEW, batch=8), "cpu")
    assert set(bytes_of(more).items()) > set(bytes_of(samples).items())
    with pytest.raises(InputError, match=r"holds more crops of a class .* than are asked for; fix: choose another"):
        sample_set(generator, folder, SamplingRequest(6, 10, settings=FEW, batch=8), "cpu")
    with pytest.raises(InputError, match=r"holds another set of samples \(it differs in: guidance\)"):
        sample_set(generator, folder, SamplingRequest(6, 12, settings=SamplingConfig(3.0, 4), batch=8), "cpu")


def test_the_default_makes_classes_equal(generator: Generator) -> None:
    negatives, positives = generator.facts.counts
    assert counts_of(SamplingRequest(), generator) == (0, negatives - positives, 0)
    assert counts_of(SamplingRequest(normal=3), generator) == (3, 0, 0)
    assert counts_of(SamplingRequest(unlabelled=4), generator) == (0, 0, 4)


def test_a_full_disk_and_a_taken_folder(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds something other than a set of samples; fix: choose another --out"):
        sample_set(generator, tmp_path / "taken", SamplingRequest(0, 4, settings=FEW), "cpu")
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(train.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WorkError, match=r"cannot write .* are free; fix: free some space, or choose another --out"):
        sample_set(generator, tmp_path / "set", SamplingRequest(0, 4, settings=FEW), "cpu")


def test_a_damaged_generator_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "fold-2", tmp_path / "bad")
    with open(tmp_path / "bad" / "denoiser.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(DataError, match=r"denoiser.safetensors does not match its checksum; fix: train it again"):
        load_generator(tmp_path / "bad")
    with pytest.raises(
        InputError, match=r"must be the folder of a complete generator, got .*; fix: give a fold's folder"
    ):
        load_generator(trained)
    meta = json.loads((trained / "fold-2" / "generator.json").read_text())
    shutil.copy(trained / "fold-2" / "denoiser.safetensors", tmp_path / "bad" / "denoiser.safetensors")
    (tmp_path / "bad" / "generator.json").write_text(json.dumps({**meta, "words": 3}))
    with pytest.raises(DataError, match="is damaged"):
        load_generator(tmp_path / "bad")


def test_samples_that_are_not_finite(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_generator(trained / "fold-1")
    broken = {name: value * float("nan") for name, value in made.weights("denoiser").items()}
    real = Generator.weights

    def weights(self: Any, part: str) -> Any:
        return broken if part == "denoiser" else real(self, part)

    monkeypatch.setattr(Generator, "weights", weights)
    with pytest.raises(WorkError, match="samples are not finite; fix: lower the guidance, or train longer"):
        sample_set(made, tmp_path / "set", SamplingRequest(0, 2, settings=FEW), "cpu")
    assert not (tmp_path / "set" / "manifest.parquet").exists()


def test_other_conditions_are_told_and_recorded(toys: Path, tmp_path: Path) -> None:
    recipe = toy_recipe("diffusion.conditions=[class, domain, phase]", "pretrain.denoiser.epochs=1",
                        "pretrain.autoencoder.epochs=1", "finetune.denoiser.epochs=1", "turns=true")  # fmt: skip
    made = train_toys(toys, tmp_path / "out", recipe).generators[0]
    assert made.facts.words["domain"] == ("scanner 0", "scanner 1")
    assert made.facts.words["phase"] == (), "no phases in this set"
    few = sample_set(made, tmp_path / "set", SamplingRequest(0, 12, 2, settings=FEW, batch=4), "cpu")
    domains = few.table[r.DOMAIN].to_pylist()
    assert set(domains[:12]) == {"scanner 0", "scanner 1"}
    assert domains[12:] == [None, None]
    assert few.table[r.LABEL].to_pylist()[12:] == [None, None]
    unlabelled = train_toys(toys, tmp_path / "blind", recipe, manifest=None, split=None, folds=(),
                            pretrain=open_data(str(toys)))  # fmt: skip
    with pytest.raises(InputError, match=r"must be one trained with classes.*fix: pass --unlabelled N"):
        sample_set(unlabelled.generators[0], tmp_path / "no", SamplingRequest(0, 4, settings=FEW), "cpu")


def test_the_class_that_is_asked_for_comes_out(tmp_path: Path) -> None:
    """A bright or a dark disc: recognised by a classifier of other real crops; not without guidance by the class."""
    from sklearn.linear_model import LogisticRegression

    toys = paint_toys(tmp_path / "toys")
    recipe = toy_recipe(
        "denoiser.head_dim=32",
        "pretrain.autoencoder={epochs: 25, batch_size: 8, lr: 0.005}",
        "pretrain.denoiser={epochs: 0}",
        "finetune.denoiser={epochs: 80, batch_size: 8, lr: 0.003, balanced: true}",
    )
    made = train_toys(toys, tmp_path / "out", recipe).generators[0]
    sampler = GeneratorSampler(made, torch.device("cpu"), SamplingConfig(2.0, 10))
    labels = [0, 1] * 16
    told = sampler.draw(labels, range(32))
    blind = GeneratorSampler(made, torch.device("cpu"), SamplingConfig(0.0, 10)).draw(labels, range(32))

    other = open_data(str(paint_toys(tmp_path / "other", seed=9)))
    assert other.root is not None
    real = np.stack([np.asarray(Image.open(other.root / name)) for name in other.table[r.IMAGE].to_pylist()])
    judge = LogisticRegression(max_iter=300).fit(real.reshape(len(real), -1) / 255, other.labels)
    right = judge.predict(told.reshape(32, -1) / 255) == labels
    chance = judge.predict(blind.reshape(32, -1) / 255) == labels
    assert right.mean() >= 0.9
    assert chance.mean() < 0.75
