"""Finds the image among the pages of a TIFF, and describes the other pages.

A TIFF may hold a macro image or a label before the slide, levels of a pyramid, planes of focus or time,
and R, G and B as three grey pages. The largest image is the slide. The meaning of pages is stated by OME-XML, by
ImageJ's description or by the shape that tifffile writes; if nothing states what several grey pages are,
the file is refused.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, must
from atypia.data.slides import scale

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

MAX_PAGES: Final = 4096
"""Largest number of pages of a slide; a file with more is not a slide."""
MAX_STACK_PAGES: Final = 100_000
TIFF_DAMAGE: Final = (
    ValueError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""Exceptions of tifffile on damaged files, apart from its own error, which is a ValueError."""
_RGB_NAMES = (("red", "r"), ("green", "g"), ("blue", "b"))
# Letters of tifffile's axes.
_AXES = {"Z": "z planes", "T": "time points", "C": "channels", "Q": "planes", "I": "pages"}
_FIX = "save it with R, G and B in one page"


T = TypeVar("T")


def of_tiff(path: Path, read: Callable[[TiffFile, str], T]) -> T | None:
    """What ``read`` finds in a TIFF; None where tifffile is absent or does not read the file.

    Raises:
        DataError: Whatever ``read`` refuses.
    """
    try:
        import tifffile
    except ImportError:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            return read(tiff, str(path))
    except DataError:
        raise
    except TIFF_DAMAGE:
        return None


@dataclass(frozen=True)
class Layout:
    """The image of a TIFF.

    Attributes:
        pages: Index of its page; of three pages, those of R, G and B.
        statements: Statements of µm/px in the file.
        notes: Other content of the file, and how it was read; without the file's name.
    """

    pages: tuple[int, ...]
    statements: tuple[scale.Statement, ...] = ()
    notes: tuple[str, ...] = ()


def layout_of(tiff: TiffFile, name: str) -> Layout:
    """Finds the image of an open TIFF.

    Args:
        tiff: The file.
        name: Its name in messages.

    Raises:
        DataError: It has too many pages, or it cannot be determined what several grey pages are.
        Exception: One of :data:`TIFF_DAMAGE` where the file is damaged.
    """
    pages = _pages(tiff, name)
    description = str(pages[0].description or "")
    by_series = _of_series(tiff, pages, description, name)
    chosen, notes = by_series if by_series is not None else _of_pages(pages, name)
    page = pages[chosen[0]]
    if page.samplesperpixel > 4:
        got = f"{page.samplesperpixel} channels in one page"
        raise DataError(must(name, "an image of 1, 3 or 4 channels", got, "save R, G and B alone"))
    return Layout(chosen, tuple(_statements(page, description)), tuple(notes))


def figures_of(tiff: TiffFile, name: str) -> list[tuple[int, ...]] | None:
    """Which pages of a stack of grey pages are the R, G and B of one figure each.

    Returns:
        Three indices per figure; None if each page is its own figure: pages in colour, or grey ones
        whose number or description is unambiguous.

    Raises:
        DataError: It cannot be told.
        Exception: One of :data:`TIFF_DAMAGE` where the file is damaged.
    """
    if not _grey(tiff.pages[0]):
        return None
    pages = _pages(tiff, name, MAX_STACK_PAGES)
    first = pages[0]
    if len(pages) < 3 or not all(_grey(page) and page.shape == first.shape for page in pages):
        return None
    found = _stack_triples(tiff, pages, str(pages[0].description or ""), name)
    if found is not None:
        return found
    if len(pages) % 3 == 0:
        got = f"{len(pages)} grey pages, which may be R, G and B of {len(pages) // 3}"
        raise DataError(
            must(name, "a stack of figures in colour", got, f"save each figure {_FIX.removeprefix('save it ')}")
        )
    return None


def _pages(tiff: TiffFile, name: str, most: int = MAX_PAGES) -> list[Any]:
    pages: list[Any] = []
    for page in tiff.pages:
        if len(pages) >= most:
            raise DataError(must(name, f"a TIFF of at most {most:,} pages", "more", "save the slide alone"))
        pages.append(page.aspage())
    if not pages:
        raise ValueError("it has no pages")
    return pages


