"""How a golden file of each format is opened, and what must be read from it.

:data:`READERS` has an entry for each folder of a version. A reader runs inside an unpacked copy of the version, opens
what lies there as a user's code would, and gives JSON-like values; ``expected.json.xz`` of the version holds what it
gave when the version was released. What has been moved or renamed since is followed here, never in the files.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from atypia.base import runs
from atypia.data.audit.provenance import generator_records
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.data.points.reading import read_points
from atypia.data.sources.opening import open_data
from atypia.evaluation.external import open_target
from atypia.evaluation.rows import read_rows
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.classifier import Classifier
from atypia.inference.predictions import read_predictions
from atypia.review.decisions.exchange import decisions_csv, read_decisions
from atypia.review.decisions.log import file_events
from atypia.review.decisions.schema import log_columns
from atypia.review.figures.opening import Opening, kind_of, open_figures, read_results
from atypia.review.server.context import Review
from atypia.splits.split import Split
from atypia.studies.files import load_study
from atypia.studies.ledger import Ledger
from atypia.studies.plan import Plan
from atypia.studies.run import study_status
from atypia.studies.table import collect_study
from atypia.synthesis.generator import load_generator
from atypia.synthesis.measures.score import open_samples
from atypia.synthesis.schema import load_generator_recipe
from atypia.training.identity import in_first_keys
from atypia.training.recipe import OLD_TERMS, load_recipe, parse_recipe

SAME = "same.json"
EXPECTED = "expected.json"
CROPS, ELSEWHERE = "data/crops/crops.csv", "data/elsewhere/elsewhere.csv"


def unpacked(version: Path, target: Path) -> Path:
    """Copies a version as it was written: packed files unpacked, those that are kept once in all their places."""
    shutil.copytree(version, target)
    for name, first in json.loads((target / SAME).read_text("utf-8")).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target / first, target / name)
    for path in [*target.rglob("*.xz")]:
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return target


# Figures --------------------------------------------------------------------------------------


def facts_of(manifest: Manifest) -> dict[str, Any]:
    """What must be read of a manifest."""
    rows = manifest.table.to_pylist()
    return {
        "name": manifest.name, "task": manifest.task, "notes": list(manifest.notes),
        "fingerprint": manifest.fingerprint, "ids": manifest.ids, "labels": manifest.labels.tolist(),
        "cases": manifest.cases.tolist(), "first": rows[0], "last": rows[-1],
    }  # fmt: skip


def read_data() -> dict[str, Any]:
    """Users' tables of figures, and positions on a slide."""
    points = read_points("data/points.csv")
    return {
        "crops": facts_of(open_data(CROPS)),
        "elsewhere": facts_of(open_data(ELSEWHERE)),
        "points": [points.x_px.tolist(), points.y_px.tolist()],
    }


def read_manifest() -> dict[str, Any]:
    """A saved manifest."""
    return facts_of(Manifest.load(Path("manifest/figures.parquet")))


def read_split() -> dict[str, Any]:
    """A saved split, which must still fit its manifest."""
    split = Split.load(Path("split/official.json"))
    split.check_manifest(open_data(CROPS))
    folds = {fold.name: {part: list(ids) for part, ids in fold.parts().items()} for fold in split.folds}
    return {"protocol": split.protocol, "fingerprint": split.fingerprint, "folds": folds}


def read_store() -> dict[str, Any]:
    """A crop store in the cache, opened although its images are not at hand."""
    (folder,) = Path("store").iterdir()
    cached = Path(os.environ["ATYPIA_CACHE"]) / "crops" / folder.name
    shutil.rmtree(cached, ignore_errors=True)
    shutil.copytree(folder, cached)
    given = open_data(ELSEWHERE)
    store = open_store(Manifest(given.table, given.name, given.task), CropGeometry(16))
    means = store.crops.reshape(len(store), -1).mean(axis=1)
    return {"fingerprint": store.fingerprint, "shape": list(store.crops.shape), "means": means.tolist()}


# What people write ----------------------------------------------------------------------------


def read_recipe() -> dict[str, Any]:
    """Recipes: one of each kind with every key, and those of the trainings."""
    dumped = {path.stem: load_recipe(str(path))[1].model_dump(mode="json") for path in sorted(Path("recipe").iterdir())}
    return {name: in_first_keys(values, dict.fromkeys(OLD_TERMS)) for name, values in dumped.items()}


def read_generator_recipe() -> dict[str, Any]:
    """Recipes of generators."""
    files = sorted(Path("generator-recipe").iterdir())
    return {path.stem: load_generator_recipe(str(path))[1].model_dump(mode="json") for path in files}


def read_study_file() -> dict[str, Any]:
    """Study files, at every size."""
    found = {path.stem: load_study(str(path)) for path in sorted(Path("study-file").iterdir())}
    return {
        name: {size: study.sized(size).model_dump(mode="json") for size in ("full", *study.sizes)}
        for name, study in found.items()
    }


# Trainings ------------------------------------------------------------------------------------


