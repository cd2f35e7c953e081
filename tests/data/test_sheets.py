"""Contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from atypia.base.errors import InputError
from atypia.data.images.sheets import COLOURS, contact_sheet


def crops(count: int, side: int = 32) -> np.ndarray:
    return np.full((count, side, side, 3), 77, np.uint8)


def share(sheet: np.ndarray, colour: str) -> int:
    return int((sheet == np.array(ImageColor.getrgb(colour))).all(axis=2).sum())


def test_every_crop_is_there_pixel_by_pixel() -> None:
    sheet = np.asarray(contact_sheet(crops(5), columns=2))
    assert share(sheet, "#4D4D4D") == 5 * 32 * 32
    # 2 columns and 3 lines of 38 px with 8 px between and around
    assert sheet.shape == (3 * 46 + 8, 2 * 46 + 8, 3)


def test_border_tells_the_class() -> None:
    without = np.asarray(contact_sheet(crops(3), columns=3))
    assert share(without, COLOURS[None]) == 3 * (38 * 38 - 32 * 32)
    labelled = np.asarray(contact_sheet(crops(3), columns=3, labels=[1, 1, 0]))
    border = 38 * 38 - 32 * 32
    # Each class has one square of the legend beside its borders.
    legend = share(labelled, COLOURS[0]) - border
    assert legend > 0
    assert share(labelled, COLOURS[1]) == 2 * border + legend
    assert share(labelled[-46:], COLOURS[None]) == 0


def test_captions_titles_and_scale_take_room() -> None:
    plain = contact_sheet(crops(4), columns=4)
    captioned = contact_sheet(crops(4), ["a", "b", "c", "a caption that is far too long for its cell"], columns=4)
    assert captioned.height > plain.height
    assert captioned.width == plain.width
    assert contact_sheet(crops(4), columns=4, title="Phantom µm").height > plain.height
    assert contact_sheet(crops(4), columns=4, scale=2).width == plain.width + 4 * 32


def test_wide_title_is_not_cut() -> None:
    assert contact_sheet(crops(1), title="A title that is much wider than one crop").width > 300


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"captions": ["a"]}, r"`captions` must be one per crop \(2\), got 1"),
        ({"labels": [0]}, "`labels` must be one per crop"),
        ({"labels": [0, 3]}, "`labels` must be 0, 1 or None"),
        ({"columns": 0}, "`columns` must be at least 1"),
        ({"scale": 0}, "`scale` must be positive"),
        ({"scale": 1000}, "`sheet` must be at most"),
    ],
)
def test_bad_arguments(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        contact_sheet(crops(2), **change)


@pytest.mark.parametrize("bad", [crops(0), crops(2)[0], crops(2).astype(float)])
def test_bad_crops(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="`crops` must be RGB"):
        contact_sheet(bad)
