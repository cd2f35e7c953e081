"""A toy set that two cores learn in seconds, and a generator small enough for it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from atypia.base.process.progress import Progress, silent
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.splits.protocol import make_split
from atypia.splits.split import Split
from atypia.synthesis.schema import GeneratorRecipe, load_generator_recipe
from atypia.synthesis.training.train import Synthesis, TrainedGenerators, train_generators

SIDE = 16
CHANGES = (
    f"geometry.out_px={SIDE}", "autoencoder.channels=[8, 16]", "autoencoder.groups=4", "denoiser.layers=2",
    "denoiser.heads=2", "denoiser.head_dim=16", "denoiser.patch=4", "diffusion.steps=50", "diffusion.ema=0.9",
    "pretrain.autoencoder={epochs: 2, batch_size: 8, lr: 0.003}",
    "pretrain.denoiser={epochs: 2, batch_size: 8, lr: 0.003}",
    "finetune.denoiser={epochs: 2, batch_size: 8, lr: 0.003, balanced: true}",
    "turns=false", "sheet_every=0",
)  # fmt: skip


def paint_toys(folder: Path, cases: int = 8, per_case: int = 6, seed: int = 0, every: int = 3) -> Path:
    """Writes crops whose class shows as a bright or a dark disc, and a table; every third is atypical (bright)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    lines = []
    for index in range(cases * per_case):
        case, label = index // per_case, int(index % every == 0)
        disc = (x**2 + y**2 < rng.uniform(3.5, 5.5) ** 2) * (100 if label else -100)
        pixels = rng.uniform(120, 140) + disc[..., None] + rng.normal(0, 4, (SIDE, SIDE, 3))
        name = f"toy{seed}-{index:03d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        lines.append((name, label, f"toy{seed}-case-{case}", f"scanner {case % 2}"))
    with open(folder / "toys.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "case_id", "scanner"))
        writer.writerows(lines)
    return folder / "toys.csv"


def toy_recipe(*changes: str) -> GeneratorRecipe:
    """The smallest generator, with changes."""
    return load_generator_recipe("tiny", [*CHANGES, *changes])[1]


def halves(manifest: Manifest) -> Split:
    """Two folds by case, without a test part."""
    return make_split("kfold", manifest, 0, folds=2)


def train_toys(
    table: Path, out: Path, recipe: GeneratorRecipe, progress: Progress = silent, **changes: object
) -> TrainedGenerators:
    """One generator for the first fold, or what is asked for."""
    manifest = open_data(str(table))
    values: dict[str, object] = {"manifest": manifest, "split": halves(manifest), "folds": ("fold-1",), **changes}
    return train_generators(Synthesis("toy", recipe, out, **values), progress)  # pyright: ignore[reportArgumentType]


def die_at(step: int, table: Path, out: Path) -> None:
    """Trains with a checkpoint after every step, and kills this process at the given one."""
    import os
    import signal

    import torch

    from atypia.synthesis.training import loop

    torch.set_num_threads(1)
    loop.CHECKPOINT_EVERY_S = -1.0
    seen = 0

    def progress(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen += "epoch" in what
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train_toys(table, out, toy_recipe(), progress)


if __name__ == "__main__":
    die_at(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
