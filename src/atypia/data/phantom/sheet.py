"""Contact sheets of the phantom set: domains by morphology, and severity from none to full."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from atypia.base import records as r
from atypia.base.artifacts import atomic_file
from atypia.data.images.sheets import contact_sheet
from atypia.data.phantom.chromatin import MORPHOLOGIES
from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.render import render_crop

PALETTE: Final = 256
SEVERITIES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def domain_sheet(label: int, seed: int = 0) -> Image.Image:
    """Rows are the default domains, columns the morphologies of one class.

    Args:
        label: 0 for the normal morphologies, 1 for the fully developed atypical ones.
        seed: Seed of the crops.
    """
    names = [name for name, shape in MORPHOLOGIES.items() if shape.atypical == (label == r.ATYPICAL)]
    severity = 0.9 if label == r.ATYPICAL else 0.1
    crops, captions = [], []
    for row, domain in enumerate(DOMAINS.values()):
        for column, name in enumerate(names):
            figure = row * len(MORPHOLOGIES) + column
            crops.append(render_crop(domain, name, severity, seed, figure, case=row))
            captions.append(f"{domain.name}: {name}")
    return contact_sheet(np.stack(crops), captions, columns=len(names))


def severity_sheet(domain: str, seed: int = 0) -> Image.Image:
    """Rows are the atypical morphologies, columns their severity; each row is one figure of one cell.

    Args:
        domain: Name of a default domain.
        seed: Seed of the crops.
    """
    names = [name for name, shape in MORPHOLOGIES.items() if shape.atypical]
    crops = [render_crop(DOMAINS[domain], name, s, seed, row) for row, name in enumerate(names) for s in SEVERITIES]
    captions = [f"{name} {s:g}" for name in names for s in SEVERITIES]
    return contact_sheet(np.stack(crops), captions, columns=len(SEVERITIES))


def save_sheet(sheet: Image.Image, path: Path) -> Path:
    """Writes a sheet as a PNG of 256 colours, atomically."""
    with atomic_file(path) as file:
        sheet.quantize(PALETTE, dither=Image.Dither.FLOYDSTEINBERG).save(file, "PNG", optimize=True)
    return path
