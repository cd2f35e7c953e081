"""Crops whose files state their µm/px: that counts, and is said; what contradicts the user is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atypia.data.images.geometry import CropGeometry
from atypia.data.slides.cropscale import crop_statements
from atypia.data.slides.stacks import stack_pages
from atypia.data.slides.streams import CropBatch, Refusal, crop_files

WHOLE = CropGeometry(out_px=32)
FIELD_UM = 32.0


def rings(side: int) -> np.ndarray:
    """An image whose red channel tells the distance from its middle, in pixels."""
    at = np.abs(np.arange(side) - (side - 1) / 2)
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0] = np.maximum(at[:, None], at[None, :])
    return image


def saved(path: Path, mpp: float | None, side: int = 128) -> Path:
    dpi = {} if mpp is None else {"dpi": (25_400 / mpp, 25_400 / mpp)}
    Image.fromarray(rings(side)).save(path, **dpi)
    return path


def only(stream: object) -> CropBatch | Refusal:
    (item,) = list(stream)  # pyright: ignore[reportCallIssue, reportArgumentType, reportUnknownVariableType]
    return item  # pyright: ignore[reportUnknownVariableType]


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_crop_of_twice_the_field_shows_its_middle(tmp_path: Path, name: str) -> None:
    item = only(crop_files([saved(tmp_path / name, 0.5)], WHOLE, assumed_um=FIELD_UM))
    assert isinstance(item, CropBatch)
    assert item.crops[0, ..., 0].max() <= 33, "64 px of 0.5 µm are the 32 µm field; the border is not in it"
    assert item.read_as[0].mpp == pytest.approx(0.5, abs=1e-3)
    assert str(item.read_as[0].mpp_source).startswith("file: ")


@pytest.mark.parametrize("mpp", [0.25, 0.245, None, 352.8])
def test_the_usual_size_no_size_and_the_screen_s_change_nothing(tmp_path: Path, mpp: float | None) -> None:
    item = only(crop_files([saved(tmp_path / "a.tif", mpp)], WHOLE, assumed_um=FIELD_UM))
    assert isinstance(item, CropBatch) and item.crops[0, ..., 0].max() > 60
    source = str(item.read_as[0].mpp_source)
    assert source.startswith("file: " if mpp in (0.25, 0.245) else "assumed")


def test_a_file_against_the_user_is_refused_until_it_is_said_which(tmp_path: Path) -> None:
    path, field = saved(tmp_path / "a.tif", 0.5), CropGeometry(out_px=32, side_um=FIELD_UM)
    refused = only(crop_files([path], field, mpp=0.25))
    assert isinstance(refused, Refusal) and "--mpp-from given or --mpp-from tiff" in refused.reason
    for choice, mpp in (("given", 0.25), ("tiff", 0.5)):
        item = only(crop_files([path], field, mpp=0.25, mpp_from=choice))
        assert isinstance(item, CropBatch) and item.read_as[0].mpp == pytest.approx(mpp, abs=1e-3)


def test_pages_of_a_stack_follow_the_first_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(rings(128)) for _ in range(3)]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:], dpi=(50_800, 50_800))
    item = only(stack_pages(tmp_path / "s.tif", WHOLE, assumed_um=FIELD_UM))
    assert isinstance(item, CropBatch) and len(item) == 3
    assert item.crops[..., 0].max() <= 33 and {way.mpp for way in item.read_as} == {0.5}


@given(st.floats(0.06, 15))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, mpp: float) -> None:
    (said,) = crop_statements(saved(tmp_path_factory.mktemp("crop") / "a.tif", mpp, side=16))
    assert said.mpp == pytest.approx(mpp, rel=1e-3) and not said.problem


def test_what_is_no_image_states_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + b"\xff" * 60)
    assert crop_statements(tmp_path / "a.tif") == crop_statements(tmp_path / "none.png") == []
