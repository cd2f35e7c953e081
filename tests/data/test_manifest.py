"""The manifest: validation, fingerprints, selection, pooling and files."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base import records as r
from atypia.base.errors import AbsentError, DataError
from atypia.data.crops.store import images_absent, open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import SCHEMA, Manifest, domain_name
from atypia.workflows.laboratory.own_cases import with_cases


def row(i: int, **changes: Any) -> dict[str, Any]:
    return {r.FIGURE_ID: f"f{i}", r.DATASET: "set", r.IMAGE: f"crops/{i}.png", r.LABEL: i % 2, **changes}


def rows(n: int = 4) -> list[dict[str, Any]]:
    return [row(i) for i in range(n)]


ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            r.LABEL: st.none() | st.integers(0, 1),
            r.CASE_ID: st.none() | st.sampled_from(["a", "b", "ä|b"]),
            r.SLIDE_ID: st.none() | st.sampled_from(["s1", "s2"]),
            r.VOTES: st.none() | st.lists(st.none() | st.integers(0, 1), max_size=3),
            r.PHASE: st.none() | st.lists(st.none() | st.sampled_from(["metaphase", "anaphase"]), max_size=2),
            r.SCANNER: st.none() | st.sampled_from(["A", "B"]),
            r.MPP: st.none() | st.floats(0.1, 2.0),
            r.WIDTH_PX: st.none() | st.integers(1, 4096),
        },
    ),
    min_size=1,
    max_size=8,
).map(lambda drawn: [row(i, **given) for i, given in enumerate(drawn)])


def test_absent_columns_are_null_and_the_columns_are_the_schema() -> None:
    manifest = Manifest.from_rows(rows(), "set")
    assert manifest.table.schema.equals(SCHEMA)
    assert len(manifest) == 4
    assert manifest.ids == ["f0", "f1", "f2", "f3"]
    np.testing.assert_array_equal(manifest.labels, np.array([0, 1, 0, 1], dtype=np.int8))
    for column in set(SCHEMA.names) - {r.FIGURE_ID, r.DATASET, r.IMAGE, r.LABEL}:
        assert manifest.table[column].null_count == 4, column


def test_soft_labels_and_raters_come_from_the_votes_that_are_there() -> None:
    manifest = Manifest.from_rows(
        [
            row(0, votes=[1, 0, None]),
            row(1, votes=[1, 1, 0]),
            row(2, votes=[None, None]),
            row(3, votes=[1], soft_label=0.25, n_raters=9),
            row(4),
        ],
        "set",
    )
    assert manifest.table[r.SOFT_LABEL].to_pylist() == [0.5, pytest.approx(2 / 3), None, 0.25, None]
    assert manifest.table[r.N_RATERS].to_pylist() == [2, 3, 0, 9, None]


def test_the_domain_is_derived_where_it_is_not_given() -> None:
    manifest = Manifest.from_rows(
        [row(0, scanner="A", tumour="breast"), row(1, scanner="A", domain="own"), row(2)], "set"
    )
    assert manifest.table[r.DOMAIN].to_pylist() == ["A | breast", "own", None]
    assert domain_name(None, None, None, None) is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "set: no figures; fix: "),
        ([row(0), row(0)], r"set: 1 duplicate figure ids \(f0\); fix: make ids unique"),
        ([{**row(0), r.FIGURE_ID: None}], "set: 1 row without `figure_id`"),
        ([{**row(0), r.IMAGE: None}], "set: 1 row without `image`"),
        ([{k: v for k, v in row(0).items() if k != r.DATASET}], "set: 1 row without `dataset`"),
        ([row(0, label=2)], r"`label` must be 0 or 1 \(0 normal, 1 atypical\), got \[2\]"),
        ([row(0, soft_label=1.5)], "`soft_label` must be between 0 and 1, got 1.5"),
        ([row(0, soft_label=float("nan"))], "`soft_label` must be between 0 and 1, got nan"),
        ([row(0, mpp=0.0)], "`mpp` must be between 0.001 and 1000, got 0.0"),
        ([row(0, x_px=3.0)], "only one of `x_px` and `y_px`"),
        ([row(0, label="atypical")], "set: a value has the wrong type: "),
        ([row(0, label=300)], "set: a value has the wrong type: "),
        ([row(0, colour="red")], "set: unknown columns colour; known: figure_id, "),
    ],
)
def test_bad_rows_are_refused(bad: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Manifest.from_rows(bad, "set")


def test_an_unknown_task_and_foreign_columns_are_refused() -> None:
    with pytest.raises(DataError, match=r"`task` must be atypical or mitosis, got phase"):
        Manifest.from_rows(rows(), "set", task="phase")
    with pytest.raises(DataError, match="other columns than a manifest"):
        Manifest(pa.table({"a": [1]}), "set").validate()


def test_a_name_is_one_however_its_characters_are_composed() -> None:
    names = [unicodedata.normalize(form, "Fall ä") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    rows = [
        {"figure_id": str(i), "dataset": "d", "image": f"{name}/x.png", "case_id": name, "scanner": name}
        for i, name in enumerate(names)
    ]
    found = Manifest.from_rows(rows, "d")
    assert set(found.cases.tolist()) == {names[0]} and len(set(found.table["domain"].to_pylist())) == 1
    assert found.table["image"].to_pylist() == [f"{name}/x.png" for name in names], "files keep their names"
    by_folder, _ = with_cases(Manifest.from_rows([{**rows[0]}, {**rows[1], "case_id": None}], "d"), "folder")
    assert set(by_folder.cases.tolist()) == {names[0]}


def test_the_task_words_the_label_error() -> None:
    with pytest.raises(DataError, match="0 look-alike, 1 mitotic"):
        Manifest.from_rows([row(0, label=-1)], "set", task=r.MITOSIS_TASK)


def test_labels_are_refused_where_one_is_missing() -> None:
    manifest = Manifest.from_rows([row(0), row(1, label=None)], "set")
    with pytest.raises(DataError, match="1 of 2 figures have no label; fix: label or drop them"):
        _ = manifest.labels


def test_figures_of_unknown_case_are_never_one_case() -> None:
    manifest = Manifest.from_rows([row(0, case_id="a"), row(1), row(2), row(3, case_id="a")], "set")
    cases = manifest.cases
    assert cases[0] == cases[3] == "a"
    assert len(set(cases)) == 3


def test_a_slide_stands_in_for_an_unknown_case() -> None:
    manifest = Manifest.from_rows([row(0, slide_id="s"), row(1, slide_id="s"), row(2, case_id="s")], "set")
    assert manifest.cases[0] == manifest.cases[1] != manifest.cases[2]


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_a_saved_manifest_is_the_same_when_read(tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]) -> None:
    path = tmp_path_factory.mktemp("m") / "manifest.parquet"
    manifest = Manifest.from_rows(drawn, "set", root=path.parent, notes=["a note"])
    loaded = Manifest.load(manifest.save(path))
    assert loaded.table.equals(manifest.table)
    assert loaded.fingerprint == manifest.fingerprint
    assert (loaded.name, loaded.task, loaded.root, loaded.notes) == ("set", r.ATYPICAL_TASK, path.parent, ("a note",))


@settings(max_examples=30, deadline=None)
@given(ROWS, st.data())
def test_taking_rows_keeps_them_and_finds_them_again(drawn: list[Any], data: st.DataObject) -> None:
    manifest = Manifest.from_rows(drawn, "set")
    picked = data.draw(st.lists(st.sampled_from(range(len(drawn))), unique=True))
    taken = manifest.take(np.array(picked, dtype=int))
    assert taken.ids == [manifest.ids[i] for i in picked]
    assert taken.table.to_pylist() == [manifest.table.to_pylist()[i] for i in picked]
    np.testing.assert_array_equal(manifest.rows_of(taken.ids), picked)
    mask = np.isin(np.arange(len(drawn)), picked)
    assert manifest.take(mask).ids == [manifest.ids[i] for i in sorted(picked)]


def test_the_fingerprint_is_of_rows_and_task_only(tmp_path: Path) -> None:
    manifest = Manifest.from_rows(rows(), "set")
    for same in (replace(manifest, name="other"), replace(manifest, root=tmp_path), replace(manifest, notes=("n",))):
        assert same.fingerprint == manifest.fingerprint
    others = [
        replace(manifest, task=r.MITOSIS_TASK),
        manifest.take([1, 0, 2, 3]),
        manifest.take([0, 1, 2]),
        Manifest.from_rows([row(0, label=1), *rows()[1:]], "set"),
        Manifest.from_rows([row(0, case_id="other"), *rows()[1:]], "set"),
    ]
    assert len({m.fingerprint for m in [manifest, *others]}) == len(others) + 1


def test_unknown_ids_are_named() -> None:
    with pytest.raises(DataError, match="set does not hold 2 figures, first 'x'"):
        Manifest.from_rows(rows(), "set").rows_of(["f0", "x", "y"])


def test_pooling_keeps_rows_and_makes_image_paths_absolute(tmp_path: Path) -> None:
    first = Manifest.from_rows(rows(2), "one", root=tmp_path / "a", notes=["n1"])
    second = Manifest.from_rows([row(7)], "two", root=tmp_path / "b", notes=["n2"])
    pooled = Manifest.concat([first, second])
    assert pooled.name == "one+two"
    assert pooled.ids == ["f0", "f1", "f7"]
    assert pooled.notes == ("n1", "n2")
    assert pooled.root is not None
    images = [pooled.root / image for image in pooled.table[r.IMAGE].to_pylist()]
    assert images == [tmp_path / "a/crops/0.png", tmp_path / "a/crops/1.png", tmp_path / "b/crops/7.png"]
    assert Manifest.concat([first]) is first
    assert images_absent(pooled) == ""


def test_a_pool_lacks_its_images_where_one_set_does(tmp_path: Path) -> None:
    there, bare = Manifest.from_rows(rows(2), "one", root=tmp_path), Manifest.from_rows([row(7)], "two")
    pooled = Manifest.concat([there, bare])
    assert pooled.root is None and pooled.notes == ("the images of two are not at hand, only the table",)
    assert images_absent(pooled).startswith(
        "one+two: its images are not available, only its table (the images of two are not at hand, only the table); fix: "
    )
    with pytest.raises(AbsentError, match="the images of two are not at hand"):
        open_store(pooled, CropGeometry(16))


def test_pooling_refuses_two_tasks_and_a_figure_twice(tmp_path: Path) -> None:
    first = Manifest.from_rows(rows(), "one", root=tmp_path)
    with pytest.raises(DataError, match="different tasks cannot be pooled"):
        Manifest.concat([first, replace(first, task=r.MITOSIS_TASK)])
    with pytest.raises(DataError, match=r"4 duplicate figure ids \(f0, f1, f2, f3\)"):
        Manifest.concat([first, first])


def test_a_moved_folder_keeps_its_manifest(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    Manifest.from_rows(rows(), "set", root=here).save(here / "manifest.parquet")
    here.rename(tmp_path / "there")
    assert Manifest.load(tmp_path / "there" / "manifest.parquet").root == tmp_path / "there"


def test_a_root_elsewhere_and_none_are_kept(tmp_path: Path) -> None:
    for root in (tmp_path / "images", None):
        path = Manifest.from_rows(rows(), "set", root=root).save(tmp_path / "m" / "manifest.parquet")
        assert Manifest.load(path).root == root


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; fix: check the path"):
        Manifest.load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("figure_id,label\n")
    with pytest.raises(DataError, match="is not a readable Parquet file"):
        Manifest.load(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"atypia": "{}"}), tmp_path / "predictions.parquet")
    for name in ("other", "predictions"):
        with pytest.raises(DataError, match="is Parquet but not an Atypia manifest"):
            Manifest.load(tmp_path / f"{name}.parquet")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = Manifest.from_rows(rows(), "set").save(tmp_path / "manifest.parquet")
    whole = path.read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="is not a readable Parquet file"):
            Manifest.load(path)


def test_a_manifest_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = Manifest.from_rows(rows(), "set").save(tmp_path / "manifest.parquet")
    table = pq.read_table(path)
    flipped = pa.array([1 - label for label in table[r.LABEL].to_pylist()], pa.int8())
    edited = table.set_column(table.schema.get_field_index(r.LABEL), SCHEMA.field(r.LABEL), flipped)
    pq.write_table(edited, path)
    with pytest.raises(DataError, match="was changed after it was written; fix: build it again"):
        Manifest.load(path)


def test_column_gives_numbers_and_objects() -> None:
    manifest = Manifest.from_rows([row(0, mpp=0.25), row(1, case_id="a")], "set")
    np.testing.assert_array_equal(manifest.column(r.MPP), [0.25, np.nan])
    assert manifest.column(r.CASE_ID).tolist() == [None, "a"]
