"""Whether an image is the crop of one figure, and the size that it is read with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError
from atypia.data.images.geometry import CropGeometry
from atypia.data.slides.readas import check_one_figure, read_crop_as
from atypia.data.slides.streams import CropBatch, Refusal, crop_files

WHOLE, FIELD = CropGeometry(128), CropGeometry(128, side_um=32.0)


@pytest.mark.parametrize(
    ("width", "height", "mpp"),
    [(64, 64, None), (128, 128, None), (256, 256, None), (384, 384, None), (128, 90, None), (60, 45, None),
     (512, 512, 0.25), (256, 256, 0.5), (80, 80, 0.25), (640, 640, 0.2)],
)  # fmt: skip
def test_crops_of_one_figure(width: int, height: int, mpp: float | None) -> None:
    check_one_figure("a.png", width, height, WHOLE if mpp is None else FIELD, mpp)


@pytest.mark.parametrize(
    ("width", "height", "mpp", "reason"),
    [
        (1024, 128, None, r"at most 1\.5 times as long as wide\), got 1,024 × 128 px; fix: .*--points"),
        (256, 128, 0.25, r"at most 1\.5 times as long as wide"),
        (512, 512, None, r"at most 384 px per side where its µm/px is not known.*fix: give --mpp or --magnification"),
        (1000, 1000, 0.25, r"at most 512 px per side, 4 fields\), got 1,000 × 1,000 px \(250 µm at 0\.25 µm/px\)"),
        (512, 512, 0.5, r"at most 256 px per side"),
    ],
)
def test_other_images_are_refused(width: int, height: int, mpp: float | None, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        check_one_figure("a.png", width, height, WHOLE if mpp is None else FIELD, mpp)


def test_the_size_is_given_or_assumed_and_said() -> None:
    assert read_crop_as(128, 128, FIELD, 0.25, "--magnification 40", 32.0).mpp_source == "--magnification 40"
    assumed = read_crop_as(64, 64, WHOLE, None, "--mpp", 32.0)
    assert (assumed.mpp, assumed.mpp_source) == (0.5, "assumed (32 µm field)")
    assert math.isnan(read_crop_as(64, 64, WHOLE, None, "--mpp", None).mpp)


def test_a_montage_among_crops_is_refused_by_itself(tmp_path: Path) -> None:
    for name, size in (("a.png", (128, 128)), ("montage.png", (1024, 128)), ("c.png", (128, 128))):
        Image.fromarray(np.full((*size[::-1], 3), 99, np.uint8)).save(tmp_path / name)
    items = list(crop_files([tmp_path], WHOLE, assumed_um=32.0))
    (refusal,) = [item for item in items if isinstance(item, Refusal)]
    (batch,) = [item for item in items if isinstance(item, CropBatch)]
    assert refusal.figure_id == "montage.png" and "--points" in refusal.reason
    assert batch.ids == ["a.png", "c.png"]
    assert [way.mpp for way in batch.read_as] == [0.25, 0.25]
