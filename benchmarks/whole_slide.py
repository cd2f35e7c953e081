"""A slide of 40,000 × 40,000 px with 20,000 points: peak memory, and throughput against that of the same crops as files.

The slide is a pyramid of JPEG tiles, a quarter of it tissue from a few rendered tiles, the rest glass. *slide* and *crops* are what
`atypia predict` does with the classifier that ships, from points on the slide and from PNG files of the same fields,
in turns; their ratio is what is kept. Peak memory is that of the command on all points, with a tiny network and densities.

Predicted before the first run: 250 MiB, and 0.95 of the crops' throughput (a tile of 256 px is decoded for every third figure, and a
PNG for every one).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from atypia.data.phantom.domains import DOMAINS
from atypia.data.phantom.optics import jpeg_bytes
from atypia.data.phantom.pyramid import SHRINK, TILE_PX, TiledTiff, shrunk
from atypia.data.phantom.regions import MARGIN_PX, Region, plan_region
from atypia.data.slides.readers import open_slide
from atypia.inference.classifier import SHIPPED, Classifier
from atypia.inference.requests import Request
from atypia.workflows.predict import predict_request
from benchmarks.measuring import turns
from benchmarks.predict import command, made_bundle

SIDE_PX, POINTS, TIMED, ROUNDS = 40_000, 20_000, 512, 3
MPP, QUALITY, FIELD_PX = 0.25, 80, 128
LOOKS = 12
"""Different tiles of tissue."""


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Peak memory in MiB, crops per second, and the ratios."""
    with TemporaryDirectory(prefix="atypia-bench-") as temporary:
        folder = Path(temporary)
        slide = write_giant(folder / "giant.tif")
        places = points_on_tissue()
        points = write_points(folder / "points.csv", places)
        near = places[:TIMED]  # as dense as all of them
        some, files = write_points(folder / "some.csv", near), write_crops(slide, near, folder / "crops")
        classifier = Classifier.load(SHIPPED)
        times = turns.in_turns(
            {
                "crops": predicting(classifier, Request((str(files),)), folder),
                "slide": predicting(classifier, Request((str(slide),), some), folder),
            },
            rounds,
        )
        tiny = made_bundle(folder / "tiny", "tiny-cnn")
        seconds, peak = command("predict", str(slide), "--points", str(points), "--model", str(tiny), "--density",
                                "--out", str(folder / "all.csv"))  # fmt: skip
        size = slide.stat().st_size
    medians = turns.medians(times)
    return {
        "slide_mb": round(size / 1e6),
        f"peak_mib_{POINTS}_points": round(peak),
        f"seconds_{POINTS}_points_tiny_network": round(seconds),
        **{f"{name}_per_s": round(TIMED / median, 1) for name, median in medians.items()},
        "pairs": {"whole slide: points, against the same crops as files": turns.pairs(times["crops"], times["slide"])},
    }


def predicting(classifier: Classifier, request: Request, folder: Path) -> Callable[[], None]:
    """What the command does, in this process."""
    return lambda: (predict_request(request, classifier, results=(folder / "out.csv",)), None)[1]


def on_tissue(row: int, column: int, down: int = 1) -> bool:
    """Whether a tile of a level shows tissue: a square in the middle, half as wide as the slide."""
    side = SIDE_PX / (TILE_PX * down)
    return side / 4 <= row + 0.5 < 3 * side / 4 and side / 4 <= column + 0.5 < 3 * side / 4


def tissue_tiles() -> tuple[list[np.ndarray], np.ndarray]:
    """Different tiles of rendered tissue, each (256, 256, 3), and the colour of the glass beside it, (3,)."""
    plan = plan_region(0, DOMAINS["rose"], 0, 0.12, 100, 100)
    pixels = np.concatenate(list(Region(plan).bands()))
    starts = range(MARGIN_PX, plan.height_px - MARGIN_PX - TILE_PX + 1, TILE_PX)
    looks = [pixels[top : top + TILE_PX, left : left + TILE_PX] for top in starts
             for left in range(MARGIN_PX, plan.width_px - MARGIN_PX - TILE_PX + 1, TILE_PX)][:LOOKS]  # fmt: skip
    return looks, pixels[:1, :1].mean((0, 1))


def write_giant(path: Path) -> Path:
    """The slide."""
    looks, glass = tissue_tiles()
    with path.open("wb") as file:
        tiff, down = TiledTiff(file, MPP, False), 1
        while True:
            level = SIDE_PX // down
            tiff.write(
                _tiles(level, down, looks, np.full((TILE_PX, TILE_PX, 3), glass, np.uint8)), (level, level), down
            )
            if level <= 2 * TILE_PX:
                return path
            down *= SHRINK
            looks = [np.tile(shrunk(look), (SHRINK, SHRINK, 1)) for look in looks]


def _tiles(level: int, down: int, looks: list[np.ndarray], glass: np.ndarray) -> Iterator[bytes]:
    across = -(-level // TILE_PX)
    empty, shown = jpeg_bytes(glass, QUALITY), [jpeg_bytes(look, QUALITY) for look in looks]
    for row in range(across):
        for column in range(across):
            yield shown[(7 * row + column) % len(shown)] if on_tissue(row, column, down) else empty


def points_on_tissue() -> np.ndarray:
    """Places of figures, shape (n, 2), in the order of rows of tiles."""
    rng = np.random.default_rng(0)
    places = rng.uniform(SIDE_PX / 4 + FIELD_PX, 3 * SIDE_PX / 4 - FIELD_PX, (POINTS, 2)).round(1)
    return places[np.lexsort((places[:, 0] // 1024, places[:, 1] // 1024))]


def write_points(path: Path, places: np.ndarray) -> Path:
    """A table of points."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("x_px", "y_px"), *places.tolist()])
    return path


def write_crops(slide: Path, places: np.ndarray, folder: Path) -> Path:
    """The fields around points, as PNG files."""
    folder.mkdir()
    with open_slide(slide) as opened:
        for number, (x, y) in enumerate(places.tolist()):
            Image.fromarray(opened.read(x, y, FIELD_PX)).save(folder / f"{number:05}.png")
    return folder
