"""Robustness of the backbones of a study's probes: on the figures that it trains and validates on, never on a test part."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from atypia.backbones.features import find_features
from atypia.base import records as r
from atypia.base.artifacts import fingerprint, write_json
from atypia.base.errors import AtypiaError, InputError, must
from atypia.base.extras import require
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import parse_json
from atypia.base.process.progress import Progress, silent
from atypia.data.crops.store import open_store
from atypia.data.manifest import Manifest
from atypia.evaluation.robustness import PACKAGE, EncoderRobustness, encoder_robustness
from atypia.splits.split import Split
from atypia.studies import files
from atypia.studies.plan import Plan, PlannedTraining
from atypia.training.recipe import parse_recipe
from atypia.training.schema import ProbeRecipe

KEPT: Final = "robustness.json"
VERSION: Final = 1
"""Increased when the same features give other indices."""
MAX_BYTES: Final = 1 << 24
PROBE: Final = "probe"


@dataclass(frozen=True)
class StudyEncoder:
    """A backbone as a study's probes use it.

    Attributes:
        labels: The study's rows that use it.
        backbone: Entry of the catalogue.
        input_px: Side of its input.
        data: Training set.
        indices: Its robustness; None where it could not be computed.
        why_not: Why, with the remedy.
    """

    labels: tuple[str, ...]
    backbone: str
    input_px: int
    data: str
    indices: EncoderRobustness | None
    why_not: str = ""


def study_encoders(plan: Plan, out: Path, progress: Progress = silent) -> list[StudyEncoder]:
    """Robustness of every backbone that a study's probes use, from features that its runs left in the cache.

    Args:
        plan: The study's plan.
        out: Its folder; results are kept there and computed again when their inputs change.
        progress: Told how many backbones are done.

    Raises:
        AbsentError: The package ``croma`` is not installed.
        InputError: The study has no probes.
    """
    require("`atypia study report --robustness`", PACKAGE)
    probes = [training for training in plan.trainings if training.adaptation == PROBE and not training.lacks]
    if not probes:
        raise InputError(
            must("--robustness", "of a study with probes that can be trained here", "one without", "leave it out")
        )
    groups: dict[str, list[PlannedTraining]] = {}
    for training in probes:
        recipe = _recipe(training)
        preparation = repr(recipe.preparation.apart(recipe.backbone))
        key = fingerprint(
            recipe.backbone,
            recipe.input_px,
            recipe.geometry.model_dump(),
            preparation,
            training.manifest,
            training.split,
        )
        groups.setdefault(key, []).append(training)
    kept = _kept(out / KEPT)
    found, values = [], {}
    for done, trainings in enumerate(groups.values()):
        progress(done, len(groups), "robustness of encoders")
        encoder, key = _encoder(trainings, plan, out, kept)
        found.append(encoder)
        if encoder.indices is not None:
            values[key] = asdict(encoder.indices)
    write_json(out / KEPT, values)
    progress(len(groups), len(groups), "robustness of encoders")
    return found


def _encoder(
    trainings: list[PlannedTraining], plan: Plan, out: Path, kept: dict[str, dict[str, float]]
) -> tuple[StudyEncoder, str]:
    first = trainings[0]
    labels = tuple(dict.fromkeys(training.label for training in trainings))
    recipe = _recipe(first)
    side = recipe.input_px or 0
    try:
        manifest = Manifest.load(out / files.MANIFESTS / f"{first.manifest}.parquet")
        split = Split.load(out / files.SPLITS / f"{first.split}.json")
        store = open_store(manifest, recipe.geometry.build())
        weights = plan.weights.get(recipe.backbone)
        features = find_features(
            store, recipe.backbone, recipe.input_px, Path(weights) if weights else None,
            preparation=recipe.preparation.apart(recipe.backbone),
        )  # fmt: skip
        if features is None:
            why = "its features are not in the cache; fix: run the study here (`atypia study run`)"
            return StudyEncoder(labels, recipe.backbone, side, first.data, None, why), ""
        side = features.input_px
        key = fingerprint(VERSION, PACKAGE, version(PACKAGE), features.fingerprint, manifest.fingerprint, first.split)
        if key in kept:
            return StudyEncoder(labels, recipe.backbone, side, first.data, EncoderRobustness(**kept[key])), key  # pyright: ignore[reportArgumentType]
        used = {figure for fold in split.folds for figure in (*fold.train, *fold.val)}
        domains = manifest.column(r.DOMAIN)
        readable = np.zeros(len(manifest), dtype=bool)
        readable[np.flatnonzero(store.usable)] = True
        chosen = (
            np.array([figure in used for figure in manifest.ids])
            & readable
            & np.array([d is not None for d in domains])
        )
        indices = encoder_robustness(
            np.asarray(features.values[chosen]), manifest.labels[chosen],
            [str(domain) for domain, one in zip(domains, chosen, strict=True) if one], manifest.cases[chosen].tolist(),
        )  # fmt: skip
    except AtypiaError as error:
        return StudyEncoder(labels, recipe.backbone, side, first.data, None, str(error)), ""
    return StudyEncoder(labels, recipe.backbone, side, first.data, indices), key


def _recipe(training: PlannedTraining) -> ProbeRecipe:
    recipe = parse_recipe(training.recipe, f"recipe {training.recipe_name} of «{training.label}»")
    if not isinstance(recipe, ProbeRecipe):
        raise InputError(must("recipe", "of a probe", training.recipe_name, "plan the study again"))
    return recipe


def _kept(path: Path) -> dict[str, dict[str, float]]:
    """Indices that were computed before; none of a file that is absent or damaged, or of an earlier form."""
    try:
        values = parse_json(read_regular(path, MAX_BYTES), str(path))
    except (AtypiaError, OSError):
        return {}
    names = {field.name for field in fields(EncoderRobustness)}
    whole = isinstance(values, dict) and all(isinstance(one, dict) and set(one) == names for one in values.values())
    return values if whole else {}
