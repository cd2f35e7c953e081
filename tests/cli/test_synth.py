"""``atypia synth`` and ``atypia train --add-data``, from crops to a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.base.extras import installed
from atypia.data.sources.opening import open_data

SMALL = [
    "geometry.out_px=16", "autoencoder.channels=[8, 16]", "autoencoder.groups=4", "denoiser.layers=1",
    "denoiser.heads=2", "denoiser.head_dim=16", "denoiser.patch=4", "turns=false", "sheet_every=0",
    "pretrain.autoencoder.epochs=1", "pretrain.denoiser.epochs=0", "finetune.denoiser.epochs=1",
]  # fmt: skip
SET = [word for change in SMALL for word in ("--set", change)]
GENERATES = pytest.mark.skipif(not installed("diffusers"), reason="needs atypia[synthesis]")
PROTOCOL = ["--protocol", "kfold", "--protocol-set", "folds=2"]


@GENERATES
def test_from_crops_to_a_table(small_csv: Path, atypia: Callable[..., Any], tmp_path: Path) -> None:
    generators, sets = tmp_path / "gen", tmp_path / "sets"
    ended = atypia("synth", "train", "tiny", "--data", small_csv, *PROTOCOL, "--out", generators, *SET)
    assert ended.code == 0, ended.err
    assert "2 generators trained, 0 kept" in ended.err
    assert "0 generators trained, 2 kept" in atypia(
        "synth", "train", "tiny", "--data", small_csv, *PROTOCOL, "--out", generators, *SET
    ).err  # fmt: skip

    ended = atypia("synth", "sample", generators, "--out", sets, "--steps", 3, "--json")
    assert ended.code == 0, ended.err
    written = json.loads(ended.out)
    assert [Path(one["folder"]).name for one in written] == ["fold-1", "fold-2"]
    made = open_data(str(sets / "fold-1"))
    assert made.labels.all(), "synthetic negatives are off"

    report = tmp_path / "report"
    ended = atypia("synth", "score", sets / "fold-1", "--data", small_csv, "--backbone", "tiny-cnn", "--out", report,
                   "--drop-copies", "--keep", tmp_path / "kept")  # fmt: skip
    assert ended.code in (0, 2), ended.err  # 2 where every sample of so short a training is a copy of the mean
    assert json.loads((report / "score.json").read_text())["features"].startswith("tiny-cnn")
    assert "| class | against |" in ended.out

    train = [
        "train",
        "probe",
        "--data",
        small_csv,
        *PROTOCOL,
        "--set",
        "backbone=tiny-cnn",
        "--set",
        "geometry.out_px=32",
    ]
    ended = atypia(*train, "--add-data", sets / "{fold}", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "added to training" in ended.err
    ended = atypia(*train, "--add-data", sets / "fold-1", "--out", tmp_path / "leak")
    assert ended.code == 2
    assert "saw what is in the validation and test part of fold-2" in ended.err
    assert not (tmp_path / "leak" / "fold-1").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            ["train", "tinny", "--out", "x"],
            "unknown generator recipe 'tinny'; choices: benito, middle, small, tiny",
            marks=GENERATES,
        ),
        pytest.param(
            ["train", "tiny", "--out", "x"],
            "nothing to train on; fix: pass --data, --pretrain or both",
            marks=GENERATES,
        ),
        pytest.param(
            ["sample", "nowhere", "--out", "x"], "must be the folder of a complete generator", marks=GENERATES
        ),
        (["sample", "nowhere", "--out", "x", "--sampler", "euler"], "`sampler` must be ddim or ddpm, got euler"),
        (["score", "nowhere", "--data", "ami-br"], "must be a folder of `atypia synth sample`"),
        (["score", "nowhere", "--data", "ami-br", "--drop-copies"], "give --keep FOLDER"),
        (["gain", "nowhere"], "holds no study"),
        (["recipes", "tinny"], "unknown generator recipe 'tinny'"),
    ],
)
def test_bad_input_is_told(
    words: list[str], said: str, atypia: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = atypia("synth", *words)
    assert ended.code == 2
    assert said in " ".join(ended.err.split()), ended.err
    assert not list(tmp_path.glob("x/*/generator.json"))


def test_recipes_are_listed_and_shown(atypia: Callable[..., Any]) -> None:
    assert [one["name"] for one in json.loads(atypia("synth", "recipes", "--json").out)] == [
        "benito",
        "middle",
        "small",
        "tiny",
    ]
    assert "DiT-S/2" in atypia("synth", "recipes").out
    assert atypia("synth", "recipes", "tiny").out.startswith("# Trains on two cores")
