"""Named augmentation pipelines: the papers' and Atypia's own, as frozen data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry
from atypia.data.augment import colour as c
from atypia.data.augment import spatial as s
from atypia.data.augment import texture as t
from atypia.data.augment.options import Fill, StepOptions
from atypia.data.augment.restaining import StainMix
from atypia.data.augment.steps import STEPS

PhotometricStep = Callable[[Tensor, torch.Generator], Tensor]
"""Changes the colours or the texture of images (b, 3, h, h) in [0, 1], by what the generator draws."""


@dataclass(frozen=True)
class Pipeline:
    """Spatial steps, done with one resampling, then photometric steps in order.

    Attributes:
        summary: One line for listings, with the source.
        spatial: Spatial steps.
        photometric: Photometric steps.
        fill: What spatial steps show beyond the border.
    """

    summary: str
    spatial: tuple[s.SpatialStep, ...] = ()
    photometric: tuple[PhotometricStep, ...] = ()
    fill: Fill = "reflect"

    def __call__(
        self, images: Tensor, generator: torch.Generator, seen: s.Seen | None = None, moves: Tensor | None = None
    ) -> Tensor:
        """Augments a batch.

        Args:
            images: Shape (b, 3, h, h), float, in [0, 1], on any device.
            generator: CPU generator; it alone decides the draw.
            seen: What to show of the images; None: the whole, at its size.
            moves: Where the middle of what is shown lies, in px to the right and down of the images' own, shape (b, 2).

        Returns:
            Same range, and same shape unless ``seen`` has another side; a new tensor unless nothing changes.
            ``images`` is not modified.

        Raises:
            InputError: The images are not square RGB in floating point.
        """
        if (
            images.ndim != 4
            or images.shape[1] != 3
            or images.shape[2] != images.shape[3]
            or not images.is_floating_point()
        ):
            got = f"{tuple(images.shape)}, {images.dtype}"
            raise InputError(must("images", "of shape (b, 3, h, h), float", got, "cut square crops, divide by 255"))
        if self.spatial or seen is not None or moves is not None:
            images = s.resample(images, self.spatial, generator, seen, self.fill, moves).clamp_(
                0, 1
            )  # weights round to a sum above 1
        elif self.photometric:
            images = images.contiguous()  # what follows works on planes
        for step in self.photometric:
            images = step(images, generator)
        return images


AUGMENTATIONS = Registry[Pipeline]("augmentation", plugins="augmentations")


def augmentation(names: str | Sequence[StepOptions], fill: Fill = "reflect") -> Pipeline:
    """The augmentation of a name, or of several names joined by ``+``; or one made of single steps.

    The steps of all are done in the order of the names: the spatial ones together, then the photometric ones.

    Args:
        names: Names of :data:`AUGMENTATIONS`, or options of entries of :data:`atypia.data.augment.steps.STEPS`.
        fill: What spatial steps show beyond the border.

    Raises:
        InputError: A name is unknown.

    >>> augmentation("flip-rotate+rass").spatial == AUGMENTATIONS["flip-rotate"].spatial
    True
    """
    if not isinstance(names, str):
        built = [(STEPS[options.name].spatial, STEPS[options.name].build(options)) for options in names]
        steps = {kind: tuple(made for spatial, made in built if spatial is kind) for kind in (True, False)}
        return Pipeline(", ".join(options.name for options in names), steps[True], steps[False], fill)
    parts = [AUGMENTATIONS[name.strip()] for name in names.split("+")]
    if len(parts) == 1:
        return parts[0] if parts[0].fill == fill else replace(parts[0], fill=fill)
    summary = "; then ".join(part.summary for part in parts)
    spatial = tuple(step for part in parts for step in part.spatial)
    return Pipeline(summary, spatial, tuple(step for part in parts for step in part.photometric), fill)


_flips = s.Flip(0.5, 0.5)
_turns = s.QuarterTurn()
_add = AUGMENTATIONS.add

_add("none", Pipeline("no augmentation"))

# Giedziun et al., Table 1: the paper names its rows and gives no values; the values are Atypia's.
_add("flip-rotate", Pipeline("flips and quarter turns (Giedziun, Table 1)", (_flips, _turns)))
_add("color", Pipeline("colour jitter (Giedziun, Table 1)", (), (c.Jitter(0.2, 0.2, 0.2, 0.05, 0.8),)))
_add(
    "blur-noise", Pipeline("blur and noise (Giedziun, Table 1)", (), (t.Blur((0.1, 1.5), 0.3), t.Noise((0, 0.04), 0.3)))
)
_add("distortion", Pipeline("elastic distortion (Giedziun, Table 1)", (s.Elastic(0.02, 4, 0.5),)))
_add("cutout", Pipeline("cutout (Giedziun, Table 1)", (), (t.Erase((0.02, 0.1), 2, 0.5),)))
_add("rass", Pipeline("random amplitude spectrum synthesis (Giedziun, Table 1)", (), (t.Spectrum(1.0, 0.5),)))
_add("basic", Pipeline("flips, quarter turns, brightness and contrast (Giedziun, Table 1)",
     (_flips, _turns), (c.Jitter(0.1, 0.1, 0, 0, 0.5),)))  # fmt: skip
_add("medium", Pipeline("flips, turns, restrained colour jitter, light blur (Giedziun, Table 1)",
     (_flips, _turns, s.Affine(15, (0.95, 1.1), 0.03, 0, 0.5)),
     (c.Jitter(0.15, 0.15, 0.15, 0.03, 0.7), t.Blur((0.1, 1.0), 0.2))))  # fmt: skip
_add("heavy", Pipeline("affine, elastic, cutout, strong noise and jitter (Giedziun, Table 1)",
     (_flips, _turns, s.Affine(45, (0.8, 1.25), 0.1, 10, 0.8), s.Elastic(0.03, 4, 0.3)),
     (c.Jitter(0.3, 0.3, 0.3, 0.08, 0.8), t.Blur((0.1, 2.0), 0.3), t.Noise((0, 0.08), 0.4),
      t.Erase((0.02, 0.15), 2, 0.5))))  # fmt: skip

_add("banerjee", Pipeline("horizontal flip, rotation 10°, jitter, resized crop 0.8–1 (Banerjee, as published)",
     (s.Flip(0.5, 0.0), s.Affine(degrees=10), s.ResizedCrop((0.8, 1.0))),
     (c.Jitter(0.2, 0.2, 0.2, 0.1),)))  # fmt: skip
_add("banerjee-wide", Pipeline("resized crop 0.08–1, horizontal flip, rotation 15°, brightness and contrast (Banerjee's LoRA of UNI)",
     (s.ResizedCrop((0.08, 1.0)), s.Flip(0.5, 0.0), s.Affine(degrees=15)), (c.Jitter(0.2, 0.2, 0, 0),)))  # fmt: skip
_add("banerjee-uncropped", Pipeline("horizontal flip, rotation 15°, brightness and contrast (Banerjee's LoRA of H-optimus-1)",
     (s.Flip(0.5, 0.0), s.Affine(degrees=15)), (c.Jitter(0.2, 0.2, 0, 0),)))  # fmt: skip
_add("banerjee-unrotated", Pipeline("resized crop 0.8–1, horizontal flip, jitter (Banerjee's LoRA of Virchow and Virchow2)",
     (s.ResizedCrop((0.8, 1.0)), s.Flip(0.5, 0.0)), (c.Jitter(0.2, 0.2, 0.2, 0.1),)))  # fmt: skip
_add("ammeling", Pipeline("jitter 0.1, blur, flips, half turn; centre jitter ±10 % (Ammeling)",
     (_flips, s.HalfTurn(0.5), s.Affine(shift=0.1)),
     (c.Jitter(0.1, 0.1, 0.1, 0.1, 0.5), t.Blur((0.1, 2.0), 0.1))))  # fmt: skip
_add("benito", Pipeline("affine 30°, scale 0.95–1.25, jitter, sharpness, flips (Benito-Del-Valle)",
     (_flips, s.Affine(30, (0.95, 1.25), 0.05)),
     (c.Jitter(0.15, 0.15, 0.15, 0.05), t.Sharpness((0.25, 0.25), 0.5))))  # fmt: skip
_add("atey", Pipeline("resized crop, flips, turns, perspective, photometric suite, erasing (Atey)",
     (_flips, _turns, s.ResizedCrop((0.8, 1.0)), s.Perspective(0.1, 0.3)),
     (c.Jitter(0.2, 0.2, 0.2, 0.05, 0.8), t.Blur((0.1, 1.5), 0.2), c.AutoContrast(0.2), t.Sharpness((0.5, 1.5), 0.3),
      c.Gamma(1.3, 0.3), c.Posterize(5, 0.1), c.Solarize(0.98, 0.02), t.Erase((0.01, 0.05), 2, 0.3))))  # fmt: skip

_add("stain", Pipeline("flips, turns and stain jitter in optical density",
     (_flips, _turns), (c.StainJitter(0.2, 0.02),)))  # fmt: skip
_add("stain-bank", Pipeline("stain vectors mixed with those of a bank", (), (StainMix(),)))
_add("robust", Pipeline("any rotation, scale, stain jitter, colour jitter, light blur",
     (_flips, s.Affine(180, (0.9, 1.15), 0.05)),
     (c.StainJitter(0.25, 0.03, 0.8), c.Jitter(0.15, 0.15, 0.15, 0.03, 0.7), t.Blur((0.1, 1.2), 0.2))))  # fmt: skip
