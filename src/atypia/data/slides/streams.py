"""Streams of figures for a classifier: batches of crops, from files and from slides, in constant memory.

Every stream yields a :class:`CropBatch` when one is full, the rest at the end, and a
:class:`Refusal` for each figure that gives no crop as soon as that is known. Crops keep the
order that each function names; a refusal may come before crops that precede it. Each knows its place in the input
(``at``), by which results are put in order.
"""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, count_noun, must
from atypia.base.files.regularfiles import open_regular
from atypia.base.process.cores import core_count
from atypia.base.runs import MANIFEST, PHANTOM_PARAMETERS
from atypia.data.images.decoding import ImageLimits, image_format, read_header, read_rgb
from atypia.data.images.geometry import CropGeometry
from atypia.data.slides.cropscale import Sizing
from atypia.data.slides.readas import UNKNOWN, ReadAs
from atypia.data.slides.scale import AUTO, GIVEN_AS
from atypia.data.sources.layouts import IMAGE_SUFFIXES, walk_files

MAX_CROP_PX = 2048
"""An image with a longer side (px) is a region from which figures are cut, not a crop of one figure."""
CROP_LIMITS = ImageLimits(max_pixels=MAX_CROP_PX**2)
DEFAULT_BATCH = 64
MAX_BATCH_BYTES = 1 << 30
"""Most bytes of the crops of a batch; a network needs several times as much memory."""

