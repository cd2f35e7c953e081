"""Predicting from Python: the same rows as in the files, and the same judgement for every caller."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from atypia.base.errors import InputError
from atypia.challenge import classify
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.bundles.decision import fit_decision
from atypia.inference.classifier import Classifier
from atypia.inference.requests import Request
from atypia.reports.case.summary import CaseSummary
from atypia.workflows.predict import coarse_warnings, old_form_warnings, predict_crops, predict_request
from atypia.workflows.slides.jobs import SlideJob, SlideSettings
from atypia.workflows.slides.predict import predict_slides

SIDE = 32


@pytest.fixture
def model(trained_folder: Path, tmp_path: Path) -> Path:
    """A probe on random features, whose field is 8 µm."""
    return replace(load_bundle(trained_folder / "fold-1" / "bundle"), field_um=8.0).save(tmp_path / "model")


@pytest.fixture
def pages(tmp_path: Path) -> list[Image.Image]:
    return [Image.fromarray(one) for one in np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)]


@pytest.fixture
def folder(pages: Sequence[Image.Image], tmp_path: Path) -> Path:
    """The pages as crops, and a file that is none."""
    made = tmp_path / "crops"
    made.mkdir()
    for number, page in enumerate(pages):
        page.save(made / f"{number}.png")
    (made / "notes.txt").write_text("no image")
    for own in ("manifest.parquet", "phantom.json"):  # of a set that Atypia wrote: nothing to warn of
        (made / own).write_text("")
    return made


def test_rows_are_those_of_the_file_in_the_order_of_the_input(model: Path, folder: Path, tmp_path: Path) -> None:
    found = predict_crops(folder, model, out=tmp_path / "calls.csv", summary=tmp_path / "case.json")

    assert found.rows is not None
    with (tmp_path / "calls.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["figure_id"] for row in written] == found.rows["figure_id"].to_pylist()
    assert [float(row["p_atypical"]) for row in written] == [round(p, 6) for p in found.rows["p_atypical"].to_pylist()]
    assert found.summary.total.figures == 5 and found.files == (tmp_path / "calls.csv", tmp_path / "case.json")
    assert "1 file in a folder is no image" in found.warnings[0]
    assert repr(found) == "<PredictedCase: 5 figures, 0 of them refused; by probe-tiny-cnn-fold-1>"


def test_images_without_colour_are_counted(model: Path, folder: Path, pages: Sequence[Image.Image]) -> None:
    said = "; the figures that models are trained on are in colour"
    assert not any(said in text for text in predict_crops(folder, model).warnings)
    pages[2].convert("L").save(folder / "2.png")
    assert f"1 image is grey (first: 2.png){said}" in predict_crops(folder, model).warnings
    pages[3].convert("L").convert("RGB").save(folder / "3.png")
    assert f"2 images are grey (first: 2.png){said}" in predict_crops(folder, model).warnings
    stack = folder / "stack.tif"
    mixed = [pages[0], pages[2].convert("L"), pages[1], pages[3].convert("L").convert("RGB")]
    for several, found in (
        (mixed, "2 images are grey (first: stack.tif#2)"),
        (mixed[1:2] * 2, "2 images are grey (first: stack.tif#1)"),
    ):
        with tifffile.TiffWriter(stack) as file:
            for page in several:
                file.write(np.asarray(page), photometric="minisblack" if page.mode == "L" else "rgb", metadata=None)
        assert [text for text in predict_crops(stack, model).warnings if said in text] == [found + said]


def test_rows_are_held_only_where_they_are_asked_for(model: Path, folder: Path) -> None:
    found = predict_request(Request((str(folder),)), Classifier.load(model))
    assert found.rows is None and found.summary.total.scored == 5


def test_the_challenge_judges_a_stack_as_predict_does(
    model: Path, pages: Sequence[Image.Image], tmp_path: Path
) -> None:
    stack = tmp_path / "stack.tiff"
    pages[0].save(stack, save_all=True, append_images=list(pages[1:]))
    answers = classify(stack, [model])
    found = predict_crops(str(stack), model)
    assert found.rows is not None
    assert [answer["confidence"] for answer in answers] == found.rows["p_atypical"].to_pylist()
    names = ("normal", "atypical")
    assert [answer["class"] for answer in answers] == [names[one] for one in found.rows["decision"].to_pylist()]


def test_a_list_of_slides_gives_what_each_slide_gives_alone(
    model: Path, pages: Sequence[Image.Image], tmp_path: Path
) -> None:
    slide = tmp_path / "case.png"
    Image.fromarray(np.concatenate([np.array(page) for page in pages], axis=1)).save(slide)
    points = tmp_path / "points.csv"
    points.write_text("x,y\n" + "".join(f"{SIDE * i + SIDE / 2},{SIDE / 2}\n" for i in range(5)))
    alone = predict_crops(slide, model, points=points, mpp=0.25, out=tmp_path / "alone.csv")
    settings = SlideSettings((str(model),), mpp=0.25, forms=("csv",))
    found = predict_slides([SlideJob(slide, points)], tmp_path / "out", settings, engine="inline")

    assert [one.status for one in found.outcomes] == ["done"] and not found.failed and not found.all_refused
    assert found.outcomes[0].atypical == alone.summary.total.atypical
    first, second = tmp_path / "alone.csv", tmp_path / "out" / "case" / "results.csv"
    assert first.read_text("utf-8").replace(",given,", ",given by --mpp,") == second.read_text("utf-8")
    again = predict_slides([SlideJob(slide, points)], tmp_path / "out", settings, engine="inline")
    assert len(again.kept) == 1 and repr(again).startswith("<PredictedSlides: 1 slide, 0 done, 1 kept, 0 failed")


def test_the_table_of_slides_has_the_corrected_rates(
    trained_folder: Path, pages: Sequence[Image.Image], tmp_path: Path
) -> None:
    """As each slide's summary says them; a known prevalence moves them, and is part of what a slide is kept by."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [60, 40])
    bundle = replace(load_bundle(trained_folder / "fold-1" / "bundle"), field_um=8.0)
    fitted = fit_decision(rng.normal(2.0 * labels - 1.0, 1.0), labels)
    model = str(replace(bundle, decision=fitted).save(tmp_path / "fitted"))
    slide, points = tmp_path / "case.png", tmp_path / "points.csv"
    Image.fromarray(np.concatenate([np.array(page) for page in pages], axis=1)).save(slide)
    points.write_text("x,y\n" + "".join(f"{SIDE * i + SIDE / 2},{SIDE / 2}\n" for i in range(5)))
    rates = []
    for prevalence, status in ((None, "done"), (0.05, "done"), (0.05, "kept")):
        settings = SlideSettings((model,), mpp=0.25, forms=("csv",), prevalence=prevalence)
        (one,) = predict_slides([SlideJob(slide, points)], tmp_path / "out", settings, engine="inline").outcomes
        said = json.loads((tmp_path / "out" / "case" / "summary.json").read_text("utf-8"))["corrected"]
        assert one.status == status and one.rate_corrected is not None
        assert (one.rate_corrected, one.rate_corrected_low, one.rate_corrected_high) == (
            said["rate"], said["rate_low"], said["rate_high"],
        )  # fmt: skip
        with (tmp_path / "out" / "slides.csv").open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        assert float(row["rate_corrected"]) == round(one.rate_corrected, 6)
        rates.append(one.rate_corrected)
    assert rates[1] < rates[0] and rates[2] == rates[1]
    with pytest.raises(InputError, match="`prevalence` must be between 0 and 1, got 30"):
        predict_slides([SlideJob(slide, points)], tmp_path / "out", SlideSettings((model,), prevalence=30))


