"""``atypia calibrate``: from one's own crops to a model, with a model that ships."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.data.sources.opening import open_data
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.decision import REFUSED
from atypia.inference.bundles.integrity import CONFIG_FILE
from atypia.inference.bundles.laboratory import MOVED, TOO_FEW, UNCHECKED
from atypia.inference.classifier import Classifier
from atypia.inference.export.derived import with_metadata
from atypia.inference.runtimes.torch_runtime import TorchRuntime
from atypia.workflows.laboratory.calibrate import CALIBRATED, calibrate
from atypia.workflows.laboratory.own_figures import with_decisions
from atypia.workflows.laboratory.propose import propose

FIGURES = 48
MODEL = "atypia-amibr"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, float]]:
    """Crops and what the model that ships says of each, lowest first."""
    data = write_phantom(tmp_path_factory.mktemp("phantom") / "set", FIGURES, workers=1)
    assert data.root is not None
    paths = [str(data.root / image) for image in data.table["image"].to_pylist()]
    calls = Classifier.load(MODEL).predict(paths, mpp=0.25).rows
    return sorted(zip(paths, calls["p_atypical"].to_pylist(), strict=True), key=lambda pair: pair[1])


def table(path: Path, rows: Sequence[tuple[str, object, object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "case_id", "mpp"), *((*row, 0.25) for row in rows)])
    return path


@pytest.fixture
def shifted(shown: list[tuple[str, float]], tmp_path: Path) -> Path:
    """A laboratory that calls the upper half atypical, in cases of four."""
    half = len(shown) // 2
    return table(tmp_path / "mine.csv", [(p, int(i >= half), f"c{i % 12}") for i, (p, _) in enumerate(shown)])


def test_a_calibrated_model_is_used_like_any_other(shifted: Path, shown, tmp_path: Path) -> None:
    out = tmp_path / "my-lab"
    found = calibrate(MODEL, str(shifted), out)
    assert found.result.judged.outcome == MOVED and found.out == out and found.figures == (24, 24) and found.cases == 12
    assert "the threshold moves" in found.to_text() and json.loads(json.dumps(found.as_dict()))["changed"]

    old, new = Classifier.load(MODEL), Classifier.load(out)
    every = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in shown])
    assert found.refused == tuple(one.judge(every).call.count(REFUSED) for one in (old, new)) and found.refused[0] > 0
    assert f"{found.refused[0]} of 48 by the model as it is, {found.refused[1]} from here on" in found.to_text()
    crops = every[:4]
    for one, other in zip(old.members[0].runtime.run(crops), new.members[0].runtime.run(crops), strict=True):
        np.testing.assert_array_equal(one, other)
    p, before = new.judge(crops).p, old.judge(crops).p
    moved = found.result.judged.map
    odds = np.log(before / (1 - before)) * moved.factor + moved.offset
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-odds)), rtol=1e-6)
    facts = load_bundle(out).training[CALIBRATED]
    assert facts["from"] == MODEL and facts["figures"] == {"normal": 24, "atypical": 24}
    assert TorchRuntime(load_bundle(out)).decision.threshold == new.threshold

    with pytest.raises(InputError, match="not calibrated before"):
        calibrate(out, str(shifted))
    with pytest.raises(InputError, match="does not exist yet"):
        calibrate(MODEL, str(shifted), out)
    (out / CONFIG_FILE).write_text((out / CONFIG_FILE).read_text().replace('"offset"', '"offseT"', 1))
    with pytest.raises(DataError, match="changed after it was written"):
        Classifier.load(out)


def test_too_few_write_nothing(shown, tmp_path: Path) -> None:
    rows = [(p, int(i >= FIGURES - 2), "") for i, (p, _) in enumerate(shown)]
    found = calibrate(MODEL, str(table(tmp_path / "few.csv", rows)), tmp_path / "my-lab")
    assert found.result.judged.outcome == TOO_FEW and found.out is None and not (tmp_path / "my-lab").exists()
    assert "not enough to change anything: it takes 3 more atypical figures" in found.to_text()


@pytest.mark.parametrize("cases", [("only", "only"), ("normal ones", "atypical ones")])
def test_what_no_case_left_out_can_check_is_not_changed(cases: tuple[str, str], shown, tmp_path: Path) -> None:
    half = len(shown) // 2
    rows = [(p, int(i >= half), cases[i >= half]) for i, (p, _) in enumerate(shown)]
    found = calibrate(MODEL, str(table(tmp_path / "mine.csv", rows)), tmp_path / "my-lab")
    assert found.result.judged.outcome == UNCHECKED and not found.changed and found.out is None
    assert found.before and not found.after and not found.gain and found.as_dict()["difference"] == {}
    assert "+0.000" not in found.to_text() and "label both classes in more cases" in found.to_text()
    assert found.threshold[0] == found.threshold[1], "to the last digit"


def test_the_order_of_lines_does_not_matter(shifted: Path, tmp_path: Path) -> None:
    first, *lines = shifted.read_text().splitlines()
    Image.open(lines[0].split(",")[0]).save(tmp_path / "copy.png")
    lines.append(f"{tmp_path / 'copy.png'},{lines[0].split(',')[1]},another,0.25")
    told = []
    for name, order in (("one", 1), ("two", -1)):
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join([first, *lines[::order]]) + "\n")
        told.append({k: v for k, v in calibrate(MODEL, path).as_dict().items() if k != "data"})
    for one, other in zip(*(json.dumps(values, sort_keys=True).split() for values in told), strict=True):
        assert one == other or float(one.strip(",[]{}")) == pytest.approx(float(other.strip(",[]{}")), abs=1e-6)


def test_a_code_that_no_finding_has_is_refused(shifted: Path) -> None:
    with pytest.raises(
        InputError, match=r"`allow` must be one of .*case-across-sets.*, got foo; fix: name the one that"
    ):
        calibrate(MODEL, str(shifted), allow=["foo"])


def test_an_unmoved_threshold_is_the_same_number(shown, tmp_path: Path) -> None:
    rows = [(p, int(i >= FIGURES - 2), "") for i, (p, _) in enumerate(shown)]
    threshold = calibrate(MODEL, str(table(tmp_path / "few.csv", rows))).as_dict()["threshold"]
    assert threshold["before"] == threshold["after"] == Classifier.load(MODEL).members[0].decision.threshold


def test_what_is_no_evidence_is_refused_or_left_out(shown, tmp_path: Path) -> None:
    half = len(shown) // 2
    rows = [(p, int(i >= half), f"c{i}") for i, (p, _) in enumerate(shown)]
    with pytest.raises(DataError, match="1 of 48 figures have no label"):
        calibrate(MODEL, str(table(tmp_path / "open.csv", [(rows[0][0], "", "c0"), *rows[1:]])))
    pixels = Image.open(rows[0][0])
    for name in ("copy.png", "other.png"):
        pixels.save(tmp_path / name)
    twin = Image.open(rows[1][0])
    twin.save(tmp_path / "twin.png")
    for path in (rows[0][0], rows[1][0]):
        assert Path(path).exists()
    copies = [
        (str(tmp_path / "copy.png"), 0, "a"),
        (str(tmp_path / "other.png"), 0, "b"),
        (str(tmp_path / "twin.png"), 0, "c"),
        *rows[2:],
    ]
    found = calibrate(MODEL, str(table(tmp_path / "copies.csv", copies)))
    assert any("1 figure left out: their images are copies" in note for note in found.notes)


def test_a_crop_whose_file_contradicts_its_size_is_left_out_as_in_predict(shown, tmp_path: Path) -> None:
    half = len(shown) // 2
    rows = [(p, int(i >= half), f"c{i}") for i, (p, _) in enumerate(shown)]
    Image.open(rows[0][0]).save(tmp_path / "stated.tif", resolution=25400 / 0.5, resolution_unit=2)
    wrong = table(tmp_path / "wrong.csv", [(str(tmp_path / "stated.tif"), 0, "x"), *rows[1:]])
    found = calibrate(MODEL, str(wrong))
    assert any("1 of 48 figures left out" in note and "0.5" in note for note in found.notes)


def test_reviewers_decisions_give_labels(shown, tmp_path: Path) -> None:
    rows = [(p, "", f"c{i}") for i, (p, _) in enumerate(shown)]
    data = table(tmp_path / "review.csv", rows)
    half, decisions = len(shown) // 2, tmp_path / "decisions.csv"
    ids = [p.rpartition(".")[0] for p, _ in shown]
    words = [("atypical" if i >= half else "normal") for i in range(FIGURES)]
    lines = [(one, "first", word) for one, word in zip(ids, words, strict=True)]
    lines += [(ids[0], "second", "atypical"), (ids[1], "second", "unsure"), ("elsewhere", "first", "normal")]
    with decisions.open("w", newline="") as file:
        csv.writer(file).writerows([("figure_id", "rater", "decision"), *lines])
    found = calibrate(MODEL, str(data), decisions=decisions)
    assert sum(found.figures) == FIGURES - 1, "an even split is no label"
    assert any("evenly split" in note for note in found.notes) and any("not in review" in n for n in found.notes)


def test_decisions_on_results_of_a_folder_are_found_by_file(shown, tmp_path: Path) -> None:
    data = table(tmp_path / "review.csv", [(p, "", f"c{i}") for i, (p, _) in enumerate(shown)])
    with (tmp_path / "decisions.csv").open("w", newline="") as file:
        words = [(Path(p).name, ("normal", "atypical")[i % 2]) for i, (p, _) in enumerate(shown)]
        csv.writer(file).writerows([("figure_id", "decision"), *words, ("elsewhere.png", "normal")])
    found, notes = with_decisions(open_data(str(data)), tmp_path / "decisions.csv")
    assert found.table["label"].to_pylist() == [i % 2 for i in range(len(shown))]
    assert any("1 figure of decisions.csv is not in review" in note for note in notes)


def test_proposed_figures_are_spread_and_tell_no_opinion(shown, tmp_path: Path) -> None:
    data = table(tmp_path / "pool.csv", [(p, 0 if i < 4 else "", f"=c{i}") for i, (p, _) in enumerate(shown)])
    assert propose("atypia", str(data), 8, tmp_path / "label.csv").figures == 8
    rows = list(csv.DictReader((tmp_path / "label.csv").open()))
    assert set(rows[0]) == {"figure_id", "image", "x_px", "y_px", "case_id", "slide_id", "mpp", "label"}
    assert all(row["case_id"].startswith("'=c") for row in rows)  # no spreadsheet runs it as a formula
    assert {case[:2] for case in open_data(str(tmp_path / "label.csv")).table["case_id"].to_pylist()} == {"=c"}
    places = sorted([path for path, _ in shown].index(row["image"]) for row in rows)
    assert places[0] >= 4 and places[-1] > 38 and max(np.diff(places)) < 14
    with pytest.raises(InputError, match=r"ending in \.csv"):
        propose("atypia", str(data), 8, tmp_path / "label.txt")


def test_proposed_figures_keep_the_slide_that_stands_for_their_case(shown, tmp_path: Path) -> None:
    rows = [
        {"figure_id": str(i), "dataset": "pool", "image": Path(p).name, "slide_id": f"s{i % 3}"}
        for i, (p, _) in enumerate(shown)
    ]
    pool = Manifest.from_rows(rows, "pool", root=Path(shown[0][0]).parent)
    _ = propose("atypia", pool, 8, tmp_path / "label.csv")
    found = open_data(str(tmp_path / "label.csv"))
    of = dict(zip(pool.ids, pool.cases.tolist(), strict=True))
    assert found.cases.tolist() == [of[figure] for figure in found.ids] and set(of.values()) == {
        "slide:s0",
        "slide:s1",
        "slide:s2",
    }


def test_only_onnx_files_get_other_metadata() -> None:
    for data in (b"\xff\xff\xff", b"\x0a\xff\xff\x01", b"\x0b"):
        with pytest.raises(DataError, match="no ONNX file"):
            with_metadata(data, {}, "x")
