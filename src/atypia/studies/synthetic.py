"""Generated figures in a study: one generator per fold and share of positives, its samples, and their selection.

All of this is derived and stored in the cache, named by its inputs, so that rows that differ
only in the classifier share it, and a second process that needs it waits for the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from atypia.base import runs
from atypia.base.artifacts import fingerprint, lock
from atypia.base.config import parse
from atypia.base.errors import AbsentError, AtypiaError, InputError, WorkError, must
from atypia.base.paths import cache_root
from atypia.base.process.progress import Progress, silent
from atypia.base.records import JUDGED_P
from atypia.data.manifest import Manifest
from atypia.data.sources.opening import MANIFEST_NAME
from atypia.splits.protocol import make_split
from atypia.splits.split import Split
from atypia.studies.schema import SyntheticConfig
from atypia.synthesis.sampling import SAMPLING_VERSION
from atypia.synthesis.schema import GeneratorRecipe, load_generator_recipe
from atypia.synthesis.training.train import ASKED, SYNTHESIS_VERSION, generator_recipe_content
from atypia.training.additions import FOLD, Addition, with_extra_figures
from atypia.training.identity import identity_values

BATCH: Final = 64
WAIT_S: Final = 7 * 86_400.0
"""Seconds that a process waits for another one that trains the same generator."""


def planned_values(config: SyntheticConfig, pretrain: str | None) -> dict[str, Any]:
    """Values for generated figures stored in a plan, with the complete generator recipe.

    Args:
        config: The study's part.
        pretrain: Fingerprint of the crops of the unlabelled stage.

    Raises:
        InputError: A recipe is not valid, or folders of trained generators do not contain ``{fold}``.
        AbsentError: A named trained generator is missing.
    """
    values = config.model_dump(mode="json", exclude={"set", "pretrain"})
    if config.add_count is None:
        del values["add_count"]  # plans and ids of studies without it are what they were before there was the key
    versions = {"versions": [SYNTHESIS_VERSION, SAMPLING_VERSION], "pretrain": pretrain}
    if FOLD in config.generator:
        if config.set or config.pretrain is not None:
            fix = "leave `set` and `pretrain` out"
            raise InputError(must("synthetic", "without changes of trained generators", config.generator, fix))
        return {**values, **versions, "generator": str(Path(config.generator).absolute()), "recipe": None}
    changes = [f"{key}={_yaml(value)}" for key, value in config.set.items()]
    name, recipe = load_generator_recipe(config.generator, changes)
    kept = recipe.model_dump(mode="json", exclude={"summary", "sheet_every"})
    return {**values, **versions, "generator": name, "recipe": kept}


def synthetic_identity(synthetic: Mapping[str, Any]) -> dict[str, Any]:
    """The values from :func:`planned_values` that can affect a result.

    Raises:
        InputError: The values are not valid, or not any more.
    """
    given = {name: synthetic[name] for name in SyntheticConfig.model_fields if name in synthetic}
    found = identity_values(parse(SyntheticConfig, given, "synthetic"), frozenset())
    rest = {"versions": synthetic["versions"], "pretrain": synthetic["pretrain"]}
    if synthetic["recipe"] is None:
        return {**found, **rest}
    return {**found, **rest, "generator": None, "recipe": generator_recipe_content(_recipe(synthetic))}


def _recipe(synthetic: Mapping[str, Any]) -> GeneratorRecipe:
    values = {"summary": "of a study", **synthetic["recipe"]}
    return parse(GeneratorRecipe, values, f"generator recipe {synthetic['generator']}")


def _yaml(value: Any) -> str:
    from atypia.base.artifacts import canonical_json

    return canonical_json(value)


def generator_identity(synthetic: Mapping[str, Any], fold: str) -> list[str]:
    """Contribution of an already trained generator to a run's id; empty if the study trains it.

    A missing generator is recorded as missing, and the run fails with the remedy.
    """
    if synthetic["recipe"] is not None:
        return []
    from atypia.synthesis.generator import load_generator

    try:
        return [load_generator(Path(str(synthetic["generator"]).replace(FOLD, fold))).fingerprint]
    except AtypiaError:
        return ["absent"]


def add_generated(
    synthetic: Mapping[str, Any],
    manifest: Manifest,
    split: Split,
    seed: int,
    pretrain: Manifest | None,
    allow: Sequence[str] = (),
    device: str = "auto",
    progress: Progress = silent,
) -> tuple[Manifest, Split]:
    """Adds generated figures to the training part of one fold, generating them if necessary.

    Args:
        synthetic: From :func:`planned_values`.
        manifest: The real figures.
        split: One fold of them.
        seed: Master seed of the cell.
        pretrain: Crops of the unlabelled stage.
        allow: Leakage findings that the study allows.
        device: Device of networks.
        progress: Receives progress: steps and crops.

    Returns:
        The pooled manifest and the fold of it.

    Raises:
        AbsentError: A named trained generator is missing.
        LeakageError: It saw what the fold is measured on.
    """
    (fold,) = split.folds
    labels = manifest.take(manifest.rows_of(fold.train)).labels
    addition = Addition((), float(synthetic["ratio"]), 0.0, seed, synthetic.get("add_count"))
    _, wanted = addition.wanted(int((labels == 0).sum()), int((labels == 1).sum()))
    if wanted <= 0:
        said = f"{int((labels == 1).sum())} of {len(labels)}"
        raise InputError(must(f"positives of {fold.name}", "fewer than `ratio` asks for", said, "raise `ratio`"))
    generator = _generator(synthetic, manifest, split, seed, pretrain, allow, device, progress)
    made = _samples(synthetic, generator, wanted, seed, device, progress)
    if synthetic["drop_copies"] or synthetic["min_p"] is not None:
        made = _picked(synthetic, made, manifest, split, seed, device, progress)
    return with_extra_figures(manifest, split, {fold.name: [made]}, addition)


def _folder(*parts: Any) -> Path:
    return cache_root() / "synthesis" / fingerprint(*parts)[:24]


def _generator(
    synthetic: Mapping[str, Any], manifest: Manifest, split: Split, seed: int, pretrain: Manifest | None,
    allow: Sequence[str], device: str, progress: Progress,
) -> Any:  # fmt: skip
    """The fold's generator: the named one, or one trained now."""
    from atypia.synthesis.generator import META, load_generator
    from atypia.synthesis.training.train import Synthesis, train_generators

    (fold,) = split.folds
    if synthetic["recipe"] is None:
        folder = Path(str(synthetic["generator"]).replace(FOLD, fold.name))
        if not (folder / META).is_file():
            raise AbsentError(
                f"the generator {folder} does not exist; fix: train it with `atypia synth train --fold {fold.name}`"
            )
        return load_generator(folder)
    recipe = _recipe(synthetic)
    name = str(synthetic["generator"])

    def place(kind: str, *made_from: Any) -> Path:
        """Folder of a generator; the one named by version 0.1 (by all keys of the recipe) if it exists."""
        first, now = (
            _folder(kind, about, seed, synthetic["versions"], *made_from)
            for about in (synthetic["recipe"], generator_recipe_content(recipe))
        )
        return first if (first / ASKED).is_file() else now

    start, first_made = None, ""
    if pretrain is not None:
        first = Synthesis(name, recipe, place("pretrain", pretrain.fingerprint), pretrain=pretrain, seed=seed,
                          device=device)  # fmt: skip
        with lock(first.out, WAIT_S):
            made = train_generators(first, progress).generators[0]
        start, first_made = made.folder, made.fingerprint
    out = place("generator", manifest.fingerprint, split.fingerprint, first_made, sorted(allow))
    job = Synthesis(name, recipe, out, manifest, split, start=start, seed=seed, allow=tuple(allow), device=device)
    with lock(out, WAIT_S):
        return train_generators(job, progress).generators[0]


