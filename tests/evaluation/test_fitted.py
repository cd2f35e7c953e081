"""Figures to which a bundle was fitted after its training are refused as a test of it, wherever it lies."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from atypia.base.errors import LeakageError
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.evaluation.external import check_set, open_target
from atypia.evaluation.fitted import ADAPTED, HASHES, figure_hashes, fitted_to, learned_beside
from atypia.inference.bundles.bundle import Bundle, load_bundle
from atypia.inference.classifier import find_model
from atypia.workflows.laboratory.calibrate import calibrate
from atypia.workflows.laboratory.own_figures import made_from

MODEL = "atypia-amibr"
CROPS = 40


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A table of crops of 64 µm."""
    return drawn(tmp_path / "mine", seed=1)


def drawn(folder: Path, seed: int, turned: bool = False) -> Path:
    folder.mkdir()
    rng, rows = np.random.default_rng(seed), [("image", "label", "case_id", "mpp")]
    for n in range(CROPS):
        pixels = rng.integers(90, 200, (128, 128, 3), np.uint8)
        Image.fromarray(pixels[:, ::-1] if turned else pixels).save(folder / f"{n}.png")
        rows.append((str(folder / f"{n}.png"), str(n % 2), f"c{n // 4}", "0.5"))
    with (folder / f"{folder.name}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / f"{folder.name}.csv"


def fitted(folder: Path, manifest: Manifest, key: str = ADAPTED, hashes: list[str] | None = None) -> Path:
    """The shipped model with the record of a later fit."""
    bundle = load_bundle(find_model(MODEL))
    facts = {**made_from(bundle, manifest), **({} if hashes is None else {HASHES: hashes})}
    return replace(bundle, name="fitted", training={**bundle.training, key: facts}).save(folder)


def hashes_of(bundle: Bundle, manifest: Manifest) -> list[str]:
    return figure_hashes(open_store(manifest, bundle.geometry))


def test_learned_figures_are_known_by_their_pixels(mine: Path, tmp_path: Path) -> None:
    manifest, bundle = open_data(str(mine)), load_bundle(find_model(MODEL))
    path = fitted(tmp_path / "model", manifest, hashes=hashes_of(bundle, manifest))
    assert len(hashes_of(bundle, manifest)) == CROPS
    with pytest.raises(LeakageError, match=r"fitted was adapted by the figures of mine; .*--allow figure-across-sets"):
        check_set(open_target(path), manifest)
    for figures in (open_data(str(drawn(tmp_path / "turned", seed=1, turned=True))), manifest.take(np.arange(CROPS))):
        part = replace(figures.take(np.arange(9)), name="other")
        with pytest.raises(LeakageError, match=r"other holds 9 learned figures by which fitted was adapted \(mine\)"):
            check_set(open_target(path), part)
        with pytest.raises(LeakageError, match="9 learned figures"):
            calibrate(path, part)
    said = check_set(open_target(path), manifest, ["figure-across-sets"]).warnings
    assert any("was adapted by the figures of mine" in text for text in said)
    fresh = replace(open_data(str(drawn(tmp_path / "fresh", seed=2))), name="mine")
    assert not any("adapted" in text for text in check_set(open_target(path), fresh).warnings)


def test_an_older_bundle_knows_them_by_name_and_fingerprint(mine: Path, tmp_path: Path) -> None:
    manifest = open_data(str(mine))
    path = fitted(tmp_path / "model", manifest)
    with pytest.raises(LeakageError, match="was adapted by the figures of mine"):
        check_set(open_target(path), manifest)
    with pytest.raises(LeakageError, match="mine holds mine, on which"):
        check_set(open_target(path), manifest.take(np.arange(9)))
    assert learned_beside(load_bundle(path), path) is None


def test_a_calibrated_model_is_not_tested_on_what_its_decision_was_fitted_to(mine: Path, tmp_path: Path) -> None:
    manifest = open_data(str(mine))
    path = fitted(tmp_path / "model", manifest, key="calibrated")
    assert list(fitted_to(load_bundle(path).training)) == ["calibrated"]
    with pytest.raises(LeakageError, match="fitted was calibrated by the figures of mine"):
        check_set(open_target(path), manifest)
    assert check_set(open_target(path), manifest.take(np.arange(9))).store is not None


def test_of_crops_that_the_caller_cuts_no_field_is_told(mine: Path) -> None:
    """`calibrate` cuts the model's field, and counts what cannot be read in words of its own."""
    manifest = open_data(str(mine))
    broken = Path(str(manifest.root)) / manifest.table["image"].to_pylist()[0]
    broken.write_bytes(broken.read_bytes()[:200])
    target = open_target(MODEL)
    whole, own = (check_set(target, manifest, own_crops=own).warnings for own in (False, True))
    assert any("they are scored whole" in text for text in whole) and any("cannot be read" in text for text in whole)
    assert own == ()
    notes = calibrate(MODEL, manifest).notes
    assert not any("scored whole" in note for note in notes)
    assert sum("left out" in note for note in notes) == 1


def test_positions_on_slides_are_checked_in_the_model_s_field(tmp_path: Path) -> None:
    """A model that was trained on whole crops has a field on the tissue, in which `calibrate` cuts slides."""
    pixels = np.random.default_rng(3).integers(90, 200, (600, 600, 3), np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", pixels, tile=(128, 128), photometric="rgb")
    rows = ["image,x_px,y_px,label,mpp", *(f"slide.tif,{150 + 30 * n},300,{n % 2},0.25" for n in range(10))]
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    manifest = open_data(str(tmp_path / "mine.csv"))
    store = check_set(open_target(MODEL), manifest, own_crops=True).store
    assert store.usable.all() and store.geometry.side_um == 32
    assert sum(calibrate(MODEL, manifest).figures) == 10
