"""The drift report, from crops to words, and the record that it needs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from atypia.base.errors import InputError
from atypia.data.phantom.dataset import write_phantom
from atypia.inference.bundles.training_look import LOOK_KEY, look_of, measured_look
from atypia.inference.classifier import Classifier, Member
from atypia.reports.case.drift import (
    ALL,
    EDGE_WORDS,
    FEW_WORDS,
    LIKE_WORDS,
    MIXED_WORDS,
    NONE_WORDS,
    UNLIKE_WORDS,
    told_apart,
)
from atypia.statistics.drift import MeasureDrift
from atypia.workflows.laboratory.drift import case_names, drift, training_look

MODEL = "atypia-amibr"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drift")


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    """A shipped one, told that it was trained on a phantom set."""
    manifest = write_phantom(folder / "phantom", 60, seed=3)
    shipped = Classifier.load(MODEL)
    look = training_look(manifest, shipped, "60 phantom figures")
    assert set(look.figures.values()) and sum(look.figures.values()) == 60
    member = shipped.members[0]
    facts = json.loads(json.dumps({**member.decision.fitted, LOOK_KEY: look.as_dict()}))
    decision = replace(member.decision, fitted=facts)
    kept = look_of(decision)
    assert kept is not None and kept.as_dict() == look.as_dict()
    return Classifier([Member(member.name, member.runtime, decision)])


def case(folder: Path, name: str, blur: float = 0.0) -> str:
    target = folder / name
    target.mkdir(exist_ok=True)
    for path in sorted((folder / "phantom").rglob("*.png"))[:20]:
        image = Image.open(path).convert("RGB")
        (image.filter(ImageFilter.GaussianBlur(blur)) if blur else image).save(target / path.name)
    return str(target)


def test_it_says_like_and_unlike_and_why(folder: Path, classifier: Classifier, tmp_path: Path) -> None:
    report = drift([case(folder, "same"), case(folder, "blurred", 3.0)], classifier)
    # 20 figures of several phantom laboratories, each of which has too few cases to know their spread
    assert report.verdict("same") in (LIKE_WORDS, EDGE_WORDS) and report.departures["same"]["sharpness"].like
    assert report.verdict("blurred") == UNLIKE_WORDS
    assert any(
        reason.startswith("less sharp: blurred, out of focus or enlarged") for reason in report.reasons("blurred")
    )
    assert report.verdict(ALL) in (MIXED_WORDS, NONE_WORDS, UNLIKE_WORDS)  # the one does not hide the other
    lines = report.to_text().splitlines()
    assert lines.count(f"blurred: {UNLIKE_WORDS}") == 1  # the table above does not repeat it
    assert lines[lines.index(f"blurred: {UNLIKE_WORDS}") + 1] == f"  {report.reasons('blurred')[0]}"
    page, facts = report.write(tmp_path)
    html, found = page.read_text("utf-8"), json.loads(facts.read_text("utf-8"))
    assert UNLIKE_WORDS in html and html.count("<svg") > len(report.measures) and "<script" not in html
    assert [one["verdict"] for one in found["cases"]] == [report.verdict(one.name) for one in report.cases]
    assert found["cases"][1]["measures"]["sharpness"]["distance"] < -2


def test_a_scanner_s_own_micrometres_per_pixel_are_like_the_training_s(folder: Path) -> None:
    """The shipped classifier's laboratories have 0.23 and 0.25 µm/px, each without any spread."""
    path, found = case(folder, "plain"), {}
    for mpp in (0.2299, 0.2501, 0.2521, 0.26, 0.5):
        report = drift(path, MODEL, mpp=mpp)
        found[mpp] = report.departures["plain"]["mpp"]
        (told,) = report.as_dict()["cases"]
        assert told["measures"]["mpp"]["distance"] == pytest.approx(found[mpp].distance), (
            "a number, never without bound"
        )
    assert all(one.like for mpp, one in found.items() if mpp < 0.3) and found[0.5].unlike
    assert found[0.5].distance == pytest.approx(0.25 / (0.05 * 0.25))


