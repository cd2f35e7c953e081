"""What golden files are made from: figures, recipes and studies."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

SIDE = 16
"""Side of the crops in pixels: their middle, 64 of the phantom's 128 px, made smaller."""


# Figures --------------------------------------------------------------------------------------


def make_data(work: Path) -> None:
    """``data/crops`` (32 figures of 8 cases) and ``data/elsewhere`` (8 figures of 4 other cases), as own tables."""
    from atypia.data.phantom.dataset import write_phantom

    for name, seed, n, cases, each in (("crops", 0, 200, 8, (2, 2)), ("elsewhere", 7, 100, 4, (1, 1))):
        phantom = work / "phantom" / name
        manifest = write_phantom(phantom, n, seed, workers=1)
        rows = picked(manifest.table.to_pylist(), cases, each)
        folder = work / "data" / name
        folder.mkdir(parents=True)
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ("image", "label", "case_id", "votes", "phase", "scanner", "origin", "species", "tumour", "mpp", "part")
            )
            for row in rows:
                shrink(phantom / row["image"], folder / Path(row["image"]).name)
                lists = ["|".join("" if v is None else str(v) for v in row[key]) for key in ("votes", "phase")]
                facts = [row[key] for key in ("scanner", "origin", "species", "tumour")]
                image = Path(row["image"]).name
                writer.writerow((image, row["label"], row["case_id"], *lists, *facts, 0.25 * 64 / SIDE, row["part"]))


def picked(rows: list[dict[str, Any]], cases: int, each: tuple[int, int]) -> list[dict[str, Any]]:
    """The first figures of both classes of the first cases that have enough of them."""
    found: list[dict[str, Any]] = []
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case_id"], []).append(row)
    for members in by_case.values():
        classes = [[row for row in members if row["label"] == label] for label in (0, 1)]
        if cases and all(len(there) >= n for there, n in zip(classes, each, strict=True)):
            found += [*classes[0][: each[0]], *classes[1][: each[1]]]
            cases -= 1
    assert cases == 0
    return found


def coarse(value: int) -> int:
    """A level of 8 for one of 256."""
    return value // 32 * 32 + 16


def shrink(source: Path, target: Path) -> None:
    """The middle of a crop at :data:`SIDE` pixels in 8 levels a channel, so that it packs well."""
    from PIL import Image

    with Image.open(source) as image:
        small = image.crop((32, 32, 96, 96)).resize((SIDE, SIDE))
        small.point(coarse).save(target, "PNG", optimize=True)


# What people write ----------------------------------------------------------------------------

PROBE: dict[str, Any] = {
    "summary": "a linear probe on random features",
    "adaptation": "probe",
    "backbone": "tiny-cnn",
    "probe": "atypia",
    "geometry": {"out_px": SIDE},
    "input_px": 32,
}
LORA: dict[str, Any] = {
    "summary": "adapters of rank 1 in a tiny transformer, with a decision",
    "adaptation": "lora",
    "backbone": "tiny-vit",
    "geometry": {"out_px": SIDE},
    "input_px": 32,
    "epochs": 2,
    "batch_size": 8,
    "lora": {"rank": 1, "alpha": 4.0},
    "optimiser": {"lr": 0.01},
    "ema": {"momentum": 0.5},
    "decision": {"calibration": "platt", "coverage": 0.8, "novelty": False},
}
STUDY: dict[str, Any] = {
    "name": "golden",
    "summary": "a probe and adapters, two folds",
    "data": {"train": "data/crops/crops.csv", "tests": ["data/elsewhere/elsewhere.csv"]},
    "protocol": {"name": "kfold", "options": {"folds": 2}},
    "models": [
        {"recipe": "recipe/probe.yaml", "label": "probe"},
        {"recipe": "recipe/lora.yaml", "label": "adapters", "set": {"epochs": 1, "decision": None}},
    ],
    "baseline": "probe",
}


