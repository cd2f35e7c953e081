"""What can be opened, and what is then known of the figures."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atypia.base.errors import DataError, InputError
from atypia.data.sources.opening import open_data
from atypia.inference.predictions import predictions_table, read_predictions, write_predictions
from atypia.inference.results import LATER_COLUMNS, RESULTS_SCHEMA
from atypia.review.figures.figures import coded
from atypia.review.figures.from_tables import from_manifest
from atypia.review.figures.opening import Opening, kind_of, open_figures
from atypia.review.figures.scores import pooled_scores


def results_table(rows: list[tuple[str, str, float | None]], at: tuple[float, float] | None = None) -> pa.Table:
    """Results of figures: id, image, probability."""
    x, y = at or (None, None)
    lines = [
        {"figure_id": figure, "image": image, "x_px": x, "y_px": y, "p_atypical": p,
         "decision": None if p is None else int(p >= 0.4), "call": "refused" if p is None else
         "atypical" if p >= 0.4 else "normal", "novelty": 1.5, "threshold": 0.4, "reason": None, "model": "m"}
        for figure, image, p in rows
    ]  # fmt: skip
    return pa.Table.from_pylist(lines, schema=RESULTS_SCHEMA)


def test_manifest(small_csv: Path) -> None:
    figures = open_figures(Opening((str(small_csv),)))
    assert (len(figures), figures.id(4), figures.case.at(79)) == (80, "s0-004", "s0-case-7")
    assert figures.label[:4].tolist() == [1, 0, 0, 1]
    assert figures.image(7) == small_csv.parent / "s0-007.png"
    assert not figures.has("p") and np.isnan(figures.uncertainty).all()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_results_join_their_data_by_file(small_csv: Path, tmp_path: Path, form: str) -> None:
    rows = [(f"s0-{i:03d}.png", str(small_csv.parent / f"s0-{i:03d}.png"), p) for i, p in ((9, 0.25), (3, None))]
    path = tmp_path / f"calls.{form}"
    table = results_table([*rows, ("gone, with a comma", "gone.png", 0.4)])
    if form == "parquet":
        pq.write_table(table, path)
    else:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(row.values() for row in table.to_pylist())
    figures = open_figures(Opening((str(path),), data=str(small_csv)))
    assert figures.p[:1].tolist() == [0.25] and np.isnan(figures.p[1])
    assert [figures.call.at(i) for i in range(3)] == ["normal", "refused", "atypical"]
    assert figures.label.tolist() == [1, 1, -1]  # rows 9 and 3 are multiples of three; the last is unknown
    assert figures.case.at(0) == "s0-case-0" and figures.case.at(2) is None
    assert figures.threshold == 0.4 and not figures.held_out
    assert "1 figure is not in" in figures.notes[0]
    assert figures.id(2) == "gone, with a comma"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("call", "Atypical ", r"`call` must be normal or atypical or .*, got 'Atypical ' for b; fix: predict again"),
        ("p_atypical", 1.5, "`p_atypical` must be from 0 to 1, got 1.5 for b"),
        ("p_atypical", float("nan"), "`p_atypical` must be known of a figure that is called, got nan for b"),
        ("p_atypical", None, "`p_atypical` must be known of a figure that is called, got None for b"),
        ("decision", 0, "`decision` must be 1 where the probability reaches the threshold, else 0, got 0 for b"),
        ("p_atypical", 0.1, "`decision` must be 1 where the probability reaches the threshold, else 0, got 1 for b"),
    ],
)
def test_results_that_were_changed_by_hand_are_refused(column: str, value: object, words: str, tmp_path: Path) -> None:
    rows = results_table([("a", "a.png", 0.1), ("b", "b.png", 0.9), ("c", "c.png", None)]).to_pylist()
    rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA), tmp_path / "calls.parquet")
    with pytest.raises(DataError, match=rf"^calls\.parquet: {words}"):
        open_figures(Opening((str(tmp_path / "calls.parquet"),)))


def test_results_of_several_slides_get_unique_ids(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pq.write_table(results_table([("1", f"{name}.svs", 0.5)], (10.0, 20.0)), tmp_path / name / "results.parquet")
    (tmp_path / "slides.csv").write_text("slide\n")
    figures = open_figures(Opening((str(tmp_path),)))
    assert figures.ids.to_pylist() == ["one#1", "two#1"]
    assert [path.name for path in figures.slides] == ["one.svs", "two.svs"]
    assert figures.case.names == ("one", "two") and figures.cut.all()


def test_slides_of_one_name_in_two_folders_stay_two_cases(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
        slide = f"/archive/{name}/HE.svs"
        pq.write_table(results_table([("1", slide, 0.5)], (10.0, 20.0)), tmp_path / name / "results.parquet")
    (tmp_path / "slides.csv").write_text("slide\n")
    figures = open_figures(Opening((str(tmp_path),)))
    assert figures.ids.to_pylist() == ["p1/HE.svs#1", "p2/HE.svs#1"]
    assert figures.case.names == ("p1/HE.svs", "p2/HE.svs")


def test_training_gives_held_out_probabilities(trained_folder: Path) -> None:
    figures = open_figures(Opening((str(trained_folder),)))
    held_out = [
        row
        for fold in ("fold-1", "fold-2")
        for row in read_predictions(trained_folder / fold / "predictions.parquet")[0].to_pylist()
        if row["part"] == "val"
    ]
    expected = {row["figure_id"]: row["p_atypical"] for row in held_out}
    assert len(expected) == 80
    assert {figures.id(i): figures.p[i] for i in range(80)} == pytest.approx(expected)
    assert figures.held_out and figures.has("label")
    one = open_figures(Opening((str(trained_folder / "fold-1" / "predictions.parquet"),)))
    assert len(one) == 80 and one.fingerprint == figures.fingerprint


def test_study_gives_the_mean_of_its_models(trained_folder: Path, tmp_path: Path) -> None:
    manifest = open_data(str(trained_folder / "manifest.parquet"))
    (tmp_path / "manifests").mkdir()
    manifest.save(tmp_path / "manifests" / f"{manifest.fingerprint}.parquet")
    (tmp_path / "plan.json").write_text("{}")
    for run, p in (("a", 0.2), ("b", 0.6), ("unfinished", 0.0)):
        folder = tmp_path / "runs" / run
        shutil.copytree(trained_folder / "fold-1", folder / "fold-1")
        table = predictions_table(manifest, np.full(80, p), 0.5, fold="fold-1", part="test", run_id=run)
        write_predictions(folder / "fold-1" / "predictions.parquet", table)
        if run != "unfinished":
            (folder / "done.json").write_text(f'{{"run": "{run}"}}')
    figures = open_figures(Opening((str(tmp_path),)))
    assert figures.p.tolist() == pytest.approx([0.4] * 80)
    assert {figures.call.at(i) for i in range(80)} == {"normal"}


def test_test_part_goes_before_validation_part(small_csv: Path) -> None:
    manifest = open_data(str(small_csv))
    tested = predictions_table(manifest.take([0, 1]), np.array([0.1, 0.3]), 0.5, part="test")
    chosen = predictions_table(manifest.take([1, 2]), np.array([0.9, 0.7]), 0.3, part="val")
    scores = pooled_scores(manifest, [tested, chosen, tested])
    assert scores.p[:3].tolist() == pytest.approx([0.1, 0.3, 0.7]) and np.isnan(scores.p[3])
    assert scores.threshold == pytest.approx((0.5 + 0.3 + 0.5) / 3)
    unknown = predictions_table(manifest.take([0]), np.array([0.5]), 0.5)
    assert scores.held_out and not pooled_scores(manifest, [unknown]).held_out


def test_each_figure_is_called_by_the_threshold_of_its_models(small_csv: Path, tmp_path: Path) -> None:
    """Folds have thresholds of their own, and a mean of them is nobody's."""
    manifest = open_data(str(small_csv))
    low = predictions_table(manifest.take([0, 1]), np.array([0.35, 0.2]), 0.3, part="test")
    high = predictions_table(manifest.take([2, 3]), np.array([0.55, 0.7]), 0.6, part="test")
    scores = pooled_scores(manifest, [low, high])
    assert scores.thresholds[:4].tolist() == pytest.approx([0.3, 0.3, 0.6, 0.6]) and np.isnan(scores.thresholds[4])
    figures = from_manifest(manifest, scores, None, "x")
    assert [figures.call.at(i) for i in range(5)] == ["atypical", "normal", "normal", "atypical", None]
    assert figures.threshold is None and any("thresholds from 0.300 to 0.600" in note for note in figures.notes)
    lines = [
        {"figure_id": f"{n}", "image": "a.png", "p_atypical": 0.45, "decision": int(t < 0.45), "call": call,
         "threshold": t, "model": f"m{t}"}
        for n, (t, call) in enumerate([(0.3, "atypical"), (0.3, "atypical"), (0.6, "normal")])
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(lines, schema=RESULTS_SCHEMA), tmp_path / "two.parquet")
    results = open_figures(Opening((str(tmp_path / "two.parquet"),)))
    assert results.threshold is None and any("thresholds from" in note for note in results.notes)
    assert [results.call.at(i) for i in range(3)] == ["atypical", "atypical", "normal"]


