"""`atypia detect`: what lies on a slide is found, work is kept, files are read back, and quality is counted right."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import atypia
from tests.fixtures.slides import crops_of, write_scn
from tests.workflows.detecting import DISCS, MPP, Dark, dark, nearest_px, pixels, write_slide

from atypia.base.errors import InputError
from atypia.data.points.reading import read_points
from atypia.data.slides.readers import open_slide
from atypia.data.slides.slidecrops import SlideReading, slide_crops, slide_points
from atypia.inference.bundles.bundle import load_bundle
from atypia.workflows.detection import score_grid, sliding
from atypia.workflows.detection.detector import DETECTORS
from atypia.workflows.detection.run import GivenDetections, Truth, detect
from atypia.workflows.detection.score_grid import PeakRule, ScoreGrid, peaks

__all__ = ["atypia", "dark"]
READING = SlideReading(MPP)


def found_on(path: Path, **how: Any) -> Any:
    return detect([path], model="dark", reading=READING, **how).slides[0].found


def test_each_figure_is_found_once_and_where_it_is(tmp_path: Path, dark: type[Dark]) -> None:
    found = found_on(write_slide(tmp_path))
    assert len(found) == len(DISCS)
    near = nearest_px(found.x_px, found.y_px)
    assert max(near(*disc) for disc in DISCS) * MPP < 2.0  # µm; a hit is within 7.5
    assert (np.diff(found.scores) <= 0).all() and found.scores.min() >= 0.6
    assert found.mm2 == pytest.approx(1050 * 700 * MPP**2 / 1e6, rel=0.05)


def test_windows_are_the_crops_that_a_prediction_sees(tmp_path: Path) -> None:
    path = write_slide(tmp_path)
    places = np.array([[300.2, 200.7], [12.0, 8.5], [1295.0, 899.0], [640.5, 410.25]])
    from atypia.data.points.base import Points

    for mpp, geometry in ((MPP, Dark("").geometry), (0.37, Dark("").geometry)):
        side = geometry.source_side_px(mpp)
        assert side is not None
        points = Points.at(places[:, 0], places[:, 1])
        cut = dict(crops_of(slide_crops(path, points, geometry, mpp=mpp)))
        with open_slide(path) as slide:
            block = sliding._Block(slide, places[:, 0], places[:, 1], side, geometry)
            windows = block.windows(places[:, 0], places[:, 1])
        for number, window in enumerate(windows, 1):
            assert (window == cut[f"case.png#{number}"]).all()


def test_a_call_that_was_stopped_continues(tmp_path: Path, dark: type[Dark]) -> None:
    path = write_slide(tmp_path)
    whole = found_on(path)
    all_windows, dark.seen = dark.seen, 0
    assert found_on(path).scores.tolist() == whole.scores.tolist() and dark.seen == 0  # all was kept
    again = write_slide(tmp_path, "again")
    dark.fails_at = all_windows // 2
    with pytest.raises(KeyboardInterrupt):
        found_on(again)
    first, dark.fails_at = dark.seen, None
    dark.seen = 0
    found = found_on(again)
    assert 0 < dark.seen < all_windows and first + dark.seen <= all_windows + 64
    assert (found.x_px == whole.x_px).all() and (found.scores == whole.scores).all()


def test_another_least_score_costs_nothing_and_chooses_among_the_same(tmp_path: Path, dark: type[Dark]) -> None:
    path = write_slide(tmp_path)
    low, dark.seen = found_on(path, min_score=0.1), 0
    high = found_on(path, min_score=0.8)
    assert dark.seen == 0 and 0 < len(high) <= len(low)
    places = set(zip(low.x_px.tolist(), low.y_px.tolist(), strict=True))
    assert set(zip(high.x_px.tolist(), high.y_px.tolist(), strict=True)) <= places


def test_another_file_or_model_is_scored_anew(tmp_path: Path, dark: type[Dark]) -> None:
    path = write_slide(tmp_path)
    found_on(path)
    dark.seen = 0
    detect([path], model="other", reading=READING)
    assert dark.seen > 0
    dark.seen = 0
    write_slide(tmp_path, discs=DISCS[:2])
    assert len(found_on(path)) == 2 and dark.seen > 0


def test_strips_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    scores = rng.random((90, 70)) ** 4
    scores[20:28, 30:39] = 1.0  # a plateau
    grid = ScoreGrid(tmp_path / "a.heat", 90, 70)
    assert not grid.scores(slice(0, 90)).any()
    grid.put(np.argwhere(np.ones((90, 70), bool)), scores.ravel())
    assert np.abs(grid.scores(slice(0, 90)) - scores).max() < 1e-4
    rule = PeakRule(5.0, 1.2, 0.3)
    one = np.stack(peaks(grid, rule))
    monkeypatch.setattr(score_grid, "STRIP", 7)
    assert (np.stack(peaks(grid, rule)) == one).all() and one.shape[1] > 10
    apart = np.hypot(*(one[:2, :, None] - one[:2, None])) + np.eye(one.shape[1]) * 99
    assert apart.min() >= 5.0 - 1e-6
    assert nearest_px(one[0], one[1])(34.0, 23.5) < 1.0  # the middle of the plateau
    inside = (np.abs(one[0] - 34) < 4) & (np.abs(one[1] - 23.5) < 4)
    assert inside.sum() <= 2


def test_files_are_read_back(tmp_path: Path, dark: type[Dark]) -> None:
    path, out = write_slide(tmp_path), [tmp_path / "found.geojson", tmp_path / "found.csv"]
    done = detect([path], model="dark", reading=READING, out=out)
    assert done.files == tuple(out) and any("experimental" in note for note in done.notes)
    for file in out:
        points = read_points(file)
        assert np.allclose(points.x_px, done.slides[0].found.x_px, atol=0.01)
        assert points.scores is not None and np.allclose(points.scores, done.slides[0].found.scores, atol=1e-5)
        assert set(points.classes or []) == {"mitotic figure"} and not points.numbered
    feature = json.loads(out[0].read_text())["features"][0]["properties"]
    assert feature["objectType"] == "detection" and feature["metadata"]["detector"] == "candidates by dark"


def test_qupath_s_origin_and_openslide_s(tmp_path: Path, dark: type[Dark]) -> None:
    path = write_scn(tmp_path / "a.scn", pixels(DISCS), (3000, 2000), (6000, 5000), nm_per_px=500)
    out = [tmp_path / "found.geojson", tmp_path / "found.csv"]
    found = detect([path], model="dark", out=out).slides[0].found
    assert len(found) == len(DISCS) and found.x_px.min() > 3000
    geojson, table = (read_points(file) for file in out)
    assert np.allclose(geojson.x_px, found.x_px - 3000, atol=0.01) and geojson.origin == "bounds"
    assert np.allclose(table.x_px, found.x_px, atol=0.01) and table.origin == "canvas"
    for file in out:  # and both are the same cells
        cut = slide_crops(path, slide_points(path, file), Dark("").geometry)
        assert all(crop[20, 20].max() < 90 for _, crop in crops_of(cut))


def truth(tmp_path: Path, rows: list[tuple[float, float, str]], name: str = "case") -> Path:
    folder = tmp_path / "points"
    folder.mkdir(exist_ok=True)
    lines = [f"{x},{y},{named}" for x, y, named in rows]
    (folder / f"{name}.csv").write_text("\n".join(["x_px,y_px,class", *lines]))
    return folder


def test_quality_against_known_figures(tmp_path: Path, dark: type[Dark]) -> None:
    path = write_slide(tmp_path)
    known = [(x + 4, y, "mitotic figure") for x, y in DISCS[:3]]  # 2 µm beside
    known += [
        (DISCS[3][0] + 20, DISCS[3][1], "mitotic figure"),
        (400.0, 700.0, "mitotic figure"),
    ]  # 10 µm; nothing there
    known += [(*DISCS[4], "look-alike")]
    against = Truth(truth(tmp_path, known), ("mitotic figure",))
    done = detect([path], model="dark", reading=READING, truth=against)
    assert done.quality is not None
    assert (done.quality.hits, done.quality.false_positives, done.quality.missed) == (3, 2, 2)
    assert done.quality.f1 == pytest.approx(0.6) and done.quality.interval is None
    assert "3 hits, 2 false, 2 missed" in done.to_text() and "F1 0.600 on 1 slide" in done.to_text()
    wider = Truth(against.points, against.classes, radius_um=12.0)
    again = detect([path], model="dark", reading=READING, truth=wider)
    assert again.quality is not None and again.quality.hits == 4
    with pytest.raises(InputError, match="look-alike"):
        detect([path], model="dark", reading=READING, truth=Truth(against.points))
    with pytest.raises(InputError, match="mitotik"):
        detect([path], model="dark", reading=READING, truth=Truth(against.points, ("mitotik",)))


def test_several_slides_into_a_folder_with_an_interval(tmp_path: Path, dark: type[Dark]) -> None:
    slides = [write_slide(tmp_path, f"s{k}", DISCS[: k + 2]) for k in range(3)]
    for k, slide in enumerate(slides):
        points = truth(tmp_path, [(*disc, "mitotic figure") for disc in DISCS[1 : k + 2]], slide.stem)
    truth(tmp_path, [(*DISCS[0], "look-alike")], "s0")
    done = detect(
        slides, model="dark", reading=READING, out=[tmp_path / "out"], truth=Truth(points, ("mitotic figure",))
    )
    assert [file.name for file in done.files] == ["s0.geojson", "s1.geojson", "s2.geojson"]
    assert done.quality is not None and (done.quality.hits, done.quality.false_positives) == (5, 4)
    assert done.quality.interval is not None and done.quality.interval.n_cases == 3
    told = done.as_dict()
    assert [row["hits"] for row in told["slides"]] == [0, 2, 3] and json.dumps(told, allow_nan=False)
    assert len(slide_points(slides[1], tmp_path / "out")) == 3
    given = detect(
        slides, given=GivenDetections(tmp_path / "out"), reading=READING, truth=Truth(points, ("mitotic figure",))
    )
    assert given.quality is not None and given.quality.f1 == done.quality.f1 and given.quality.froc > 0


def test_given_detections_all_count_though_the_least_score_differs_by_slide(tmp_path: Path) -> None:
    slides, found = [write_slide(tmp_path, name) for name in ("s0", "s1")], tmp_path / "found"
    found.mkdir()
    for slide, scores in zip(slides, ((0.9, 0.8), (0.7, 0.3)), strict=True):
        lines = [f"{x},{y},{score}" for (x, y), score in zip(DISCS, scores, strict=False)]
        (found / f"{slide.stem}.csv").write_text("\n".join(["x_px,y_px,score", *lines]))
    truth(tmp_path, [(*DISCS[0], "mitotic figure")], "s0")
    points = truth(tmp_path, [(*DISCS[4], "mitotic figure")], "s1")
    done = detect(slides, given=GivenDetections(found), reading=READING, truth=Truth(points))
    assert done.quality is not None
    assert (done.quality.hits, done.quality.false_positives, done.quality.missed) == (1, 3, 1)


@pytest.mark.parametrize("which", ["found", "against"])
def test_one_file_that_names_no_slide_is_not_taken_for_several(which: str, tmp_path: Path) -> None:
    slides = [write_slide(tmp_path, name) for name in ("s0", "s1")]
    truth(tmp_path, [(*DISCS[0], "mitotic figure")], "s0")
    folder = truth(tmp_path, [(*DISCS[0], "mitotic figure")], "s1")
    found, against = (folder / "s0.csv" if which == name else folder for name in ("found", "against"))
    with pytest.raises(InputError, match=r"s0\.csv` must be a file that names the slide of each figure.*a folder"):
        detect(slides, given=GivenDetections(found), reading=READING, truth=Truth(against))
    done = detect(slides[:1], given=GivenDetections(folder / "s0.csv"), reading=READING, truth=Truth(folder / "s0.csv"))
    assert done.quality is not None and done.quality.f1 == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"model": None}, r"`--model` must be a classifier of the task mitosis.*docs/detect\.md"),
        ({"reading": SlideReading()}, r"`µm/px` must be known of case\.png.*fix: pass --mpp"),
        (
            {"settings": ["stride=3"]},
            r"options of candidates is not valid:\n  `stride` is not a known key; known here: step_um",
        ),
        ({"settings": ["step_um=-1"]}, r"step_um"),
        ({"detector": "candidate"}, r"unknown detector 'candidate'; did you mean 'candidates'"),
        ({"out": ["a.txt"]}, r"`--out` must be a file ending in \.geojson or \.csv, got a\.txt"),
    ],
)
def test_what_does_not_fit_is_refused(how: dict[str, Any], said: str, tmp_path: Path, dark: type[Dark]) -> None:
    with pytest.raises(InputError, match=said):
        detect([write_slide(tmp_path)], **{"model": "dark", "reading": READING, **how})
    assert dark.seen == 0


def test_a_classifier_of_another_task_is_refused(trained_folder: Path, tmp_path: Path) -> None:
    bundle = trained_folder / "fold-1" / "bundle"
    assert load_bundle(bundle).task == "atypical"
    with pytest.raises(
        InputError, match=r"task of .*bundle` must be 'mitosis', got 'atypical'; fix: train one of mitotic"
    ):
        detect([write_slide(tmp_path)], model=str(bundle), reading=READING)


def test_the_command(tmp_path: Path, dark: type[Dark], atypia: Any) -> None:
    path, out = write_slide(tmp_path), tmp_path / "found.csv"
    points = truth(tmp_path, [(*disc, "mitotic figure") for disc in DISCS])
    ended = atypia(
        "detect", path, "--model", "m", "--mpp", MPP, "--out", out, "--against", points, "--min-score", "0.5"
    )
    assert ended.code == 0 and "F1 1.000 on 1 slide" in ended.out
    assert "experimental: its error on slides of patients is not known" in ended.err and f"file: {out}" in ended.err
    assert len(list(csv.DictReader(out.open()))) == len(DISCS)
    told = json.loads(atypia("detect", path, "--model", "m", "--mpp", MPP, "--against", points, "--json").out)
    assert told["quality"]["f1"] == 1.0 and told["slides"][0]["hits"] == 5
    assert atypia("detect", path, "--model", "m", "--mpp", MPP, "--class", "x").code == 2
    assert atypia("detect", path, "--found", out, "--model", "m", "--mpp", MPP).code == 2
    none = atypia("detect", path, "--model", "m", "--mpp", MPP, "--min-score", "0.9999999")
    assert (none.code == 0 and "a smaller --min-score finds more" in none.err) or "5 detections" in none.out


def test_every_detector_has_options_and_says_how_far_it_can_be_trusted() -> None:
    assert set(DETECTORS) >= {"candidates", "tiatoolbox"}
    for name, entry in DETECTORS.items():
        assert entry.name == name and entry.options() is not None and "experimental" in entry.standing
