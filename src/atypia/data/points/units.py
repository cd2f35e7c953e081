"""What positions in a file are in: pixels of full resolution, µm, mm, or pixels of another resolution."""

from __future__ import annotations

import math
from typing import Final

from atypia.base.errors import InputError, must
from atypia.data.points.base import PointReading, ScaleError

AUTO_UNIT: Final = "auto"
PX: Final = "px"
UM_OF: Final = {"um": 1.0, "µm": 1.0, "mm": 1000.0}
"""Units of length in µm."""
CHOICES: Final = "auto, px, um, mm, or the µm of one pixel (0.5)"


def check_unit(unit: str) -> None:
    """Checks a value of ``--unit``.

    Raises:
        InputError: It is none of :data:`CHOICES`.
    """
    if unit in (AUTO_UNIT, PX, *UM_OF):
        return
    try:
        value = float(unit)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(must("--unit", CHOICES, repr(unit), "give one of them"))


def px_per_unit(reading: PointReading, unit: str | None = None) -> float:
    """Factor that converts positions to pixels of full resolution.

    Args:
        reading: The file and its slide.
        unit: As ``--unit``, other than ``auto``; None for the reading's own, ``auto`` meaning pixels.

    Raises:
        ScaleError: The unit is a length and the slide's µm/px is not known.
    """
    wanted = reading.unit if unit is None else unit
    if wanted in (AUTO_UNIT, PX):
        return 1.0
    um = UM_OF.get(wanted) or float(wanted)
    mpp = reading.mpp
    if mpp is None:
        what = f"positions are in {wanted}" if wanted in UM_OF else f"positions are in pixels of {wanted} µm"
        raise ScaleError(
            f"{reading.path.name}: {what} and the slide's µm/px is not known; fix: give --mpp, for instance 0.25"
        )
    return um / mpp


def told_unit(unit: str) -> str:
    """The unit in words.

    >>> told_unit("mm"), told_unit("0.5")
    ('mm', 'pixels of 0.5 µm')
    """
    return {"px": "pixels of full resolution", "um": "µm"}.get(unit) or (
        unit if unit in UM_OF else f"pixels of {unit} µm"
    )
