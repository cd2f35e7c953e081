"""Generated figures in trainings: only in training parts, at the wanted ratio, and never from a generator that saw more."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from atypia.base import records as r
from atypia.base import runs
from atypia.base.errors import DataError, InputError, LeakageError
from atypia.data.audit.provenance import SEEN_NAME, generator_records, seen_table
from atypia.data.audit.report import audit, check_pair
from atypia.data.manifest import SCHEMA, SYNTHETIC_SCHEMA, Manifest
from atypia.data.sources.opening import open_data
from atypia.inference.predictions import read_predictions
from atypia.splits.split import Split
from atypia.training.additions import Addition, add_figures, check_generated, subset_of_positives, with_extra_figures
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

from .toys import halves, paint_toys


def pooled_with(toys: Path, samples: Manifest, fold: str, **how: float) -> tuple[Manifest, Split]:
    real = open_data(str(toys))
    return with_extra_figures(real, halves(real), {fold: [samples]}, Addition((), **how))  # pyright: ignore[reportArgumentType]


# Manifest -------------------------------------------------------------------------------------


def test_sets_of_real_figures_keep_their_columns_and_fingerprints(toys: Path, samples: Manifest) -> None:
    real = open_data(str(toys))
    assert real.table.schema.equals(SCHEMA)
    assert not real.synthetic.any()
    assert samples.table.schema.equals(SYNTHETIC_SCHEMA)
    for pooled in (Manifest.concat([real, samples]), Manifest.concat([samples, real])):
        assert pooled.table.schema.equals(SYNTHETIC_SCHEMA)
        assert int(pooled.synthetic.sum()) == len(samples)
        assert len(generator_records(pooled)[0].figures) == len(samples)


def test_seen_figures_are_known_once_whatever_their_order(toys: Path) -> None:
    real = open_data(str(toys))
    one, other = seen_table([real, real.take(range(5))], "a"), seen_table([real.take(range(47, -1, -1))], "b")
    assert one.fingerprint == other.fingerprint
    assert one.table[r.LABEL].null_count == len(one)


# Adding ---------------------------------------------------------------------------------------


def test_classes_are_made_equal_in_the_training_part_alone(toys: Path, samples: Manifest) -> None:
    real = open_data(str(toys))
    plain, (pooled, split) = halves(real).folds[0], pooled_with(toys, samples, "fold-1")
    (fold,) = split.folds
    assert (fold.val, fold.test) == (plain.val, plain.test)
    assert fold.train[: len(plain.train)] == plain.train
    taken = pooled.take(pooled.rows_of(fold.train[len(plain.train) :]))
    negatives, positives = (int((real.take(real.rows_of(plain.train)).labels == label).sum()) for label in (0, 1))
    assert taken.labels.tolist() == [1] * (negatives - positives)
    assert taken.synthetic.all()
    assert f"fold-1: added to training: {negatives - positives} atypical figures" in split.warnings
    assert split.manifest == pooled.fingerprint
    assert split.params["added"]["ratio"] == 1.0


def test_ratio_and_negatives(toys: Path, samples: Manifest) -> None:
    def added(**how: float) -> list[int]:
        pooled, split = pooled_with(toys, samples, "fold-1", **how)
        fold = split.folds[0]
        return [label for label, made in zip(*(pooled.take(pooled.rows_of(fold.train)).__getattribute__(n)
                                               for n in ("labels", "synthetic")), strict=True) if made]  # fmt: skip

    # 16 negatives and 8 positives in the training part; the set holds 6 and 10.
    assert sorted(added(ratio=0.75)) == [1] * 4
    assert sorted(added(ratio=0.0, negatives=0.25)) == [0] * 4
    assert sorted(added(ratio=1.0, negatives=0.125)) == [0] * 2 + [1] * 10
    assert added(ratio=0.5) == []
    assert added(ratio=0.75) == added(ratio=0.75)


def test_a_set_that_is_too_small_is_told(toys: Path, samples: Manifest) -> None:
    _, split = pooled_with(toys, samples, "fold-1", ratio=2.0)
    assert any("10 atypical figures of 24 wanted" in text for text in split.warnings)
    with pytest.raises(InputError, match=r"`sets added to fold-1` must be with .*; fix: sample the class that lacks"):
        pooled_with(toys, samples.take(samples.labels == 0), "fold-1")


def test_a_generator_that_saw_a_fold_s_validation_cases_is_refused_for_that_fold(toys: Path, samples: Manifest) -> None:
    pooled, split = pooled_with(toys, samples, "fold-1")
    assert check_generated(split, pooled) == []
    pooled, split = pooled_with(toys, samples, "fold-2")
    with pytest.raises(LeakageError, match=r"generator .* of fold-1 saw what is in the validation and test part of fold-2"
                                           r".*--allow generator-across-parts"):  # fmt: skip
        check_generated(split, pooled)
    (said,) = check_generated(split, pooled, ("generator-across-parts",))
    assert said.startswith("generator-across-parts: ")


def test_generated_figures_are_never_measured_on(toys: Path, samples: Manifest) -> None:
    pooled, split = pooled_with(toys, samples, "fold-1")
    fold = split.folds[0]
    made = next(figure for figure in fold.train if figure.startswith("syn-"))
    bad = replace(split, folds=(replace(fold, train=fold.train[:-1], val=(*fold.val, made)),))
    with pytest.raises(LeakageError, match="1 generated figure in the validation and test part of fold-1"):
        check_generated(bad, pooled)


def test_a_set_without_its_table_of_seen_figures_is_refused(toys: Path, samples: Manifest, tmp_path: Path) -> None:
    assert samples.root is not None
    shutil.copytree(samples.root, tmp_path / "bare")
    (tmp_path / "bare" / SEEN_NAME).unlink()
    bare = open_data(str(tmp_path / "bare"))
    pooled, split = pooled_with(toys, bare, "fold-1")
    with pytest.raises(LeakageError, match=r"does not record what it learned from.*--allow unknown-generator"):
        check_generated(split, pooled)
    # The table of another generator does not help: rows name theirs by its content.
    seen_table([open_data(str(toys)).take(range(3))], "other").save(tmp_path / "bare" / SEEN_NAME)
    with pytest.raises(LeakageError, match="does not record what it learned from"):
        check_generated(split, Manifest(pooled.table, pooled.name, pooled.task, pooled.root))


def test_real_figures_that_are_added_share_nothing_with_what_is_measured(toys: Path) -> None:
    real = open_data(str(toys))
    with pytest.raises(LeakageError, match=r"adding to toys is refused: .*share"):
        add_figures(real, halves(real), Addition((str(toys),)), (), None, ())


def test_the_audit_tells_what_generators_saw(toys: Path, samples: Manifest) -> None:
    real = open_data(str(toys))
    folds = [(fold.name, fold.parts()) for fold in halves(real).folds]
    report = audit([real, samples], splits=folds, near=False)
    assert [f.message.split(":")[0].partition(" saw")[2] for f in report.of("generator-across-parts")] == [
        " what is in the validation and test part of fold-2"
    ]
    assert len(report.of("generator-saw-set")) == 1
    with pytest.raises(
        LeakageError, match=r"generator .* of fold-1 saw what is in toys.*--allow generator-across-sets"
    ):
        check_pair(samples, real.take(real.rows_of(halves(real).folds[0].train)))
    with pytest.raises(LeakageError, match=r"16 figures of .* are generated"):
        check_pair(real, samples)


def test_positives_kept_at_a_smaller_share_are_among_those_of_a_larger(toys: Path) -> None:
    real = open_data(str(toys))
    split = halves(real)
    kept = {}
    for share in (1.0, 0.5, 0.25, 0.01):
        made = subset_of_positives(split, real, share, 3)
        for fold, plain in zip(made.folds, split.folds, strict=True):
            assert (fold.val, fold.test) == (plain.val, plain.test)
        train = made.folds[0].train
        labels = real.take(real.rows_of(train)).labels
        assert (labels == 0).sum() == 16
        kept[share] = {figure for figure, label in zip(train, labels, strict=True) if label == 1}
    assert [len(kept[share]) for share in (1.0, 0.5, 0.25, 0.01)] == [8, 4, 2, 2]
    assert kept[0.01] <= kept[0.25] <= kept[0.5] <= kept[1.0]
    with pytest.raises(InputError, match=r"`positives` must be in \(0, 1\], got 0"):
        subset_of_positives(split, real, 0, 3)


def test_a_training_with_generated_figures_predicts_real_ones_alone(
    toys: Path, samples: Manifest, tmp_path: Path
) -> None:
    real = open_data(str(toys))
    pooled, split = pooled_with(toys, samples, "fold-1")
    name, recipe = load_recipe("probe", ["backbone=tiny-cnn", "geometry.out_px=32"])
    trained = train(TrainingRequest(name, recipe, pooled, split, tmp_path / "out"))
    table, _ = read_predictions(trained.folds[0] / runs.PREDICTIONS)
    assert set(table[r.FIGURE_ID].to_pylist()) == set(halves(real).folds[0].val)
    assert any("added to training" in text for text in trained.warnings)
    assert train(TrainingRequest(name, recipe, pooled, split, tmp_path / "out")).fitted == ()

    other, bad = pooled_with(toys, samples, "fold-2")
    with pytest.raises(LeakageError, match="generator-across-parts"):
        train(TrainingRequest(name, recipe, other, bad, tmp_path / "bad"))


def test_columns_of_generated_figures_are_validated(samples: Manifest, tmp_path: Path) -> None:
    table = samples.table.drop_columns([r.GUIDANCE])
    with pytest.raises(DataError, match="the table has other columns than a manifest"):
        Manifest(table, "x").validate()
    path = samples.save(tmp_path / "copy.parquet")
    assert Manifest.load(path).fingerprint == samples.fingerprint
    changed = samples.table.set_column(
        samples.table.schema.get_field_index(r.SEEN), SYNTHETIC_SCHEMA.field(r.SEEN), pa.array([None] * 16, pa.string())
    )
    assert Manifest(changed, "x").fingerprint != samples.fingerprint


def test_references_stand_for_folds(toys: Path, samples: Manifest, tmp_path: Path) -> None:
    real = open_data(str(toys))
    assert samples.root is not None
    shutil.copytree(samples.root, tmp_path / "sets" / "fold-1")
    addition = Addition((str(tmp_path / "sets" / "{fold}"),))
    pooled, split, said = add_figures(real, halves(real), addition, ("fold-1",), None, ())
    assert ([fold.name for fold in split.folds], said) == (["fold-1"], [])
    assert int(pooled.synthetic.sum()) == len(samples)
    with pytest.raises(InputError, match=r"fold-2 does not exist; fix: check the path"):
        add_figures(real, halves(real), addition, (), None, ())
    with pytest.raises(InputError, match=r"`fold` must be one of fold-1, fold-2, got fold-9"):
        add_figures(real, halves(real), addition, ("fold-9",), None, ())
    assert open_data(str(paint_toys(tmp_path / "other", cases=4, seed=5))).synthetic.sum() == 0
