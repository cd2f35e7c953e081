"""Values of tables and pages, and how each is written for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

UNDEFINED: Final = "n/a"


@dataclass(frozen=True)
class Spread:
    """A mean and its standard deviation; the latter NaN if unknown."""

    mean: float
    sd: float
    signed: bool = False


Value: TypeAlias = str | int | float | bool | Spread | None


def format_value(value: Value, digits: int = 3) -> str:
    """A value as text for people, on one line and without control characters."""
    if value is None:
        return ""
    if isinstance(value, str):
        return "".join(c for c in " ".join(value.split()) if c.isprintable())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Spread):
        mean = (
            f"{value.mean:+z,.{digits}f}"
            if value.signed and math.isfinite(value.mean)
            else format_value(value.mean, digits)
        )
        return mean if math.isnan(value.mean) or math.isnan(value.sd) else f"{mean} ± {format_value(value.sd, digits)}"
    if math.isnan(value):
        return UNDEFINED
    return f"{value:z,.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")
