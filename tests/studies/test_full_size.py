"""Every row of every study at full size learns for a few steps: its own recipe and geometry, tiny networks, the sets' layouts.

Generators are walked in test_benito.py, all of Ammeling's parts in test_ammeling.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.published import WRITERS

from atypia.base import records as r
from atypia.base import runs
from atypia.data.manifest import Manifest
from atypia.data.sources.catalogue import SOURCES, Expected
from atypia.inference.bundles.bundle import load_bundle
from atypia.inference.predictions import read_predictions
from atypia.splits.protocol import make_split
from atypia.studies.datasets import open_set
from atypia.studies.files import load_study, shipped_studies
from atypia.studies.schema import DataConfig
from atypia.studies.trainings import RequestedTraining, requested_trainings
from atypia.training.recipe import parse_recipe
from atypia.training.schema import Recipe
from atypia.training.train import train
from atypia.training.trainer import TrainingRequest

BATCH, STEPS = 4, 3
WHOLE = {"fractions": [1.0], "repeats": 1}
"""Options of protocols that draw parts of a training part: a thousandth of these sets is no figure."""

QUICK = ("ammeling-probes-as-published", "atey-heldout", "unseen-laboratories")
ELSEWHERE = ("benito-synthetic", "benito-beyond")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patched:
        for name, write in WRITERS.items():
            folder = root / SOURCES[name].folders[0]
            folder.mkdir(parents=True)
            write(folder)
            patched.setitem(SOURCES._entries, name, replace(SOURCES[name], expected=Expected()))
        patched.setenv("ATYPIA_DATA", str(root))
        patched.setenv("ATYPIA_CACHE", str(root / "cache"))
        yield root


def tiny(recipe: Recipe) -> Recipe:
    """The recipe with all of its settings on a tiny network, for three steps."""
    values = recipe.model_dump(mode="json")
    side = values["input_px"]
    if values["adaptation"] == "probe":
        tokens = values["pooling"] not in (None, "avg")
        fitting = None if side is None else side - side % (16 if tokens else 32)
        return parse_recipe(
            {**values, "backbone": "tiny-vit" if tokens else "tiny-cnn", "input_px": fitting}, "a recipe"
        )
    if values["adaptation"] == "lora":
        values |= {"backbone": "tiny-vit", "input_px": side - side % 16}
    else:
        values |= {"backbone": "tiny-cnn", "input_px": side - side % 32}
    values |= {"epochs": 1, "batch_size": BATCH, "accumulate": 1}
    values["sampler"] |= {"draws": BATCH * STEPS}
    if values.get("patches"):
        values["patches"] |= {"places": 40}
    return parse_recipe(values, "a recipe")


def different(trainings: list[RequestedTraining]) -> list[tuple[str, Recipe, DataConfig]]:
    """Each recipe on each set once, without rows that differ in network, rate and length alone."""
    found: dict[str, tuple[str, Recipe, DataConfig]] = {}
    for one in trainings:
        recipe = tiny(one.recipe)
        values = recipe.model_dump(mode="json")
        for key in ("summary", "optimiser", "schedule"):
            values.pop(key, None)
        found.setdefault(json.dumps([values, one.data.model_dump(mode="json")]), (one.label, recipe, one.data))
    return list(found.values())


@pytest.mark.parametrize("name", QUICK)
def test_every_row_learns_at_full_size(name: str, root: Path, tmp_path: Path) -> None:
    _walk(name, root, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in shipped_studies() if name not in (*QUICK, *ELSEWHERE)])
def test_every_row_of_the_other_studies_learns_at_full_size(name: str, root: Path, tmp_path: Path) -> None:
    _walk(name, root, tmp_path)


def _walk(name: str, root: Path, tmp_path: Path) -> None:
    study = load_study(name).sized("full")
    options: dict[str, Any] = dict(study.protocol.options)
    if study.protocol.name.startswith(("monte-carlo", "ammeling-as-published", "ammeling-probe")):
        options |= {
            key: value for key, value in WHOLE.items() if key != "repeats" or study.protocol.name == "monte-carlo"
        }
    sets: dict[str, Manifest] = {}
    rows = different(requested_trainings(study))
    assert rows
    for number, (label, recipe, data) in enumerate(rows):
        manifest = sets.setdefault(data.model_dump_json(), open_set(data, root))
        split = make_split(study.protocol.name, manifest, study.seeds[0], **options)
        out = tmp_path / str(number)
        job = TrainingRequest("row", recipe, manifest, split, out, study.seeds[0], study.data.allow, device="cpu",
                              folds=(split.folds[0].name,))  # fmt: skip
        trained = train(job)
        (folder,) = trained.folds
        lines = [json.loads(line) for line in (folder / runs.METRICS).read_text("utf-8").splitlines()]
        assert lines, label
        if recipe.adaptation != "probe":
            assert np.isfinite([line["loss"] for line in lines]).all(), label
        scored, _ = read_predictions(folder / runs.PREDICTIONS)
        part = split.folds[0]
        assert set(scored[r.FIGURE_ID].to_pylist()) == {*part.val, *part.test}, label
        bundle = load_bundle(folder / runs.BUNDLE)
        assert vars(bundle.geometry) == recipe.geometry.model_dump(), label
        assert recipe.input_px in (None, bundle.input_px), label
