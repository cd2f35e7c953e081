"""µm/px: all statements in a file, and the one that is used.

A file may state its µm/px in several places. All of them are collected, and they must agree, among
themselves and with the user's value, to :data:`TOLERANCE`. If they do not, nothing is guessed:
the user chooses one (``--mpp-from``).
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atypia.base.errors import DataError, InputError, must

AUTO: Final = "auto"
GIVEN: Final = "given"
OPENSLIDE: Final = "openslide"
OME: Final = "ome"
SCN: Final = "scn"
IMAGEJ: Final = "imagej"
TIFF: Final = "tiff"
DPI: Final = "dpi"
SOURCES: Final = {
    OPENSLIDE: "what the scanner wrote, by OpenSlide",
    OME: "OME-XML",
    SCN: "Leica's SCN XML",
    IMAGEJ: "ImageJ's description",
    TIFF: "TIFF resolution",
    DPI: "resolution of PNG or JPEG",
}
"""Places of a file that may state µm/px, the most specific first."""
CHOICES: Final = (AUTO, GIVEN, *SOURCES)
"""Values of ``--mpp-from``."""
GIVEN_AS: Final = "given by --mpp"
"""How a µm/px that the user named is called in messages and results: no text that a spreadsheet would run."""

TOLERANCE: Final = 0.05
"""Two µm/px that differ by a larger share of the larger one contradict each other."""
MAGNIFICATION_MPP: Final = 10.0
"""µm/px times magnification, by the usual convention: 40× is 0.25 µm/px."""

PLAUSIBLE_MPP: Final = (0.05, 20.0)
"""Values outside are not a microscope's full resolution (72 dpi is 353 µm/px); they are reported and not used."""
ANISOTROPY: Final = 0.02
"""Pixels whose sides differ by more than this share have no single µm/px."""

# Lengths of the OME schema (UnitsLength) in µm, and other spellings that are met.
UNITS_UM: Final = {
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "å": 1e-4,
    "in": 25_400.0,
    "inch": 25_400.0,
    "thou": 25.4,
    "pt": 25_400.0 / 72,
}
_TIFF_UNITS = {2: UNITS_UM["inch"], 3: UNITS_UM["cm"]}


@dataclass(frozen=True)
class Statement:
    """A statement of µm/px in one place of a file.

    Attributes:
        mpp: µm/px of full resolution; NaN if what it says cannot be used.
        place: A key of :data:`SOURCES`.
        source: Description used in results: «file: OME-XML».
        problem: Why it cannot be used; else empty.
    """

    mpp: float
    place: str
    source: str
    problem: str = ""


@dataclass(frozen=True)
class Scale:
    """The µm/px that is used.

    Attributes:
        mpp: µm/px; None if unknown.
        source: Its source; None if unknown.
    """

    mpp: float | None = None
    source: str | None = None


def statement(place: str, source: str, across: float | None, down: float | None) -> list[Statement]:
    """A statement from the µm/px of both axes: none where either is absent, not a number or not positive."""
    if across is None or down is None or not (math.isfinite(across) and math.isfinite(down)):
        return []
    if across <= 0 or down <= 0:
        return []
    mean = (across + down) / 2
    low, high = PLAUSIBLE_MPP
    if not low <= mean <= high:
        return [Statement(math.nan, place, source, f"{mean:.4g} µm/px, outside {low:g} to {high:g}")]
    if abs(across - down) > ANISOTROPY * mean:
        return [Statement(math.nan, place, source, f"{across:.4g} × {down:.4g} µm/px, and pixels must be square")]
    return [Statement(mean, place, source)]


def agreed_mpp(statements: Sequence[Statement]) -> Scale:
    """The µm/px of agreeing statements: that of the most specific place; unknown if they contradict each other."""
    usable = [one for one in statements if not one.problem]
    if not usable or contradictions(usable):
        return Scale()
    first = min(usable, key=lambda one: list(SOURCES).index(one.place))
    return Scale(first.mpp, first.source)


def contradictions(statements: Sequence[Statement]) -> bool:
    """Whether two usable statements differ by more than :data:`TOLERANCE`."""
    values = [one.mpp for one in statements if not one.problem]
    return bool(values) and mpp_differ(min(values), max(values))


def mpp_differ(one: float, other: float) -> bool:
    """Whether two µm/px differ by more than :data:`TOLERANCE` of the larger.

    >>> mpp_differ(0.25, 0.26), mpp_differ(0.25, 0.27)
    (False, True)
    """
    return abs(one - other) > TOLERANCE * max(one, other)


