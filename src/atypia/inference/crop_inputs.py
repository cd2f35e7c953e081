"""Crops as they are given in Python: arrays, Pillow images or paths, one or many, of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from atypia.base.errors import DataError, InputError, must
from atypia.data.images.decoding import image_rgb
from atypia.data.images.geometry import CropGeometry
from atypia.data.slides.cropscale import Sizing, image_statements
from atypia.data.slides.scale import AUTO, Statement, choose_mpp
from atypia.data.slides.streams import CROP_LIMITS, Crop, CropBatch, Refusal, batched, field_of_crops
from atypia.inference.requests import Request, SeesField, StreamNotes, numbered, open_stream

GIVEN: Final = "given"
"""How a µm/px was given, for results and messages."""
_EXPECTED: Final = "uint8 RGB of shape (h, w, 3) or (n, h, w, 3), a Pillow image, a path, or a list of these"

CropInput = npt.NDArray[np.uint8] | Image.Image | str | Path
Crops = CropInput | Iterable[CropInput]
"""What :func:`stream_of` takes."""


def stream_of(
    crops: Crops, classifier: SeesField, told: StreamNotes, *, mpp: float | None, mpp_from: str = AUTO, batch_size: int
) -> Iterator[CropBatch | Refusal]:
    """The crops that a classifier sees, in the given order.

    Paths are read as by ``atypia predict`` (files, folders, patterns, TIFF stacks). A Pillow image that was
    opened from a file counts as that file, with the µm/px that it states; an array, or an image made in memory,
    has no µm/px.

    Args:
        crops: One or several.
        classifier: The classifier that they are for.
        told: Receives skipped files, and notes.
        mpp: µm/px of all of them; None for the value in each file; if there is none, the whole crop is the field.
        mpp_from: Which value is used if a file and ``mpp`` differ.
        batch_size: Crops at once.

    Raises:
        InputError: There is none, or something is no crop.
    """
    given = _listed(crops)
    if not given:
        raise InputError(must("crops", _EXPECTED, "an empty list", "give at least one"))
    return _stream(given, classifier, told, mpp, mpp_from, batch_size)


def _listed(crops: Any) -> list[tuple[str, Any]]:
    """Each crop with its name; a batch in one array as its crops."""
    if isinstance(crops, str | Path | Image.Image) or (isinstance(crops, np.ndarray) and crops.ndim <= 3):
        crops = [crops]
    elif not isinstance(crops, Iterable):
        raise InputError(must("crops", _EXPECTED, type(crops).__name__, "read the file with Pillow, or name it"))
    found = []
    for number, one in enumerate(crops):
        if isinstance(one, str | Path):
            found.append((str(one), str(one)))
        elif isinstance(one, Image.Image):
            found.append((Path(getattr(one, "filename", "") or str(number)).name, one))
        elif isinstance(one, np.ndarray) and one.ndim == 3 and one.shape[2] == 3 and one.dtype == np.uint8:
            found.append((str(number), one))
        else:
            got = f"{one.dtype} of shape {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
            raise InputError(must(f"crop {number}", _EXPECTED, got, _remedy(one)))
    return found


def _remedy(one: Any) -> str:
    if isinstance(one, np.ndarray) and one.ndim == 3 and one.shape[2] == 4:
        return "leave the fourth channel out: crop[..., :3]"
    if isinstance(one, np.ndarray) and one.dtype != np.uint8:
        return "scale it to 0 … 255 and say .astype('uint8')"
    return "read it as RGB"


def _stream(
    given: Sequence[tuple[str, Any]],
    classifier: SeesField,
    told: StreamNotes,
    mpp: float | None,
    mpp_from: str,
    size: int,
) -> Iterator[CropBatch | Refusal]:
    whole = classifier.geometry if mpp is None else classifier.slide_geometry
    field = field_of_crops(whole, mpp)
    assumed = classifier.field_um if whole.side_um is None else whole.side_um
    sizing = Sizing(mpp, mpp_from, GIVEN, assumed)
    before, seen = 0, set[str]()
    groups = [(is_path, list(group)) for is_path, group in groupby(given, key=lambda one: isinstance(one[1], str))]
    for is_path, group in groups:
        if is_path:
            request = Request(
                tuple(name for name, _ in group), mpp=mpp, batch_size=size, mpp_from=mpp_from, given_as=GIVEN
            )
            stream = open_stream(request, classifier, told)
        else:
            stream = batched((_crop(name, one, field, sizing, seen) for name, one in group), size, field.out_px)
        before = yield from numbered(stream, before)


def _crop(name: str, one: Any, field: CropGeometry, sizing: Sizing, seen: set[str]) -> Crop | Refusal:
    figure, count = name, 1
    while figure in seen:
        count += 1
        figure = f"{name}~{count}"
    seen.add(figure)
    image = str(getattr(one, "filename", "") or f"crop {name}")
    statements: list[Statement] = []
    try:
        if isinstance(one, Image.Image):
            # An image that was changed in memory keeps the µm/px of its file although its size may differ.
            statements = image_statements(one) if isinstance(one, ImageFile.ImageFile) else []
            one = image_rgb(one, image, CROP_LIMITS)
        scale = choose_mpp(image, statements, sizing.mpp, sizing.mpp_from, sizing.given_as)
        pixels, read_as = sizing.cut(one, image, field, scale)
    except DataError as error:
        return Refusal(figure, image, str(error))
    return Crop(figure, image, pixels, read_as=read_as)
