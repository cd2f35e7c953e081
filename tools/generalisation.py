"""Does each domain-generalisation method do what it claims? Leave one domain out, on the phantom set.

    python tools/generalisation.py --out runs/generalisation --write

Every variant is the same small network on the same folds and seeds, with one part added to the
baseline; the variants are listed in :data:`VARIANTS`. Complete folds are kept, so the command
continues where it was stopped. Two figures are reported beside balanced accuracy and AUROC on the
unseen domain: the AUROC on validation cases of the domains seen in training, and how well a linear
classifier reads the domain off the features of those cases, which is what alignment, adversarial
training, MixStyle and stain augmentation claim to lower.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from documentation.datafiles import write
from documentation.taking import take
from documentation.views import write_pages
from scipy import stats

from atypia.backbones.catalogue import BACKBONES
from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import environment, read_json, write_json
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.data.phantom.dataset import write_phantom
from atypia.data.phantom.domains import DOMAINS
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.crops import DeviceCrops, Frame
from atypia.inference.networks import load_network
from atypia.reports.drawing.listing import columns_table
from atypia.splits.protocol import make_split
from atypia.splits.split import Fold
from atypia.statistics import metrics
from atypia.training.recipe import load_recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

BASE = (
    "backbone=tiny-cnn", "pretrained=false", "input_px=64", "view=0.5", "epochs=10", "batch_size=32",
    "augment=flip-rotate", "optimiser.lr=2e-3", "sampler.name=inverse-class", "ema=null", "select.of=student",
    "select.metric=auroc", "head.dropout=0.0", "loss.soft_labels=false",
)  # fmt: skip
"""The baseline: empirical risk minimisation with flips and quarter turns."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "stain augmentation": ("augment=stain",),
    "robust augmentation": ("augment=robust",),
    "amplitude spectrum synthesis": ("augment=flip-rotate+rass",),
    "MixUp across domains": ("mixup.alpha=0.4", "mixup.across_domains=true"),
    "MixStyle": ("mixstyle.stages=[0,1]",),
    "CBAM and alignment": ("cbam=true", "alignment.weight=1.0"),
    "adversarial": ("adversarial.weight=0.1",),
    "adversarial, bounded": ("adversarial.weight=0.1", "adversarial.bounded=true"),
    "contrastive": ("contrastive.weight=0.5",),
    "EMA distillation": ("ema.momentum=0.98", "distillation.weight=0.5", "distillation.warmup_epochs=4"),
    "domain-aware sampler": ("sampler.name=domain-aware",),
}  # fmt: skip
"""What each variant adds to the baseline."""

FIGURES, PHANTOM_SEED = 1200, 3

SHIFTED = (
    replace(DOMAINS["rose"], atypia_rate=0.5),
    replace(
        DOMAINS["violet"], hematoxylin=(0.70, 0.64, 0.30), hematoxylin_strength=1.5, eosin_strength=0.45, gamma=0.8,
        atypia_rate=0.12,
    ),
    replace(
        DOMAINS["brick"], hematoxylin=(0.45, 0.76, 0.50), hematoxylin_strength=0.6, eosin_strength=1.7, saturation=1.3,
        atypia_rate=0.5,
    ),
    replace(DOMAINS["ash"], hematoxylin_strength=0.5, saturation=0.6, atypia_rate=0.12),
)  # fmt: skip
"""The phantom domains with stains further apart, and with atypia so unequally frequent that the domain tells the
label: what a network learns from that is wrong in a domain that it never saw."""


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        variant: Name of the variant.
        fold: The unseen domain's fold.
        seed: Seed of the training.
        bacc: Balanced accuracy on the unseen domain, at 0.5.
        auroc: AUROC there.
        seen: AUROC on validation cases of the domains that were seen.
        readable: Accuracy of a linear classifier of the domain on features of those cases.
    """

    variant: str
    fold: str
    seed: int
    bacc: float
    auroc: float
    seen: float
    readable: float


MEASURES = ("bacc", "auroc", "seen", "readable")


def one(variant: str, fold: Fold, seed: int, manifest: Manifest, out: Path) -> Result:
    """Trains a variant on one fold, where that is not done, and measures it."""
    _, recipe = load_recipe("full", [*BASE, *VARIANTS[variant]])
    split = make_split("lodo", manifest, 0)
    folder = out / variant.replace(",", "").replace(" ", "-") / f"seed-{seed}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(TrainingRequest(variant, recipe, manifest, split, folder, seed, folds=(fold.name,), device="cpu"))
    measured = folder / fold.name / "measured.json"
    if not measured.exists():
        write_json(measured, measure(folder / fold.name, fold, manifest))
    return Result(variant, fold.name, seed, **read_json(measured))


def measure(folder: Path, fold: Fold, manifest: Manifest) -> dict[str, float]:
    """What a run folder's predictions and features say."""
    table = pq.read_table(folder / runs.PREDICTIONS).to_pydict()
    part, y = np.array(table[r.PART]), np.array(table[r.LABEL])
    p, decided = np.array(table[r.P_ATYPICAL]), np.array(table[r.DECISION])
    unseen, seen = part == runs.TEST, part == runs.VALIDATION
    return {
        "bacc": metrics.balanced_accuracy(y[unseen], decided[unseen]),
        "auroc": metrics.auroc(y[unseen], p[unseen]),
        "seen": metrics.auroc(y[seen], p[seen]),
        "readable": domain_accuracy(folder, fold, manifest),
    }


