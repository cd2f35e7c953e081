"""The terms of recipe `giedziun`, one left out at a time, on frozen features of AMi-Br's training figures.

A residual adapter of rank 8 on the ViT-S/14's pooled features stands for LoRA, and the recipe's head follows it, so that a
training takes seconds and several seeds can be had. Nothing of the hold-out is read. Makes the table of
docs/results/giedziun.md:

    python tools/giedziun_ablation.py --root DATA [--seeds 5]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

from atypia.backbones.catalogue import BACKBONES
from atypia.base import records as r
from atypia.data.augment.pipeline import augmentation
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import open_data
from atypia.inference.crops import Frame
from atypia.methods.catalogue import SAMPLERS
from atypia.methods.network import Output, build_network
from atypia.methods.sampler import Population
from atypia.methods.terms.contrastive import cosine_similarity
from atypia.statistics import metrics
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.networks import network_spec
from atypia.workflows.opening import load_recipe, open_crops

BACKBONE, SIDE, BATCH, DRAWS, EPOCHS, RATE = "vit-s14-focus", 98, 32, 960, 5, 5e-4
ADVERSARIAL = {"name": "adversarial", "weight": 0.1, "ramp": True}
CONTRASTIVE = {"name": "contrastive", "weight": 0.5, "temperature": 0.1, "epsilon": 0.1}
BOUNDED = {**ADVERSARIAL, "bounded": True}
ARMS: dict[str, tuple[list[dict[str, Any]], float]] = {
    "as is": ([ADVERSARIAL, CONTRASTIVE], 0.0),
    "as is, `bounded`": ([BOUNDED, CONTRASTIVE], 0.0),
    "without adversary": ([CONTRASTIVE], 0.0),
    "without contrastive": ([ADVERSARIAL], 0.0),
    "without both": ([], 0.0),
    "without adversary, temperature 1": ([{**CONTRASTIVE, "temperature": 1.0}], 0.0),
    "without adversary, every pair": ([{**CONTRASTIVE, "epsilon": 2.0}], 0.0),
    "without adversary, signal 0.1": ([CONTRASTIVE], 0.1),
    "without both, signal 0.1": ([], 0.1),
    "without adversary, signal 0.5": ([CONTRASTIVE], 0.5),
    "as is, signal 0.5": ([ADVERSARIAL, CONTRASTIVE], 0.5),
}
"""Terms, and the strength of a direction that is added to the features and tells the soft label."""


class Adapted(nn.Module):
    """Rank-8 residual adapter, hidden layer and head, on pooled features given as images (b, d, 1, 1)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(features, 8, bias=False), nn.Linear(8, features, bias=False)
        nn.init.zeros_(self.up.weight)
        self.hidden = nn.Sequential(nn.Linear(features, 256), nn.GELU())
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(256, 1)

    def forward(self, images: torch.Tensor) -> Output:
        pooled = images.flatten(1)
        pooled = pooled + 2 * self.up(self.down(pooled))
        hidden = self.hidden(pooled)
        return Output(self.head(self.dropout(hidden)).squeeze(1), hidden, pooled, pooled)


def pooled_features(figures: Manifest) -> np.ndarray:
    """Pooled features (n, d) of the frozen backbone."""
    recipe = load_recipe("giedziun", {"input_px": SIDE}, backbone=BACKBONE)
    network = build_network(network_spec(recipe)).eval()  # pyright: ignore[reportArgumentType]
    crops = open_crops(figures, recipe).crops
    feed = Feed(crops, BACKBONES[BACKBONE], Frame(SIDE), augmentation("none"))
    with torch.no_grad():
        parts = [
            network(feed.training_batch(np.arange(start, min(start + 64, len(figures))), 0)).pooled.numpy()
            for start in range(0, len(figures), 64)
        ]
    return np.concatenate(parts)


