"""Writers: each form read back by an independent reader, and what becomes of work that fails."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError, WorkError
from atypia.base.files.spreadsheet import unescape_formula
from atypia.data.slides.readas import ReadAs
from atypia.data.slides.streams import Refusal
from atypia.inference.results import RESULTS_SCHEMA, refusal_batch
from atypia.reports.case.outputs import OUTPUTS, open_writer

from .rows import refusals, results, stream


def expected() -> list[dict[str, Any]]:
    return [row for batch in given_batches() for row in batch.to_pylist()]


def given_batches() -> list[pa.RecordBatch]:
    return [
        results([0.125, 0.75], ids=['comma, "quote"', "line\nbreak"], novelty=1.5),
        refusals(["outside the slide"], x_px=3.0),
        results([0.1 + 0.2], ids=["größe µ"]),
    ]


def write(path: Path, batches: list[pa.RecordBatch]) -> Path:
    with open_writer(path) as writer:
        for batch in batches:
            writer.write(batch)
    return path


def test_parquet(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "a.parquet", given_batches()))
    assert table.schema.equals(RESULTS_SCHEMA)
    assert table.to_pylist() == expected()


def test_parquet_gathers_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(OUTPUTS)  # in their order, before one of them is imported by hand
    monkeypatch.setattr("atypia.reports.case.formats.parquet_table.ROW_GROUP", 100)
    path = write(tmp_path / "a.parquet", list(stream(25, 10)))
    meta = pq.ParquetFile(path).metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [100, 100, 50]


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.CSV", given_batches())
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == RESULTS_SCHEMA.names
    for row, true in zip(rows, expected(), strict=True):
        assert row["figure_id"] == true["figure_id"]
        assert [row[name] == "" for name in true] == [true[name] is None for name in true]
        if true["p_atypical"] is not None:
            assert float(row["p_atypical"]) == round(true["p_atypical"], 6)


def _six_decimals(row: dict[str, Any]) -> dict[str, Any]:
    """What a table for people has of probabilities."""
    names = ("p_atypical", "novelty", "threshold")
    return {name: None if row[name] is None else round(row[name], 6) for name in names}


def test_csv_is_read_by_arrow_with_the_same_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", given_batches())
    table = pacsv.read_csv(
        path,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(column_types=RESULTS_SCHEMA, strings_can_be_null=True),
    )
    assert table.to_pylist() == [{**row, **_six_decimals(row)} for row in expected()]


def test_json_is_an_array_of_objects(tmp_path: Path) -> None:
    assert json.loads(write(tmp_path / "a.json", given_batches()).read_text("utf-8")) == expected()


def test_json_lines(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", given_batches()).read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == expected()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    batch = results([0.5] * len(names), ids=names)
    assert [row["figure_id"] for row in json.loads(write(folder / "a.json", [batch]).read_text("utf-8"))] == names
    lines = write(folder / "a.jsonl", [batch]).read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line)["figure_id"] for line in lines] == names
    with open(write(folder / "a.csv", [batch]), newline="", encoding="utf-8") as file:
        assert [unescape_formula(row["figure_id"]) for row in csv.DictReader(file)] == names


@pytest.mark.parametrize("suffix", [f".{name}" for name in OUTPUTS])
def test_no_figures_is_a_valid_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", [])
    text = path.read_bytes()
    if suffix == ".parquet":
        assert pq.read_table(path).schema.equals(RESULTS_SCHEMA)
    elif suffix == ".csv":
        assert text.decode() == ",".join(RESULTS_SCHEMA.names) + "\n"
    elif suffix == ".jsonl":
        assert text == b""
    else:
        assert json.loads(text) in ([], {"type": "FeatureCollection", "features": []})


@pytest.mark.parametrize("suffix", [f".{name}" for name in OUTPUTS])
def test_work_that_fails_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="network"), open_writer(path) as writer:
        writer.write(results([0.5]))
        raise RuntimeError("network")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.geojson.bak"])
def test_an_unknown_suffix_lists_the_known(tmp_path: Path, name: str) -> None:
    known = r"must be a name ending in \.csv, \.geojson, \.json, \.jsonl, \.parquet, got"
    with pytest.raises(InputError, match=known), open_writer(tmp_path / name):
        pass
    assert not list(tmp_path.iterdir())


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RESULTS_SCHEMA"), open_writer(tmp_path / "a.csv") as writer:
        writer.write(pa.record_batch({"p_atypical": pa.array([0.5])}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("origin", "expected"), [("canvas", [400.0, 300.0]), ("bounds", [1400.0, 900.0])])
def test_geojson_lies_where_qupath_expects_it(tmp_path: Path, origin: str, expected: list[float]) -> None:
    way = ReadAs(0.25, "--mpp", origin, 0.0 if origin == "canvas" else 1000.0, 0.0)
    batch = refusal_batch([Refusal("a", "s.scn", "why", 1400.0, 900.0, read_as=way)], "m", 0.5)
    with open_writer(tmp_path / "a.geojson", qupath_zero={"s.scn": (1000.0, 600.0)}.__getitem__) as writer:
        writer.write(batch)
    (feature,) = json.loads((tmp_path / "a.geojson").read_text("utf-8"))["features"]
    assert feature["geometry"]["coordinates"] == expected


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(WorkError, match=r"cannot write .*fix:"):
        write(tmp_path / "a.csv", [])


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".geojson"])
def test_memory_does_not_grow_with_the_figures(tmp_path: Path, suffix: str) -> None:
    def peak(batches: int) -> int:
        tracemalloc.start()
        with open_writer(tmp_path / f"{batches}{suffix}") as writer:
            for batch in stream(batches, 50):
                writer.write(batch)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert writer.written == batches * 50
        return found

    peak(2)  # what is loaded and cached once
    assert peak(60) < peak(6) + 100_000
