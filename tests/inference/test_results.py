"""Rows of results, from verdicts and from refusals."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.slides.readas import ReadAs
from atypia.data.slides.streams import CropBatch, Refusal
from atypia.inference import results as res


def crops(n: int = 2, **given: Any) -> CropBatch:
    fields: dict[str, Any] = {
        "ids": [f"f{i}" for i in range(n)],
        "crops": np.zeros((n, 8, 8, 3), np.uint8),
        "images": ["slide.svs"] * n,
        "x_px": np.arange(n) + 0.5,
        "y_px": np.full(n, 7.0),
    }
    return CropBatch(**{**fields, **given})


def verdicts(p: list[float], call: list[str], novelty: list[float] | None = None) -> Any:
    values = np.array(p)
    return SimpleNamespace(
        p=values,
        decision=(values >= 0.5).astype(np.int8),
        call=call,
        novelty=np.array(novelty if novelty is not None else [math.nan] * len(p)),
    )


def test_schema_is_the_contract() -> None:
    assert [(field.name, str(field.type)) for field in res.RESULTS_SCHEMA] == [
        ("figure_id", "string"),
        ("image", "string"),
        ("x_px", "double"),
        ("y_px", "double"),
        ("class", "string"),
        ("p_atypical", "double"),
        ("decision", "int8"),
        ("call", "string"),
        ("novelty", "double"),
        ("threshold", "double"),
        ("reason", "string"),
        ("model", "string"),
        ("mpp", "double"),
        ("mpp_source", "string"),
        ("origin", "string"),
        ("origin_x_px", "double"),
        ("origin_y_px", "double"),
    ]


def test_rows_of_a_slide() -> None:
    batch = res.result_batch(crops(), verdicts([0.9, 0.1], ["atypical", "normal"], [2.5, 0.5]), "m", 0.5)
    assert batch.schema.equals(res.RESULTS_SCHEMA)
    batch.validate(full=True)
    assert batch.to_pylist()[0] == {
        "figure_id": "f0",
        "image": "slide.svs",
        "x_px": 0.5,
        "y_px": 7.0,
        "class": None,
        "p_atypical": 0.9,
        "decision": 1,
        "call": "atypical",
        "novelty": 2.5,
        "threshold": 0.5,
        "reason": None,
        "model": "m",
        "mpp": None,
        "mpp_source": None,
        "origin": None,
        "origin_x_px": None,
        "origin_y_px": None,
    }
    assert batch.column(r.DECISION).to_pylist() == [1, 0]


def test_size_and_origin_are_told() -> None:
    ways = (ReadAs(0.25, "--mpp"), ReadAs(0.5, "file: OME-XML", "bounds", 1000.0, 600.0))
    batch = res.result_batch(crops(read_as=ways), verdicts([0.9, 0.1], ["atypical", "normal"]), "m", 0.5)
    batch.validate(full=True)
    told = [[row[name] for name in res.RESULTS_SCHEMA.names[-5:]] for row in batch.to_pylist()]
    assert told == [[0.25, "--mpp", None, None, None], [0.5, "file: OME-XML", "bounds", 1000.0, 600.0]]


def test_results_of_older_versions_are_completed() -> None:
    batch = res.refusal_batch([Refusal("f", "i", "why")], "m", 0.5)
    older = pa.Table.from_batches([batch]).drop_columns(list(res.LATER_COLUMNS))
    found = res.with_all_columns(older)
    assert found.schema.equals(res.RESULTS_SCHEMA) and found["mpp"].null_count == 1
    with pytest.raises(KeyError):
        res.with_all_columns(older.drop_columns(["call"]))


def test_plain_crops_have_null_positions_and_null_novelty() -> None:
    nan = np.full(2, np.nan)
    batch = res.result_batch(crops(x_px=nan, y_px=nan), verdicts([0.9, 0.1], ["atypical", "normal"]), "m", 0.5)
    assert [batch.column(name).null_count for name in ("x_px", "y_px", "novelty", "p_atypical")] == [2, 2, 2, 0]


def test_refused_after_scoring_keeps_its_probability_and_says_why() -> None:
    batch = res.result_batch(crops(), verdicts([0.9, math.nan], ["refused", "refused"], [40.0, 1.0]), "m", 0.5)
    first, second = batch.to_pylist()
    assert (first["p_atypical"], first["decision"], first["reason"]) == (0.9, 1, res.UNLIKE_TRAINING)
    assert (second["p_atypical"], second["decision"]) == (None, None)
    assert second["reason"] == "no probability"


def test_refusals_have_no_probability() -> None:
    refusals = [Refusal("f9", "slide.svs", "outside the slide", 5.0, -3.0), Refusal("f10", "bad.png", "truncated")]
    batch = res.refusal_batch(refusals, "m", 0.26)
    batch.validate(full=True)
    assert batch.schema.equals(res.RESULTS_SCHEMA)
    rows = batch.to_pylist()
    assert [(row["call"], row["p_atypical"], row["decision"]) for row in rows] == [("refused", None, None)] * 2
    assert (rows[0]["x_px"], rows[0]["y_px"], rows[1]["x_px"]) == (5.0, -3.0, None)
    assert [row["reason"] for row in rows] == ["outside the slide", "truncated"]


def test_no_rows() -> None:
    assert res.refusal_batch([], "m", 0.5).num_rows == 0
    empty = crops(0, crops=np.zeros((0, 8, 8, 3), np.uint8))
    assert res.result_batch(empty, verdicts([], []), "m", 0.5).num_rows == 0


def test_a_file_name_that_is_no_text_is_escaped() -> None:
    batch = res.refusal_batch([Refusal("a\udcff.png", "a\udcff.png", "unreadable")], "m", 0.5)
    assert batch.column("image").to_pylist() == ["a\\udcff.png"]


@pytest.mark.parametrize(
    ("p", "call", "message"),
    [
        ([0.5], ["normal"], r"`verdicts` must be one for each of 2 crops"),
        ([0.5, 1.2], ["normal", "atypical"], r"`p` must be between 0 and 1"),
        ([0.5, 0.2], ["normal", "maybe"], r"`call` must be normal or atypical or uncertain or refused, got maybe"),
    ],
)
def test_what_is_no_verdict(p: list[float], call: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        res.result_batch(crops(), verdicts(p, call), "m", 0.5)


def test_other_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"`results` must be a record batch with RESULTS_SCHEMA, got a int64"):
        res.check_results(pa.record_batch({"a": pa.array([1])}))


def test_rows_hold_none_for_nan() -> None:
    batch = res.refusal_batch([Refusal("f", "i", "why")], "m", 0.5)
    with_nan = batch.set_column(5, batch.schema.field(5), pa.array([math.nan]))
    assert res.rows_of(with_nan)[0]["p_atypical"] is None
    assert list(res.rows_of(with_nan)[0]) == res.RESULTS_SCHEMA.names


@given(st.floats(0, 1))
def test_uncertainty_is_the_binary_entropy(p: float) -> None:
    assert res.uncertainty(p) == pytest.approx(entropy([p, 1 - p], base=2), abs=1e-9)


def test_uncertainty_at_hand_computed_values() -> None:
    found = res.uncertainty([0.0, 1.0, 0.5, 0.25, math.nan])
    assert found[:4] == pytest.approx([0, 0, 1, 0.25 * 2 + 0.75 * math.log2(4 / 3)])
    assert math.isnan(found[4])
    assert not np.signbit(found[:2]).any()


def test_no_heavy_package_is_loaded_on_the_way_to_a_file() -> None:
    """A first prediction should not wait for packages that it has no use for."""
    program = """
import sys, tempfile, types, pathlib
import numpy as np
from atypia.inference import results as res
from atypia.reports.case.outputs import OUTPUTS, open_writer
n = 2
ids = ["a", "b"]
crops = types.SimpleNamespace(
    ids=ids, images=["s.svs"] * n, x_px=np.ones(n), y_px=np.ones(n), classes=None, read_as=()
)
verdicts = types.SimpleNamespace(
    p=np.array([0.2, 0.9]), decision=np.array([0, 1], np.int8), call=["normal", "refused"], novelty=np.array([1, np.nan])
)
batch = res.result_batch(crops, verdicts, "m", 0.5)
with tempfile.TemporaryDirectory() as folder:
    for suffix in OUTPUTS:
        with open_writer(pathlib.Path(folder) / f"a.{suffix}") as writer:
            writer.write(batch)
heavy = ("torch", "sklearn", "scipy", "pandas", "matplotlib", "jinja2")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