def test_fingerprint_is_of_the_figures(small_csv: Path) -> None:
    figures = open_figures(Opening((str(small_csv),)))
    manifest = open_data(str(small_csv))
    path = small_csv.parent
    assert len(figures.fingerprint) == 32
    turned = manifest.take(np.arange(80)[::-1])
    saved = turned.save(path.parent / "turned.parquet")
    assert open_figures(Opening((str(saved),))).fingerprint == figures.fingerprint
    fewer = manifest.take(np.arange(79)).save(path.parent / "fewer.parquet")
    assert open_figures(Opening((str(fewer),))).fingerprint != figures.fingerprint


def test_slides_folder_goes_before_names(tmp_path: Path, small_csv: Path) -> None:
    shutil.copy(small_csv.parent / "s0-000.png", tmp_path / "region.png")
    pq.write_table(results_table([("a", "/elsewhere/region.png", 0.5)], (16.0, 16.0)), tmp_path / "calls.parquet")
    found = open_figures(Opening((str(tmp_path / "calls.parquet"),), slides=tmp_path))
    assert found.slides == (tmp_path / "region.png",)


def test_absent_things_are_told(tmp_path: Path, small_csv: Path, trained_folder: Path) -> None:
    with pytest.raises(InputError, match="nothing to open"):
        open_figures(Opening(()))
    with pytest.raises(InputError, match="`--slides` must be a folder"):
        open_figures(Opening((str(small_csv),), slides=tmp_path / "none"))
    manifest = open_data(str(small_csv))
    alone = write_predictions(tmp_path / "alone.parquet", predictions_table(manifest, np.full(80, 0.5), 0.5))
    with pytest.raises(InputError, match=r"`--data` must be given for .*alone"):
        open_figures(Opening((str(alone),)))
    assert len(open_figures(Opening((str(alone),), data=str(small_csv)))) == 80
    pq.write_table(results_table([("x", "x.png", 0.5)]), tmp_path / "calls.parquet")
    with pytest.raises(DataError, match=r"no figure of .* is in figures"):
        open_figures(Opening((str(tmp_path / "calls.parquet"),), data=str(small_csv)))
    with pytest.raises(InputError, match="results, or predictions of trainings"):
        open_figures(Opening((str(tmp_path / "calls.parquet"), str(trained_folder))))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="not a readable Parquet"):
        open_figures(Opening((str(tmp_path / "bad.parquet"),)))
    (tmp_path / "calls.json").write_text("[]")
    with pytest.raises(DataError, match=r"holds no results of `atypia predict`"):
        open_figures(Opening((str(tmp_path / "calls.json"),)))
    assert kind_of(str(trained_folder)) == kind_of(str(trained_folder / "fold-1")) == "training"


