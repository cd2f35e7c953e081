"""From stain densities to the pixels that a scanner would store."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from atypia.data.phantom.domains import PhantomDomain
from atypia.data.phantom.fields import Field

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601, as JPEG uses)."""


def unit_vector(absorption: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """An absorption vector scaled to length 1."""
    vector = np.asarray(absorption, dtype=np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def transmitted(
    hematoxylin: Field,
    eosin: Field,
    hematoxylin_vector: npt.NDArray[np.float32],
    eosin_vector: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Light that passes two stains, by the Beer–Lambert law.

    ``I/I₀ = 10^-(H·h + E·e)`` for each colour, with densities H, E and absorption vectors h, e
    (Ruifrok and Johnston, 2001).

    Args:
        hematoxylin: Optical density of hematoxylin, shape (h, w), ≥ 0.
        eosin: Optical density of eosin.
        hematoxylin_vector: Absorption in red, green, blue, (3,), length 1.
        eosin_vector: Likewise.

    Returns:
        Transmittance (h, w, 3) in (0, 1].
    """
    density = hematoxylin[..., None] * hematoxylin_vector + eosin[..., None] * eosin_vector
    return np.exp(np.float32(-np.log(10.0)) * density)


def scanned(
    light: npt.NDArray[np.float32], domain: PhantomDomain, defocus_px: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """What the domain's scanner stores of the transmitted light.

    In this order: stray light and defocus, sharpening, sensor noise, gamma and white point,
    saturation, 8-bit quantisation, JPEG compression.

    Args:
        light: Transmittance (h, w, 3).
        domain: Whose scanner.
        defocus_px: Sigma of the blur in px; 0 for none.
        rng: Draws the noise.

    Returns:
        RGB of shape (h, w, 3), uint8.
    """
    return jpeg_cycle(exposed(light, domain, defocus_px, rng), domain.jpeg_quality)


def exposed(
    light: npt.NDArray[np.float32], domain: PhantomDomain, defocus_px: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The same before compression, for files that compress by themselves."""
    image = light * np.float32(1 - domain.glare) + np.float32(domain.glare)
    if defocus_px > 0:
        image = gaussian_filter(image, (defocus_px, defocus_px, 0), mode="reflect", truncate=3.0)
    if domain.sharpening > 0:
        image = image + domain.sharpening * (image - gaussian_filter(image, (1.3, 1.3, 0), truncate=2.5))
    image = np.clip(image, 0.0, 1.0)
    # Photons are counted: the noise grows with the square root of the light.
    white = rng.standard_normal(light.shape, dtype=np.float32)
    image = image + white * np.sqrt(image + 0.05) * np.float32(domain.noise / 255)
    image = np.clip(image, 0.0, 1.0)
    if domain.gamma != 1:
        image = np.power(image, np.float32(domain.gamma))
    image = image * np.asarray(domain.white, dtype=np.float32)
    grey = (image * LUMA).sum(axis=2, keepdims=True)
    image = grey + np.float32(domain.saturation) * (image - grey)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def jpeg_cycle(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """The image after JPEG compression and decompression, colour at half resolution below quality 80."""
    with Image.open(io.BytesIO(jpeg_bytes(pixels, quality))) as image:
        return np.asarray(image.convert("RGB"))


def halves_colour(quality: int) -> bool:
    """Whether JPEG of a quality stores colour at half resolution."""
    return quality < 80


def jpeg_bytes(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """An image as JPEG, of shape (h, w, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2 if halves_colour(quality) else 0)
    return buffer.getvalue()
