"""Which pages of a TIFF are the slide, and which the colours of one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.slides import colour_at, crops_of, gradient, middle, write_ome

from atypia.base.errors import DataError
from atypia.data.images.geometry import CropGeometry
from atypia.data.slides.readers import open_slide
from atypia.data.slides.stacks import classify_input, stack_pages
from atypia.data.slides.streams import CropBatch

tifffile = pytest.importorskip("tifffile", reason="needs the extra `slides`")
pytest.importorskip("openslide", reason="needs the extra `slides`")

WHOLE = CropGeometry(32)


def planes(pixels: np.ndarray) -> np.ndarray:
    """R, G and B as three images."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, -3))


@pytest.mark.parametrize(
    "options", [{}, {"tile": None}, {"compression": "zlib"}, {"tile": None, "compression": "zlib"}]
)
def test_the_largest_image_is_the_slide(tmp_path: Path, options: dict[str, Any]) -> None:
    macro, label = np.full((256, 256, 3), 9, np.uint8), np.full((128, 256, 3), 7, np.uint8)
    with open_slide(write_ome(tmp_path / "a.ome.tif", [macro, label, gradient()], **options)) as slide:
        assert (slide.width_px, slide.height_px) == (512, 512)
        assert middle(slide.read(300, 200, 64)) == colour_at(300, 200)
        assert middle(slide.read(511, 3, 64)) == colour_at(511, 3)
        assert slide.facts.notes == ("the slide is its image 3 (512 × 512 px; before: 256 × 256, 256 × 128)",)
        assert slide.openslide is None


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_the_largest_image_in_jpeg_tiles(tmp_path: Path, photometric: str) -> None:
    """tifffile writes no JPEG without more packages: the tiles are encoded here, and said to be JPEG afterwards."""
    import io

    from PIL import Image

    def tiles() -> Any:
        for top in range(0, 512, 128):
            for left in range(0, 512, 128):
                file = io.BytesIO()
                tile = Image.fromarray(gradient()[top : top + 128, left : left + 128])
                tile.save(file, "JPEG", quality=95, keep_rgb=photometric == "rgb", subsampling=0)
                yield file.getvalue()

    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.full((128, 128, 3), 9, np.uint8), photometric="rgb", tile=(128, 128), metadata=None)
        tiff.write(tiles(), shape=(512, 512, 3), dtype="uint8", photometric="rgb", tile=(128, 128),
                   compression="zlib", metadata=None)  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[1].tags["Compression"].overwrite(7)
        tiff.pages[1].tags["PhotometricInterpretation"].overwrite(6 if photometric == "ycbcr" else 2)
    with open_slide(path) as slide:
        found = slide.read(300, 200, 64).astype(int)
    assert np.abs(found - gradient()[168:232, 268:332]).max() <= 6


@pytest.mark.parametrize(
    "options", [{"tile": (128, 128)}, {}, {"compression": "zlib"}, {"tile": (64, 64), "compression": "zlib"}]
)
@pytest.mark.parametrize("names", [None, ["Red", "Green", "Blue"], ["B", "G", "R"]])
def test_colours_in_grey_pages_are_put_together(
    tmp_path: Path, options: dict[str, Any], names: list[str] | None
) -> None:
    path = tmp_path / "a.ome.tif"
    laid = planes(gradient()) if names != ["B", "G", "R"] else planes(gradient()[..., ::-1])
    metadata: dict[str, Any] = {"axes": "CYX"} | ({} if names is None else {"Channel": {"Name": names}})
    tifffile.imwrite(path, laid, photometric="minisblack", metadata=metadata, **options)
    with open_slide(path) as slide:
        assert middle(slide.read(300, 200, 64)) == colour_at(300, 200)
        np.testing.assert_array_equal(slide.read(256, 256, 512), gradient())
        assert "R, G and B are three grey pages" in slide.facts.notes[0]


def test_planes_of_focus_are_named(tmp_path: Path) -> None:
    both = np.stack([gradient(), gradient() // 2])
    tifffile.imwrite(tmp_path / "z.ome.tif", both, photometric="rgb", metadata={"axes": "ZYXS"}, tile=(128, 128))
    tifffile.imwrite(tmp_path / "zc.ome.tif", planes(both), photometric="minisblack", metadata={"axes": "ZCYX"})
    for name in ("z.ome.tif", "zc.ome.tif"):
        with open_slide(tmp_path / name) as slide:
            assert middle(slide.read(300, 200, 64)) == colour_at(300, 200)
            assert slide.facts.notes[-1] == "it holds 2 z planes; the first was read"


@pytest.mark.parametrize(
    ("count", "options", "reason"),
    [
        (3, {"metadata": None}, "3 grey pages of one size, which may be R, G and B, or planes"),
        (3, {"metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy3"]}}}, "'DAPI', 'FITC', 'Cy3'"),
        (4, {"metadata": {"axes": "CYX"}}, "grey pages: 4 channels"),
        (3, {"metadata": {"axes": "ZYX"}}, "grey pages: 3 z planes"),
        (3, {"imagej": True, "metadata": {"axes": "ZYX"}}, "grey pages: 3 z planes"),
    ],
)
def test_other_grey_pages_are_refused(tmp_path: Path, count: int, options: dict[str, Any], reason: str) -> None:
    path = tmp_path / ("a.ome.tif" if options["metadata"] and not options.get("imagej") else "a.tif")
    tifffile.imwrite(path, np.zeros((count, 256, 256), np.uint8), photometric="minisblack", **options)
    with pytest.raises(DataError, match=f"{reason}.*; fix: save it with R, G and B in one page"):
        open_slide(path)


# Stacks ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.tif", {}),
        ("a.ome.tif", {"metadata": {"axes": "TCYX"}}),
        ("b.tif", {"imagej": True, "metadata": {"axes": "TCYX"}}),
        ("c.tif", {"compression": "zlib"}),
    ],
)
def test_figures_in_grey_pages_are_put_together(
    tmp_path: Path, figures: np.ndarray, name: str, options: dict[str, Any]
) -> None:
    path = tmp_path / name
    tifffile.imwrite(path, planes(figures), photometric="minisblack", **options)
    notes: list[str] = []
    assert classify_input(path) == "stack"
    (batch,) = stack_pages(path, WHOLE, notes=notes)
    assert isinstance(batch, CropBatch) and batch.ids == [f"{name}#{n}" for n in range(1, 6)]
    np.testing.assert_array_equal(batch.crops, figures)
    assert notes == [f"{path}: its 15 grey pages are R, G and B of 5 figures"]


@pytest.mark.parametrize("shape", [(15,), (3, 5), (5, 4), (5, 2)])
def test_grey_stacks_that_may_be_colours_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((*shape, 32, 32), np.uint8), photometric="minisblack",
                     metadata=None if len(shape) == 1 else {})  # fmt: skip
    with pytest.raises(DataError, match=r"fix: save (each figure|it) with R, G and B in one page"):
        stack_pages(path, WHOLE)


def test_other_grey_stacks_are_read_as_before(tmp_path: Path, figures: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ascontiguousarray(figures[:, :, :, 0]), photometric="minisblack", metadata=None)
    notes: list[str] = []
    assert len(dict(crops_of(stack_pages(path, WHOLE, notes=notes)))) == 5
    assert notes == []  # that they have no colour is said of the crops: tests/workflows/test_predict.py
