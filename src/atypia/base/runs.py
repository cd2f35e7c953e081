"""Names of the files in an output folder, written once.

The folder of a training holds ``training.json``, ``manifest.parquet``, ``split.json``, one run
folder a fold, and ``evaluations/`` with the predictions on other data sets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from atypia.base.artifacts import fingerprint

TRAINING: Final = "training.json"
MANIFEST: Final = "manifest.parquet"
PHANTOM_PARAMETERS: Final = "phantom.json"
SPLIT: Final = "split.json"
CONFIG: Final = "config.yaml"
METRICS: Final = "metrics.jsonl"
BUNDLE: Final = "bundle"
PREDICTIONS: Final = "predictions.parquet"
ENVIRONMENT: Final = "environment.json"
LOG: Final = "log.txt"
RUN: Final = "run.json"
"""Written last: a run folder without it is incomplete."""
CHECKPOINT: Final = "checkpoint-last"
"""The state of a fold that is being trained."""
EVALUATIONS: Final = "evaluations"
TENSORBOARD: Final = "tensorboard"
RESULTS: Final = "results.parquet"
WARNINGS: Final = "warnings"
"""Key of the warnings in the metadata of a prediction file, shown with every table made from it."""

VALIDATION: Final = "val"
TEST: Final = "test"
EXTERNAL: Final = "external"
"""Role of the predicted figures for the model: its fold's validation or test part, or another data set."""


def natural_key(name: str) -> tuple[str, int]:
    """Sort key by which ``fold-2`` comes before ``fold-10``."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def run_folders(folder: Path) -> list[Path]:
    """The complete run folders of a training, in natural order; the folder itself if it is one."""
    if (folder / RUN).is_file():
        return [folder]
    # Hidden folders are incomplete folders of killed processes, even if they look complete.
    found = (run.parent for run in folder.glob(f"*/{RUN}") if not run.parent.name.startswith("."))
    return sorted(found, key=lambda path: natural_key(path.name))


def prediction_files(folder: Path) -> Sequence[Path]:
    """All prediction files in a training's folder: first of its folds, then of its evaluations."""
    own = [run / PREDICTIONS for run in run_folders(folder)]
    other = (folder / EVALUATIONS).glob("*/*.parquet")
    return [*own, *sorted(other, key=lambda path: (path.parent.name, natural_key(path.stem)))]


NAME_BYTES: Final = 100
"""Longest name that :func:`safe_name` gives, in UTF-8."""


DEVICES: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL
)
"""Names of devices on Windows, with any suffix: no file or folder can be called so."""


def safe_name(text: str) -> str:
    """A name that every file system takes, as like the text as can be.

    >>> safe_name("Case 7/α: left.ome"), safe_name("con.1")
    ('Case 7_α_ left.ome', '_con.1')
    """
    kept = re.sub(r"[^\w.\- ]+", "_", text).strip(" .") or "unnamed"
    if DEVICES.fullmatch(kept):
        kept = f"_{kept}"
    if len(kept.encode()) > NAME_BYTES:
        kept = f"{kept.encode()[: NAME_BYTES - 9].decode(errors='ignore')}-{fingerprint(text)[:8]}"
    return kept
