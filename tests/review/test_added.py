"""Missed mitoses added on the review page, as points: what a user classifies afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from atypia.base import records as r
from atypia.base.errors import DataError
from atypia.cli.main import app
from atypia.data.points.reading import read_points
from atypia.review.decisions.intake import DecisionIntake
from atypia.review.decisions.words import ADDED, UNDONE

from .regions import region_of


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A decisions file with three added figures, one of which was withdrawn."""
    intake = DecisionIntake(tmp_path / "board.sqlite", region_of(tmp_path))
    intake.join("Ada")
    intake.decide("Ada", 0, "normal")
    intake.add("Ada", 0, 333, 444)
    intake.add("Ada", 0, 500, 500)
    intake.undo("Ada")
    intake.decide("Ada", intake.add("Ada", 0, 800.5, 300), "atypical")
    intake.close()
    return tmp_path / "board.sqlite"


def test_the_words_are_those_of_the_log() -> None:
    assert (r.ADDED_EVENT, r.UNDO_EVENT) == (ADDED, UNDONE)


def test_a_decisions_file_gives_the_figures_that_were_added(board: Path) -> None:
    points = read_points(board)

    assert points.images == ["region.tiff"] * 2 and points.ids == ["added-1", "added-3"]
    assert points.x_px.tolist() == [333, 800.5] and points.y_px.tolist() == [444, 300]


def test_they_are_classified_by_one_command(board: Path, tmp_path: Path) -> None:
    out = tmp_path / "added.csv"
    words = ["predict", str(tmp_path / "slides/region.tiff"), "--points", str(board), "--out", str(out)]
    ended = CliRunner().invoke(app, words)

    assert "Traceback" not in ended.output and out.is_file(), ended.output
    rows = out.read_text("utf-8").splitlines()
    assert len(rows) == 3 and rows[1].startswith("added-1,") and rows[2].startswith("added-3,")


def test_a_file_without_added_figures_says_so(tmp_path: Path) -> None:
    intake = DecisionIntake(tmp_path / "board.sqlite", region_of(tmp_path))
    intake.join("Ada")
    intake.close()
    with pytest.raises(
        DataError, match=r"board.sqlite is a decisions file to which no figure was added; fix: add missed"
    ):
        read_points(tmp_path / "board.sqlite")
