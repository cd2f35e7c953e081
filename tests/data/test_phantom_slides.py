"""Phantom slides: what is told of them is what is on them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.pyramid import write_pyramid
from atypia.data.phantom.regions import MARGIN_PX, plan_region, tissue_sides_px
from atypia.data.phantom.slides import FIGURES_NAME, write_phantom_slides
from atypia.data.slides.readers import open_slide
from atypia.data.slides.slidecrops import slide_points
from atypia.data.tissue.areas import MaskedArea
from atypia.data.tissue.masks import TISSUE_UM, tissue_mask
from atypia.data.tissue.overviews import read_overview

MM2 = 0.06
HOW = {"mm2": MM2, "figures_per_mm2": 90, "look_alikes_per_mm2": 110}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "slides"
    write_phantom_slides(folder, 2, **HOW)
    return folder


def test_the_set_says_what_is_on_it(folder: Path) -> None:
    manifest, figures = Manifest.load(folder / "manifest.parquet"), Manifest.load(folder / FIGURES_NAME)
    assert manifest.task == r.MITOSIS_TASK and figures.task == r.ATYPICAL_TASK
    assert manifest.column(r.LABEL).tolist().count(1) == len(figures) == 2 * 5 and len(manifest) == 2 * (5 + 7)
    assert {label is not None for label in figures.column(r.LABEL).tolist()} == {True}
    assert set(figures.column(r.FIGURE_ID)) < set(manifest.column(r.FIGURE_ID))
    for image in sorted(set(manifest.column(r.IMAGE))):
        slide = folder / image
        points = slide_points(slide, folder / "points", classes=["mitotic figure"])
        rows = (manifest.column(r.IMAGE) == image) & (manifest.column(r.LABEL) == 1)
        assert np.allclose(points.x_px, manifest.column(r.X_PX)[rows], atol=0.01) and len(points) == 5
        with pytest.raises(InputError, match="look-alike"):
            slide_points(slide, folder / "points")


def test_figures_lie_where_they_are_said_to_lie(folder: Path) -> None:
    """Chromatin is the darkest there is: its middle within 25 px is where the figure is said to be."""
    manifest, away = Manifest.load(folder / "manifest.parquet"), []
    down, across = np.mgrid[-25:25, -25:25] + 0.5
    for row in manifest.table.to_pylist():
        with open_slide(folder / row[r.IMAGE]) as slide:
            x, y = row[r.X_PX], row[r.Y_PX]
            grey = slide.block(round(x) - 25, round(y) - 25, 50, 50).mean(axis=2)
        weight = np.clip(np.quantile(grey, 0.2) - grey, 0, None)
        middle = [(weight * axis).sum() / weight.sum() for axis in (across, down)]
        away.append(np.hypot(round(x) + middle[0] - x, round(y) + middle[1] - y))
    assert np.median(away) < 4 and max(away) < 16  # px of 0.25 µm


def test_tissue_has_its_area_and_the_rest_is_glass(folder: Path) -> None:
    for path in sorted((folder / "slides").glob("*.tif")):
        with open_slide(path) as slide:
            assert slide.mpp == pytest.approx(0.25) and slide.openslide is not None
            assert slide.openslide.level_count >= 2
            overview = read_overview(slide, TISSUE_UM, 0.25)
            found = MaskedArea(tissue_mask(overview, 0.25), overview.down, 0.25, "tissue").mm2
            assert slide.width_px == tissue_sides_px(MM2)[0] + 2 * MARGIN_PX
            glass = slide.block(0, 0, MARGIN_PX - 8, MARGIN_PX - 8).reshape(-1, 3).mean(axis=0)
        border_mm2 = 2 * sum(tissue_sides_px(MM2)) * 0.25 * TISSUE_UM / 1e6  # one pixel of the overview
        assert found == pytest.approx(MM2, abs=border_mm2 * 1.1) and glass.min() > 205


def test_again_and_elsewhere_the_same(folder: Path, tmp_path: Path) -> None:
    write_phantom_slides(tmp_path / "one", 1, **HOW, domains=["rose"])
    names = [path.name for path in (tmp_path / "one/slides").iterdir()]
    assert len(names) == 1

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert digest(tmp_path / "one/slides" / names[0]) == digest(folder / "slides" / names[0])
    (folder / "manifest.parquet").unlink()
    slides = sorted((folder / "slides").glob("*.tif"))
    whole, before = digest(slides[1]), slides[0].stat().st_mtime_ns
    slides[1].unlink()
    write_phantom_slides(folder, 2, **HOW)
    assert digest(slides[1]) == whole and slides[0].stat().st_mtime_ns == before
    with pytest.raises(InputError, match="holds phantom slides with other parameters; fix: choose another folder"):
        write_phantom_slides(folder, 3, **HOW)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than phantom slides"):
        write_phantom_slides(tmp_path / "mine", 2, **HOW)
    assert json.loads((folder / "phantom-slides.json").read_text())["mm2"] == MM2


def test_no_two_figures_are_near() -> None:
    plan = plan_region(3, DOMAINS["ash"], 1, 2.0, 100, 100)
    places = np.array([(figure.x_px, figure.y_px) for figure in plan.figures])
    assert len(places) == 400
    gaps = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(400) * 1e9
    assert gaps.min() >= 100 and sum(figure.mitotic for figure in plan.figures) == 200
    assert plan == plan_region(3, DOMAINS["ash"], 1, 2.0, 100, 100)
    assert plan.figures[0] != plan_region(4, DOMAINS["ash"], 1, 2.0, 100, 100).figures[0]
    with pytest.raises(InputError, match=r"figures and look-alikes` must be at most 1376 on 2 mm², got 2000"):
        plan_region(0, DOMAINS["rose"], 0, 2.0, 500, 500)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 0}, "`n` must be at least 1"),
        ({"mm2": 9}, r"`mm2` must be between 0\.02 and 8"),
        ({"figures_per_mm2": -1}, "`figures_per_mm2` must be between 0 and 1000"),
        ({"mm2": 0.02, "figures_per_mm2": 1, "look_alikes_per_mm2": 1}, "`figures` must be at least one in the set"),
        ({"domains": ["rosa"]}, "did you mean 'rose'"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        write_phantom_slides(tmp_path / "x", **{"n": 1, **wrong})  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "x").exists()


def test_a_pyramid_of_half_colour_reads_the_same_everywhere(tmp_path: Path) -> None:
    import tifffile

    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(60, 200, (10, 9, 3), dtype=np.uint8), np.ones((64, 64, 1), np.uint8))
    path = tmp_path / "a.tif"
    write_pyramid(path, [pixels[:256], pixels[256:512], pixels[512:]], (576, 640), 0.5, 60)
    with open_slide(path) as slide:
        read = slide.block(0, 0, 576, 640)
        assert slide.mpp == pytest.approx(0.5, rel=1e-4)
    assert np.abs(read.astype(int) - pixels).mean() < 6
    with tifffile.TiffFile(path) as tiff:
        assert [page.shape[:2] for page in tiff.pages] == [(640, 576), (160, 144)]