def every_key() -> dict[str, Any]:
    """Recipes and a study in which every key is there, with values that are no defaults where that may be."""
    from atypia.studies.schema import StudyConfig
    from atypia.synthesis.schema import GeneratorRecipe
    from atypia.training.schema import NetworkRecipe, ProbeRecipe

    about = {"summary": "every key", "geometry": {"out_px": 64, "side_um": 32.0}, "input_px": 64, "threshold": 0.4}
    decision = {"calibration": "isotonic", "coverage": 0.8, "novelty": False, "out_of_fold": "runs/cv"}
    network = {
        **about, "adaptation": "lora", "backbone": "tiny-vit", "decision": decision, "view": 0.6, "epochs": 3,
        "batch_size": 16, "accumulate": 2, "clip_norm": 1.0, "precision": "fp32", "channels_last": False,
        "checkpointing": True, "train_last_blocks": 1, "drop_path": 0.1, "augment": "robust",
        "head": {"hidden": [16], "dropout": 0.1}, "lora": {"rank": 4, "alpha": 4.0, "dropout": 0.1},
        "optimiser": {"name": "nadam", "lr": 0.002, "weight_decay": 0.02, "betas": [0.8, 0.99], "eps": 1e-7,
                      "momentum": 0.8, "head_lr_factor": 2.0, "decay_norms": False},
        "schedule": {"name": "plateau", "warmup_epochs": 0.5, "min_lr": 0.0001, "peak_at": 0.4, "restart_epochs": 3,
                     "factor": 0.4, "patience": 2},
        "loss": {"name": "focal", "soft_labels": True, "label_smoothing": 0.1, "positive_weight": "observed",
                 "gamma": 1.5},
        "sampler": {"name": "domain-aware", "draws": 64, "positive_share": 0.4, "hard_share": 0.1, "hard_factor": 3.0},
        "select": {"metric": "auroc", "of": "ema", "best": True, "patience": 2},
        "mixup": {"alpha": 0.3, "probability": 0.5, "across_domains": True},
        "mixstyle": {"stages": [0], "alpha": 0.2, "probability": 0.4}, "cbam": True,
        "alignment": {"weight": 0.5, "ramp": False}, "adversarial": {"weight": 0.2, "ramp": False, "bounded": True},
        "contrastive": {"weight": 0.4, "temperature": 0.2, "epsilon": 0.2}, "ema": {"momentum": 0.99, "debias": True},
        "distillation": {"weight": 0.4, "temperature": 3.0, "warmup_epochs": 1.0, "teachers": ["runs/t/{fold}/bundle"],
                         "draw": 1},
    }  # fmt: skip
    probe = {**about, "adaptation": "probe", "backbone": "tiny-cnn", "probe": "ammeling", "decision": decision}
    part = {"epochs": 2, "batch_size": 8, "lr": 0.001, "weight_decay": 0.02, "warmup_epochs": 0.5,
            "schedule": "cosine", "clip_norm": 2.0, "balanced": True}  # fmt: skip
    generator = {
        "summary": "every key", "geometry": {"out_px": 32, "side_um": 32.0},
        "autoencoder": {"channels": [8, 16], "layers": 2, "latent_channels": 2, "groups": 4, "attention": True,
                        "reconstruction": "l2", "kl_weight": 0.01,
                        "perceptual": {"backbone": "tiny-cnn", "weight": 0.2, "maps": 2},
                        "adversarial": {"weight": 0.2, "start_epoch": 2, "channels": 16, "lr": 0.001}},
        "denoiser": {"layers": 2, "heads": 2, "head_dim": 16, "patch": 4},
        "diffusion": {"steps": 50, "schedule": "squaredcos_cap_v2", "prediction": "v",
                      "conditions": ["class", "domain", "phase"], "condition_dropout": 0.2, "ema": 0.9},
        "pretrain": {"autoencoder": part, "denoiser": part}, "finetune": {"autoencoder": part, "denoiser": part},
        "turns": False, "precision": "fp32", "channels_last": False, "checkpointing": True, "sheet_every": 5,
    }  # fmt: skip
    data = {"open": "crops.csv", "where": {"part": ["train"]}, "name": "crops"}
    phantom = {"phantom": {"n": 40, "seed": 3, "domains": ["rose"]}, "name": "rendered"}
    model = {"recipe": "probe", "synthetic": "generated", "positives": 0.5, "backbones": ["tiny-cnn"],
             "label": "{recipe} on {backbone}", "set": {"input_px": 32}, "networks": {"epochs": 2},
             "probes": {"threshold": 0.4}}  # fmt: skip
    levels = [{"label": "small", "adaptations": ["probe"], "set": {"geometry.out_px": 32}}]
    synthetic = {"generated": {"generator": "tiny", "set": {"turns": False}, "pretrain": data, "guidance": 1.5,
                               "steps": 10, "sampler": "ddpm", "ratio": 0.5, "oversample": 2.0, "drop_copies": True,
                               "min_p": 0.4, "judge": "probe", "judge_set": {"backbone": "tiny-cnn"}}}  # fmt: skip
    size = {"summary": "small", "data": {"train": [phantom], "tests": [data], "allow": ["near-duplicate"]},
            "protocol": {"name": "kfold", "options": {"folds": 2}}, "seeds": [1], "models": [model],
            "factors": [{"name": "side", "levels": levels}], "baseline": "probe on tiny-cnn", "synthetic": synthetic,
            "set": {"threshold": 0.5}, "networks": {"epochs": 1}, "probes": {"threshold": 0.6}}  # fmt: skip
    study = {
        "name": "every-key", "summary": "every key", "source": "nobody 2026, table 1", "data": size["data"],
        "protocol": size["protocol"], "seeds": [0, 1], "models": [model], "factors": size["factors"],
        "decisions": ["fixed", "fitted"], "baseline": "probe on tiny-cnn", "weights": {"tiny-cnn": "weights.pth"},
        "synthetic": synthetic, "sizes": {"cpu": size, "smoke": size},
    }  # fmt: skip
    return {
        "recipe/every-key-network.yaml": NetworkRecipe.model_validate(network).model_dump(mode="json"),
        "recipe/every-key-probe.yaml": ProbeRecipe.model_validate(probe).model_dump(mode="json"),
        "generator-recipe/every-key.yaml": GeneratorRecipe.model_validate(generator).model_dump(mode="json"),
        "study-file/every-key.yaml": StudyConfig.model_validate(study).model_dump(mode="json"),
    }