def choose_mpp(
    name: str,
    statements: Sequence[Statement],
    given: float | None = None,
    mpp_from: str = AUTO,
    given_as: str = GIVEN_AS,
) -> Scale:
    """Chooses the µm/px of an image.

    Args:
        name: Name of the image in messages.
        statements: Statements in its file.
        given: Value given by the user; None for none. It is used if the file agrees.
        mpp_from: Which statement to use if they differ: one of :data:`CHOICES`.
        given_as: How the user gave it, for messages and results.

    Returns:
        Unknown if nothing is stated.

    Raises:
        InputError: ``given`` or ``mpp_from`` is invalid, or ``mpp_from`` names a place without a statement.
        DataError: Statements contradict each other or ``given``, and ``mpp_from`` does not decide.
    """
    check_choice(mpp_from, given)
    usable = [one for one in statements if not one.problem]
    if mpp_from == GIVEN:
        return Scale(given, given_as)
    if mpp_from != AUTO:
        named = [one for one in usable if one.place == mpp_from]
        if not named or contradictions(named):
            said = "; ".join(_said(one) for one in statements) or "nothing"
            raise DataError(must("--mpp-from", f"a place of {name} that states one µm/px", f"{mpp_from}; the file says: {said}",
                                 "name another, or --mpp with --mpp-from given"))  # fmt: skip
        return Scale(named[0].mpp, named[0].source)
    against = [one for one in usable if given is not None and mpp_differ(one.mpp, given)]
    if against or contradictions(usable):
        heard = [f"{given:.4g} ({given_as})"] if given is not None else []
        heard += [_said(one) for one in usable]
        places = list(dict.fromkeys(one.place for one in usable))
        options = [f"--mpp-from {place}" for place in ([GIVEN] if given is not None else []) + places]
        also = "" if given is not None else ", or --mpp with --mpp-from given"
        raise DataError(
            must(
                f"µm/px of {name}", f"one value (to {TOLERANCE:.0%})", " and ".join(heard), " or ".join(options) + also
            )
        )
    return agreed_mpp(usable) if given is None else Scale(given, given_as)


def check_choice(mpp_from: str, given: float | None) -> None:
    """Refuses an invalid choice before any image is opened.

    Raises:
        InputError: It is not one of :data:`CHOICES`, ``given`` is not positive, or it is required and missing.
    """
    if mpp_from not in CHOICES:
        raise InputError(must("--mpp-from", f"one of {', '.join(CHOICES)}", mpp_from, "name one"))
    if given is not None and not (math.isfinite(given) and given > 0):
        raise DataError(must("mpp", "a positive number of µm/px", given, "for instance 0.25"))
    if mpp_from == GIVEN and given is None:
        raise InputError(must("--mpp", "given with --mpp-from given", "none", "for instance --mpp 0.25"))


def unused_notes(name: str, statements: Sequence[Statement]) -> list[str]:
    """Notes on statements that cannot be used."""
    return [f"{name}: not used: {_said(one)}" for one in statements if one.problem]


def unknown_mpp_error(name: str, statements: Sequence[Statement], field_um: float) -> DataError:
    """The error for a field in µm if the µm/px is unknown."""
    said = "; ".join(_said(one) for one in statements if one.problem)
    got = f"nothing in {name}" + (f" that can be used ({said})" if said else "")
    fix = "give mpp, for instance --mpp 0.25, or --magnification 40"
    return DataError(must("mpp", f"known to cut a field of {field_um:g} µm", got, fix))


def mpp_from_magnification(mpp: float | None, magnification: float | None) -> tuple[float | None, str]:
    """µm/px from what was given as µm/px and as magnification, and its name in messages.

    Raises:
        InputError: The magnification is not from 1 to 200, or the two contradict each other.

    >>> mpp_from_magnification(None, 40)
    (0.25, 'given by --magnification 40')
    """
    if magnification is None:
        return mpp, GIVEN_AS
    if not 1 <= magnification <= 200:
        raise InputError(must("--magnification", "from 1 to 200", magnification, "for instance 40"))
    found = MAGNIFICATION_MPP / magnification
    if mpp is None:
        return found, f"given by --magnification {magnification:g}"
    if mpp_differ(mpp, found):
        got = f"{mpp:g} and {magnification:g}, which is {found:g} µm/px"
        raise InputError(must("--mpp and --magnification", "one size", got, "give one of them"))
    return mpp, GIVEN_AS


# What files say -------------------------------------------------------------------------------


def length_um(value: str | float | None, unit: str | None) -> float | None:
    """A length in µm; None if the value is not a number or the unit no length.

    >>> length_um("250", "nm"), length_um("0.25", None), length_um("1", "pixel")
    (0.25, 0.25, None)
    """
    factor = 1.0 if unit is None else UNITS_UM.get(_plain_unit(unit))
    try:
        return None if value is None or factor is None else float(value) * factor
    except ValueError:
        return None


