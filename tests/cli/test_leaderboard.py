"""``atypia leaderboard`` as a person types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atypia.data.sources.opening import open_data
from atypia.evaluation.board import rows, testsets
from atypia.evaluation.board.testsets import BoardSet, digest


@pytest.fixture
def scored(small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions on a test set of one's own, which is known as ``toy``."""
    manifest = open_data(small_csv)
    labels = manifest.labels
    toy = BoardSet(str(small_csv), "Toy", len(manifest), int(labels.sum()), None, digest(manifest.ids))
    known = {**testsets.BOARD_SETS, "toy": toy, str(small_csv): toy}
    for module in (testsets, rows):
        monkeypatch.setattr(module, "BOARD_SETS", known)
    p = np.random.default_rng(0).uniform(0, 0.6, len(labels)) + 0.4 * labels
    lines = [f"{figure},{value:.4f}" for figure, value in zip(manifest.ids, p, strict=True)]
    (tmp_path / "scored.csv").write_text("\n".join(["figure_id,p_atypical", *lines, ""]), "utf-8")
    return tmp_path / "scored.csv"


def test_a_file_becomes_a_row_of_ones_own(atypia: Callable[..., Any], scored: Path, small_csv: Path) -> None:
    ended = atypia("leaderboard", "add", scored, "--on", "toy", "--name", "ours")
    assert ended.code == 0 and "ours on" in ended.out and "balanced accuracy 0." in ended.out
    assert "leakage was not checked" in ended.err and "decided at 0.5" in ended.err and "leaderboard.csv" in ended.err
    again = atypia(
        "leaderboard", "add", scored, "--on", "toy", "--name", "ours", "--trained-on", small_csv, "--replace"
    )
    assert again.code == 2 and "is refused" in again.err
    shown = atypia("leaderboard", "show", "--on", str(small_csv), "--json")
    (table,) = json.loads(shown.out)
    assert [row["model"] for row in table["rows"]] == ["ours"]
    text = atypia("leaderboard", "show", "--on", str(small_csv)).out
    assert "ours: threshold 0.500; trained on not declared; leakage checked: nothing to compare" in text
    assert "checked: metrics" in text and "rater:" not in text and "published:" not in text


def test_published_rows_are_there_from_the_start(atypia: Callable[..., Any], tmp_path: Path) -> None:
    ended = atypia("leaderboard", "show", "--write", tmp_path / "board.md", "--on", "atnorm-br")
    assert (
        ended.code == 0 and "Virchow2 · lora" in ended.out and "published rows: Banerjee et al., Table 3" in ended.out
    )
    assert any(line.split()[-2:] == ["±", "0.012"] for line in ended.out.splitlines()), "no number is wrapped"
    assert "Banerjee et al." in (tmp_path / "board.md").read_text("utf-8")
    assert atypia("leaderboard", "show", "--write", tmp_path / "board.md").code == 2
    refused = atypia("leaderboard", "show", "--on", "nothing")
    assert refused.code == 2 and "unknown test set" in refused.err