def read_run(folder: Path) -> dict[str, Any]:
    """A complete run folder."""
    predictions, facts = read_predictions(folder / runs.PREDICTIONS)
    split, bundle = Split.load(folder / runs.SPLIT), load_bundle(folder / runs.BUNDLE)
    config = yaml.safe_load((folder / runs.CONFIG).read_text("utf-8"))
    recipe = parse_recipe({key: value for key, value in config.items() if key not in ("recipe_name", "seed")}, "config")
    lines = [json.loads(line) for line in (folder / runs.METRICS).read_text("utf-8").splitlines()]
    return {
        "run": json.loads((folder / runs.RUN).read_text("utf-8")),
        "bundle": {"fingerprint": bundle.fingerprint, "name": bundle.name, "decision": bundle.decision.as_dict()},
        "predictions": predictions.to_pylist(),
        "facts": facts,
        "fold": [split.folds[0].name, *map(len, split.folds[0].parts().values())],
        "recipe": [recipe.adaptation, recipe.backbone, recipe.geometry.out_px],
        "lines": len(lines),
    }


def values_of(rows: Any) -> dict[str, Any]:
    """Result rows: their number, one in full, and the values of those that are of no one domain."""
    known, names = rows.to_pylist(), ("model", "dataset", "part", "fold", "metric")
    values = {" | ".join(str(row[name]) for name in names): row["value"] for row in known if row["domain"] is None}
    return {"rows": len(known), "first": known[0], "values": values}


def read_training() -> dict[str, Any]:
    """Output folders of trainings, their evaluations and result rows; each bundle predicts what it predicted."""
    found: dict[str, Any] = {}
    for folder in sorted(Path("training").iterdir()):
        files = runs.prediction_files(folder)
        found[folder.name] = {
            "runs": {run.name: read_run(run) for run in runs.run_folders(folder)},
            "evaluations": {path.name: read_predictions(path)[0].to_pylist() for path in files if "eval" in str(path)},
            "results": values_of(read_rows(folder / runs.RESULTS)),
            "again": {run.name: judged(run / runs.BUNDLE, "torch") for run in runs.run_folders(folder)},
            "target": [[name, bundle.fingerprint] for name, bundle in open_target(folder).bundles],
            "review": reviewed(Opening((str(folder),), data=CROPS)),
        }
    return found


def read_study() -> dict[str, Any]:
    """A study's folder: its plan, the state of its runs, and its tables computed again."""
    out = Path("study")
    plan, ledger = Plan.load(out), Ledger(out)
    for claim in out.rglob("claim.json"):
        os.utime(claim, (0, 0))  # the process on another machine has not been heard of since
    status = study_status(plan, out)
    results = collect_study(plan, out)
    return {
        "name": plan.name,
        "cells": [
            [training.label, training.recipe_name, training.manifest, training.split, training.seed]
            for training in plan.trainings
        ],
        "runs": [[run.id, run.training, run.fold, *run.sizes] for run in plan.runs],
        "tests": dict(plan.tests),
        "states": {run.id: ledger.state(run.id, plan.tests) for run in plan.runs},
        "events": {run.id: [event["event"] for event in ledger.events(run.id)] for run in plan.runs},
        "counts": dict(status.counts),
        "failures": [list(failure) for failure in status.failures],
        "results": values_of(results.rows),
        "kept results": values_of(read_rows(out / runs.RESULTS)),
        "review": reviewed(Opening((str(out),), data=CROPS)),
    }


# Classifiers and results ----------------------------------------------------------------------


def judged(model: Path | str, runtime: str | None) -> dict[str, Any]:
    """What a classifier says of the other set's crops."""
    classifier = Classifier.load(model, runtime=runtime)
    store = open_store(open_data(ELSEWHERE), classifier.geometry)
    verdicts = classifier.judge(np.array(store.crops))
    found = {"name": classifier.name, "field_um": classifier.field_um, "threshold": classifier.threshold}
    return {**found, "p": np.asarray(verdicts.p).tolist(), "decision": np.asarray(verdicts.decision).tolist(),
            "call": [str(call) for call in verdicts.call], "novelty": np.asarray(verdicts.novelty).tolist()}  # fmt: skip


def read_bundle() -> dict[str, Any]:
    """A bundle by each runtime that reads it, and its exported file alone."""
    alone = Path("alone.onnx")
    shutil.copyfile("bundle/model.onnx", alone)
    bundle = load_bundle(Path("bundle"))
    return {
        "fingerprint": bundle.fingerprint,
        "decision": bundle.decision.as_dict(),
        "network": dict(bundle.network or {}),
        "runtimes": {name: judged("bundle", name) for name in ("onnx", "torch")},
        "alone": judged(alone, None),
    }


def read_openvino() -> dict[str, Any]:
    """An exported OpenVINO folder."""
    return judged("openvino", "openvino")


