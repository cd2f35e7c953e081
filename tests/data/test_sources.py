"""Every published source against a fabricated folder in its layout, and against the real data."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from atypia import records as r
from atypia.artifacts import file_sha256
from atypia.data import layouts
from atypia.data.catalogue import SOURCES, Source, add, markdown
from atypia.data.manifest import Manifest
from atypia.data.opening import figure_positions, open_data, published_manifest, record_import, source_folder
from atypia.errors import AbsentError, DataError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "layouts"
NAMES = [
    "ami-br",
    "atnorm-br",
    "atnorm-md",
    "ccmct",
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
        ("{", "is no JSON"),
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


# The real data --------------------------------------------------------------------------------


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def counts(manifest: Manifest) -> dict[str, tuple[int, int]]:
    pairs = list(zip(manifest.column(r.DOMAIN), manifest.labels, strict=True))
    total = Counter(domain for domain, _ in pairs)
    positive = Counter(domain for domain, label in pairs if label)
    return {domain: (total[domain], positive[domain]) for domain in total}


@pytest.mark.real
def test_real_ami_br(real_root: Path) -> None:
    manifest = open_data("ami-br", real_root)
    rows = {row[r.FIGURE_ID]: row for row in manifest.table.to_pylist()}
    published = table(real_root / "tables" / "AMI-BR.csv")
    training = {row["dataset_uid"] for row in table(real_root / "AMi-Br_Benchmark" / "amibr_train_split.csv")}
    assert len(rows) == len(published) == 3720
    for entry in published:
        row = rows[f"{entry['dataset']}_{entry['uid']}"]
        assert row[r.VOTES] == [int(entry[f"expert{i}_atypical"] == "True") for i in (1, 2, 3)]
        assert row[r.LABEL] == int(sum(row[r.VOTES]) >= 2)
        assert row[r.PHASE] == [entry["expert1_label"], entry["expert2_label"]]
        assert row[r.SLIDE_ID] == entry["slide"]
        assert (row[r.PART] == "train") == (f"{row[r.FIGURE_ID]}.png" in training)
    part = manifest.column(r.PART)
    assert not set(manifest.cases[part == "train"]) & set(manifest.cases[part == "test"])
    assert Counter(part) == {"train": 2894, "test": 826}
    assert counts(manifest) == {
        "Hamamatsu XR | UMC Utrecht | human | breast cancer": (451, 105),
        "Hamamatsu S360 | UMC Utrecht | human | breast cancer": (582, 127),
        "Aperio CS2 | UMC Utrecht | human | breast cancer": (688, 172),
        "Aperio XT | UMC Utrecht | human | breast cancer": (1329, 277),
        "Leica SCN400 | TUPAC16 centre B | human | breast cancer": (276, 66),
        "Leica SCN400 | TUPAC16 centre C | human | breast cancer": (394, 85),
    }
    assert set(manifest.column(r.WIDTH_PX)) == set(manifest.column(r.HEIGHT_PX)) == {128}


@pytest.mark.real
def test_real_atnorm_br_keeps_its_identical_crops(real_root: Path) -> None:
    manifest = open_data("atnorm-br", real_root)
    assert (len(manifest), int(manifest.labels.sum())) == (746, 128)
    assert len(set(manifest.ids)) == 746
    repeated = [count for count in Counter(manifest.column(r.SHA256)).values() if count > 1]
    assert (len(repeated), sum(repeated)) == (27, 62)


@pytest.mark.real
def test_real_midog25_labels(real_root: Path) -> None:
    manifest = open_data("midog25-atypical", real_root)
    assert (len(manifest), int(manifest.labels.sum())) == (11937, 1748)
    assert Counter(manifest.column(r.N_RATERS)) == {2: 7127, 3: 4810}
    assert set(manifest.column(r.SOFT_LABEL)) == {0.0, 1 / 3, 2 / 3, 1.0}
    shares = np.array(manifest.column(r.SOFT_LABEL))
    assert int((shares > 0.5).sum()) == 1771  # what papers count; the published column says otherwise in 49 rows
    assert int(((shares > 0.5) != (manifest.labels == 1)).sum()) == 49
    assert "49 published labels are not the majority of their votes" in manifest.notes[0]
    assert len(counts(manifest)) == 10
    assert counts(manifest)["Hamamatsu XR | UMC Utrecht | human | breast cancer"] == (451, 105)
    assert manifest.root is None and manifest.table[r.SHA256].null_count == len(manifest)


@pytest.mark.real
def test_real_ami_br_figures_inside_midog25(real_root: Path) -> None:
    ami, midog = figure_positions("ami-br", real_root), figure_positions("midog25-atypical", real_root)
    there = {place: figure for figure, place in midog.items()}
    shared = {figure: there[place] for figure, place in ami.items() if place in there}
    assert len(shared) == 1721
    labels = {
        name: dict(zip(m.ids, m.labels, strict=True))
        for name in ("ami-br", "midog25-atypical")
        for m in [open_data(name, real_root)]
    }
    assert all(labels["ami-br"][a] == labels["midog25-atypical"][b] for a, b in shared.items())
    first, second = open_data("ami-br", real_root), open_data("midog25-atypical", real_root)
    assert int(np.isin(first.cases, second.cases).sum()) == 1721


@pytest.mark.real
@pytest.mark.parametrize(("name", "domains", "slides"), [("midogpp", 10, 503), ("midog2022", 7, 354), ("ccmct", 1, 32)])
def test_real_coordinates(real_root: Path, name: str, domains: int, slides: int) -> None:
    manifest = open_data(name, real_root)
    assert manifest.task == r.MITOSIS_TASK
    assert len(counts(manifest)) == domains
    assert len(set(manifest.column(r.SLIDE_ID))) == len(set(manifest.cases)) == slides
    assert manifest.table[r.X_PX].null_count == manifest.table[r.MPP].null_count == 0


@pytest.mark.real
def test_real_midogpp_is_the_same_from_json_and_table(real_root: Path, tmp_path: Path) -> None:
    (tmp_path / "MIDOGpp.csv").symlink_to(real_root / "tables" / "MIDOGpp.csv")
    from_table = published_manifest("midogpp", folder=tmp_path)
    from_json = open_data("midogpp", real_root)
    columns = [r.FIGURE_ID, r.LABEL, r.CASE_ID, r.DOMAIN, r.PART, r.MPP]
    assert from_table.table.select(columns).equals(from_json.table.select(columns))
    for axis in (r.X_PX, r.Y_PX):
        assert np.abs(from_table.column(axis) - from_json.column(axis)).max() == 0.5


@pytest.mark.real
def test_real_midog2022_numbers_lead_to_the_same_slides(real_root: Path) -> None:
    """The cases that the two sets share are the same slides: most positions agree."""

    def places(name: str) -> dict[str, set[tuple[float, float]]]:
        found: dict[str, set[tuple[float, float]]] = {}
        for row in open_data(name, real_root).table.select([r.CASE_ID, r.X_PX, r.Y_PX]).to_pylist():
            found.setdefault(row[r.CASE_ID], set()).add((row[r.X_PX], row[r.Y_PX]))
        return found

    earlier, later = places("midog2022"), places("midogpp")
    assert set(earlier) <= set(later)
    assert all(earlier[case] & later[case] for case in earlier)


@pytest.mark.real
def test_real_omg_octo(real_root: Path) -> None:
    manifest = open_data("omg-octo", real_root)
    assert (len(manifest), int(manifest.labels.sum())) == (1757, 1378)
    assert sum("~" in figure for figure in manifest.ids) == 4
    assert "4 crops are listed twice" in manifest.notes[0]
    assert sum(case.startswith("CCMCT/") for case in manifest.cases) == 796


@pytest.mark.real
@pytest.mark.parametrize("name", ["midogpp", "ccmct"])
def test_real_checksums_are_those_of_the_published_tables(real_root: Path, name: str) -> None:
    checked = [file for file in SOURCES[name].files if file.sha256]
    assert checked
    for file in checked:
        path = real_root / "tables" / Path(file.filename).name
        assert (file_sha256(path), path.stat().st_size) == (file.sha256, file.size_bytes)