def _grey(page: Any) -> bool:
    return page.samplesperpixel == 1 and int(page.photometric) in (0, 1) and page.bitspersample in (8, 16)


def _area(page: Any) -> int:
    return int(page.imagewidth) * int(page.imagelength)


# Files that describe themselves ---------------------------------------------------------------


def _describes(tiff: TiffFile, description: str) -> bool:
    return scale.is_ome(description) or tiff.is_shaped or tiff.is_imagej


def _series(tiff: TiffFile, pages: Sequence[Any]) -> list[tuple[list[tuple[str, int]], list[int]]]:
    """Description of pages in a file: for each image its outer axes, longer than 1, and its pages in order.

    Raises:
        ValueError: Pages that it names are missing.
    """
    at = {page.offset: index for index, page in enumerate(pages)}
    found = []
    for one in tiff.series:
        if {"Y", "X"} <= set(one.axes) and len(one.pages):
            outer = [
                (axis, size) for axis, size in zip(one.axes, one.shape, strict=True) if axis not in "YXS" and size > 1
            ]
            indices = [at[page.offset] for page in one.pages if page is not None]
            if len(indices) != len(one.pages):
                raise ValueError("pages that its description names are missing")
            found.append((outer, indices))
    return found


def _triples(
    outer: Sequence[tuple[str, int]], indices: Sequence[int], names: Sequence[str], name: str
) -> tuple[npt.NDArray[np.int64], str] | None:
    """R, G and B of each image of a series of grey pages, shape (n, 3), and a note; None if it has no channels.

    Raises:
        DataError: Its channels are not R, G and B.
    """
    sizes = [size for _, size in outer]
    place = next((at for at, (axis, _) in enumerate(outer) if axis == "C"), None)
    if place is None and outer and outer[-1] == ("Q", 3):
        place = len(outer) - 1  # for a shape without axis names: a 3 directly before height and width
    if place is None:
        return None
    if sizes[place] != 3 or math.prod(sizes) != len(indices):
        raise _no_colours(name, outer, names)
    order, note = _colour_order(name, names)
    grid = np.moveaxis(np.array(indices, dtype=np.int64).reshape(sizes), place, -1)
    return grid.reshape(-1, 3)[:, order], note


def _of_series(
    tiff: TiffFile, pages: Sequence[Any], description: str, name: str
) -> tuple[tuple[int, ...], list[str]] | None:
    """The image according to the file's description; None without one, or if it does not cover the largest page."""
    if not _describes(tiff, description):
        return None
    try:
        series = _series(tiff, pages)
    except TIFF_DAMAGE:
        return None
    outer, indices = max(series, key=lambda one: _area(pages[one[1][0]]), default=([], [0]))
    first = indices[0]
    if _area(pages[first]) < max(map(_area, pages)):
        return None
    if not _grey(pages[first]) or not outer:
        return (first,), _others(pages, first, outer)
    found = _triples(outer, indices, _channel_names(description), name)
    if found is None:
        raise _no_colours(name, outer, [])
    triples, note = found
    rest = [(axis, size) for axis, size in outer if axis != "C"]
    if len(rest) == len(outer):
        rest = rest[:-1]
    return (int(triples[0, 0]), int(triples[0, 1]), int(triples[0, 2])), [note, *_planes_note(rest)]


def _stack_triples(tiff: TiffFile, pages: Sequence[Any], description: str, name: str) -> list[tuple[int, ...]] | None:
    """R, G and B of each figure of a stack, according to the file; None if it does not describe channels."""
    if not _describes(tiff, description):
        return None
    try:
        series = _series(tiff, pages)
    except TIFF_DAMAGE:
        return None
    found: list[tuple[int, ...]] = []
    for outer, indices in series:
        one = _triples(outer, indices, _channel_names(description), name)
        if one is None:
            if len(outer) > 1:
                raise _no_colours(name, outer, [])
            return None
        found += [(int(red), int(green), int(blue)) for red, green, blue in one[0]]
    return found or None


