"""Finds crops that are the same: exactly, up to a flip or rotation, or nearly.

Three kinds of copies, from certain to likely:

identical
    The same pixels (:func:`pixel_hash`).
turned
    The same pixels after one of the eight flips and rotations (:func:`dihedral_hash`).
near
    The same picture after one of them and a change that the eye would not notice:
    recompression, resampling, or a little brightness, stain or blur. Candidates come from a
    64-bit perceptual hash of the luminance (:func:`perceptual_hashes`); every candidate is then
    confirmed on pixels by a correlation of band-passed thumbnails, because mitotic figures
    resemble each other: a dark blob in the middle of a bright field.

The perceptual hash is the DCT hash of Zauner (Implementation and benchmarking
of perceptual image hash functions, 2010, section 3.1.1), with the median of the 8x8 block.
The eight views cost one transform: flipping an axis flips the sign of the odd coefficients along
it, and transposing the picture transposes the coefficients.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import InputError, must
from atypia.base.process.progress import Progress, silent

N_VIEWS = 8
THUMB_PX = 32
HASH_SIDE = 8
NEAR_DISTANCE = 12
"""Largest Hamming distance of 64 bits at which two perceptual hashes make a candidate.

Chosen on the training part of AMi-Br (2,894 crops, 4.19 million pairs, all eight views): 868
pairs of different figures are candidates, so confirming costs next to nothing, and of 400 turned
copies each the largest distance was 4 after JPEG at quality 30, 20 % less brightness, 15 % other
stain strengths, blur of 2 px, halved resolution or noise of 8 grey levels, and 10 after a shift
by one pixel along both axes.
"""
NEAR_CORRELATION = 0.80
"""Smallest correlation of band-passed thumbnails at which a candidate is a near-duplicate.