def _samples(
    synthetic: Mapping[str, Any], generator: Any, wanted: int, seed: int, device: str, progress: Progress
) -> Manifest:
    from atypia.synthesis.model.diffusion import SamplingConfig
    from atypia.synthesis.sampling import SamplingRequest, sample_set

    count = round(wanted * float(synthetic["oversample"]))
    settings = SamplingConfig(synthetic["guidance"], synthetic["steps"], synthetic["sampler"])
    asked = SamplingRequest(0, count, settings=settings, seed=seed, batch=BATCH)
    key = [generator.fingerprint, synthetic["guidance"], synthetic["steps"], synthetic["sampler"], seed, count, BATCH]
    out = _folder("samples", *key, SAMPLING_VERSION)
    with lock(out, WAIT_S):
        return sample_set(generator, out, asked, device, progress)


def _picked(
    synthetic: Mapping[str, Any], made: Manifest, manifest: Manifest, split: Split, seed: int, device: str,
    progress: Progress,
) -> Manifest:  # fmt: skip
    """The samples that pass: no copies, and recognised by a classifier of the fold's own training part."""
    from atypia.synthesis.measures.memorisation import memorisation
    from atypia.synthesis.measures.score import GeneratedScore, kept_rows, real_and_made
    from atypia.synthesis.measures.subset import reason, write_subset

    (fold,) = split.folds
    filters = {name: synthetic[name] for name in ("drop_copies", "min_p", "judge", "judge_set")}
    if synthetic["min_p"] is not None:
        filters["columns"] = JUDGED_P  # sets that were picked before there was this column are picked again
    out = _folder("picked", made.fingerprint, split.fingerprint, filters, seed)
    with lock(out, WAIT_S):
        if (out / MANIFEST_NAME).is_file():
            return Manifest.load(out / MANIFEST_NAME)
        training = manifest.take(manifest.rows_of(fold.train))
        judges = ()
        if synthetic["min_p"] is not None:
            judges = _judged(synthetic, made, training, seed, device, progress)
        crops, real = real_and_made(made, training, progress)
        memory = memorisation(crops, real, training.cases, progress) if synthetic["drop_copies"] else None
        from atypia.data.audit.provenance import generator_records

        seen = generator_records(made)[0].seen
        copies = memory.copies if memory is not None else ~made.synthetic
        kept = kept_rows(GeneratedScore({}, copies, judges, seen), made, synthetic["drop_copies"], synthetic["min_p"])
        if not kept.any():
            raise WorkError(
                f"no generated figure of {fold.name} passes; fix: lower `min_p`, or train the generator longer"
            )
        why = reason(kept, synthetic["drop_copies"], synthetic["min_p"], synthetic["judge"])
        return write_subset(made, kept, seen, judges, out, why)


def _judged(
    synthetic: Mapping[str, Any], made: Manifest, training: Manifest, seed: int, device: str, progress: Progress
) -> tuple[Any, ...]:
    """Predictions of a classifier trained and validated only on the fold's training part."""
    from atypia.synthesis.measures.fidelity import score_with_classifiers
    from atypia.training.identity import recipe_identity as classifier_content
    from atypia.training.recipe import load_recipe
    from atypia.training.train import train
    from atypia.training.trainer import TrainingRequest

    changes = [f"{key}={_yaml(value)}" for key, value in synthetic["judge_set"].items()]
    name, recipe = load_recipe(str(synthetic["judge"]), changes)
    inner = make_split("kfold", training, seed, folds=max(2, min(5, len(set(training.cases.tolist())))))
    own = replace(inner, folds=inner.folds[:1], positives={})
    out = _folder("judge", classifier_content(recipe), training.fingerprint, seed)
    job = TrainingRequest(name, recipe, training, own, out, seed, device=device)
    trained = train(job, progress)
    return tuple(
        score_with_classifiers(made, [folder / runs.BUNDLE for folder in trained.folds], None, progress, device)
    )