def test_what_slides_were_made_from_is_worded_as_ever() -> None:
    """A later wording, and a key that is not set, repeat no slide that is done."""
    told = SlideSettings(mpp=0.25).evidence()
    assert told["given_as"] == "--mpp" and "prevalence" not in told
    assert SlideSettings(given_as="given by --magnification 40").evidence()["given_as"] == "--magnification 40"
    assert SlideSettings(given_as="given").evidence()["given_as"] == "given"


def test_a_threshold_is_part_of_opening(model: Path) -> None:
    assert Classifier.load(model, threshold=0.9).threshold == 0.9
    with pytest.raises(InputError, match="threshold"):
        Classifier.load(model, threshold=1.5)


def test_models_without_hashes_are_named(model: Path) -> None:
    assert old_form_warnings([model]) == []


def test_images_coarser_than_the_training_are_told() -> None:
    classifier, counted = Classifier.load("atypia-amibr"), CaseSummary()
    counted.scales = {
        "a/20x.svs": {(0.5, "file: OME-XML", None): None},
        "b/20x.svs": {(0.5, "given by --mpp", None): None},
        "a/40x.svs": {(0.26, "file: OME-XML", None): None},
        "crops": {(0.5, "assumed (64 µm field)", None): None},
    }
    (told,) = coarse_warnings(classifier, counted)
    assert told.startswith("20x.svs and 1 more: µm/px is 0.5, coarser than all images of the training (up to 0.25)")
    del counted.scales["a/20x.svs"], counted.scales["b/20x.svs"]
    assert coarse_warnings(classifier, counted) == []
