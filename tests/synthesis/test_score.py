"""Scores of generated sets: distances, copies, label fidelity, and what is kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.base.errors import InputError, LeakageError
from atypia.data.audit.provenance import generator_records
from atypia.data.manifest import SYNTHETIC_SCHEMA, Manifest
from atypia.data.sources.opening import open_data
from atypia.splits.protocol import make_split
from atypia.synthesis.generator import Generator
from atypia.synthesis.measures.score import ScoreJob, kept_rows, score_set, score_text, write_score
from atypia.synthesis.measures.subset import write_subset
from atypia.training.additions import Addition, check_generated, with_extra_figures
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

from .toys import halves


@pytest.fixture
def copied(samples: Manifest, generator: Generator, toys: Path, tmp_path: Path) -> Manifest:
    """The samples, one of them a turned copy of an atypical training crop."""
    assert samples.root is not None
    shutil.copytree(samples.root, tmp_path / "copied")
    real = open_data(str(toys))
    seen = real.take(real.rows_of(generator.seen().ids))
    source = seen.table[r.IMAGE].to_pylist()[int(np.flatnonzero(seen.labels)[0])]
    image = samples.table[r.IMAGE].to_pylist()[-1]
    assert seen.root is not None
    Image.fromarray(np.rot90(np.asarray(Image.open(seen.root / source)))).save(tmp_path / "copied" / image)
    hashes = samples.table[r.SHA256].to_pylist()
    hashes[-1] = file_sha256(tmp_path / "copied" / image)
    place = samples.table.schema.get_field_index(r.SHA256)
    table = samples.table.set_column(place, SYNTHETIC_SCHEMA.field(r.SHA256), pa.array(hashes, pa.string()))
    return replace(samples, table=table, root=tmp_path / "copied")


def test_a_score_tells_distances_and_copies(copied: Manifest, toys: Path, tmp_path: Path) -> None:
    real = open_data(str(toys))
    score = score_set(ScoreJob(copied, real, "tiny-cnn"))
    values = score.values
    assert values["figures"] == {"generated": 16, "training": 24, "other": 24}
    assert values["features"] == "tiny-cnn at 128 px"
    assert values["classes"]["atypical"]["training"] is None, "eight real ones are too few for halves"
    assert score.copies[-1]
    pair = values["memorisation"]["nearest_pairs"][0]
    assert pair["figure"] == copied.ids[-1] and pair["copy"]
    assert pair["training_figure"] in set(generator_records(copied)[0].seen.ids)  # pyright: ignore[reportOptionalMemberAccess]

    report, table, picture = write_score(score, tmp_path / "report")
    assert json.loads(report.read_text())["set"] == copied.name
    assert table.read_text() == score_text(values)
    assert "Copies of training crops: " in table.read_text()
    assert f"Note: {copied.notes[0]}." in table.read_text()
    with Image.open(picture) as sheet:
        shown = np.asarray(sheet)
    # Ten columns would not do: of the atypical class eight training figures are there, and of the others fewer made.
    columns = min(8, int((copied.labels == 0).sum()), int((copied.labels == 1).sum()))
    assert shown.shape[1] > columns * 128 and shown.shape[0] > 6 * 128, "both classes and the nearest pairs"
    assert shown.shape[1] < (columns + 1) * 160

    assert len(write_score(replace(score, sheet=None), picture.parent)) == 2 and not picture.exists()

    kept = kept_rows(score, copied, drop_copies=True, min_p=None)
    assert not kept[-1] and kept.sum() == 16 - score.copies.sum()
    picked = write_subset(copied, kept, score.seen, (), tmp_path / "kept", "copies dropped")
    assert picked.ids == [figure for figure, keep in zip(copied.ids, kept, strict=True) if keep]
    assert open_data(str(tmp_path / "kept")).fingerprint == picked.fingerprint
    assert generator_records(picked)[0].seen is not None
    with pytest.raises(InputError, match="`folder` must be a new one"):
        write_subset(copied, kept, score.seen, (), tmp_path / "kept", "again")


def test_distances_stand_beside_those_of_real_halves(samples: Manifest, toys: Path) -> None:
    real = open_data(str(toys))
    values = score_set(ScoreJob(samples.take(samples.labels == 0), real, "tiny-cnn")).values
    assert values["classes"].keys() == {"normal"}
    found = values["classes"]["normal"]
    assert found["training"] is None, "six generated crops are too few"
    whole = score_set(ScoreJob(samples.take([*range(6), *range(6, 16)]), real, "tiny-cnn")).values
    assert whole["memorisation"]["copies"] <= 16


def judge_of(manifest: Manifest, figures: list[str], out: Path) -> Path:
    """A probe that was trained on these figures alone."""
    part = manifest.take(manifest.rows_of(figures))
    name, recipe = load_recipe("probe", ["backbone=tiny-cnn", "geometry.out_px=32"])
    split = make_split("kfold", part, 0, folds=2)
    job = TrainingRequest(name, recipe, part, replace(split, folds=split.folds[:1], positives={}), out)
    return train(job).folds[0] / "bundle"


def test_fidelity_is_judged_by_real_crops_of_other_folds(samples: Manifest, toys: Path, tmp_path: Path) -> None:
    real = open_data(str(toys))
    fold = halves(real).folds[0]
    others, own = (judge_of(real, list(part), tmp_path / name) for part, name in ((fold.val, "a"), (fold.train, "b")))
    score = score_set(ScoreJob(samples, real, "tiny-cnn", (others, own)))
    first, second = score.values["label_fidelity"]
    assert (first["independent"], first["shared_training_figures"]) == (True, 0)
    assert (second["independent"], second["shared_training_figures"]) == (False, 24)
    p = score.judgements[0].p
    assert first["sensitivity"] == pytest.approx(float((p[samples.labels == 1] >= first["threshold"]).mean()))
    assert 0 <= first["auroc"] <= 1

    # A classifier that picks has taught: what it was trained on counts as seen.
    kept = np.ones(16, dtype=bool)
    picked = write_subset(samples, kept, score.seen, score.judgements[:1], tmp_path / "kept", "by a")
    seen = generator_records(picked)[0].seen
    assert seen is not None and set(seen.ids) == set(real.ids)
    sure = np.where(picked.labels == 1, p, 1 - p)
    assert picked.column("judged_p").tolist() == pytest.approx(sure.tolist())
    pooled, split = with_extra_figures(real, halves(real), {"fold-1": [picked]}, Addition(()))
    with pytest.raises(LeakageError, match="generator-across-parts"):
        check_generated(split, pooled)
    fine = write_subset(samples, kept, score.seen, score.judgements[1:], tmp_path / "fine", "by b")
    pooled, split = with_extra_figures(real, halves(real), {"fold-1": [fine]}, Addition(()))
    assert check_generated(split, pooled) == []


def test_what_is_too_few_to_be_measured_is_said() -> None:
    sides = {"training": None, "other": None}
    values = {
        "set": "made", "features": "tiny-cnn at 64 px", "real": "toys", "notes": [], "classes": {"atypical": sides},
        "figures": {"generated": 4, "training": 20, "other": 0}, "memorisation": None, "label_fidelity": [],
    }  # fmt: skip
    text = score_text(values)
    assert text.count("No distances of atypical to real figures (training): at least 12 of each are needed.") == 1
    assert "(other)" not in text and "Copies were not looked for: that needs training figures of two cases" in text


def test_bad_scores(samples: Manifest, toys: Path) -> None:
    real = open_data(str(toys))
    with pytest.raises(InputError, match="must be a set of generated crops, got real figures"):
        score_set(ScoreJob(real, real, "tiny-cnn"))
    with pytest.raises(InputError, match="must be real figures, got generated ones among them"):
        score_set(ScoreJob(samples, samples, "tiny-cnn"))
    score = score_set(ScoreJob(samples, real, "tiny-cnn"))
    with pytest.raises(InputError, match="`min_p` must be asked for with a classifier, got none; fix: pass --bundle"):
        kept_rows(score, samples, False, 0.5)
    with pytest.raises(InputError, match="`crops kept` must be at least one"):
        write_subset(samples, np.zeros(16, dtype=bool), None, (), Path("nowhere"), "")
