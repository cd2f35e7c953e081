"""A damaged TIFF is told by an error alone: libtiff writes no lines of its own to standard error."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from atypia.base.errors import DataError
from atypia.data.images.decoding import read_rgb
from atypia.data.images.libtiff import silence_libtiff


@pytest.mark.skipif(sys.platform == "win32", reason="there Pillow has libtiff built into it")
def test_libtiff_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_lzw")
    damaged = bytearray(file.getvalue())
    damaged[8:2000] = bytes((byte * 7 + 3) % 256 for byte in damaged[8:2000])

    assert silence_libtiff()
    with pytest.raises(DataError, match="damaged"):
        read_rgb(bytes(damaged), name="a.tif")

    assert capfd.readouterr().err == ""