def test_look_alikes_are_refused(paint: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in ("mitotic figure", "hard negative"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), "pink").save(folder / name / f"{name}.png")
    from atypia.data.sources.user import read_folder

    saved = read_folder(folder, task="mitosis").save(tmp_path / "m.parquet")
    with pytest.raises(InputError, match="of the task `atypical`"):
        open_figures(Opening((str(saved),)))


def test_coded_sorts_names_and_keeps_nulls() -> None:
    found = coded(pa.chunked_array([["b", None], ["a", "b"]]))
    assert (found.names, found.codes.tolist()) == (("a", "b"), [1, -1, 0, 1])
    assert found.mask(["b"]).tolist() == [True, False, False, True]
    assert coded(pa.chunked_array([], pa.string())).names == ()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_figures_are_drawn_where_they_were_read(tmp_path: Path, suffix: str) -> None:
    """Positions count from the scanned area in the file, and from the canvas on the page."""
    table = results_table([("a", "case.scn", 0.9)], (400.0, 300.0)).to_pylist()
    table[0] |= {"mpp": 0.25, "mpp_source": "--mpp", "origin": "bounds", "origin_x_px": 1000.0, "origin_y_px": 600.0}
    path = tmp_path / f"calls{suffix}"
    found = pa.Table.from_pylist(table, schema=RESULTS_SCHEMA)
    pq.write_table(found, path) if suffix == ".parquet" else pacsv.write_csv(found, path)
    figures = open_figures(Opening((str(path),)))
    assert (figures.x_px.tolist(), figures.y_px.tolist(), figures.mpp.tolist()) == ([1400.0], [900.0], [0.25])
    assert figures.in_qupath(0, (1000.0, 600.0)) == (400.0, 300.0)


def test_results_that_a_spreadsheet_changed_are_no_table_of_figures(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    pacsv.write_csv(results_table([("a", "s.svs", 0.9)], (400.0, 300.0)), path)
    text = path.read_text("utf-8")
    for changed, encoding, got in (
        (text.replace("p_atypical", "probability"), "utf-8", "without p_atypical"),
        (text.replace("figure_id", "id").replace("call", "Urteil"), "utf-8", "without call, figure_id"),
        (text.replace(",", ";"), "utf-8", "not separated by commas"),
        (text.replace(",", "\t"), "utf-16", "not separated by commas"),
    ):
        path.write_text(changed, encoding)
        with pytest.raises(DataError, match=rf"calls.csv. must be results as .* got a table .*{got}.*predict again"):
            kind_of(str(path))
    path.write_text("figure_id,image,label,threshold\na,a.png,1,0.5\n", "utf-8")
    assert kind_of(str(path)) == "data"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_results_of_older_versions_are_opened(tmp_path: Path, suffix: str) -> None:
    older = results_table([("a", "s.svs", 0.9)], (400.0, 300.0)).drop_columns(list(LATER_COLUMNS))
    path = tmp_path / f"calls{suffix}"
    pq.write_table(older, path) if suffix == ".parquet" else pacsv.write_csv(older, path)
    assert kind_of(str(path)) == "results"
    figures = open_figures(Opening((str(path),)))
    assert figures.x_px.tolist() == [400.0] and np.isnan(figures.mpp).all()
    assert figures.in_qupath(0, (0.0, 0.0)) == (400.0, 300.0)