def read_predictions_files() -> dict[str, Any]:
    """Results of `atypia predict` in every form, and case summaries."""
    folder = Path("predictions")
    lines = (folder / "slide.jsonl").read_text("utf-8").splitlines()
    points = read_points(folder / "slide.geojson")
    return {
        **{name: read_results(folder / name).to_pylist()
           for name in ("crops.csv", "crops.parquet", "slide.csv", "slide.parquet")},
        "slide.json": json.loads((folder / "slide.json").read_text("utf-8")),
        "slide.jsonl": [json.loads(line) for line in lines],
        "slide.geojson": [points.x_px.tolist(), points.y_px.tolist()],
        "summary.json": json.loads((folder / "summary.json").read_text("utf-8")),
        "review": reviewed(Opening(("predictions/crops.parquet",), data=ELSEWHERE)),
        "review of a table": reviewed(Opening(("predictions/crops.csv",), data=ELSEWHERE)),
    }  # fmt: skip


def reviewed(opening: Opening) -> dict[str, Any]:
    """What the review page would show."""
    figures = open_figures(opening)
    p = [None if value != value else value for value in np.asarray(figures.p, float).tolist()]
    return {"ids": [figures.id(i) for i in range(len(figures))], "p": p, "fingerprint": figures.fingerprint}


def read_slides() -> dict[str, Any]:
    """The folder of many slides."""
    import csv

    with open("slides/slides.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds")
    names = ("slides/slide/results.parquet", "slides/finer/results.csv")  # one slide twice: opened one by one
    shown = {name: reviewed(Opening((name,), slides=Path("data"))) for name in names}
    return {"slides.csv": rows, "kind": kind_of("slides"), "review": shown}


def read_decisions_file() -> dict[str, Any]:
    """A decisions file: its log as it was, and what holds after it; its table taken in again."""
    path = Path("decisions/decisions.sqlite")
    first = log_columns(1)  # columns of later versions count where they hold something
    events = [
        {name: value for name, value in vars(event).items() if name in first or value is not None}
        for event in file_events(path)
    ]
    review = Review(open_figures(Opening(("predictions/crops.parquet",), data=ELSEWHERE)), path)
    try:
        decision_state, n = review.intake.decision_state, len(review.figures)
        held = {rater: [decision_state.decision(rater, index) for index in range(n)] for rater in decision_state.raters}
        notes = {rater: [decision_state.note(rater, index) for index in range(n)] for rater in decision_state.raters}
        settled = {str(index): decision for index, decision in decision_state.settled.items()}
        consensus, table = decision_state.consensus().tolist(), decisions_csv(review.intake)
    finally:
        review.close()
    written = Path("decisions/decisions.csv").read_bytes()
    return {
        "events": events, "held": held, "notes": notes, "settled": settled, "consensus": consensus,
        "table": [line.removesuffix(",") for line in table.splitlines()[1:]],  # the column of tags, empty here
        "taken in": {rater: [[*row[:3], *(row[3:] if row[3] else ())] for row in read_decisions(written, rater)] for rater in held},
    }  # fmt: skip


# Generators -----------------------------------------------------------------------------------


def read_generator() -> dict[str, Any]:
    """A generator with its provenance."""
    generator = load_generator(Path("generator/fold-1"))
    facts, seen = generator.facts, generator.seen()
    return {
        "fingerprint": generator.fingerprint, "run_id": facts.run_id, "fold": facts.fold, "split": facts.split,
        "counts": list(facts.counts), "words": {name: list(words) for name, words in facts.words.items()},
        "seen": [seen.fingerprint, seen.ids], "out_px": generator.recipe.geometry.out_px,
        "split file": Split.load(Path("generator/split.json")).fingerprint,
    }  # fmt: skip


def read_samples() -> dict[str, Any]:
    """A generated set with its provenance."""
    made = open_samples(Path("samples"))
    (maker,) = generator_records(made)
    assert maker.seen is not None
    return {
        **facts_of(made), "synthetic": made.synthetic.tolist(), "generator": maker.generator, "fold": maker.fold,
        "seen": maker.seen.ids,
    }  # fmt: skip


READERS: dict[str, Callable[[], dict[str, Any]]] = {
    "data": read_data,
    "manifest": read_manifest,
    "split": read_split,
    "store": read_store,
    "recipe": read_recipe,
    "generator-recipe": read_generator_recipe,
    "study-file": read_study_file,
    "training": read_training,
    "study": read_study,
    "bundle": read_bundle,
    "openvino": read_openvino,
    "predictions": read_predictions_files,
    "slides": read_slides,
    "decisions": read_decisions_file,
    "generator": read_generator,
    "samples": read_samples,
}
"""A reader for each folder of a version."""


def as_json(value: Any) -> Any:
    """The values as a JSON file keeps them: NaN and infinity as null, times as text."""

    def plain(one: Any) -> Any:
        if isinstance(one, dict):
            return {str(key): plain(v) for key, v in one.items()}
        if isinstance(one, list | tuple):
            return [plain(v) for v in one]
        if isinstance(one, np.generic):
            one = one.item()
        return None if isinstance(one, float) and not np.isfinite(one) else one

    return json.loads(json.dumps(plain(value), default=str))