def trained(figures: Manifest, features: np.ndarray, terms: list[dict[str, Any]], seed: int) -> list[dict[str, float]]:
    """One line an epoch: losses, mean cosines within and between classes, AUROC on the validation fold."""
    labels = figures.labels
    soft = np.array(figures.table[r.SOFT_LABEL].to_pylist(), dtype=float)
    targets = np.where(np.isnan(soft), labels, soft)
    codes = [np.unique(figures.column(name).astype(str), return_inverse=True)[1] for name in (r.DOMAIN, r.SLIDE_ID)]
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, figures.cases))
    train, val = folds[seed % 5]
    recipe: Any = load_recipe("giedziun", {"input_px": SIDE, "epochs": EPOCHS, "terms": terms}, backbone=BACKBONE)
    torch.manual_seed(seed)
    network = Adapted(features.shape[1])
    population = Population(train, labels[train], targets[train], codes[0][train], codes[1][train])
    options = recipe.sampler.model_copy(update={"draws": DRAWS})
    sampler = SAMPLERS[options.name](options, population, seed, BATCH)
    objective = Objective(recipe, features.shape[1], len(np.unique(codes[0])), (), seed)
    optimiser = torch.optim.AdamW(
        [*network.parameters(), *objective.modules_trained.parameters()], lr=RATE, weight_decay=0.01
    )
    per_epoch, lines = DRAWS // BATCH, []
    steps = EPOCHS * per_epoch
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda i: (i + 1) / per_epoch if i < per_epoch else 0.5 * (1 + np.cos(np.pi * (i / per_epoch - 1) / (EPOCHS - 1))),
    )  # fmt: skip
    crops = torch.from_numpy(features)[..., None, None]
    for epoch in range(EPOCHS):
        drawn = sampler.draw(epoch)
        positive = targets[train][drawn] >= 0.5
        objective.start_epoch(epoch, float((~positive).sum() / max(1, positive.sum())))
        network.train()
        sums: dict[str, float] = {}
        for step in range(per_epoch):
            rows = train[drawn[step * BATCH : (step + 1) * BATCH]]
            kept: list[Output] = []

            def scored(images: torch.Tensor, kept: list[Output] = kept) -> Output:
                kept.append(network(images))
                return kept[-1]

            done = (epoch * per_epoch + step) / steps
            y = torch.from_numpy(targets[rows]).float()
            given = StepInput(
                crops[rows], y, torch.from_numpy(codes[0][rows]), done, seed * 10**6 + epoch * 1000 + step
            )
            losses = objective(scored, None, given)
            optimiser.zero_grad()
            losses["loss"].backward()
            optimiser.step()
            rate.step()
            cosines = cosine_similarity(kept[0].hidden.detach())
            same = (y[:, None] >= 0.5) == (y[None] >= 0.5)
            losses |= {
                "within": cosines[same & ~torch.eye(BATCH, dtype=torch.bool)].mean(),
                "between": cosines[~same].mean(),
            }
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / per_epoch
        network.eval()
        with torch.no_grad():
            p = torch.sigmoid(network(crops).logits).numpy()
        sampler.difficulty = np.abs(p[train] - targets[train])
        lines.append({**sums, "auroc": metrics.auroc(labels[val], p[val])})
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = open_data("ami-br", asked.root)
    figures = whole.take(np.array(whole.column(r.PART) == "train"))
    features = pooled_features(figures)
    soft = np.array(figures.table[r.SOFT_LABEL].to_pylist(), dtype=float)
    direction = np.random.default_rng(1).normal(size=features.shape[1])
    direction *= features.std(0).mean() * features.shape[1] ** 0.5 / np.linalg.norm(direction)
    columns = [
        "terms",
        "contrastive, first epoch",
        "last",
        "adversarial, last",
        "cosine within",
        "between",
        "AUROC, validation",
    ]
    sys.stdout.write(f"| {' | '.join(columns)} |\n")
    sys.stdout.write("|---|--:|--:|--:|--:|--:|--:|\n")
    for name, (terms, signal) in ARMS.items():
        shown = (features + signal * (soft[:, None] - 0.5) * direction).astype(np.float32)
        runs = [trained(figures, shown, terms, seed) for seed in range(asked.seeds)]
        first, last = [run[0] for run in runs], [run[-1] for run in runs]

        def mean(lines: list[dict[str, float]], key: str) -> str:
            return f"{np.mean([line[key] for line in lines]):.2f}" if key in lines[0] else "–"

        auroc = [line["auroc"] for line in last]
        cells = [mean(first, "loss_contrastive"), mean(last, "loss_contrastive"), mean(last, "loss_adversarial")]
        cells += [mean(last, "within"), mean(last, "between"), f"{np.mean(auroc):.3f} ± {np.std(auroc, ddof=1):.3f}"]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
