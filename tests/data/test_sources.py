"""Every published source against a fabricated folder in its layout, and against the real data."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.base.errors import AbsentError, DataError
from atypia.data.sources import layouts
from atypia.data.sources.catalogue import SOURCES, Source, add, markdown
from atypia.data.sources.opening import open_data, published_manifest, record_import, source_folder

FIXTURES = Path(__file__).parents[1] / "fixtures" / "layouts"
NAMES = [
    "ami-br",
    "atnorm-br",
    "atnorm-md",
    "ccmct",
    "cmc",
    "lung-mito",
    "midog2021",
    "midog2022",
    "midog25-atypical",
    "midogpp",
    "omg-octo",
    "tupac16-al",
]


def layout_of(name: str) -> ModuleType:
    path = FIXTURES / f"{name.replace('-', '_')}.py"
    if not path.is_file():
        pytest.fail(f"source {name} has no fabricated layout; fix: write tests/fixtures/layouts/{path.name}")
    spec = importlib.util.spec_from_file_location(f"layout_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def painter() -> Callable[[Path], None]:
    """Writes small images, each of another colour, whatever the file's suffix says."""
    count = 0

    def paint(path: Path) -> None:
        nonlocal count
        count += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "TIFF" if path.suffix in (".tif", ".tiff", ".svs") else "PNG"
        Image.new("RGB", (16, 16), (200, count * 7 % 256, 150)).save(path, kind)

    return paint


@pytest.fixture(params=list(SOURCES))
def source(request: pytest.FixtureRequest) -> Source:
    return SOURCES[request.param]


@pytest.fixture
def fabricated(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, Path, ModuleType]:
    """A small published folder below a data root of its own, and an entry that expects its counts."""
    layout = layout_of(source.name)
    folder = tmp_path / "root" / source.folders[0]
    folder.mkdir(parents=True)
    layout.fabricate(folder, painter())
    monkeypatch.setitem(SOURCES._entries, source.name, replace(source, expected=layout.EXPECTED))
    return source, folder, layout


def test_the_catalogue_holds_the_published_sets() -> None:
    assert set(NAMES) <= set(SOURCES)


def test_every_fixture_belongs_to_a_source() -> None:
    assert {path.stem for path in FIXTURES.glob("*.py")} == {name.replace("-", "_") for name in SOURCES}


def test_entry_is_well_formed(source: Source) -> None:
    assert source.name == SOURCES[source.name].name
    assert source.task in r.CLASS_NAMES
    for text in (source.title, source.licence, source.citation, source.homepage, source.by_hand, source.mpp):
        assert text.strip() == text and text
    assert source.homepage.startswith("https://")
    assert source.folders and source.marks and source.inputs and source.version >= 1
    for file in source.files:
        assert file.url.startswith("https://")
        assert not Path(file.filename).is_absolute() and ".." not in Path(file.filename).parts
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size_bytes is None or file.size_bytes > 0
    assert len({file.filename for file in source.files}) == len(source.files)


def test_overlaps_are_mutual(source: Source) -> None:
    for other in source.overlaps:
        assert source.name in SOURCES[other].overlaps


def test_the_documentation_lists_the_catalogue_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "data.md"
    assert markdown() in page.read_text(encoding="utf-8"), "fix: run `make docs`"


def test_entry_without_a_new_name_is_refused() -> None:
    with pytest.raises(ValueError, match="already registered"):
        add(SOURCES["ami-br"])


def test_fabricated_folder_is_found_and_read(fabricated: tuple[Source, Path, ModuleType]) -> None:
    source, folder, layout = fabricated
    root = folder.parent
    assert source_folder(source.name, root) == folder
    manifest = open_data(source.name, root)
    labels = manifest.table[r.LABEL].to_pylist()
    assert (len(labels), labels.count(1)) == (layout.EXPECTED.total, layout.EXPECTED.positive)
    assert manifest.task == source.task and manifest.name == source.name
    assert set(manifest.table[r.DATASET].to_pylist()) == {source.name}
    rows = {row[r.FIGURE_ID]: row for row in manifest.table.to_pylist()}
    for figure, facts in layout.CHECKS.items():
        for column, value in facts.items():
            found = rows[figure][column]
            assert found == (pytest.approx(value) if isinstance(value, float) else value), (figure, column)


def test_images_are_where_the_manifest_says(fabricated: tuple[Source, Path, ModuleType]) -> None:
    source, folder, _ = fabricated
    manifest = open_data(source.name, folder.parent)
    assert manifest.root is not None and manifest.root.is_relative_to(folder)
    for row in manifest.table.to_pylist():
        path = manifest.root / row[r.IMAGE]
        if row[r.X_PX] is None:
            assert row[r.SHA256] == file_sha256(path)
            assert (row[r.WIDTH_PX], row[r.HEIGHT_PX]) == (16, 16)
        else:
            assert row[r.SHA256] is None
    assert any((manifest.root / image).is_file() for image in manifest.table[r.IMAGE].to_pylist())


def test_opened_again_it_is_the_same(fabricated: tuple[Source, Path, ModuleType]) -> None:
    source, folder, _ = fabricated
    first = open_data(source.name, folder.parent)
    again = open_data(source.name, folder.parent)
    assert again.fingerprint == first.fingerprint
    assert (again.root, again.notes, again.task) == (first.root, first.notes, first.task)


