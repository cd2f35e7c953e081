"""``atypia calibrate``: what its options do, or are refused for."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.data.phantom.dataset import write_phantom


def test_proposed_figures_come_with_what_was_left_out(atypia: Callable[..., Any], tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "set", 12, workers=1)
    assert data.root is not None
    images = [str(data.root / image) for image in data.table["image"].to_pylist()]
    shutil.copy(images[0], tmp_path / "copy.png")
    (tmp_path / "broken.png").write_text("no image")
    with (tmp_path / "pool.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image",), *((image,) for image in images), ("copy.png",), ("broken.png",)])
    ended = atypia(
        "calibrate",
        "atypia-amibr",
        "--on",
        tmp_path / "pool.csv",
        "--propose",
        20,
        "--out",
        tmp_path / "l.csv",
        "--json",
    )
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["figures"] == 12 and told["out"] == str(tmp_path / "l.csv")
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 13
    for words in (
        "1 of 14 figures left out because",
        "1 figure left out: their images are copies",
        "12 figures, not 20: there are no",
    ):
        assert any(words in text for text in told["notes"]) and words in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--cases", "folder"), "leave out --cases"),
        (("--seed", "3", "--allow", "case-across-sets"), "leave out --allow and --seed"),
        (("--decisions", "d.csv"), "leave out --decisions"),
        ((), "give --out FILE.csv"),
    ],
)
def test_what_does_nothing_beside_propose_is_refused(
    options: tuple[str, ...], named: str, atypia: Callable[..., Any], tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "l.csv") if options else ()
    ended = atypia("calibrate", "atypia-amibr", "--on", "pool.csv", "--propose", 5, *out, *options)
    assert ended.code == 2 and named in ended.err and not (tmp_path / "l.csv").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "atypia-amibr", "--on", "x.csv"),
        ("evaluate", "atypia-amibr", "--on", "x.csv"),
        ("train", "lora", "--data", "x.csv", "--out", "y"),
        ("train", "adapt", "--init", "atypia-amibr", "--data", "x.csv", "--out", "y"),
    ],
)
def test_a_code_that_no_finding_has_is_refused_by_every_command(
    words: tuple[str, ...], atypia: Callable[..., Any]
) -> None:
    ended = atypia(*words, "--allow", "case-accross-sets")
    assert ended.code == 2 and "did you mean case-across-sets?" in ended.err and "x.csv" not in ended.err
