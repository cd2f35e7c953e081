"""``atypia data``: sources, counts, audits, splits and the phantom set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.data.sources.catalogue import SOURCES
from atypia.data.sources.opening import open_data
from atypia.splits.split import Split

Run = Callable[..., Any]


def strict(text: str) -> Any:
    """JSON that every reader takes: without NaN and infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def test_list_names_every_source_and_what_is_absent(atypia: Run) -> None:
    rows = strict(atypia("data", "list", "--json").out)

    assert [row["name"] for row in rows] == list(SOURCES)
    assert {row["folder"] for row in rows} == {None}
    assert next(row for row in rows if row["name"] == "ami-br")["figures"] == 3720
    text = atypia("data", "list").out
    assert all(name in text for name in SOURCES) and "absent" in text


def test_a_source_that_is_not_here_names_both_remedies(atypia: Run) -> None:
    ended = atypia("data", "info", "ami-br")

    assert ended.code == 2
    assert "ami-br is not on this machine; fix:" in ended.err
    assert "atypia data get ami-br" in ended.err and "atypia data import ami-br --from DIR" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "ami-bt"], "did you mean 'ami-br'"),
        (["info", "nowhere/x.csv"], "nowhere/x.csv does not exist; fix: check the path"),
        (["import", "ami-br"], "fix: name its folder with --from DIR"),
        (["import", "ami-br", "--from", "nowhere"], "does not exist; fix:"),
        (["import", "amibr", "--from", "."], "unknown data source 'amibr'; did you mean 'ami-br'?"),
        (["get", "nothing"], "unknown data source 'nothing'"),
        (["audit", "nothing"], "neither a source nor a file or folder"),
    ],
)
def test_what_is_not_there_is_bad_input(arguments: list[str], words: str, atypia: Run) -> None:
    ended = atypia("data", *arguments)

    assert ended.code == 2 and ended.out == ""
    assert words in ended.err


def test_import_of_another_folder_is_refused(atypia: Run, small_csv: Path) -> None:
    ended = atypia("data", "import", "ami-br", "--from", small_csv.parent)

    assert ended.code == 2 and "fix:" in ended.err


# Counts ---------------------------------------------------------------------------------------