def domain_accuracy(folder: Path, fold: Fold, manifest: Manifest) -> float:
    """Cross-validated accuracy of a linear classifier of the domain on the network's pooled features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    bundle = load_bundle(folder / runs.BUNDLE)
    network = load_network(bundle)
    crops = DeviceCrops(
        open_store(manifest, bundle.geometry).crops,
        BACKBONES[bundle.backbone],
        Frame(bundle.input_px, network.spec.view),
    )
    rows = manifest.rows_of(fold.val)
    with torch.inference_mode():
        features = torch.cat([network(crops.plain_batch(part)).pooled for part in np.array_split(rows, 8)]).numpy()
    domains = manifest.take(rows).table[r.DOMAIN].to_pylist()
    scores = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), features, domains, cv=4)
    return float(scores.mean())


def by_seed(results: Sequence[Result], variant: str, measure_name: str) -> npt.NDArray[np.float64]:
    """Mean over the unseen domains, one value a seed, in the order of the seeds."""
    seeds = sorted({x.seed for x in results})
    return np.array(
        [
            float(np.mean([getattr(x, measure_name) for x in results if x.variant == variant and x.seed == s]))
            for s in seeds
        ]
    )


def difference(results: Sequence[Result], variant: str, measure_name: str) -> str:
    """Mean paired difference from the baseline, with a 95 % t interval over the pairs (unseen domain × seed)."""
    of = {name: {(x.fold, x.seed): getattr(x, measure_name) for x in results if x.variant == name}
          for name in (variant, "baseline")}  # fmt: skip
    d = np.array([of[variant][pair] - value for pair, value in of["baseline"].items()])
    half = float(stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
    return f"{d.mean():+.3f} [{d.mean() - half:+.3f}, {d.mean() + half:+.3f}]"


def table_of(results: Sequence[Result]) -> str:
    """The results as a table in Markdown."""
    rows, compared = [], ("auroc", "bacc", "readable")
    for variant in VARIANTS:
        auroc, bacc, seen, readable = (
            f"{by_seed(results, variant, m).mean():.3f}" for m in ("auroc", "bacc", "seen", "readable")
        )
        changes = [""] * 3 if variant == "baseline" else [difference(results, variant, m) for m in compared]
        rows.append([variant, auroc, changes[0], bacc, changes[1], seen, readable, changes[2]])
    titles = ["variant", "AUROC, unseen", "its change", "BA at 0.5, unseen", "change of BA", "AUROC, seen",
              "domain read off", "change of that"]  # fmt: skip
    return columns_table(titles, rows).render("markdown")


def main() -> None:
    """Trains what is missing and writes the page's table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--write", action="store_true", help="write docs/results/data/generalisation and the page")
    asked = parser.parse_args()
    manifest = write_phantom(asked.out / "phantom", FIGURES, PHANTOM_SEED, SHIFTED)
    split = make_split("lodo", manifest, 0)
    results, seconds = [], 0.0
    for seed in range(asked.seeds):
        for variant in asked.variants:
            started = time.perf_counter()
            found = [one(variant, fold, seed, manifest, asked.out) for fold in split.folds]
            results += found
            values = " ".join(f"{m} {np.mean([getattr(x, m) for x in found]):.3f}" for m in MEASURES)
            sys.stdout.write(f"seed {seed}, {variant}: {values} ({time.perf_counter() - started:.0f} s)\n")
            sys.stdout.flush()
    for path in asked.out.glob("*/seed-*/*/run.json"):
        seconds += read_json(path)["seconds"]
    if asked.write and set(asked.variants) == set(VARIANTS):
        versions = environment()
        columns, rows = take(table_of(results))
        write(
            "generalisation/variants",
            columns,
            rows,
            of=f"domain-generalisation methods on the phantom set: {len(results)} trainings",
            command=f"python tools/generalisation.py --out {asked.out} --seeds {asked.seeds} --write",
            seed=f"{asked.seeds} seeds; phantom set {PHANTOM_SEED}",
            versions=", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "timm", "numpy")),
            wall_time=f"{seconds / 60:.0f} min of training",
            date=datetime.now(UTC).date().isoformat(),
            origin="written by the command",
        )
        write_pages()


if __name__ == "__main__":
    main()
