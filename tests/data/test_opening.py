"""What may stand behind ``--data``, and how it is kept and found again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base.errors import AbsentError, DataError, InputError
from atypia.base.paths import cache_root, home
from atypia.data.manifest import Manifest
from atypia.data.sources import opening
from atypia.data.sources.opening import open_data, record_import, source_folder


def crop(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 50, 150)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("AMF/a.png", "NMF/b.png", "NMF/c.png")):
        crop(tmp_path / "mine" / name, number * 20)
    return tmp_path / "mine"


def test_class_folder_table_and_manifest_agree(folder: Path) -> None:
    from_folder = open_data(str(folder))
    (folder / "mine.csv").write_text("image,label\nAMF/a.png,1\nNMF/b.png,0\nNMF/c.png,0\n")
    from_table = open_data(str(folder / "mine.csv"))
    assert from_table.fingerprint == from_folder.fingerprint
    saved = from_folder.save(folder.parent / "saved" / "manifest.parquet")
    assert open_data(str(saved)).fingerprint == from_folder.fingerprint
    assert open_data(str(saved.parent)).fingerprint == from_folder.fingerprint


def test_pooled(folder: Path, tmp_path: Path) -> None:
    crop(tmp_path / "other" / "1" / "z.png", 9)
    pooled = open_data(f"{folder}+{tmp_path / 'other'}")
    assert len(pooled) == 4 and int(pooled.labels.sum()) == 2
    assert set(pooled.table[r.DATASET].to_pylist()) == {"mine", "other"}
    assert pooled.root is not None
    assert all((pooled.root / image).is_file() for image in pooled.table[r.IMAGE].to_pylist())


def test_a_plus_in_a_folder_s_own_name(folder: Path) -> None:
    renamed = folder.rename(folder.parent / "a+b")
    assert len(open_data(str(renamed))) == 3


def test_opened_again_nothing_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_data(str(folder))

    def refuse(*_: object) -> Manifest:
        raise AssertionError("built again although nothing changed")

    monkeypatch.setattr(opening.user, "read_folder", refuse)
    assert open_data(str(folder)).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", ["content", "new", "lost"])
def test_a_changed_folder_is_read_again(folder: Path, change: str) -> None:
    before = open_data(str(folder))
    if change == "content":
        Image.new("RGB", (9, 9)).save(folder / "AMF" / "a.png")
    elif change == "new":
        crop(folder / "AMF" / "d.png", 99)
    else:
        (folder / "NMF" / "c.png").unlink()
    after = open_data(str(folder))
    assert after.fingerprint != before.fingerprint
    assert len(after) == {"content": 3, "new": 4, "lost": 2}[change]


def test_an_image_of_a_table_that_appears_later_is_noticed(folder: Path) -> None:
    (folder / "t.csv").write_text("image,label\nAMF/a.png,1\nNMF/later.png,0\n")
    assert len(open_data(str(folder / "t.csv"))) == 1
    crop(folder / "NMF" / "later.png", 77)
    assert len(open_data(str(folder / "t.csv"))) == 2


def test_a_damaged_cache_file_is_replaced(folder: Path) -> None:
    first = open_data(str(folder))
    (kept,) = (cache_root() / "manifests").glob("*.parquet")
    kept.write_bytes(b"PAR1 cut")
    assert open_data(str(folder)).fingerprint == first.fingerprint
    assert Manifest.load(kept).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("ami-bt", r"did you mean 'ami-br'\?.*sources: ami-br, atnorm-br"),
        ("no/such/thing.csv", r"does not exist; fix: check the path, or name a source; sources: ami-br"),
        ("ami-br+", "has an empty part"),
        ("ami-br + nothing", "ami-br is not on this machine"),
        ("~nobody-of-this-name.csv", "does not exist"),
    ],
)
def test_unknown_references(reference: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        open_data(reference, tmp_path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match=r"x\.txt is neither \.parquet nor \.csv"):
        open_data(str(tmp_path / "x.txt"))


def test_a_published_folder_is_not_taken_for_the_user_s_own(tmp_path: Path) -> None:
    crop(tmp_path / "AMi-Br" / "Atypical" / "x.png", 1)
    crop(tmp_path / "AtNorM-Br" / "Normal" / "x.png", 1)
    with pytest.raises(InputError, match="is the published folder of ami-br, atnorm-br; fix: name the source"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("name", ["ami-br", "midog25-atypical"])
def test_absent_source_names_the_remedy(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        AbsentError, match=f"{name} is not on this machine; fix: .*atypia data import {name} --from DIR"
    ):
        open_data(name, tmp_path)


def test_unknown_source() -> None:
    with pytest.raises(InputError, match="unknown data source 'ami'"):
        source_folder("ami")
    with pytest.raises(InputError, match="unknown data source 'ami'"):
        record_import("ami", Path())


@pytest.mark.parametrize("record", ["{", "[]", '{"path": 3}', '{"path": "/nowhere"}'])
def test_a_damaged_or_stale_import_is_passed_over(record: str, tmp_path: Path) -> None:
    (home() / "imports").mkdir(parents=True)
    (home() / "imports" / "ami-br.json").write_text(record)
    assert source_folder("ami-br", tmp_path) is None


def test_where_a_source_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(name: str) -> Path:
        crop(tmp_path / name / "AMi-Br_Benchmark" / "AMi-Br" / "Atypical" / "x.png", 1)
        return tmp_path / name

    given, usual, imported = place("given"), place("usual"), place("imported")
    monkeypatch.setenv("ATYPIA_DATA", str(usual))
    assert source_folder("ami-br") == usual / "AMi-Br_Benchmark"
    record_import("ami-br", imported)
    assert source_folder("ami-br") == imported / "AMi-Br_Benchmark"
    assert source_folder("ami-br", given) == given / "AMi-Br_Benchmark"
    assert source_folder("ami-br", tmp_path / "empty") == imported / "AMi-Br_Benchmark"
    assert source_folder("ami-br", given / "AMi-Br_Benchmark") == given / "AMi-Br_Benchmark"


def test_mixed_tasks_are_not_pooled(folder: Path, tmp_path: Path) -> None:
    row = {r.FIGURE_ID: "1", r.DATASET: "d", r.IMAGE: "s.tiff", r.X_PX: 1.0, r.Y_PX: 2.0, r.LABEL: 1}
    other = Manifest.from_rows([row], "points", r.MITOSIS_TASK).save(tmp_path / "points.parquet")
    with pytest.raises(DataError, match="different tasks cannot be pooled"):
        open_data(f"{folder}+{other}")


def test_opening_does_not_import_torch() -> None:
    import subprocess

    code = "import sys, atypia.data.sources.opening as o; list(o.SOURCES); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
