"""Pools: what two sets both hold, repeated crops, labels by the votes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atypia.base import records as r
from atypia.base.errors import DataError, InputError, LeakageError
from atypia.data.audit.report import check_training
from atypia.data.manifest import Manifest
from atypia.data.pools import Picked, by_votes, filters_of, open_figures, taken_where, without_overlap
from atypia.data.sources.opening import parts_of


def crop(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 50, 150)).save(path)


@pytest.fixture
def repeated(tmp_path: Path) -> Path:
    """Two crops that are there twice: one with one label, one with both; and two that are there once."""
    for name, colour in {
        "AMF/a.png": 10, "AMF/a2.png": 10, "AMF/b.png": 20, "NMF/b2.png": 20, "NMF/c.png": 30, "NMF/d.png": 40,
    }.items():  # fmt: skip
        crop(tmp_path / "mine" / name, colour)
    return tmp_path / "mine"


def test_repeats_stay_unless_they_are_to_go(repeated: Path) -> None:
    assert len(open_figures(repeated)) == 6
    kept = open_figures(repeated, picked=Picked(drop_repeats=True))
    assert sorted(Path(image).name for image in kept.table[r.IMAGE].to_pylist()) == ["a.png", "c.png", "d.png"]
    assert kept.notes[-1] == "1 repeated crop of mine left out, and 2 crops that carry both labels"
    assert len(open_figures(repeated)) == 6  # what the cache keeps is the whole set


def test_training_without_repeats_is_no_more_refused(repeated: Path) -> None:
    with pytest.raises(LeakageError, match=r"different labels .*fix: leave these figures out \(--drop-repeats\)"):
        check_training(open_figures(repeated))
    assert check_training(open_figures(repeated, picked=Picked(drop_repeats=True))) == []


def test_a_set_of_nothing_but_conflicts_is_refused(tmp_path: Path) -> None:
    for name in ("AMF/a.png", "NMF/b.png"):
        crop(tmp_path / "mine" / name, 5)
    with pytest.raises(DataError, match="all figures are repeated crops with both labels; fix: label them again"):
        open_figures(tmp_path / "mine", picked=Picked(drop_repeats=True))


def test_the_same_files_in_two_sets_are_taken_once(repeated: Path, tmp_path: Path) -> None:
    crop(tmp_path / "other" / "AMF" / "z.png", 30)
    crop(tmp_path / "other" / "NMF" / "y.png", 99)
    pool = f"{repeated}+{tmp_path / 'other'}"
    assert len(open_figures(pool)) == 8
    kept = open_figures(pool, picked=Picked(drop_overlap=True))
    assert len(kept) == 7 and kept.notes[-1] == "1 figure of other left out, which mine has too"


def test_a_pool_that_holds_figures_twice_is_said_from_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import atypia

    known = {
        "ami-br": sets_of("ami-br", [("MIDOG21_1", "MIDOG21/001", 10)]),
        "midog25-atypical": sets_of("midog25-atypical", [("m1", "MIDOG21/001", 10), ("m2", "MIDOG/200", 50)]),
    }
    monkeypatch.setattr("atypia.data.pools.open_data", lambda name, root: known[name])
    with pytest.warns(RuntimeWarning, match=r"holds figures twice: .*fix: --drop-overlap leaves them out"):
        assert len(atypia.open_data("midog25-atypical+ami-br")) == 3


def test_labels_of_lung_mito_join_a_pool(tmp_path: Path) -> None:
    import json

    from tests.fixtures.layouts import lung_mito

    from atypia.data.sources.opening import published_manifest

    names = ["NMF", "AMF", "hard negative", "mitotic figure"]
    content = {
        **lung_mito.CONTENT,
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": 1, "category_id": n, "bbox": [n, 10, n + 50, 60]} for n in range(4)],
    }
    (tmp_path / "lung-mito.json").write_text(json.dumps(content))
    labelled = published_manifest("lung-mito", folder=tmp_path)
    assert labelled.task == r.ATYPICAL_TASK and labelled.labels.tolist() == [0, 1]
    pooled = Manifest.concat([sets_of("midog25-atypical", [("m1", "MIDOG/200", 10)]), labelled])
    assert len(pooled) == 3 and pooled.task == r.ATYPICAL_TASK

    (tmp_path / "lung-mito.json").write_text(json.dumps(lung_mito.CONTENT))
    assert published_manifest("lung-mito", folder=tmp_path).task == r.MITOSIS_TASK


def test_a_set_twice_is_refused(repeated: Path) -> None:
    mine = open_figures(repeated)
    with pytest.raises(DataError, match=r"`mine` must be a set with figures .* all 6 are in the others; fix: leave it"):
        without_overlap([mine, mine])


def sets_of(dataset: str, rows: list[tuple[str, str, float]]) -> Manifest:
    """Figures of a published source at given places (id, case, x; y is 7)."""
    made = [
        {r.FIGURE_ID: figure, r.DATASET: dataset, r.IMAGE: f"{case}.tiff", r.CASE_ID: case, r.X_PX: x, r.Y_PX: 7.0,
         r.LABEL: number % 2}
        for number, (figure, case, x) in enumerate(rows)
    ]  # fmt: skip
    return Manifest.from_rows(made, dataset)


def test_a_known_overlap_is_found_by_position() -> None:
    first = sets_of("midog25-atypical", [("m1", "MIDOG21/001", 10), ("m2", "MIDOG21/001", 50), ("m3", "MIDOG/200", 10)])
    second = sets_of("ami-br", [("MIDOG21_1", "MIDOG21/001", 10.5), ("MIDOG21_2", "MIDOG21/001", 90),
                                ("TUPAC16_1", "TUPAC16/001", 10)])  # fmt: skip
    kept = without_overlap([first, second])
    assert [one.ids for one in kept] == [["m1", "m2", "m3"], ["MIDOG21_2", "TUPAC16_1"]]
    assert [one.ids for one in without_overlap([second, first])][1] == ["m2", "m3"]  # the first named keeps it


def test_an_overlap_without_positions_is_refused() -> None:
    rows = [{r.FIGURE_ID: str(i), r.DATASET: "atnorm-md", r.IMAGE: f"{i}.png", r.LABEL: i % 2} for i in range(4)]
    first = sets_of("midog25-atypical", [("m1", "MIDOG21/001", 10)])
    with pytest.raises(DataError, match=r"`data` must be sets whose common figures are known for --drop-overlap"):
        without_overlap([first, Manifest.from_rows(rows, "atnorm-md")])


def test_votes_give_the_label_where_they_decide() -> None:
    votes = [[1, 1, None], [1, 0, 1], [1, 0], None]
    rows = [{r.FIGURE_ID: str(i), r.DATASET: "x", r.IMAGE: f"{i}.png", r.LABEL: 0, r.VOTES: v}
            for i, v in enumerate(votes)]  # fmt: skip
    voted = by_votes(Manifest.from_rows(rows, "x"))
    assert voted.labels.tolist() == [1, 1, 0, 0]  # neither a tie nor silence changes the published label
    assert voted.notes == ("2 labels of x by the majority of the votes instead of the published ones",)
    with pytest.raises(DataError, match="`labels` must be published for a set without votes, got votes; fix: "):
        by_votes(Manifest.from_rows(rows[3:], "x"))
    with pytest.raises(InputError, match="`labels` must be published or votes, got raters; fix: "):
        Picked(labels="raters")


def test_figures_are_selected_by_their_columns(small_csv: Path) -> None:
    everything = open_figures(small_csv)
    scanners = sorted(set(everything.column("scanner").tolist()))
    kept = open_figures(small_csv, picked=Picked(where=filters_of([f"scanner={scanners[0]}", "label=atypical"])))
    wanted = [(s, y) == (scanners[0], 1) for s, y in zip(everything.column("scanner"), everything.labels, strict=True)]
    assert kept.ids == [figure for figure, here in zip(everything.ids, wanted, strict=True) if here]
    assert kept.fingerprint == taken_where(everything, {"scanner": [scanners[0]], "label": ["atypical"]}).fingerprint


@pytest.mark.parametrize("text", ["part", "part=", "=train"])
def test_a_selection_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="COLUMN=VALUE"):
        filters_of([text])


@pytest.mark.parametrize("reference", ["a++b", "+a", "a+ "])
def test_an_empty_part_is_refused(reference: str) -> None:
    with pytest.raises(InputError, match="has an empty part; fix: join references by one"):
        parts_of(reference)


@pytest.mark.real
def test_real_pool_of_midog25_and_ami_br(real_root: Path) -> None:
    with pytest.warns(RuntimeWarning, match="holds figures twice: all 1,721 MIDOG21 figures.*fix: --drop-overlap"):
        both = open_figures("midog25-atypical+ami-br", real_root)
    assert len(both) == 11_937 + 3_720
    kept = open_figures("midog25-atypical+ami-br", real_root, Picked(drop_overlap=True))
    assert len(kept) == 11_937 + 1_999
    assert "1,721 figures of ami-br left out, which midog25-atypical has too" in kept.notes
    assert len(open_figures("ami-br+midog25-atypical", real_root, Picked(drop_overlap=True))) == len(kept)


@pytest.mark.real
def test_real_repeats_and_votes(real_root: Path) -> None:
    kept = open_figures("atnorm-br", real_root, Picked(drop_repeats=True))
    assert len(kept) == 746 - 37
    assert kept.notes[-1] == "30 repeated crops of atnorm-br left out, and 7 crops that carry both labels"
    voted = open_figures("midog25-atypical", real_root, Picked(labels="votes"))
    assert int(voted.labels.sum()) == 1_771  # what the papers print; the published labels give 1,748
    assert int(open_figures("midog25-atypical", real_root).labels.sum()) == 1_748
