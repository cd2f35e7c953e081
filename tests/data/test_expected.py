"""How many figures are to come, for progress bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from atypia.data.slides import expected
from atypia.data.slides.expected import FiguresToCome, count_images
from atypia.data.slides.stacks import page_count
from atypia.data.slides.streams import Refusal
from atypia.inference.results import refusal_batch
from atypia.reports.case.summary import CaseSummary


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "crops"
    (made / "sub").mkdir(parents=True)
    for name in ("1.png", "2.tif", "sub/3.jpg"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(made / name)
    (made / "notes.txt").write_text("no image")
    return made


def test_images_are_counted_without_opening_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_images([str(folder)]) == 3
    assert count_images([str(folder / "1.png"), str(folder / "*.tif"), str(folder / "absent.png")]) == 2
    monkeypatch.setattr(expected, "MOST_COUNTED", 2)
    assert count_images([str(folder)]) is None


def test_a_total_is_given_once_all_inputs_are_counted() -> None:
    known = FiguresToCome()
    assert known.total == 0
    known.add(5, last=False)
    assert known.total == 0
    known.add(3, last=True)
    assert known.total == 8
    many = FiguresToCome()
    many.add(None, last=False)
    many.add(3, last=True)
    assert many.total == 0, "one input was too large to be counted"


def test_pages_of_a_stack(tmp_path: Path, folder: Path) -> None:
    page = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page])
    assert page_count(tmp_path / "stack.tif") == 3
    assert page_count(folder / "1.png") is None and page_count(tmp_path / "absent.tif") is None


def rows(*figures: tuple[str, str]) -> pa.RecordBatch:
    return refusal_batch([Refusal(figure, image, "unreadable") for figure, image in figures], "m", 0.5)


def test_a_folder_of_crops_is_one_case_in_whatever_format() -> None:
    summary = CaseSummary()
    summary.add(rows(("1.png", "crops/1.png"), ("2.tif", "crops/2.tif"), ("3#a.tif", "crops/3#a.tif")))
    summary.add(rows(("stack.tif#1", "crops/stack.tif"), ("stack.tif#2~2", "crops/stack.tif")))
    assert {name: counts.figures for name, counts in summary.images.items()} == {"crops": 3, "crops/stack.tif": 2}


def test_names_are_whole_and_the_table_has_one_part() -> None:
    name = "a-laboratory-with-a-long-name/patients of the year 2026/block-A-1234567890/crops-of-the-second-round"
    summary = CaseSummary()
    summary.add(rows(("1.png", f"{name}/1.png"), ("2.png", "b/2.png")))
    text = summary.to_text()
    assert name in text.splitlines() and text.count("figures  scored") == 1
