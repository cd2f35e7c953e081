"""µm/px of crops that are files: stated by each file, given by the user, or assumed by models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.files.regularfiles import open_regular
from atypia.data.images.decoding import FORMATS
from atypia.data.images.geometry import CropGeometry, apply
from atypia.data.slides.readas import ReadAs, check_one_figure, read_crop_as
from atypia.data.slides.scale import (
    AUTO,
    GIVEN_AS,
    Scale,
    Statement,
    choose_mpp,
    dpi_statements,
    mpp_differ,
    page_statements,
)

_DESCRIPTION, _X, _Y, _UNIT = 270, 282, 283, 296
"""Numbers of TIFF tags."""
_INCH = 2


def crop_statements(path: Path) -> list[Statement]:
    """Statements of µm/px in the first image of a file; empty if it cannot be read, which is reported elsewhere."""
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            return image_statements(image)
    except (OSError, ValueError, SyntaxError, TypeError, ArithmeticError, LookupError, Image.DecompressionBombError):
        return []


def image_statements(image: Image.Image) -> list[Statement]:
    """What an image that was opened from a file states of its µm/px; nothing where that cannot be read."""
    try:
        tags = getattr(image, "tag_v2", None)
        if tags is None:
            return dpi_statements(image.info.get("dpi"))
        per_unit = [float(tags[tag]) if tags.get(tag) else None for tag in (_X, _Y)]
        description, unit = str(tags.get(_DESCRIPTION, "")), int(tags.get(_UNIT, _INCH))
        return page_statements(description, image.width, image.height, per_unit, unit)
    except (ValueError, TypeError, ArithmeticError, LookupError):
        return []


def crop_scale(path: Path, name: str, mpp: float | None, mpp_from: str = AUTO, given_as: str = GIVEN_AS) -> Scale:
    """The µm/px of a crop's file, as :func:`atypia.data.slides.scale.choose_mpp` decides it.

    Raises:
        DataError: The file contradicts the given value, and ``mpp_from`` does not decide.
    """
    return choose_mpp(name, crop_statements(path), mpp, mpp_from, given_as)


@dataclass(frozen=True)
class Sizing:
    """How the µm/px of crops is determined.

    Attributes:
        mpp: µm/px given by the user; None to use what files state.
        mpp_from: Which statement to use if they differ.
        given_as: How it was given, for messages and results.
        assumed_um: The assumed field of a whole crop if nothing is stated; None if the model does not define it.
    """

    mpp: float | None = None
    mpp_from: str = AUTO
    given_as: str = GIVEN_AS
    assumed_um: float | None = None

    def scale(self, path: Path, name: str) -> Scale:
        """The µm/px of a file; see :func:`crop_scale`."""
        return crop_scale(path, name, self.mpp, self.mpp_from, self.given_as)

    def cut(
        self, image: npt.NDArray[np.uint8], name: str, geometry: CropGeometry, scale: Scale
    ) -> tuple[npt.NDArray[np.uint8], ReadAs]:
        """The crop that a model sees, shape (out_px, out_px, 3), and how its image was read.

        Args:
            image: RGB, shape (height, width, 3).
            name: Its name in messages.
            geometry: The field for what the user gives.
            scale: Of its file.

        Raises:
            DataError: The image is not the crop of one figure, or smaller than the field.
        """
        height, width = image.shape[:2]
        field = geometry
        if self.mpp is None and scale.mpp is not None:
            field = field_as_stated(geometry, scale.mpp, min(width, height), self.assumed_um)
        mpp = scale.mpp
        check_one_figure(name, width, height, field, mpp)
        return apply(image, field, mpp), read_crop_as(width, height, field, mpp, scale.source or "", self.assumed_um)


def field_as_stated(
    geometry: CropGeometry, stated_mpp: float, shortest_px: int, assumed_um: float | None
) -> CropGeometry:
    """The field to cut from a crop whose file states its µm/px, if the user gives none.

    Args:
        geometry: The field without µm/px.
        stated_mpp: What the file states.
        shortest_px: The crop's shorter side.
        assumed_um: The field that a whole crop is taken for; None if the model does not say.

    Returns:
        ``geometry`` where the whole crop has that size to 5 %; else a field of ``assumed_um`` in its middle.
    """
    if not geometry.is_whole or assumed_um is None or not mpp_differ(stated_mpp * shortest_px, assumed_um):
        return geometry
    return CropGeometry(geometry.out_px, side_um=assumed_um, stain=geometry.stain)
