"""A laboratory's own figures: which are of one case, and which are the same image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.workflows.laboratory.own_cases import with_cases
from atypia.workflows.laboratory.own_figures import without_copies


def made(images: Mapping[str, int | None], **columns: list[Any]) -> Manifest:
    """A table without files."""
    rows = [
        {
            "figure_id": str(i),
            "dataset": "mine",
            "image": image,
            "label": label,
            **{k: v[i] for k, v in columns.items()},
        }
        for i, (image, label) in enumerate(images.items())
    ]
    return Manifest.from_rows(rows, "mine", root=Path("/somewhere/lab"))


def cases_of(*images: str, labels: list[int] | None = None) -> list[str]:
    given = dict(zip(images, labels or [i % 2 for i in range(len(images))], strict=True))
    return with_cases(made(given), "folder")[0].table["case_id"].to_pylist()


def test_every_folder_is_a_case_whatever_its_name() -> None:
    names = ["NA", "unknown", "-", " c1", "none"]
    assert cases_of(*(f"{name}/{i}.png" for name in names for i in "ab")) == [name for name in names for _ in "ab"]
    assert cases_of("a.png", "b.png", "c/a.png") == ["lab", "lab", "c"], "the table's own folder is one too"
    assert len(set(cases_of("a.png", "lab/b.png", "x/1/a.png", "y/1/a.png"))) == 4


def test_folders_of_classes_are_no_cases() -> None:
    images = ["c1/Atypical/a.png", "c1/Normal/a.png", "c2/Normal/a.png", "c3/a.png"]
    assert cases_of(*images) == ["c1", "c1", "c2", "c3"]
    assert cases_of("AMF/c1/a.png", "NMF/c1/a.png", "NMF/c2/a.png") == ["c1", "c1", "c2"]
    assert cases_of("c1/1/a.png", "c1/0/a.png", "c2/0/a.png", labels=[1, 0, 0]) == ["c1", "c1", "c2"]
    with pytest.raises(InputError, match=r"got class folders alone; fix: .*put the crops of each case into a folder"):
        cases_of("Atypical/a.png", "Normal/a.png")


def test_numbered_folders_are_cases_unless_they_are_the_labels() -> None:
    assert cases_of("0/a.png", "1/a.png", "2/a.png", labels=[0, 1, 0]) == ["0", "1", "2"]
    assert cases_of("0/a.png", "1/a.png", labels=[1, 1]) == ["0", "1"]


def test_cases_that_are_known_stay(tmp_path: Path) -> None:
    manifest = made({"c1/a.png": 0, "c1/b.png": 1}, case_id=["mine", None])
    assert with_cases(manifest, "folder")[0].table["case_id"].to_pylist() == ["mine", "c1"]
    whole = made({"c1/a.png": 0, "c1/b.png": 1}, case_id=["a", "b"])
    assert with_cases(whole, "folder") == (whole, ("--cases folder changes nothing: every figure has a case",))


def test_figures_without_a_case_are_counted_where_some_have_one() -> None:
    images = {f"{i}.png": i % 2 for i in range(4)}
    said = with_cases(made(images, case_id=["c", None, None, None]), "given")[1]
    assert len(said) == 1 and said[0].startswith(
        "3 figures have no case and count each as a case of its own (4 figures"
    )
    assert with_cases(made(images, case_id=["c"] * 4), "given")[1] == ()
    assert with_cases(made(images, slide_id=["s"] * 4), "given")[1] == (), "a slide stands for its case"


@pytest.fixture
def crop() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def listed(folder: Path, lines: list[str], name: str = "mine.csv") -> Manifest:
    (folder / name).write_text("\n".join(["image,label,case_id", *lines]) + "\n")
    return open_data(folder / name)


def test_copies_are_told_by_pixels_and_not_by_files(tmp_path: Path, crop: np.ndarray[Any, Any]) -> None:
    Image.fromarray(crop).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(crop).save(tmp_path / "b.png", compress_level=9)
    Image.fromarray(crop).save(tmp_path / "c.tif")
    Image.fromarray(np.ascontiguousarray(crop[::-1])).save(tmp_path / "turned.png")
    Image.fromarray(255 - crop).save(tmp_path / "other.png")
    lines = ["a.png,1,x", "b.png,1,y", "c.tif,1,z", "turned.png,1,z", "other.png,0,x"]
    found, said = without_copies(listed(tmp_path, lines))
    assert found.ids == ["a", "other"] and said == ("3 figures left out: their images are copies of others'",)
    found, said = without_copies(listed(tmp_path, ["a.png,1,x", "c.tif,0,x", "other.png,0,x"], "two.csv"))
    assert found.ids == ["other"] and said == ("2 figures left out: the same image with different labels",)
    with pytest.raises(DataError, match="all figures are copies with different labels"):
        without_copies(listed(tmp_path, ["a.png,1,x", "b.png,0,x"], "none.csv"))


def test_the_same_copy_is_kept_whatever_the_order(tmp_path: Path, crop: np.ndarray[Any, Any]) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(crop).save(tmp_path / name)
    lines = ["c.png,1,", "b.png,1,second", "a.png,1,third"]
    kept = [without_copies(listed(tmp_path, lines[::step], f"{step}.csv"))[0].table.to_pylist() for step in (1, -1)]
    assert [[row["figure_id"] for row in rows] for rows in kept] == [["b"], ["b"]], "of a known case, the first by name"
    unlabelled = listed(tmp_path, ["a.png,,", "b.png,0,"], "open.csv")
    assert without_copies(unlabelled)[0].table["label"].to_pylist() == [0], "the image has a label"


def test_figures_on_slides_are_told_apart_by_slide_and_position() -> None:
    rows = [("s", 1.0), ("s", 1.0), ("s", 2.0), ("t", 1.0)]
    manifest = Manifest.from_rows(
        [
            {"figure_id": str(i), "dataset": "mine", "image": slide, "x_px": x, "y_px": 5.0, "label": 1}
            for i, (slide, x) in enumerate(rows)
        ],
        "mine",
    )
    assert without_copies(manifest)[0].ids == ["0", "2", "3"]