def test_words_tell_a_median_from_the_end_that_it_lies_beyond() -> None:
    assert told_apart(MeasureDrift(0.25013, 0.23, 0.25, 3.0, 9)) == ("0.2501", "0.23", "0.25")
    assert told_apart(MeasureDrift(0.3, 0.23, 0.25, 3.0, 9)) == ("0.3", "0.23", "0.25")
    assert told_apart(MeasureDrift(0.22999, 0.23, 0.25, -3.0, 9)) == ("0.22999", "0.23", "0.25")


def test_that_no_spread_between_cases_is_known_is_told(folder: Path, classifier: Classifier) -> None:
    said = "No laboratory of the training has three cases with enough figures"
    for mpp in (None, 0.25):
        assert any(note.startswith(said) for note in drift(case(folder, "same"), classifier, mpp=mpp).notes)
    assert not any(note.startswith(said) for note in drift(case(folder, "same"), MODEL).notes)


def test_few_figures_say_nothing(folder: Path, classifier: Classifier, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((folder / "phantom").rglob("*.png"))[:3]:
        (few / path.name).write_bytes(path.read_bytes())
    report = drift(few, classifier)
    assert report.verdict("few") == FEW_WORDS and report.plots() == []


def test_figures_that_cannot_be_read_are_counted_with_their_reasons(
    folder: Path, classifier: Classifier, tmp_path: Path
) -> None:
    names = [case(folder, "whole"), str(tmp_path / "cut"), str(tmp_path / "gone")]
    for name, kept in (("cut", 10), ("gone", 0)):
        (tmp_path / name).mkdir()
        for number, path in enumerate(sorted((folder / "phantom").rglob("*.png"))[:12]):
            content = path.read_bytes()
            (tmp_path / name / path.name).write_bytes(content if number < kept else content[: len(content) // 2])
    report = drift(names, classifier)
    assert [(one.figures, one.unread) for one in report.cases] == [(20, 0), (10, 2), (0, 12), (30, 14)]
    assert report.verdict("gone") == NONE_WORDS and report.verdict("cut") not in (NONE_WORDS, FEW_WORDS)
    assert any(note.startswith("cut: 2 figures could not be read and count nowhere: ") for note in report.notes)
    assert any(note.startswith("gone: 12 figures could not be read") and "(12)" in note for note in report.notes)
    assert "whole, cut: µm/px is assumed (32 µm field); --mpp or --magnification overrides this." in report.notes
    assert [one["unread"] for one in report.as_dict()["cases"]] == [0, 2, 12, 14]
    assert "unread" in report.to_text() and "unread" not in drift(names[:1], classifier).to_text()
    small = drift(names[:1], classifier, mpp=0.05)
    assert small.verdict("whole") == NONE_WORDS and "check the µm/px" in small.to_text(1000)


def test_what_cannot_be_compared_is_refused(folder: Path) -> None:
    (member,) = Classifier.load(MODEL).members
    facts = {key: value for key, value in member.decision.fitted.items() if key != LOOK_KEY}
    unrecorded = Classifier([Member(member.name, member.runtime, replace(member.decision, fitted=facts))])
    with pytest.raises(
        InputError, match=r"model.*must be one whose training's look is recorded, got atypia-amibr, which does not"
    ):
        drift(folder, unrecorded)
    with pytest.raises(InputError, match=r"cases.*must be different from each other, got x/a twice"):
        case_names(["x/a", "y/../x/a"])
    with pytest.raises(InputError, match=r"cases.*must be different.*got one that is called 'all cases together'"):
        case_names([f"x/{ALL}"])
    assert case_names(["x/a", "y/a", "b/"]) == ["x/a", "y/a", "b"]
    with pytest.raises(InputError, match=r"laboratories.*must be known of some figures"):
        measured_look([None], [None], {"darkness": np.array([math.nan])}, "nothing")