MOST_WORKERS = 8
UNIT_FILES = 16
UNIT_BYTES = 4 << 20
"""Number and total bytes of crops that one thread decodes at a time."""
_OTHER_SUFFIXES = frozenset({".bmp", ".webp", ".jp2"})

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class CropBatch:
    """Crops of some figures, in the same order in every attribute.

    Attributes:
        ids: Figure ids.
        crops: RGB, shape (b, out_px, out_px, 3), uint8.
        images: The file or slide that each came from, as the user named it.
        x_px: Centres on the slide, shape (b,), float64; NaN for crops that are files or pages.
        y_px: Centres on the slide, shape (b,), float64.
        classes: Class of each in the file of points; None if it has no classes.
        at: Row number of each in its input, from 0, shape (b,), int64: crops of slides come in another order. None
            where they come in the input's.
        read_as: The size and place that each was read with; empty if nothing is known of any.
    """

    ids: list[str]
    crops: npt.NDArray[np.uint8]
    images: list[str]
    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    classes: list[str | None] | None = None
    at: npt.NDArray[np.int64] | None = None
    read_as: tuple[ReadAs, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Refusal:
    """A figure without a crop.

    Attributes:
        figure_id: Its id.
        image: The file or slide, as the user named it.
        reason: The reason and the remedy.
        x_px: Its centre on a slide; NaN for crops.
        y_px: Its centre on a slide; NaN for crops.
        named: Its class in the file of points; None if not stated.
        at: Its place in the input, from 0; None if figures come in the input's order.
        read_as: The scale and origin with which it was to be read.
    """

    figure_id: str
    image: str
    reason: str
    x_px: float = float("nan")
    y_px: float = float("nan")
    named: str | None = None
    at: int | None = None
    read_as: ReadAs = UNKNOWN


class Crop(NamedTuple):
    """One figure's crop before batching: RGB, shape (out_px, out_px, 3), uint8."""

    figure_id: str
    image: str
    pixels: npt.NDArray[np.uint8]
    x_px: float = float("nan")
    y_px: float = float("nan")
    named: str | None = None
    at: int | None = None
    read_as: ReadAs = UNKNOWN


@dataclass
class Skipped:
    """Files in folders that are not images, counted while a stream runs.

    Attributes:
        count: Number of files.
        first: The first of them; None if there is none.
    """

    count: int = 0
    first: str | None = None


def batched(items: Iterable[Crop | Refusal], batch_size: int, out_px: int) -> Iterator[CropBatch | Refusal]:
    """Collects crops into batches; refusals are passed on at once.

    Args:
        items: Crops of side ``out_px``, and refusals.
        batch_size: Crops in a batch; the last may have fewer.
        out_px: Side of every crop.

    Raises:
        InputError: ``batch_size`` is not positive, or a batch would have more than :data:`MAX_BATCH_BYTES`.
    """
    if batch_size < 1:
        raise InputError(must("batch_size", "a positive whole number", batch_size, "for instance 64"))
    most = max(1, MAX_BATCH_BYTES // (3 * out_px**2))
    if batch_size > most:
        expected = f"at most {most:,} for crops of {out_px} px (1 GiB)"
        raise InputError(must("batch_size", expected, f"{batch_size:,}", "pass a smaller --batch-size; 64 is usual"))
    return _batched(items, batch_size, out_px)


def _batched(items: Iterable[Crop | Refusal], batch_size: int, out_px: int) -> Iterator[CropBatch | Refusal]:
    held: list[Crop] = []
    pixels = np.empty((0, out_px, out_px, 3), np.uint8)
    for place, item in enumerate(items):
        if item.at is None:  # in input order, including refusals
            item = item._replace(at=place) if isinstance(item, Crop) else replace(item, at=place)
        if isinstance(item, Refusal):
            yield item
            continue
        if not held:
            pixels = np.empty((batch_size, out_px, out_px, 3), np.uint8)
        pixels[len(held)] = item.pixels
        # A crop may be a view of a larger image, which must not stay in memory.
        held.append(item._replace(pixels=pixels[:0]))
        if len(held) == batch_size:
            yield _batch(held, pixels)
            held = []
    if held:
        yield _batch(held, pixels[: len(held)])


def _batch(held: list[Crop], pixels: npt.NDArray[np.uint8]) -> CropBatch:
    return CropBatch(
        [crop.figure_id for crop in held],
        pixels,
        [crop.image for crop in held],
        np.array([crop.x_px for crop in held], np.float64),
        np.array([crop.y_px for crop in held], np.float64),
        [crop.named for crop in held] if any(crop.named is not None for crop in held) else None,
        np.array([crop.at for crop in held], np.int64),
        tuple(crop.read_as for crop in held),
    )


def field_of_crops(geometry: CropGeometry, mpp: float | None) -> CropGeometry:
    """The field to cut from crop images.

    Without µm/px a field in µm cannot be cut, and the whole crop is used.

    Args:
        geometry: The field that a model was trained on.
        mpp: µm/px of the crops; None if unknown.

    Raises:
        DataError: ``mpp`` is not positive, or the field comes to too few or too many pixels.
    """
    if geometry.side_um is None:
        return geometry
    if mpp is None:
        return CropGeometry(out_px=geometry.out_px, stain=geometry.stain)
    geometry.source_side_px(mpp)
    return geometry


def crop_files(
    inputs: Sequence[str | Path],
    geometry: CropGeometry,
    *,
    batch_size: int = DEFAULT_BATCH,
    mpp: float | None = None,
    workers: int | None = None,
    skipped: Skipped | None = None,
    mpp_from: str = AUTO,
    given_as: str = GIVEN_AS,
    assumed_um: float | None = None,
) -> Iterator[CropBatch | Refusal]:
    """Crops from image files, folders and patterns, decoded in threads, in the inputs' order.

    A folder is searched recursively, in the order of names; hidden files are left out. In it a
    file counts as an image by its suffix or its first bytes; others are skipped and counted. The
    figure id is the path below the folder, with ``/``; for a file its name; for a pattern the path below
    the part before the first wildcard. An id that occurs again becomes ``id~2``, ``id~3``, ….

    Args:
        inputs: Files, folders, and patterns with ``*``, ``?``, ``[…]`` and ``**``.
        geometry: The field and the side of the crops.
        batch_size: Crops in a batch.
        mpp: µm/px of the images: a field in µm is then cut from their middle. Without it, what each file
            states counts, and where it states nothing the whole image is the field.
        workers: Threads that decode; None for one per core, at most 8.
        skipped: Receives the number of skipped files.
        mpp_from: Which statement to use if ``mpp`` and a file differ by more than 5 %.
        given_as: How ``mpp`` was given, for results.
        assumed_um: The assumed field of a whole crop, for results; None if the model does not define it.

    Raises:
        InputError: An input does not exist, a pattern matches nothing, or a number is not positive.
        DataError: ``mpp`` does not fit; or the inputs contain no image.
    """
    field = field_of_crops(geometry, mpp)
    assumed = assumed_um if geometry.side_um is None else geometry.side_um
    threads = min(MOST_WORKERS, core_count()) if workers is None else workers
    if threads < 1:
        raise InputError(must("workers", "a positive whole number", threads, "leave it out"))
    sources = [_source(str(given)) for given in inputs]
    if not sources:
        raise InputError(must("inputs", "at least one file, folder or pattern", "none", "name one"))
    counts = Skipped() if skipped is None else skipped
    crop_bytes = 3 * field.out_px**2
    unit = max(1, min(UNIT_FILES, UNIT_BYTES // crop_bytes))
    # Just enough to fill the next batch while the current one is used.
    ahead = max(2 * threads, -(-2 * min(batch_size, 1024) // unit))

    def decode(files: list[_File]) -> list[Crop | Refusal]:
        return [_crop(file, field, Sizing(mpp, mpp_from, given_as, assumed)) for file in files]

    def items() -> Iterator[Crop | Refusal]:
        for done in _in_order(decode, _units(_named(sources, counts), unit), threads, ahead):
            yield from done

    return batched(items(), batch_size, field.out_px)


class _File(NamedTuple):
    figure_id: str
    image: str
    path: Path


class _Source(NamedTuple):
    """An input: paths that it names, and the folder that figure ids are relative to."""

    given: str
    paths: list[Path]
    base: Path


def _source(given: str) -> _Source:
    path = Path(given)
    if path.exists():
        return _Source(given, [path], path if path.is_dir() else path.parent)
    if not glob.has_magic(given):
        raise InputError(f"{given} does not exist; fix: check the path")
    found = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207  absolute patterns too
    if not found:
        raise InputError(must(given, "a pattern that matches a file", "no match", "check it; quote it for the shell"))
    parts = Path(given).parts
    fixed = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return _Source(given, found, Path(*parts[:fixed]))


def _named(sources: Sequence[_Source], skipped: Skipped) -> Iterator[_File]:
    """Every image with its id; ids are remembered only with several sources, because only then can one repeat."""
    seen: set[str] = set()
    any_image = False
    for source in sources:
        for path in _images(source, skipped):
            any_image = True
            figure = _text(path.relative_to(source.base).as_posix())
            if len(sources) > 1:
                figure = _unseen(figure, seen)
                seen.add(figure)
            yield _File(figure, _text(str(path)), path)
    if not any_image:
        shown = ", ".join(source.given for source in sources[:3])
        more = f" ({count_noun(skipped.count, 'other file')}, first {skipped.first})" if skipped.count else ""
        raise DataError(f"{shown}: no images{more}; fix: name a folder with PNG, JPEG or TIFF files")


def _unseen(figure: str, seen: set[str]) -> str:
    """The id, or the first of ``id~2``, ``id~3``, … that is free."""
    if figure not in seen:
        return figure
    return next(other for n in count(2) if (other := f"{figure}~{n}") not in seen)


def _images(source: _Source, skipped: Skipped) -> Iterator[Path]:
    for path in source.paths:
        if not path.is_dir():
            yield path
            continue
        # «**» finds folders and what is in them.
        for file in () if "**" in source.given else walk_files(path):
            if _looks_like_image(file):
                yield file
            elif file.name not in (MANIFEST, PHANTOM_PARAMETERS):  # what Atypia writes beside crops is nobody's image
                skipped.count += 1
                skipped.first = skipped.first or _text(str(file))


def _looks_like_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in _OTHER_SUFFIXES:
        return True
    try:
        with open_regular(path) as file:
            return image_format(file.read(16)) is not None
    except (OSError, DataError):
        return False


def _crop(file: _File, geometry: CropGeometry, sizing: Sizing) -> Crop | Refusal:
    try:
        image = read_rgb(file.path, CROP_LIMITS, name=file.image)
        if max(image.shape) > MAX_CROP_PX:
            return Refusal(file.figure_id, file.image, _region(file.image, image.shape[1], image.shape[0]))
        pixels, read_as = sizing.cut(image, file.image, geometry, sizing.scale(file.path, file.image))
        return Crop(file.figure_id, file.image, pixels, read_as=read_as)
    except DataError as error:
        return Refusal(file.figure_id, file.image, _reason(file, error))


def _reason(file: _File, error: DataError) -> str:
    """The error's message, unless the image is a region, for which there is a better remedy."""
    try:
        header = read_header(file.path)
    except DataError:
        return str(error)
    if max(header.width_px, header.height_px) <= MAX_CROP_PX:
        return str(error)
    return _region(file.image, header.width_px, header.height_px)


def _region(name: str, width: int, height: int) -> str:
    expected = f"a crop of at most {MAX_CROP_PX} px per side"
    return must(name, expected, f"{width:,} × {height:,} px", "give the positions of its figures")


def _text(path: str) -> str:
    """A path as text valid in every file format: bytes that are not UTF-8 become «?»."""
    return os.fsencode(path).decode("utf-8", "replace")


def _units(items: Iterator[A], size: int) -> Iterator[list[A]]:
    while unit := list(islice(items, size)):
        yield unit


def _in_order(function: Callable[[A], B], items: Iterator[A], threads: int, ahead: int) -> Iterator[B]:
    """Results in the order of the items, with at most ``ahead`` of them waiting."""
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