def test_counts_that_differ_raise_and_name_both(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / source.folders[0]
    folder.mkdir()
    layout = layout_of(source.name)
    layout.fabricate(folder, painter())
    if source.expected.total is None:
        assert len(open_data(source.name, tmp_path)) == layout.EXPECTED.total
        return
    found = f"{source.name}: published {source.expected.total:,} figures, found {layout.EXPECTED.total}; published"
    with pytest.raises(DataError, match=found):
        open_data(source.name, tmp_path)


def test_imported_folder_is_used_in_place(fabricated: tuple[Source, Path, ModuleType], tmp_path: Path) -> None:
    source, folder, _ = fabricated
    elsewhere = tmp_path / "elsewhere" / "some name"
    elsewhere.parent.mkdir()
    folder.rename(elsewhere)
    with pytest.raises(AbsentError, match=f"atypia data import {source.name} --from DIR"):
        open_data(source.name, folder.parent)
    assert record_import(source.name, elsewhere) == elsewhere
    assert source_folder(source.name, folder.parent) == elsewhere
    assert open_data(source.name, folder.parent).root is not None


def test_a_folder_in_another_layout_is_refused(source: Source, tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    with pytest.raises(DataError, match=f"does not hold {source.name} in its published layout"):
        record_import(source.name, tmp_path)
    assert source_folder(source.name, tmp_path) is None


@pytest.fixture
def small_ami_br(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layout = layout_of("ami-br")
    folder = tmp_path / "AMi-Br_Benchmark"
    layout.fabricate(folder, painter())
    monkeypatch.setitem(SOURCES._entries, "ami-br", replace(SOURCES["ami-br"], expected=layout.EXPECTED))
    return folder


def test_changed_file_is_noticed(small_ami_br: Path) -> None:
    before = published_manifest("ami-br", small_ami_br.parent)
    Image.new("RGB", (20, 20)).save(small_ami_br / "AMi-Br" / "Normal" / "MIDOG21_6.png")
    after = published_manifest("ami-br", small_ami_br.parent)
    assert after.fingerprint != before.fingerprint
    assert {row[r.FIGURE_ID]: row[r.WIDTH_PX] for row in after.table.to_pylist()}["MIDOG21_6"] == 20


def test_lost_crop_is_named(small_ami_br: Path) -> None:
    (small_ami_br / "AMi-Br" / "Atypical" / "MIDOG21_70.png").unlink()
    with pytest.raises(DataError, match=r"published 2 atypical, found 1.*without a crop, first MIDOG21_70\.png"):
        published_manifest("ami-br", small_ami_br.parent)


@pytest.mark.parametrize("content", [b"", b"just text", b"\x89PNG\r\n\x1a\n"])
def test_unreadable_crop_of_a_published_set_is_named(small_ami_br: Path, content: bytes) -> None:
    (small_ami_br / "AMi-Br" / "Normal" / "MIDOG21_6.png").write_bytes(content)
    with pytest.raises(DataError, match=r"MIDOG21_6\.png"):
        published_manifest("ami-br", small_ami_br.parent)


def test_crop_in_the_other_class_folder_is_refused(small_ami_br: Path) -> None:
    crops = small_ami_br / "AMi-Br"
    (crops / "Normal" / "MIDOG21_6.png").rename(crops / "Atypical" / "MIDOG21_6.png")
    with pytest.raises(DataError, match=r"MIDOG21_6\.png lies in Atypical, but the table says otherwise"):
        published_manifest("ami-br", small_ami_br.parent)


def test_without_the_full_table_the_hold_out_keeps_its_labels(small_ami_br: Path) -> None:
    (small_ami_br / "AMI-BR.csv").unlink()
    manifest = published_manifest("ami-br", small_ami_br.parent)
    rows = {row[r.FIGURE_ID]: row for row in manifest.table.to_pylist()}
    assert (rows["TUPAC16_8"][r.LABEL], rows["TUPAC16_8"][r.PART]) == (1, "test")
    assert rows["TUPAC16_8"][r.VOTES] is None and rows["TUPAC16_8"][r.CASE_ID] is None
    assert rows["MIDOG21_6"][r.VOTES] == [0, 0, 1]
    assert "2 figures without slide" in manifest.notes[0]


def test_an_archive_s_own_top_folder_is_looked_into(small_ami_br: Path) -> None:
    inside = small_ami_br.parent / "moved"
    small_ami_br.rename(inside)
    small_ami_br.mkdir()
    inside.rename(small_ami_br / "AMi-Br_Benchmark-0123abc")
    assert source_folder("ami-br", small_ami_br.parent) == small_ami_br / "AMi-Br_Benchmark-0123abc"


def test_equal_names_in_both_classes_get_their_own_ids(tmp_path: Path) -> None:
    paint = painter()
    for name in ("Atypical/1.png", "Normal/1.png", "Normal/2.png"):
        paint(tmp_path / name)
    ids = [row[r.FIGURE_ID] for row in layouts.published_crops(tmp_path, "X")]
    assert sorted(ids) == ["X_2", "X_Atypical_1", "X_Normal_1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no valid JSON"),
        ('{"images": []}', "not in the published form"),
        (
            '{"images": [], "categories": [], "annotations": [{"image_id": 1, "bbox": [1, 2], "category_id": 1}]}',
            "form",
        ),
    ],
)
def test_damaged_annotations(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        layouts.points_coco(tmp_path / "a.json")


def test_points_with_an_unknown_label_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,label,filename\n1,2,1,s.tiff\n1,2,7,s.tiff\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3: `label` must be 0 or 1, got 7"):
        layouts.points_csv(tmp_path / "a.csv", {"0": 0, "1": 1})
