"""Published sources where the real data is: counts, votes, cases and domains as published."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base.artifacts import file_sha256
from atypia.data.manifest import Manifest
from atypia.data.sources.catalogue import SOURCES
from atypia.data.sources.opening import figure_positions, open_data, published_manifest

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
