"""The pictures of the concept pages, from the phantom set: ``python tools/documentation/pictures.py``. No real crop is in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

from atypia.base.artifacts import atomic_file
from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.fields import CROP_MPP
from atypia.data.phantom.render import render_crop

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
Crop = npt.NDArray[np.uint8]

PAIRS: Final = (
    ("metaphase", "one plate", "tripolar", "three poles"),
    ("anaphase", "two clean halves", "bridging", "a strand between the halves"),
    ("anaphase", "all chromosomes move", "lagging", "some stay behind"),
    ("telophase", "equal daughters", "asymmetric", "unequal daughters"),
)
"""Normal morphology, what to see, atypical morphology, what to see."""


def main() -> None:
    """Draws all of them."""
    for name, draw in {"atypical": draw_pairs, "domains": draw_domains, "field": draw_field}.items():
        figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
        plt.close(figure)
        with atomic_file(IMAGES / f"concept-{name}.png") as file:
            Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(
                file, "PNG", optimize=True
            )


def draw_pairs() -> Any:
    """Normal divisions above, what can go wrong below, in the same stain."""
    figure, axes = plt.subplots(2, len(PAIRS), figsize=(9.6, 5.6), layout="constrained")
    for column, (normal, seen, atypical, wrong) in enumerate(PAIRS):
        for row, (morphology, severity, words) in enumerate([(normal, 0.05, seen), (atypical, 0.95, wrong)]):
            crop = render_crop(DOMAINS["rose"], morphology, severity, seed=4, figure=column, case=0)
            _show(axes[row, column], _middle(crop, 0.75), f"{morphology}\n{words}")
    for row, word in enumerate(("normal", "atypical")):
        axes[row, 0].set_ylabel(word, fontsize=13, fontweight="bold")
    return figure


def draw_domains() -> Any:
    """The same two figures as four laboratories would show them."""
    figure, axes = plt.subplots(2, len(DOMAINS), figsize=(9.6, 5.2), layout="constrained")
    for column, domain in enumerate(DOMAINS.values()):
        for row, (morphology, severity) in enumerate([("metaphase", 0.05), ("tripolar", 0.95)]):
            crop = render_crop(domain, morphology, severity, seed=7, figure=row, case=column)
            _show(axes[row, column], crop, f"laboratory «{domain.name}»" if row == 0 else "")
    for row, word in enumerate(("normal", "atypical")):
        axes[row, 0].set_ylabel(word, fontsize=13, fontweight="bold")
    return figure


def draw_field() -> Any:
    """What a network is given of one figure: the right field, a wrong µm/px, a wrong centre."""
    crop = render_crop(DOMAINS["rose"], "lagging", 0.95, seed=4, figure=2, case=0)
    side = crop.shape[0]
    seen = round(side * 0.6)
    wrong = [
        ("the published crop: 32 µm\nframe: what the model looks at", crop, True),
        ("what the model is given\n19 µm, figure in the middle", _middle(crop, 0.6), False),
        ("0.25 µm/px, stated as 0.5:\nhalf the field, no surroundings", _middle(crop, 0.3), False),
        ("position from another corner:\nthe figure is at the edge", crop[side - seen :, side - seen :], False),
    ]
    figure, axes = plt.subplots(1, len(wrong), figsize=(9.6, 3.1), layout="constrained")
    for axis, (words, shown, framed) in zip(axes, wrong, strict=True):
        _show(axis, shown, words)
        if framed:
            edge = (side - seen) / 2
            axis.add_patch(Rectangle((edge, edge), seen, seen, fill=False, linewidth=2.2, edgecolor="white"))
            axis.add_patch(Rectangle((edge, edge), seen, seen, fill=False, linewidth=1.0, edgecolor="black"))
            axis.plot([6, 6 + 10 / CROP_MPP], [side - 8, side - 8], color="black", linewidth=3)
            axis.text(6 + 5 / CROP_MPP, side - 12, "10 µm", ha="center", fontsize=8)
    return figure


def _middle(crop: Crop, share: float) -> Crop:
    side = crop.shape[0]
    edge = round(side * (1 - share) / 2)
    return crop[edge : side - edge, edge : side - edge]


def _show(axis: Any, crop: Crop, title: str) -> None:
    axis.imshow(crop, interpolation="lanczos")
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])


if __name__ == "__main__":
    main()
