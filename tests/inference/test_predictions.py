"""Predictions: the table, its file, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atypia.base import records as r
from atypia.base.errors import DataError, InputError
from atypia.data.manifest import Manifest
from atypia.inference.predictions import (
    PREDICTIONS_SCHEMA,
    predictions_table,
    read_predictions,
    write_predictions,
)


@pytest.fixture
def manifest() -> Manifest:
    rows = [
        {r.FIGURE_ID: f"f{i}", r.DATASET: "d", r.IMAGE: f"{i}.png", r.LABEL: label, r.CASE_ID: "c", r.SCANNER: "s"}
        for i, label in enumerate((1, 0, None, 1))
    ]
    return Manifest.from_rows(rows, "made up")


P = np.array([0.5, 0.499999, 1.0, 0.0])


def test_the_table_by_hand(manifest: Manifest) -> None:
    table = predictions_table(manifest, P, 0.5, fold="fold-1", part="val", run_id="abc")

    assert table.schema.equals(PREDICTIONS_SCHEMA)
    assert table[r.FIGURE_ID].to_pylist() == ["f0", "f1", "f2", "f3"]
    assert table[r.DECISION].to_pylist() == [1, 0, 1, 0]  # the threshold itself is positive
    assert table[r.LABEL].to_pylist() == [1, 0, None, 1]
    assert set(table[r.DOMAIN].to_pylist()) == {"s"}
    assert set(table[r.FOLD].to_pylist()) == {"fold-1"} and set(table[r.THRESHOLD].to_pylist()) == {0.5}


@pytest.mark.parametrize("wrong", [1.0000001, -1e-9, np.nan, np.inf, 7.3])
def test_what_is_no_probability_is_refused(wrong: float, manifest: Manifest) -> None:
    p = P.copy()
    p[2] = wrong

    with pytest.raises(InputError, match=r"`probabilities` must be between 0 and 1, got .*fix: pass no logits"):
        predictions_table(manifest, p, 0.5)


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), ()])
def test_another_shape_is_refused(shape: tuple[int, ...], manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"`probabilities` must be of shape \(4,\)"):
        predictions_table(manifest, np.zeros(shape), 0.5)


def test_the_file_comes_back_with_its_facts(manifest: Manifest, tmp_path: Path) -> None:
    table = predictions_table(manifest, P, 0.3)
    path = write_predictions(tmp_path / "deep" / "p.parquet", table, {"bundle": "x", "warnings": ["a", "ü"]})

    read, facts = read_predictions(path)
    assert read.equals(table) and facts == {"bundle": "x", "warnings": ["a", "ü"]}
    assert [file.name for file in path.parent.iterdir()] == ["p.parquet"]


def damage_nothing_left(path: Path) -> None:
    path.write_bytes(b"")


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def damage_text(path: Path) -> None:
    path.write_text("figure_id,p_atypical\n", "utf-8")


def damage_other_table(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def damage_lost_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns([r.THRESHOLD]), path)


def damage_no_facts(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


@pytest.mark.parametrize(
    "damage",
    [damage_nothing_left, damage_cut, damage_text, damage_other_table, damage_lost_column, damage_no_facts],
)
def test_a_damaged_file_is_refused(damage: Callable[[Path], None], manifest: Manifest, tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "p.parquet", predictions_table(manifest, P, 0.5))
    damage(path)

    with pytest.raises(
        DataError, match=r"p\.parquet (is not a readable Parquet file|holds no predictions).*fix: predict again"
    ):
        read_predictions(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.parquet does not exist; fix: check the path"):
        read_predictions(tmp_path / "p.parquet")