def test_info_counts(atypia: Run, small_csv: Path) -> None:
    (told,) = strict(atypia("data", "info", small_csv, "--json").out)

    assert (told["figures"], told["positive"], told["negative"], told["unlabelled"]) == (80, 27, 53, 0)
    assert (told["cases"], told["slides"], told["raters"], told["agreement"]) == (8, 0, 0, None)
    assert told["parts"] == {"train": 60, "test": 20}
    # Of figures 0 to 79 every third is positive; cases of ten alternate between the domains.
    positive = [sum(i % 3 == 0 for i in range(80) if i // 10 % 2 == domain) for domain in (0, 1)]
    assert told["domains"] == [
        {"domain": f"scanner {d}", "positive": positive[d], "negative": 40 - positive[d], "unlabelled": 0}
        for d in (0, 1)
    ]
    lines = atypia("data", "info", small_csv).out
    assert "80 figures" in lines and "8 cases" in lines and "published parts: " in lines


def test_info_tells_votes_and_unlabelled_figures(atypia: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    paint(tmp_path / "set", cases=1)
    table = tmp_path / "set" / "mine.csv"
    table.write_text(
        "image,expert1,expert2,expert3\ns0-000.png,1,1,1\ns0-001.png,0,1,0\ns0-002.png,0,,\ns0-003.png,1,0,\n", "utf-8"
    )
    (told,) = strict(atypia("data", "info", table, "--json").out)

    assert (told["positive"], told["negative"], told["unlabelled"]) == (1, 2, 1)
    assert told["raters"] == 3
    assert told["agreement"] == pytest.approx(1 / 3)  # of three figures with two votes or more, the first
    assert told["domains"] == [{"domain": "unknown", "positive": 1, "negative": 2, "unlabelled": 1}]
    shown = atypia("data", "info", table).out
    assert "1 figure without a label" in shown and "no label" in shown.splitlines()[2]
    assert ["unknown", "4", "1", "1", "2", "33.3"] in [line.split() for line in shown.splitlines()]


def test_info_writes_a_figure_and_a_sheet(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ended = atypia("data", "info", small_csv, "--figure", tmp_path / "c.svg", "--sheet", tmp_path / "s.png")

    assert ended.code == 0
    assert "<svg" in (tmp_path / "c.svg").read_text("utf-8")
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width >= 10 * 100 and np.asarray(sheet.convert("L")).std() > 10


# Audit ----------------------------------------------------------------------------------------


def test_audit_of_a_clean_set_is_zero(atypia: Run, small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    shutil.copytree(other_csv.parent, tmp_path / "o")
    shutil.copy(tmp_path / "o" / "figures.csv", tmp_path / "o" / "others.csv")
    ended = atypia("data", "audit", small_csv, tmp_path / "o" / "others.csv", "--json")

    assert ended.code == 0
    report = strict(ended.out)
    assert [one["name"] for one in report["sets"]] == ["figures", "others"]
    assert not [finding for finding in report["findings"] if finding["severity"] == "error"]


def test_audit_of_a_set_with_errors_is_one(atypia: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "set")
    shutil.copy(tmp_path / "set/s0-000.png", tmp_path / "set/s0-001.png")
    path = tmp_path / "set/s0-004.png"
    path.write_bytes(path.read_bytes()[:-300])
    ended = atypia("data", "audit", table, "--json")

    assert ended.code == 1
    codes = {finding["code"] for finding in strict(ended.out)["findings"]}
    assert {"conflicting-labels", "truncated-image", "identical-within-set"} <= codes
    text = atypia("data", "audit", table, "--no-near")
    assert text.code == 1 and "ERROR conflicting-labels" in text.out


def test_audit_of_a_split_finds_the_case_on_both_sides(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    saved = tmp_path / "split.json"
    assert atypia("data", "split", small_csv, "--protocol", "kfold", "--out", saved).code == 0
    assert atypia("data", "audit", small_csv, "--split", saved, "--no-near").code == 0
    content = Split.load(saved)
    fold = content.folds[0]
    moved = type(fold)(fold.name, fold.train[1:], (*fold.val, fold.train[0]), fold.test)
    Split(content.protocol, content.params, 0, content.manifest, (moved,)).save(saved)
    ended = atypia("data", "audit", small_csv, "--split", saved, "--no-near")

    assert ended.code == 1 and "case-across-parts" in ended.out


def test_audit_refuses_the_split_of_another_set(atypia: Run, small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    saved = tmp_path / "split.json"
    atypia("data", "split", other_csv, "--protocol", "kfold", "--protocol-set", "folds=2", "--out", saved)
    ended = atypia("data", "audit", small_csv, "--split", saved)

    assert ended.code == 2 and "fix: make a new split" in ended.err


# Splits ---------------------------------------------------------------------------------------


def test_split_writes_the_folds(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    saved = tmp_path / "deep" / "split.json"
    ended = atypia(
        "data", "split", small_csv, "--protocol", "official", "--protocol-set", "folds=2", "--seed", 3, "--out", saved
    )

    assert ended.code == 0
    split = Split.load(saved)
    assert split.manifest == open_data(str(small_csv)).fingerprint and split.seed == 3
    assert [fold.name for fold in split.folds] == ["fold-1", "fold-2"]
    assert all(len(fold.test) == 20 for fold in split.folds)
    fold = split.folds[0]
    assert f"fold-1: {len(fold.train)} train, {len(fold.val)} validation, 20 test" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "kfolds"], "unknown protocol 'kfolds'; did you mean 'kfold'?"),
        (["--protocol", "kfold", "--protocol-set", "k=3"], "`k` is not a known key; known here: folds"),
        (["--protocol", "kfold", "--protocol-set", "folds"], "`--set` must be key=value"),
        (["--protocol", "kfold", "--protocol-set", "folds=99"], "fix:"),
    ],
)
def test_split_refuses(arguments: list[str], words: str, atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    ended = atypia("data", "split", small_csv, *arguments, "--out", tmp_path / "s.json")

    assert ended.code == 2 and words in ended.err
    assert not (tmp_path / "s.json").exists()


# Phantom --------------------------------------------------------------------------------------


def test_phantom_writes_a_set_and_keeps_it(atypia: Run, tmp_path: Path) -> None:
    out = tmp_path / "phantom"
    told = strict(atypia("data", "phantom", "--out", out, "-n", 12, "--seed", 5, "--json").out)

    assert told["figures"] == 12 and told["positive"] + told["negative"] == 12
    assert told["fingerprint"] == open_data(str(out)).fingerprint
    images = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert len(images) == 12
    again = atypia("data", "phantom", "--out", out, "-n", 12, "--seed", 5)
    assert again.code == 0 and "12 figures" in again.out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == images
    refused = atypia("data", "phantom", "--out", out, "-n", 12, "--seed", 6)
    assert refused.code == 2 and "other parameters; fix: choose another folder" in refused.err


@pytest.mark.real
def test_real_sources_are_found_in_place(atypia: Run, real_root: Path) -> None:
    rows = strict(atypia("data", "list", "--root", real_root, "--json").out)

    found = {row["name"]: row["folder"] for row in rows if row["folder"]}
    assert found["ami-br"].startswith(str(real_root))


def test_info_says_which_figures_cannot_be_used(
    atypia: Callable[..., Any], paint: Callable[..., Path], tmp_path: Path
) -> None:
    table = paint(tmp_path / "set", cases=1)
    names = sorted(path.name for path in table.parent.glob("*.png"))
    cut, flipped = (table.parent / name for name in names[:2])
    cut.write_bytes(cut.read_bytes()[:-20])
    damaged = bytearray(flipped.read_bytes())
    damaged[damaged.find(b"IDAT") + 30] ^= 1
    flipped.write_bytes(bytes(damaged))

    ended = atypia("data", "info", table, "--json")

    assert ended.code == 0
    assert list(json.loads(ended.out)[0]["broken"]) == [cut.stem, flipped.stem]
    assert "2 of these figures cannot be used; the first: " in ended.err