def ome_statements(description: str, width_px: int, height_px: int) -> list[Statement]:
    """Statements of OME-XML for images of this size, or for its only image regardless of size.

    A length without a unit is in µm, as the OME schema has it.
    """
    if not is_ome(description):
        return []
    images = [attributes for name, attributes in xml_start_tags(description) if name == "Pixels"]
    fitting = [one for one in images if (one.get("SizeX"), one.get("SizeY")) == (str(width_px), str(height_px))]
    found: list[Statement] = []
    for one in fitting or (images if len(images) == 1 else []):
        sides = [length_um(one.get(f"PhysicalSize{axis}"), one.get(f"PhysicalSize{axis}Unit")) for axis in "XY"]
        found += statement(OME, "file: OME-XML", sides[0], sides[1])
    return list(dict.fromkeys(found))


def scn_statements(description: str) -> list[Statement]:
    """Statement of Leica's SCN XML for its finest image: the size of its view in nm, and in pixels."""
    if "leica-microsystems.com/scn" not in description[:2000]:
        return []
    found: list[tuple[float, float]] = []
    pixels: dict[str, str] = {}
    for name, attributes in xml_start_tags(description):
        if name == "pixels":
            pixels = attributes
        elif name == "view" and pixels:
            sides = [
                (length_um(attributes.get(f"size{axis}"), "nm"), length_um(pixels.get(f"size{axis}"), None))
                for axis in "XY"
            ]
            if all(um and px for um, px in sides):
                across, down = (um / px for um, px in sides if um and px)
                found.append((across, down))
            pixels = {}
    return statement(SCN, "file: SCN XML", *min(found)) if found else []


def imagej_statements(description: str, per_unit: Sequence[float | None]) -> list[Statement]:
    """Statement by ImageJ: its unit is in the description, pixels per unit are in the resolution tags."""
    unit = imagej_unit(description)
    if unit is None:
        return []
    sides = [length_um(1 / value, unit) if value else None for value in per_unit]
    return statement(IMAGEJ, "file: ImageJ", sides[0], sides[1])


def imagej_unit(description: str) -> str | None:
    """ImageJ's unit of length; None if the description is not ImageJ's, or names none."""
    if not description.startswith("ImageJ="):
        return None
    found = re.search(r"^unit=(.+)$", description, re.MULTILINE)
    if found is None:
        return None
    unit = found[1].strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    return unit if _plain_unit(unit) in UNITS_UM else None


def tiff_statements(per_unit: Sequence[float | None], unit: int) -> list[Statement]:
    """Statement of the resolution tags.

    Args:
        per_unit: Pixels per unit, across and down.
        unit: The tag ``ResolutionUnit``: 2 for inches, 3 for centimetres, 1 for none.
    """
    unit_um = _TIFF_UNITS.get(unit)
    if unit_um is None:
        return []
    sides = [unit_um / value if value else None for value in per_unit]
    return statement(TIFF, "file: TIFF resolution", sides[0], sides[1])


def page_statements(
    description: str, width_px: int, height_px: int, per_unit: Sequence[float | None], unit: int
) -> list[Statement]:
    """All statements of a TIFF page.

    Args:
        description: The tag ``ImageDescription``.
        width_px: Width of the page.
        height_px: Its height.
        per_unit: The resolution tags: pixels per unit, across and down.
        unit: The tag ``ResolutionUnit``.
    """
    found = ome_statements(description, width_px, height_px) + scn_statements(description)
    if imagej_unit(description) is not None:
        return found + imagej_statements(description, per_unit)
    return found + tiff_statements(per_unit, unit)


def dpi_statements(dpi: Any) -> list[Statement]:
    """Statement of Pillow's ``dpi`` for a PNG or JPEG; empty if it has none."""
    if not dpi or len(dpi) != 2 or not all(dpi):
        return []
    across, down = (UNITS_UM["inch"] / float(side) for side in dpi)
    return statement(DPI, "file: resolution", across, down)


def is_ome(description: str) -> bool:
    """Whether a description is OME-XML."""
    return re.search(r"<(?:\w+:)?OME[\s>]", description[:4000]) is not None


def xml_start_tags(xml: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Start tags of XML in their order, without name space: name and attributes."""
    for name, rest in re.findall(r"<(?:\w+:)?(\w+)((?:\s+[\w:.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*/?>", xml):
        pairs = re.findall(r"([\w:.-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", rest)
        yield name, {key: html.unescape(double or single) for key, double, single in pairs}


def _plain_unit(unit: str) -> str:
    # The micro sign and the Greek mu look alike and are both written.
    return unit.strip().replace("μ", "µ").replace("Å", "Å").casefold().replace("μ", "µ")


def _said(one: Statement) -> str:
    return f"{one.problem or f'{one.mpp:.4g}'} ({one.source})"
