"""Domains of the phantom set: how laboratories, scanners and tumours differ.

A domain fixes what its cases share: absorption vectors and strengths of the two stains, the
scanner's optics, colour response, noise and compression, the architecture of the tissue, and how
often figures are atypical. Each case varies the stain about its domain.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from atypia.base.errors import InputError, must
from atypia.base.registry import Registry

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class PhantomDomain:
    """One combination of scanner, laboratory and tumour of the phantom set.

    Attributes:
        name: Short name, for the command line.
        scanner: Value of the manifest's scanner column.
        origin: Laboratory.
        tumour: Tumour.
        species: Species.
        hematoxylin: Absorption of hematoxylin in red, green, blue; any positive scale.
        eosin: Absorption of eosin likewise.
        hematoxylin_strength: Factor on all hematoxylin densities.
        eosin_strength: Factor on all eosin densities.
        stain_sd: Standard deviation between cases of the logarithm of both strengths, and a third of
            it of the stain vectors' components.
        white: Colour of empty glass in red, green, blue, each in (0, 1].
        gamma: Exponent on the transmitted light; below 1 is brighter.
        saturation: Factor on the distance from grey.
        glare: Stray light as a share of white, in [0, 0.5).
        blur_px: Mean sigma of the defocus, px.
        sharpening: Amount of unsharp masking by the scanner.
        noise: Standard deviation of sensor noise at white, in 8-bit grey levels.
        jpeg_quality: Quality of the compression by which the slide was stored, 1 to 95.
        cell_px: Mean distance of neighbouring cells, px (0.25 µm/px).
        figure_size: Lengths in a mitotic figure relative to those of the first domain.
        stroma: Probability that a crop touches stroma.
        gaps: Probability that a crop touches empty spaces.
        atypia_rate: Mean share of figures drawn from atypical morphologies, in (0, 1).
    """

    name: str
    scanner: str
    origin: str
    tumour: str
    species: str = "phantom"
    hematoxylin: Rgb = (0.56, 0.72, 0.41)
    eosin: Rgb = (0.24, 0.86, 0.42)
    hematoxylin_strength: float = 1.0
    eosin_strength: float = 1.0
    stain_sd: float = 0.09
    white: Rgb = (0.975, 0.965, 0.97)
    gamma: float = 1.0
    saturation: float = 1.0
    glare: float = 0.02
    blur_px: float = 0.7
    sharpening: float = 0.3
    noise: float = 2.0
    jpeg_quality: int = 85
    cell_px: float = 40.0
    figure_size: float = 1.0
    stroma: float = 0.3
    gaps: float = 0.25
    atypia_rate: float = 0.28

    def __post_init__(self) -> None:
        """Checks every range.

        Raises:
            InputError: A value is out of range.
        """
        positive = ("hematoxylin_strength", "eosin_strength", "gamma", "saturation", "cell_px")
        ranges = dict.fromkeys(positive, (1e-3, 1e3)) | {
            "stain_sd": (0, 1),
            "glare": (0, 0.5),
            "blur_px": (0, 10),
            "sharpening": (0, 5),
            "noise": (0, 64),
            "jpeg_quality": (1, 95),
            "cell_px": (16, 128),
            "figure_size": (0.3, 2),
            "stroma": (0, 1),
            "gaps": (0, 1),
            "atypia_rate": (0.01, 0.99),
        }
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise InputError(
                    must(field, f"between {low:g} and {high:g}", value, f"correct phantom domain {self.name!r}")
                )
        for field in ("hematoxylin", "eosin", "white"):
            value = getattr(self, field)
            if len(value) != 3 or not all(0 < part <= 1 for part in value):
                raise InputError(must(field, "three numbers in (0, 1]", value, f"correct phantom domain {self.name!r}"))

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON-like values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


DOMAINS: Registry[PhantomDomain] = Registry("phantom domain")
"""The default domains, in the order in which cases are dealt to them."""

for _domain in (
    # Magenta, crisp and evenly stained: the home of most examples.
    PhantomDomain("rose", "phantom scanner 1", "phantom laboratory A", "phantom solid carcinoma"),
    # Blue-violet stain with weak eosin on a bright, strongly sharpened scanner.
    PhantomDomain(
        "violet",
        "phantom scanner 2",
        "phantom laboratory B",
        "phantom solid carcinoma",
        hematoxylin=(0.63, 0.69, 0.35),
        eosin=(0.28, 0.84, 0.27),
        hematoxylin_strength=0.95,
        eosin_strength=0.72,
        white=(0.965, 0.965, 0.99),
        gamma=0.92,
        blur_px=0.5,
        sharpening=1.2,
        noise=4.0,
        jpeg_quality=75,
        cell_px=38.0,
        figure_size=0.92,
        stroma=0.25,
        gaps=0.2,
        atypia_rate=0.24,
    ),
    # Brick red, thick sections, contrasty, with much stroma.
    PhantomDomain(
        "brick",
        "phantom scanner 1",
        "phantom laboratory C",
        "phantom scirrhous carcinoma",
        hematoxylin=(0.52, 0.74, 0.46),
        eosin=(0.17, 0.80, 0.54),
        hematoxylin_strength=1.12,
        eosin_strength=1.12,
        stain_sd=0.12,
        white=(0.98, 0.95, 0.94),
        gamma=1.12,
        saturation=1.0,
        blur_px=0.85,
        noise=2.0,
        jpeg_quality=80,
        cell_px=42.0,
        figure_size=1.12,
        stroma=0.5,
        gaps=0.35,
        atypia_rate=0.38,
    ),
    # Pale and greyish, soft focus and strong compression, small crowded cells.
    PhantomDomain(
        "ash",
        "phantom scanner 3",
        "phantom laboratory D",
        "phantom round-cell tumour",
        hematoxylin=(0.60, 0.68, 0.48),
        eosin=(0.22, 0.80, 0.50),
        hematoxylin_strength=0.78,
        eosin_strength=0.8,
        stain_sd=0.1,
        white=(0.94, 0.925, 0.90),
        gamma=0.95,
        saturation=0.9,
        glare=0.06,
        blur_px=1.3,
        sharpening=0.0,
        noise=3.5,
        jpeg_quality=45,
        cell_px=33.0,
        figure_size=0.8,
        stroma=0.2,
        gaps=0.3,
        atypia_rate=0.18,
    ),
):
    DOMAINS.add(_domain.name, _domain)