Chosen on the same data: the same copies correlate at 0.95 and more (0.89 and more after the shift by
one pixel), while the largest correlation of any two different figures is 0.65, and 0.53 among
the candidates. A copy shifted by two pixels or more is another crop of the same position;
it is found by position, if positions are published (:mod:`atypia.data.audit.contamination`).
"""
BLOCK = 256
COLUMNS = 16384

Crops = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NearPair:
    """Two crops that show the same picture.

    Attributes:
        a: Row of the first crop, ``a < b``.
        b: Row of the second crop.
        view: Which of the eight views of ``b`` matches ``a`` (see :func:`view`).
        distance: Hamming distance of the perceptual hashes in this view, 0 to 64.
        correlation: Correlation of the band-passed thumbnails in this view, -1 to 1.
    """

    a: int
    b: int
    view: int
    distance: int
    correlation: float


def view(image: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """One of the eight flips and rotations of a square image.

    Args:
        image: Array whose first two axes are rows and columns.
        number: 0 to 7. Bit 0 flips left and right, bit 1 flips up and down, bit 2 transposes
            (before the flips); 0 is the image itself.
    """
    turned = np.swapaxes(image, 0, 1) if number & 4 else image
    if number & 2:
        turned = turned[::-1]
    return turned[:, ::-1] if number & 1 else turned


def pixel_hash(crop: Crops) -> str:
    """Hash of an image's shape and RGB bytes, 32 hex digits: equal only for equal pixels.

    Args:
        crop: ``(h, w, 3)`` uint8 RGB.
    """
    _check_crops(crop[None])
    digest = hashlib.blake2b(repr(crop.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(crop).data)
    return digest.hexdigest()


def dihedral_hash(crop: Crops) -> str:
    """Hash that is equal for an image and its eight flips and rotations, and for no other image.

    Args:
        crop: ``(h, w, 3)`` uint8 RGB.

    Returns:
        The smallest :func:`pixel_hash` of the eight views, 32 hex digits.
    """
    return min(pixel_hash(view(crop, number)) for number in range(N_VIEWS))


def equal_groups(
    sets: Sequence[Crops], usable: Sequence[npt.NDArray[np.bool_]] | None = None, *, turned: bool = False
) -> list[list[tuple[int, int]]]:
    """Groups of crops with the same pixels, within and across sets.

    Every crop is read once for the sum of its values, which flips and rotations do not change; only
    crops with equal sums are hashed.

    Args:
        sets: One ``(n, px, px, 3)`` uint8 array per set (a memory-mapped store is read in blocks).
        usable: One ``(n,)`` mask per set; rows outside it are left out. None: all rows.
        turned: Whether crops that are flips or rotations of each other count as the same.

    Returns:
        Groups of two or more ``(set, row)``, each sorted, ordered by their first member.
    """
    by_sum: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for number, crops in enumerate(sets):
        _check_crops(crops)
        mask = None if usable is None else usable[number]
        for start in range(0, len(crops), BLOCK):
            block = crops[start : start + BLOCK]
            sums = block.reshape(len(block), -1).sum(axis=1, dtype=np.uint64).tolist()
            for row, total in enumerate(sums, start):
                if mask is None or mask[row]:
                    by_sum[crops.shape[1], total].append((number, row))
    hashed: dict[str, list[tuple[int, int]]] = defaultdict(list)
    key_of = dihedral_hash if turned else pixel_hash
    for members in by_sum.values():
        if len(members) > 1:
            for number, row in members:
                hashed[key_of(sets[number][row])].append((number, row))
    return sorted(sorted(group) for group in hashed.values() if len(group) > 1)


def thumbnails(crops: Crops, progress: Progress = silent) -> npt.NDArray[np.uint8]:
    """Luminance (ITU-R 601) of crops at 32x32 pixels, Lanczos-resampled.

    Args:
        crops: ``(n, px, px, 3)`` uint8 RGB.
        progress: Receives progress: crops done.

    Returns:
        ``(n, 32, 32)`` uint8.
    """
    from PIL import Image

    _check_crops(crops)
    small = np.empty((len(crops), THUMB_PX, THUMB_PX), dtype=np.uint8)
    for row in range(len(crops)):
        grey = Image.fromarray(crops[row]).convert("L")
        small[row] = np.asarray(grey.resize((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS))
        if row % BLOCK == 0:
            progress(row, len(crops), "crops hashed")
    progress(len(crops), len(crops), "crops hashed")
    return small


def perceptual_hashes(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """64-bit perceptual hashes of all eight views.

    A bit is set where a coefficient of the 8x8 lowest block of the type-II cosine transform
    exceeds the block's median; bits in reading order, the first the most significant.

    Args:
        thumbs: ``(n, 32, 32)`` uint8 luminance.

    Returns:
        ``(n, 8)`` uint64; column ``v`` is the hash of :func:`view` ``v``.
    """
    from scipy.fft import dct

    columns = np.asarray(dct(thumbs.astype(np.float64), axis=1))
    low = np.asarray(dct(columns, axis=2))[:, :HASH_SIDE, :HASH_SIDE]
    odd = np.where(np.arange(HASH_SIDE) % 2, -1.0, 1.0)
    hashes = np.empty((len(thumbs), N_VIEWS), dtype=np.uint64)
    for number in range(N_VIEWS):
        block = np.swapaxes(low, 1, 2) if number & 4 else low
        if number & 2:
            block = block * odd[:, None]
        if number & 1:
            block = block * odd
        flat = block.reshape(len(thumbs), -1)
        bits = flat > np.median(flat, axis=1, keepdims=True)
        hashes[:, number] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return hashes


def near_pairs(
    thumbs: npt.NDArray[np.uint8],
    distance: int = NEAR_DISTANCE,
    correlation: float = NEAR_CORRELATION,
    progress: Progress = silent,
) -> list[NearPair]:
    """Pairs of crops that show the same picture in one of the eight views.

    Every pair is compared in every view by popcount (blockwise; quadratic in time, linear in
    memory), then the candidates are confirmed on pixels.

    For the choice of the defaults see :data:`NEAR_DISTANCE` and :data:`NEAR_CORRELATION`.

    Args:
        thumbs: ``(n, 32, 32)`` uint8 luminance (:func:`thumbnails`).
        distance: Largest Hamming distance of a candidate, 0 to 64.
        correlation: Smallest correlation of a confirmed pair, -1 to 1.
        progress: Receives progress: crops compared.

    Returns:
        Confirmed pairs with ``a < b``, sorted; each pair once, in its best view.

    Raises:
        InputError: ``distance`` or ``correlation`` is out of range.
    """
    if not 0 <= distance <= HASH_SIDE**2:
        raise InputError(must("distance", "between 0 and 64", distance, "leave it out for the default"))
    if not -1 <= correlation <= 1:
        raise InputError(must("correlation", "between -1 and 1", correlation, "leave it out for the default"))
    hashes = perceptual_hashes(thumbs)
    features = np.moveaxis(_band_passed(thumbs), 0, 2)
    best: dict[tuple[int, int], NearPair] = {}
    for start in range(0, len(thumbs), BLOCK):
        own = hashes[start : start + BLOCK, :1]
        # Only later rows: the eight views are closed under inversion, so no pair is missed.
        for left in range(start, len(thumbs), COLUMNS):
            for number in range(N_VIEWS):
                apart = np.bitwise_count(own ^ hashes[left : left + COLUMNS, number])
                i, j = np.nonzero(apart <= distance)
                a, b, far = i + start, j + left, apart[i, j]
                later = a < b
                a, b, far = a[later], b[later], far[later]
                likeness = np.sum(features[:, :, a] * view(features[:, :, b], number), axis=(0, 1))
                for k in np.flatnonzero(likeness >= correlation):
                    pair = NearPair(int(a[k]), int(b[k]), number, int(far[k]), float(likeness[k]))
                    known = best.get((pair.a, pair.b))
                    if known is None or pair.correlation > known.correlation:
                        best[pair.a, pair.b] = pair
        progress(min(start + BLOCK, len(thumbs)), len(thumbs), "crops compared")
    return [best[key] for key in sorted(best)]


def connected_groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups that pairs connect, each sorted, ordered by their first member.

    >>> connected_groups([(4, 2), (7, 8), (2, 9)])
    [[2, 4, 9], [7, 8]]
    """
    parent: dict[int, int] = {}

    def top(item: int) -> int:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs:
        low, high = sorted((top(a), top(b)))
        parent[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for item in sorted(parent):
        groups[top(item)].append(item)
    return list(groups.values())


def _band_passed(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Thumbnails without low frequencies, of zero mean and unit norm, so that their dot product is a correlation.

    A uniform picture has no structure and becomes zero: it correlates with nothing.
    """
    from scipy.ndimage import gaussian_filter

    values = thumbs.astype(np.float32)
    # The pattern «dark centre, bright surround», common to all figures, is low-frequency; differences between figures are not.
    values = values - gaussian_filter(values, sigma=(0, 3, 3), mode="reflect")
    values -= values.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt(np.sum(values**2, axis=(1, 2), keepdims=True))
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > 1e-3 * THUMB_PX)


def _check_crops(crops: Crops) -> None:
    if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3 or crops.dtype != np.uint8:
        got = f"{crops.shape} {crops.dtype}"
        raise InputError(must("crops", "square uint8 RGB, (n, px, px, 3)", got, "take them from a crop store"))
