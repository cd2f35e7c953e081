"""Computes the result rows of a training's folder from its predictions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from atypia.base import runs
from atypia.base.artifacts import read_json
from atypia.base.errors import InputError
from atypia.evaluation.ensemble import ensembles
from atypia.evaluation.rows import ClassifierLabels, concat_rows, result_rows, write_rows
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predictions import read_predictions
from atypia.statistics.metrics import UndefinedMetricWarning


@dataclass(frozen=True)
class Collected:
    """Result rows of a training, those of its folds together, and the warnings for its tables.

    Attributes:
        rows: Of each run.
        warnings: For every table.
        ensembles: Rows of :func:`atypia.evaluation.ensemble.ensembles`, under a model's name of their own; in no file.
    """

    rows: pa.Table
    warnings: tuple[str, ...]
    ensembles: pa.Table


def collect(folder: Path, about: Path | None = None) -> Collected:
    """Computes the result rows of all predictions under a folder and writes ``results.parquet`` there.

    Args:
        folder: Folder of a training or a run, or one with evaluations.
        about: Folder of the training, run or bundle that was evaluated, if that is another one.

    Raises:
        InputError: There are no predictions.
        DataError: A file is damaged.
    """
    files = runs.prediction_files(folder)
    if not files:
        raise InputError(f"{folder} holds no predictions; fix: train, or evaluate a bundle, first")
    classifier, notes = describe(about or folder)
    with warnings.catch_warnings():
        # A domain without one of the classes is common and shows as n/a in the table.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        tables, scored = [], []
        for path in files:
            predictions, facts = read_predictions(path)
            scored.append(predictions)
            tables.append(result_rows(predictions, classifier))
            notes = (*notes, *facts.get(runs.WARNINGS, ()))
        together = [
            result_rows(one.predictions, replace(classifier, model=f"{classifier.model}, ensemble of {one.members}"))
            for one in ensembles(scored)
        ]
    rows = concat_rows(tables)
    write_rows(folder / runs.RESULTS, rows)
    return Collected(rows, tuple(dict.fromkeys(notes)), concat_rows(together))


def describe(folder: Path) -> tuple[ClassifierLabels, tuple[str, ...]]:
    """What result rows record about the classifier in a folder, and the warnings for its tables."""
    if (folder / runs.TRAINING).is_file():
        asked: dict[str, Any] = read_json(folder / runs.TRAINING)
        recipe = asked["recipe"]
        classifier = ClassifierLabels(
            model=f"{asked['name']} · {recipe['backbone']}",
            backbone=recipe["backbone"],
            adaptation=recipe["adaptation"],
            recipe=asked["name"],
            protocol=asked["split"]["protocol"],
            train_data=asked["data"]["name"],
        )
        return classifier, tuple(asked["warnings"])
    bundle = load_bundle(folder / runs.BUNDLE if (folder / runs.BUNDLE).is_dir() else folder)
    facts = bundle.training
    classifier = ClassifierLabels(
        model=bundle.name,
        backbone=bundle.backbone,
        adaptation=bundle.adaptation,
        recipe=facts.get("recipe"),
        protocol=facts.get("protocol"),
        train_data=facts.get("data"),
    )
    return classifier, tuple(facts.get("warnings", ()))
