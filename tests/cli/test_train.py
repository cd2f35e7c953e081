"""``atypia train``: from a user's files to a table."""

from __future__ import annotations

import csv
import errno
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base import runs
from atypia.data.sources.opening import open_data
from atypia.evaluation.rows import read_rows
from atypia.inference.predictions import read_predictions
from atypia.splits.split import Split

Run = Callable[..., Any]
TINY = ("--backbone", "tiny-cnn", "--set", "geometry.out_px=32", "--set", "input_px=32")
TWO = ("--protocol", "kfold", "--protocol-set", "folds=2")


def strict(text: str) -> Any:
    """JSON that every reader takes: without NaN and infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def untouched(home: Path, out: Path) -> bool:
    """Whether nothing was decoded and nothing written."""
    return not (home / "cache" / "crops").exists() and not out.exists()


# The whole way --------------------------------------------------------------------------------


def test_from_a_table_to_a_table(atypia: Run, small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trained = atypia("train", "probe", "--data", small_csv, "--protocol-set", "folds=2", *TINY, "--out", out)

    assert trained.code == 0, trained.err
    assert "2 folds trained, 0 kept" in trained.err
    assert "probe · tiny-cnn" in trained.out and "± population sd (ddof 0)" in trained.out
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "fold-1", "fold-2", runs.TRAINING, runs.MANIFEST, runs.SPLIT, runs.RESULTS,
    }  # fmt: skip
    test = {row[r.PART] for row in read_rows(out / runs.RESULTS).to_pylist()}
    assert test == {runs.VALIDATION, runs.TEST}

    written = [tmp_path / f"table.{suffix}" for suffix in ("md", "csv", "tex", "json", "txt")]
    options = [word for path in written for word in ("--write", path)]
    evaluated = atypia("evaluate", out, "--on", other_csv, "--json", *options)
    assert evaluated.code == 0, evaluated.err
    table = strict(evaluated.out)
    assert {row["part"] for row in table["rows"]} >= {"validation", "test", "external"}
    external = next(row for row in table["rows"] if row["part"] == "external")
    assert external["n"] == 40 and 0 <= external["balanced_accuracy"]["mean"] <= 1
    assert strict(written[3].read_text("utf-8")) == table
    assert all(path.stat().st_size > 100 for path in written)
    assert "balanced" in written[2].read_text("utf-8") or "BA" in written[2].read_text("utf-8")

    again = atypia("train", "probe", "--data", small_csv, "--protocol-set", "folds=2", *TINY, "--out", out, "--json")
    assert "0 folds trained, 2 kept" in again.err
    assert strict(again.out)["rows"] == table["rows"]


def test_the_phantom_set_from_its_folder(atypia: Run, phantom_folder: Path, tmp_path: Path) -> None:
    ended = atypia("train", "probe", "--data", phantom_folder, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 0, ended.err
    assert "simulated: no clinical truth" in ended.out


def test_a_saved_split_is_used(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    saved = tmp_path / "split.json"
    atypia("data", "split", small_csv, *TWO, "--seed", 4, "--out", saved)
    ended = atypia("train", "probe", "--data", small_csv, "--split", saved, *TINY, "--out", tmp_path / "out")

    assert ended.code == 0, ended.err
    assert Split.load(tmp_path / "out" / runs.SPLIT).fingerprint == Split.load(saved).fingerprint


def test_single_folds(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    command = ("train", "probe", "--data", small_csv, *TWO, *TINY, "--out", tmp_path / "out")

    assert "1 fold trained, 0 kept" in atypia(*command, "--fold", "fold-2").err
    assert not (tmp_path / "out" / "fold-1").exists()
    assert "1 fold trained, 1 kept" in atypia(*command).err


# What a user's files can be -------------------------------------------------------------------


def spoil(folder: Path) -> dict[str, str]:
    """Spoils crops of :func:`paint` in every way; returns what becomes of each figure."""
    (folder / "s0-001.png").write_text("no image", "utf-8")
    cut = folder / "s0-002.png"
    cut.write_bytes(cut.read_bytes()[:-400])
    (folder / "s0-003.png").write_bytes(b"")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "s0-004.png")
    grey = np.asarray(Image.open(folder / "s0-005.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "s0-005.png")
    Image.open(folder / "s0-006.png").convert("P").save(folder / "s0-006.png")
    Image.open(folder / "s0-007.png").convert("CMYK").save(folder / "s0-007.png", format="JPEG")
    (folder / "s0-008.png").unlink()
    lost = {f"s0-00{i}": "left out" for i in (1, 3, 8)} | {f"s0-00{i}": "quarantined" for i in (2, 4)}
    return lost | {f"s0-00{i}": "converted" for i in (5, 6, 7)}


def test_images_that_cannot_be_used_are_counted_and_the_others_are_scored(
    atypia: Run, paint: Callable[..., Path], tmp_path: Path
) -> None:
    table, out = paint(tmp_path / "set"), tmp_path / "out"
    fate = spoil(tmp_path / "set")
    ended = atypia("train", "probe", "--data", table, *TWO, *TINY, "--out", out)

    assert ended.code == 0, ended.err
    for text in (ended.err, " ".join(ended.out.split())):
        assert "3 of 80 figures left out because their image cannot be read" in text
        assert "2 figures were left out: their images cannot be used" in text
    scored = [
        i for run in runs.run_folders(out) for i in read_predictions(run / runs.PREDICTIONS)[0][r.FIGURE_ID].to_pylist()
    ]
    assert len(scored) == 75
    assert {figure for figure in fate if figure in scored} == {f for f, what in fate.items() if what == "converted"}


def test_a_class_folder(atypia: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "flat")
    spoil(tmp_path / "flat")
    with open(table, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            source = tmp_path / "flat" / row["image"]
            if source.is_file():
                place = tmp_path / "mine" / ("AMF" if row["label"] == "1" else "NMF") / row["image"]
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, place)
    (tmp_path / "mine" / "AMF" / "notes.txt").write_text("x", "utf-8")
    ended = atypia("train", "probe", "--data", tmp_path / "mine", *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 0, ended.err
    assert "1 file is no image or lies in no class folder, first notes.txt" in ended.err
    assert "2 of 79 figures left out because their image cannot be read" in ended.err
    assert "2 figures were left out: their images cannot be used" in ended.err
    assert "have no known case or slide: each counts as a case of its own" in ended.err


def test_a_table_with_a_byte_order_mark_and_windows_line_ends(
    atypia: Run, paint: Callable[..., Path], small_csv: Path, tmp_path: Path
) -> None:
    table = paint(tmp_path / "set")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))

    assert open_data(str(table)).fingerprint == open_data(str(small_csv)).fingerprint
    assert atypia("train", "probe", "--data", table, *TWO, *TINY, "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("image,", "picture,", "no column `image`; there are: picture"),
        ("s0-001.png,0", "s0-000.png,0", "line 3: figure 's0-000' is also in line 2; fix: remove one"),
        ("s0-001.png,0", "s0-001.png,maybe", "line 3: `label` must be one of"),
        ("s0-001.png,0", ",0", "line 3: `image` is empty; fix: name the image file"),
    ],
)
def test_a_wrong_table_names_the_line(
    old: str, new: str, words: str, atypia: Run, paint: Callable[..., Path], tmp_path: Path, own_home: Path
) -> None:
    table = paint(tmp_path / "set")
    text = table.read_text("utf-8")
    assert old in text
    table.write_text(text.replace(old, new, 1), "utf-8")
    ended = atypia("train", "probe", "--data", table, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 2 and words in ended.err
    assert untouched(own_home, tmp_path / "out")


def test_a_column_of_the_user_s_own_is_told(atypia: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "set")
    table.write_text(table.read_text("utf-8").replace("case_id", "mood", 1), "utf-8")
    ended = atypia("train", "probe", "--data", table, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 0 and "ignored columns: mood" in ended.err
    assert "80 of 80 figures have no known case or slide" in ended.err


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "one with a subfolder a class, got no images; fix: arrange it as"),
        ({"a.png": b"x"}, "1 image outside such folders"),
        ({"atypical/a.png": b"x", "normal/b.png": b""}, "none of the 2 images can be read, the first because"),
        ({"x.csv": b""}, "no images"),
    ],
)
def test_a_folder_that_holds_no_set(
    files: dict[str, bytes], words: str, atypia: Run, tmp_path: Path, own_home: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    ended = atypia("train", "probe", "--data", folder, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 2 and words in ended.err
    assert untouched(own_home, tmp_path / "out")


def test_one_class_only(atypia: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    table = paint(tmp_path / "set")
    text = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([text[0], *(line.replace(",1,", ",0,", 1) for line in text[1:])]), "utf-8")
    ended = atypia("train", "probe", "--data", table, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 2 and "fix:" in ended.err and "atypical" in ended.err


# What is refused before any work --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prob", *TWO, *TINY], "unknown recipe 'prob'; choices:"),
        (["nowhere.yaml", *TWO, *TINY], "nowhere.yaml does not exist; fix: check the path"),
        (["probe", *TWO, *TINY, "--backbone", "tiny-cmn"], "unknown backbone 'tiny-cmn'; did you mean 'tiny-cnn'?"),
        (["probe", *TWO, *TINY, "--set", "treshold=0.4"], "`treshold` is not a known key; known here:"),
        (["probe", *TWO, *TINY, "--set", "options.strength=1"], "`strength` is not a known key; known here: strengths"),
        (["probe", *TWO, *TINY, "--set", "threshold"], "`--set` must be key=value"),
        (["probe", *TINY, "--protocol", "kfolds"], "unknown protocol 'kfolds'; did you mean 'kfold'?"),
        (["probe", *TINY, "--protocol", "kfold", "--protocol-set", "k=2"], "`k` is not a known key; known here: folds"),
        (["probe", *TINY, "--split", "nowhere.json"], "nowhere.json does not exist; fix: check the path"),
        (["probe", *TINY, "--split", "x.json", "--protocol-set", "folds=2"], "does not go with `--split`"),
        (["probe", *TWO, "--backbone", "uni"], "--weights FILE"),
        (["probe", *TWO, "--backbone", "resnet50"], "run once with a network"),
        (
            ["probe", *TWO, "--backbone", "uni", "--weights", "nowhere.safetensors"],
            "nowhere.safetensors does not exist",
        ),
        (["lora", *TWO, "--backbone", "tiny-cnn"], "fix:"),
        (["probe", *TWO, *TINY, "--device", "gpu"], "`device` must be one of auto, cpu, cuda, got gpu"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    arguments: list[str], words: str, atypia: Run, small_csv: Path, tmp_path: Path, own_home: Path
) -> None:
    ended = atypia("train", *arguments, "--data", small_csv, "--out", tmp_path / "out")

    assert ended.code == 2 and ended.out == ""
    assert words in ended.err
    assert untouched(own_home, tmp_path / "out")


def test_an_unknown_source_and_an_absent_one(atypia: Run, tmp_path: Path) -> None:
    command = ("train", "probe", *TWO, *TINY, "--out", tmp_path / "out", "--data")

    unknown = atypia(*command, "ami-bt")
    assert unknown.code == 2 and "did you mean 'ami-br'?" in unknown.err
    absent = atypia(*command, "atnorm-br")
    assert absent.code == 2 and "`atypia data get atnorm-br`" in absent.err


def test_the_split_of_another_set(atypia: Run, small_csv: Path, other_csv: Path, tmp_path: Path) -> None:
    atypia("data", "split", other_csv, *TWO, "--out", tmp_path / "s.json")
    ended = atypia(
        "train", "probe", "--data", small_csv, "--split", tmp_path / "s.json", *TINY, "--out", tmp_path / "o"
    )

    assert ended.code == 2 and "one of another manifest" in ended.err and "fix: make a new split" in ended.err


def test_a_folder_with_another_training(atypia: Run, trained_folder: Path, small_csv: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained_folder, tmp_path / "out"))
    ended = atypia("train", "probe", "--data", small_csv, *TWO, *TINY, "--set", "threshold=0.3", "--out", out)

    assert ended.code == 2 and "holds another training (it differs in: recipe); fix: choose another --out" in ended.err


def test_a_file_in_the_way_of_the_output(atypia: Run, small_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        ended = atypia("train", "probe", "--data", small_csv, *TWO, *TINY, "--out", out)
        assert ended.code == 1 and f"cannot write {out}" in ended.err and "fix: choose" in ended.err


def test_a_read_only_output(atypia: Run, small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkstemp

    def refuse(*arguments: Any, **more: Any) -> Any:
        if "out" in str(more.get("dir", "")):
            raise OSError(errno.EROFS, "Read-only file system")
        return make(*arguments, **more)

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    ended = atypia("train", "probe", "--data", small_csv, *TWO, *TINY, "--out", tmp_path / "out")

    assert ended.code == 1
    assert "Read-only file system; fix: choose a folder that can be written (of the cache: $ATYPIA_CACHE)" in ended.err
