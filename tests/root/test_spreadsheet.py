"""Texts that a spreadsheet would run, shielded in every CSV and the same again when it is read."""

from __future__ import annotations

import csv
import io
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atypia.base.files.spreadsheet import CsvLines, escape_formula, unescape_formula
from atypia.data.slides.streams import CropBatch
from atypia.data.textfiles import read_table
from atypia.inference.bundles.decision import Decision
from atypia.inference.results import result_batch
from atypia.reports.case.outputs import open_writer
from atypia.reports.drawing.tables import Column, Table, write_table
from atypia.review.figures.opening import read_results

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''x", '=HYPERLINK("http://x","y")')
RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@given(st.text(max_size=12) | st.builds(str.__add__, st.sampled_from(FORMULAS), st.text(max_size=5)))
def test_a_shield_is_undone(text: str) -> None:
    kept = escape_formula(text) or ""
    assert unescape_formula(kept) == text
    assert not kept.startswith(RUNS)


def test_plain_texts_numbers_and_nothing_stay_as_they_are() -> None:
    file = io.StringIO()
    CsvLines(file).write(["a=1", "two poles", -1.5, -2, None, "", True])
    assert file.getvalue() == "a=1,two poles,-1.5,-2,,,True\n"


def test_results_are_shielded_and_read_again_with_the_same_ids(tmp_path: Path) -> None:
    ids = [*FORMULAS, "plain"]
    verdicts = Decision(0.5).apply(np.linspace(-1, 1, len(ids)))
    n = len(ids)
    crops = CropBatch(ids, np.zeros((n, 8, 8, 3), np.uint8), [f"={name}" for name in ids], np.ones(n), np.ones(n))
    batch = result_batch(crops, verdicts, "=model", 0.5)
    with open_writer(tmp_path / "r.csv") as writer:
        writer.write(batch)

    table = read_results(tmp_path / "r.csv")
    assert table["figure_id"].to_pylist() == ids
    assert table["image"].to_pylist() == [f"={name}" for name in ids]
    with open(tmp_path / "r.csv", encoding="utf-8", newline="") as file:
        assert not any(cell.startswith(RUNS) for line in csv.reader(file) for cell in line)
    again = read_table(tmp_path / "r.csv")
    assert [row["figure_id"] for row in again.rows][:4] == list(FORMULAS[:4])


@pytest.mark.parametrize("text", FORMULAS)
def test_tables_of_reports_are_shielded(text: str, tmp_path: Path) -> None:
    write_table(Table("t", [Column("name"), Column("n")], [[text, -1.0]]), tmp_path / "t.csv")
    cell = (tmp_path / "t.csv").read_bytes().decode().split("\n", 1)[1]
    assert not cell.lstrip('"').startswith(RUNS)


def test_the_review_page_shields_the_same_beginnings() -> None:
    page = (resources.files("atypia.review") / "static/js/banner.js").read_text("utf-8")
    found = re.search(r"const FORMULA = /\^\[(.*)\]/;", page)
    assert found is not None
    characters = set(found[1].replace("\\-", "-").replace("\\t", "\t").replace("\\r", "\r").replace("\\n", "\n"))
    assert characters == {text for text in map(chr, range(0x10000)) if escape_formula(text) != text}
