"""Which points are on which slide."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base.errors import DataError, InputError
from atypia.data.points.names import bare_stem, match, matching, points_file


def named(slide: str, names: list[str], beside: tuple[str, ...] = ()) -> str | None:
    found = match(slide, names, beside)
    return None if found is None else found.name


@pytest.mark.parametrize(
    ("slide", "names", "right"),
    [
        ("/x/S21-100.svs", ["S21-100", "S21-100.2"], "S21-100"),
        ("/x/S21-100.2.svs", ["S21-100", "S21-100.2"], "S21-100.2"),
        ("/x/S21-100.2", ["S21-100", "S21-100.2"], "S21-100.2"),
        ("/x/p1/HE.svs", ["p1/HE.svs", "p2/HE.svs"], "p1/HE.svs"),
        ("/x/p2/HE.svs", ["p1\\HE.svs", "p2\\HE.svs"], "p2\\HE.svs"),
        ("/x/p2/HE.svs", ["p1/HE", "p2/HE"], "p2/HE"),
        ("/x/p2/HE.svs", ["HE.svs", "p2/HE.svs"], "p2/HE.svs"),
        ("/x/p2/HE.svs", ["/x/p2/HE.svs", "p2/HE.svs"], "/x/p2/HE.svs"),
        ("/x/a.svs", ["a", "a.svs"], "a.svs"),
        ("/x/a.svs", ["C:\\old\\a.svs"], "C:\\old\\a.svs"),
        ("/x/a.svs", ["a.svs - Series 0", "b.svs"], "a.svs - Series 0"),
        ("/x/a - b.svs", ["a", "a - b.svs", "a - b.svs - Series 1"], "a - b.svs"),
        ("/x/a.ome.tif", ["a", "b"], "a"),
        ("/x/a.tiff", ["a.svs"], "a.svs"),
        ("/x/CMU.svs", ["cmu.svs", "other"], "cmu.svs"),
        ("/x/a.svs", ["b.svs", "aa.svs"], None),
    ],
)
def test_one_rule(slide: str, names: list[str], right: str | None) -> None:
    assert named(slide, names) == right


@pytest.mark.parametrize(
    ("slide", "names"),
    [
        ("/x/HE.svs", ["p1/HE.svs", "p2/HE.svs"]),
        ("/x/a.svs", ["a.svs - Series 0", "a.svs - Series 1"]),
        ("/x/a.svs", ["A.svs", "A.SVS"]),
        ("/x/a.svs", ["a.tif", "a.ndpi"]),
    ],
)
def test_what_is_ambiguous_is_refused_with_the_candidates(slide: str, names: list[str]) -> None:
    with pytest.raises(DataError, match="must be one, got") as refused:
        match(slide, names)
    assert all(name in str(refused.value) for name in names)


def test_unicode_forms_are_one_where_that_is_unique() -> None:
    composed, apart = (unicodedata.normalize(form, "Müller.svs") for form in ("NFC", "NFD"))
    assert named(f"/x/{apart}", [composed]) == composed
    assert named(f"/x/{composed}", [apart, composed]) == composed


def test_points_of_another_slide_of_the_list_are_not_taken() -> None:
    """One folder is in the table, two slides have the name: the other slide's points are not this one's."""
    assert named("/x/p2/HE.svs", ["p1/HE.svs"]) == "p1/HE.svs"
    assert named("/x/p2/HE.svs", ["p1/HE.svs"], ("/x/p1/HE.svs",)) is None
    with pytest.raises(DataError, match=r"no point is on 'HE\.svs'"):
        matching("/x/p2/HE.svs", ["p1/HE.svs"], ("/x/p1/HE.svs",))


def test_an_inexact_match_deserves_a_note() -> None:
    inexact = ("a.tif", "other/a.svs", "A.svs", "a.svs - Series 0")
    found = [match("/x/a.svs", [name]) for name in ("a.svs", "x/a.svs", "a", *inexact)]
    assert [one is not None and one.exact for one in found] == [True, True, True, False, False, False, False]


parts = st.text("abcS-. 12é", min_size=1, max_size=6).filter(lambda text: text.strip(". ") == text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(parts, parts), min_size=1, max_size=8, unique=True), st.data())
def test_each_slide_finds_its_own_points(slides: list[tuple[str, str]], data: st.DataObject) -> None:
    """Named by full or relative path, every slide of a folder gets its own name, whatever the others are called."""
    paths = [f"/root/{folder}/{name}.svs" for folder, name in slides]
    names = [data.draw(st.sampled_from([path, path.removeprefix("/root/")])) for path in paths]
    for path, name in zip(paths, names, strict=True):
        assert named(path, names) == name


@settings(max_examples=50, deadline=None)
@given(parts)
def test_a_stem_is_what_is_before_a_known_suffix(name: str) -> None:
    assert bare_stem(f"{name}.svs") == name
    assert bare_stem(f"{name}.ome.tiff") == name
    assert bare_stem(f"{name}.2") == f"{name}.2"


# Folders of points ----------------------------------------------------------------------------


def test_a_folder_of_points(tmp_path: Path) -> None:
    for name in ("a.geojson", "b.svs.geojson", "S21-100.csv", "S21-100.2.csv", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "HE.geojson").touch()
    right = {
        "/x/a.svs": "a.geojson",
        "/x/b.svs": "b.svs.geojson",
        "/x/S21-100.svs": "S21-100.csv",
        "/x/S21-100.2.svs": "S21-100.2.csv",
        "/x/p1/HE.svs": "p1/HE.geojson",
        "/x/A.svs": "a.geojson",
    }
    for slide, file in right.items():
        assert points_file(tmp_path, slide) == tmp_path / file
    with pytest.raises(InputError, match=r"must be a file named c\.geojson or c\.svs\.geojson"):
        points_file(tmp_path, "/x/c.svs")


def test_zarr_folders_of_points_are_files_and_of_images_are_none(tmp_path: Path) -> None:
    for folder in ("d.zarr", "p2/HE.zarr"):
        for array in ("x", "y"):
            (tmp_path / folder / array).mkdir(parents=True)
            (tmp_path / folder / array / "zarr.json").touch()
        (tmp_path / folder / "zarr.json").touch()
    (tmp_path / "image.zarr" / "0").mkdir(parents=True)
    (tmp_path / "image.zarr" / ".zgroup").touch()
    (tmp_path / "image.zarr" / "0" / "e.json").touch()
    assert points_file(tmp_path / "d.zarr", "/x/d.svs") == tmp_path / "d.zarr"
    assert points_file(tmp_path, "/x/d.svs") == tmp_path / "d.zarr"
    assert points_file(tmp_path, "/x/p2/HE.svs") == tmp_path / "p2/HE.zarr"
    for name in ("zarr", "image", "e"):
        with pytest.raises(InputError, match=rf"must be a file named {name}\.geojson"):
            points_file(tmp_path, f"/x/{name}.svs")


@pytest.mark.parametrize("names", [("a.geojson", "a.svs.geojson"), ("a.geojson", "a.csv")])
def test_two_files_for_a_slide_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="must be one file") as refused:
        points_file(tmp_path, "/x/a.svs")
    assert all(name in str(refused.value) for name in names)
