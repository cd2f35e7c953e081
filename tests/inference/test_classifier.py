"""The classifier: members, views, streams, requests."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import AbsentError, DataError, InputError
from atypia.data.points.base import Points
from atypia.data.slides.streams import Refusal, crop_files
from atypia.inference.bundles.calibration import Platt
from atypia.inference.bundles.decision import Decision, Verdicts
from atypia.inference.classifier import Classifier, Member, combined, dihedral_views, find_model, with_threshold
from atypia.inference.requests import Request, StreamNotes, kind_of, only_slide, open_stream, points_of

SIDE = 16
CONFIG: dict[str, Any] = {
    "name": "made", "task": "atypical", "geometry": {"out_px": SIDE, "side_um": None, "side_px": None}, "field_um": 8.0,
}  # fmt: skip


class Corner:
    """A network whose logit is the brightness of the upper left quarter, from −4 to 4."""

    name, side_px = "made", SIDE
    decision = Decision()

    def __init__(self, scale: float = 1.0, **changes: Any) -> None:
        self.scale, self.config = scale, {**CONFIG, **changes}

    def run(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bright = crops[:, : SIDE // 2, : SIDE // 2].reshape(len(crops), -1).mean(1, dtype=np.float64) / 255
        return (self.scale * (8 * bright - 4)).astype(np.float32), bright[:, None].astype(np.float32)


def classifier(*scales: float, tta: bool = False, threshold: float = 0.5) -> Classifier:
    return Classifier([Member(f"m{s:g}", Corner(s), Decision(threshold)) for s in scales or (1.0,)], tta)


def crops(*corners: int) -> np.ndarray:
    out = np.zeros((len(corners), SIDE, SIDE, 3), np.uint8)
    for crop, value in zip(out, corners, strict=True):
        crop[: SIDE // 2, : SIDE // 2] = value
    return out


def test_one_member_is_its_calibrated_sigmoid() -> None:
    p = classifier(1.0).probabilities(crops(0, 255))
    np.testing.assert_allclose(p, 1 / (1 + np.exp([4, -4])), rtol=1e-6)
    calibrated = Classifier([Member("m", Corner(), Decision(0.5, Platt(0.5, 1.0)))])
    np.testing.assert_allclose(calibrated.probabilities(crops(255)), 1 / (1 + np.exp(-3.0)), rtol=1e-6)


def test_members_are_averaged() -> None:
    both = classifier(1.0, 0.25)
    p = both.probabilities(crops(255))
    np.testing.assert_allclose(p, (1 / (1 + np.exp(-4)) + 1 / (1 + np.exp(-1))) / 2, rtol=1e-6)
    assert both.name == "m1+m0.25" and both.passes == 2


def test_test_time_augmentation_averages_the_eight_views() -> None:
    once, eight = classifier(1.0), classifier(1.0, tta=True)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    turned = np.rot90(images[:, ::-1], 1, axes=(1, 2))
    np.testing.assert_allclose(eight.probabilities(images), eight.probabilities(turned), rtol=1e-6)
    assert not np.allclose(once.probabilities(images), once.probabilities(turned))
    logits = np.mean([once.members[0].runtime.run(view)[0] for view in dihedral_views(images)], axis=0)
    np.testing.assert_allclose(eight.probabilities(images), 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert eight.passes == 8


def test_the_eight_views_are_different_and_whole() -> None:
    image = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(1, SIDE, SIDE, 3)
    views = list(dihedral_views(image))
    assert len({view.tobytes() for view in views}) == 8
    assert all(view.flags.c_contiguous and sorted(view.ravel()) == sorted(image.ravel()) for view in views)


def verdict(p: float, call: str) -> Verdicts:
    return Verdicts(np.array([p]), np.array([int(p >= 0.5)], np.int8), [call], np.array([1.0]))


@pytest.mark.parametrize(
    ("members", "call"),
    [
        ([(0.9, "atypical"), (0.8, "atypical"), (0.2, "normal")], "atypical"),
        ([(0.9, "atypical"), (0.8, "uncertain"), (0.4, "uncertain")], "uncertain"),
        ([(0.9, "atypical"), (0.2, "normal")], "uncertain"),
        ([(0.9, "refused"), (0.9, "refused"), (0.9, "atypical")], "refused"),
        ([(0.9, "refused"), (0.9, "atypical")], "uncertain"),
        ([(0.1, "normal"), (0.2, "normal")], "normal"),
    ],
)
def test_calls_of_several_members(members: list[tuple[float, str]], call: str) -> None:
    found = combined([verdict(*member) for member in members], 0.5, ("normal", "atypical"))
    assert found.call == [call]
    assert found.decision.tolist() == [int(np.mean([p for p, _ in members]) >= 0.5)]


def test_members_that_see_other_fields_are_refused() -> None:
    one, other = Member("a", Corner(), Decision()), Member("b", Corner(field_um=16.0), Decision())
    with pytest.raises(InputError, match=r"`field_um of b` must be as that of a \(8.0\), got 16.0"):
        Classifier([one, other])
    with pytest.raises(InputError, match="`members` must be at least one network"):
        Classifier([])
    with pytest.raises(InputError, match="`task of a` must be 'atypical', got 'mitosis'"):
        Classifier([Member("a", Corner(task="mitosis"), Decision())])


def test_another_threshold_moves_the_decision_alone() -> None:
    before, after = classifier(1.0).judge(crops(140)), with_threshold(classifier(1.0), 0.9).judge(crops(140))
    assert before.p.tolist() == after.p.tolist()
    assert (before.decision.tolist(), after.decision.tolist()) == ([1], [0])
    with pytest.raises(InputError, match="threshold"):
        with_threshold(classifier(1.0), 1.5)


def test_crops_of_another_side_or_kind_are_refused(bundle_folder: Path) -> None:
    opened = Classifier.load(bundle_folder)
    with pytest.raises(InputError, match=r"`crops` must be of shape \(b, 32, 32, 3\), uint8"):
        opened.probabilities(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.fixture
def bundle_folder(bundle: Any, tmp_path: Path) -> Path:
    return bundle.save(tmp_path / "bundle")


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="`model` must be a bundle's folder, an exported file, or a shipped model"):
        find_model(str(tmp_path / "nothing"))


def write_slide(path: Path, images: np.ndarray) -> Points:
    """A region of crops side by side, and the points at their centres."""
    Image.fromarray(np.concatenate(list(images), axis=1)).save(path)
    centres = np.arange(len(images)) * SIDE + SIDE / 2
    return Points.at(centres, np.full(len(images), SIDE / 2))


def test_crops_stack_and_slide_give_the_same_probabilities(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    folder = tmp_path / "crops"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    pages = [Image.fromarray(image) for image in images]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    points = write_slide(tmp_path / "region.png", images)
    (tmp_path / "points.csv").write_text(
        "x,y\n" + "".join(f"{x},{y}\n" for x, y in zip(points.x_px, points.y_px, strict=True))
    )
    made = classifier(1.0)
    asked = (
        Request((str(folder),)),
        Request((str(tmp_path / "stack.tif"),)),
        Request((str(tmp_path / "region.png"),), points=tmp_path / "points.csv", mpp=0.5),
    )
    found = []
    for request in asked:
        batches = [results for _, results in made.judged(open_stream(request, made, StreamNotes()))]
        found.append([p for batch in batches for p in batch.column("p_atypical").to_pylist()])
    assert found[0] == found[1] == found[2]
    assert found[0] == made.probabilities(images).tolist() == made.predict(images).p_atypical.tolist()
    assert made.predict_slide(tmp_path / "region.png", points, mpp=0.5).p_atypical.tolist() == found[0]
    assert made.predict(folder).ids == [f"{i}.png" for i in range(5)]


def test_a_figure_that_gives_no_crop_is_a_row_with_its_reason(tmp_path: Path) -> None:
    Image.fromarray(crops(9)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    made = classifier(1.0)
    rows = {row["figure_id"]: row for row in made.predict(tmp_path).table().to_pylist()}
    assert rows["good.png"]["call"] == "normal" and rows["good.png"]["reason"] is None
    assert rows["bad.png"]["call"] == "refused" and rows["bad.png"]["p_atypical"] is None
    assert "is truncated" in rows["bad.png"]["reason"]
    items = list(crop_files([tmp_path], made.geometry))
    assert sum(isinstance(item, Refusal) for item in items) == 1


def test_requests_that_make_no_sense_are_refused_before_any_work(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 40)).save(tmp_path / "region.png")
    (tmp_path / "crops").mkdir()
    made = classifier(1.0)
    with pytest.raises(InputError, match="`points` must be given for the slide"):
        open_stream(Request((str(tmp_path / "region.png"),)), made, StreamNotes())
    with pytest.raises(InputError, match="`inputs` must be slides where points are given"):
        kind_of(str(tmp_path / "crops"), has_points=True)
    with pytest.raises(InputError, match="`inputs` must be one slide with points for GeoJSON"):
        only_slide(Request(("a.png",)))
    with pytest.raises(InputError, match="`inputs` must be at least one file, folder or pattern"):
        open_stream(Request(()), made, StreamNotes())
    with pytest.raises(DataError):
        open_stream(Request((str(tmp_path / "nothing.png"),)), made, StreamNotes())


def test_points_in_a_folder_are_found_by_the_slides_name(tmp_path: Path) -> None:
    slide = tmp_path / "case-1.png"
    write_slide(slide, crops(1, 2))
    folder = tmp_path / "points"
    folder.mkdir()
    request = Request((str(slide),), points=folder, mpp=0.5)
    with pytest.raises(
        InputError, match=r"must be a file named case-1\.geojson or case-1\.png\.geojson .*, got none of 0 files"
    ):
        points_of(str(slide), request)
    (folder / "case-1.csv").write_text("x,y,class\n8,8,mitosis\n24,8,other\n")
    with pytest.raises(InputError, match="`class` must be named where points are of several, got 1 mitosis, 1 other"):
        points_of(str(slide), request)
    for classes, count in ((("mitosis",), 1), (("all",), 2)):
        assert len(points_of(str(slide), replace(request, classes=classes))) == count


def test_slides_need_the_models_field(tmp_path: Path) -> None:
    unknown = Classifier([Member("m", Corner(field_um=None), Decision())])
    with pytest.raises(InputError, match="`field_um` must be known to cut crops from slides, got nothing in m"):
        unknown.predict_slide(tmp_path / "x.png", Points.at([1.0], [1.0]))


def test_predicting_loads_no_framework(tmp_path: Path) -> None:
    """The classes of the prediction path load neither torch nor scikit-learn, SciPy, pandas or matplotlib."""
    code = (
        "import sys, json; import atypia.cli.predict, atypia.inference.requests, atypia.inference.classifier;"
        "import atypia.reports.case.outputs, atypia.reports.case.summary, atypia.inference.runtimes.onnx_runtime, onnxruntime;"
        "print(json.dumps([m for m in ('torch','timm','sklearn','scipy','pandas','matplotlib') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