def _channel_names(description: str) -> list[str]:
    """Names of the channels of OME-XML's largest image; empty if it has no OME-XML."""
    if not scale.is_ome(description):
        return []
    best, size, names = [], -1.0, []
    for tag, attributes in scale.xml_start_tags(description):
        if tag == "Pixels":
            names = []
            area = (scale.length_um(attributes.get("SizeX"), None) or 0) * (
                scale.length_um(attributes.get("SizeY"), None) or 0
            )
            if area > size:
                best, size = names, area
        elif tag == "Channel":
            names.append(attributes.get("Name", ""))
    return best


def _colour_order(name: str, names: Sequence[str]) -> tuple[list[int], str]:
    """Position of R, G and B among three channels, and a note that says so.

    Raises:
        DataError: The channels have other names.
    """
    note = "R, G and B are three grey pages and were put together"
    words = [text.strip().casefold() for text in names]
    if not any(words):
        return [0, 1, 2], f"{note} (in the order of the pages: the file does not name them)"
    order = [next((at for at, word in enumerate(words) if word in colour), None) for colour in _RGB_NAMES]
    found = [at for at in order if at is not None]
    if len(words) == 3 and len(found) == 3:
        return found, note
    numbered = all(word == f"channel {at}" or word.endswith(f":{at}") for at, word in enumerate(words))
    if numbered and len(words) == 3:
        return [0, 1, 2], f"{note} (in the order of the pages: the file only numbers them)"
    shown = ", ".join(repr(text) for text in names[:8])
    raise DataError(must(name, "an image with the channels R, G and B", f"the channels {shown}", _FIX))


def _no_colours(name: str, outer: Sequence[tuple[str, int]], names: Sequence[str]) -> DataError:
    planes = ", ".join(f"{size} {_AXES.get(axis, 'planes')}" for axis, size in outer)
    shown = f" ({', '.join(repr(text) for text in names[:8] if text)})" if any(names) else ""
    return DataError(must(name, "an image in colour", f"grey pages: {planes}{shown}", _FIX))


def _planes_note(outer: Sequence[tuple[str, int]]) -> list[str]:
    kinds = ", ".join(f"{size} {_AXES.get(axis, 'planes')}" for axis, size in outer if size > 1)
    return [f"it holds {kinds}; the first was read"] if kinds else []


# Files that do not ---------------------------------------------------------------------------


def _of_pages(pages: Sequence[Any], name: str) -> tuple[tuple[int, ...], list[str]]:
    """The largest page, the first of several; grey ones that come in threes are refused."""
    largest = max(map(_area, pages))
    same = [index for index, page in enumerate(pages) if _area(page) == largest]
    first = next((index for index in same if not _grey(pages[index])), same[0])
    if _grey(pages[first]) and len(same) > 1:
        got = f"{len(same)} grey pages of one size, which may be R, G and B, or planes"
        raise DataError(must(name, "an image in colour", got, _FIX))
    return (first,), _others(pages, first, [("I", len(same))])


def _others(pages: Sequence[Any], chosen: int, outer: Sequence[tuple[str, int]]) -> list[str]:
    """Notes on other content: images before the chosen one, planes of the same size."""
    notes = _planes_note(outer)
    if chosen > 0:
        page = pages[chosen]
        before = Counter(f"{p.imagewidth} × {p.imagelength}" for p in pages[:chosen] if _area(p) != _area(page))
        if before:
            sizes = ", ".join(before)
            notes.append(
                f"the slide is its image {chosen + 1} ({page.imagewidth} × {page.imagelength} px; before: {sizes})"
            )
    return notes


# Size ------------------------------------------------------------------------------------------


def _statements(page: TiffPage, description: str) -> list[scale.Statement]:
    width, height = page.imagewidth, page.imagelength
    per_unit = [_ratio(page.tags.valueof(tag)) for tag in ("XResolution", "YResolution")]
    # Photoshop and others write whole numbers without a real unit.
    unit = page.tags.valueof("ResolutionUnit", 2)
    return scale.page_statements(description, width, height, per_unit, int(unit) if isinstance(unit, int) else 2)


def _ratio(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return value[0] / value[1]
    return float(value) if isinstance(value, int | float) and value else None
