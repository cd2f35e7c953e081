"""The training stages of one generator: autoencoder then denoiser, without labels then with labels."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atypia.base import records as r
from atypia.base import runs
from atypia.base.artifacts import disk_errors, environment, fingerprint, write_json
from atypia.base.process.progress import Progress
from atypia.base.seeds import derive_seed
from atypia.data.crops.store import CropStore
from atypia.data.manifest import Manifest
from atypia.inference.networks import device_of
from atypia.synthesis.generator import META, Generator, GeneratorFacts, save_generator
from atypia.synthesis.model.conditions import condition_words, joint_counts, manifest_codes
from atypia.synthesis.model.latents import Latents, encode_all, standardisation
from atypia.synthesis.model.networks import Denoiser, build_autoencoder, carry_over
from atypia.synthesis.schema import AUTOENCODER, DENOISER, FINETUNE, PRETRAIN, GeneratorRecipe
from atypia.synthesis.sheets import denoiser_sheet, reconstruction_sheet
from atypia.synthesis.training.loop import Draw, StagePlan, train_part
from atypia.synthesis.training.parts import AutoencoderPart, DenoiserPart, cpu_state
from atypia.training.epochs.precision import autocast_dtype

WORK = "work"
"""Folder of checkpoints and latents; removed when the generator is complete."""


@dataclass(frozen=True, eq=False)
class GeneratorTraining:
    """The inputs of one generator's training.

    Attributes:
        name: Name of the recipe.
        recipe: The recipe.
        figures: The training figures.
        store: Crop store that contains them.
        rows: Row numbers in the store, shape (n,).
        labelled: Whether the second stage is trained.
        fold: Name of the fold; None for the unlabelled generator.
        split: Fingerprint of the split.
        parent: The generator to start from; None to start from random weights.
        seen: All figures that the generator has learned from after this training.
        seed: Master seed.
        run_id: Identity of this training.
        device: ``auto``, ``cpu`` or ``cuda``.
        mpp: µm/px of its crops; None if unknown.
    """

    name: str
    recipe: GeneratorRecipe
    figures: Manifest
    store: CropStore
    rows: npt.NDArray[np.int64]
    labelled: bool
    fold: str | None
    split: str | None
    parent: Generator | None
    seen: Manifest
    seed: int
    run_id: str
    device: str
    mpp: float | None

    @property
    def title(self) -> str:
        """Name in messages."""
        return self.fold or PRETRAIN

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to train; a parent generator has already done the first."""
        return tuple(stage for stage, due in ((PRETRAIN, self.parent is None), (FINETUNE, self.labelled)) if due)


def train_stages(job: GeneratorTraining, folder: Path, progress: Progress) -> Generator:
    """Trains a generator from its checkpoint, if there is one, and writes it.

    Args:
        job: Inputs of the training.
        folder: Output folder; checkpoints are kept in ``work/`` until it is complete.
        progress: Receives the number of steps done.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was written.
        WorkError: The loss is not finite, or the disk is full; the last good checkpoint stays.
    """
    started = time.perf_counter()
    device = device_of(job.device)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / META).unlink(missing_ok=True)  # from another run: the folder is no longer complete
    words = condition_words(job.figures, job.recipe.diffusion.conditions)
    autoencoder, denoiser = _networks(job, words)
    autoencoder.to(device)
    if job.recipe.channels_last:
        autoencoder.to(memory_format=torch.channels_last)
    denoiser.to(device)
    history: list[dict[str, Any]] = []
    latents: Latents | None = None
    weights = cpu_state(denoiser)
    for number, stage in enumerate(job.stages):
        work = folder / WORK / f"{number}-{stage}"
        history += _train_autoencoder(job, stage, work, autoencoder, device, progress)
        latents = _encoded(job, folder, autoencoder, history, progress)
        lines, averaged = _train_denoiser(job, stage, work, (autoencoder, denoiser), latents, words, progress)
        history += lines
        # A stage starts from the averaged weights of the previous one; only these give good samples.
        denoiser.load_state_dict(averaged)
        weights = cpu_state(denoiser)
    if latents is None:
        latents = _encoded(job, folder, autoencoder, history, progress)
    labels = [label for label in job.figures.table[r.LABEL].to_pylist() if job.labelled]
    facts = GeneratorFacts(
        name=job.name,
        recipe=job.recipe.model_dump(mode="json"),
        run_id=job.run_id,
        words=words,
        standardisation=standardisation(latents),
        task=job.figures.task,
        labelled=job.labelled,
        fold=job.fold,
        split=job.split,
        data=job.figures.name,
        seed=job.seed,
        counts=(labels.count(0), labels.count(1)),
        joint=joint_counts(job.figures, words) if job.labelled else (),
        mpp=job.mpp,
        seen=job.seen.fingerprint,
        parent=job.parent.fingerprint if job.parent else None,
        seconds=round(time.perf_counter() - started, 1),
    )
    _keep_record(folder, history)
    made = save_generator(folder, facts, {AUTOENCODER: cpu_state(autoencoder), DENOISER: weights}, job.seen)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return made


def _networks(job: GeneratorTraining, words: Mapping[str, Sequence[str]]) -> tuple[Any, Denoiser]:
    """Both networks: with random weights, or with those of the parent."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(job.seed, job.title, "networks"))
        autoencoder = build_autoencoder(job.recipe.autoencoder, job.recipe.geometry.out_px)
        denoiser = Denoiser(job.recipe, words)
    if job.parent is not None:
        _check_parent(job.recipe, job.parent)
        autoencoder.load_state_dict(job.parent.weights(AUTOENCODER))
        carry_over(denoiser, job.parent.weights(DENOISER), job.parent.facts.words)
    return autoencoder, denoiser


def _check_parent(recipe: GeneratorRecipe, parent: Generator) -> None:
    from atypia.base.errors import InputError, must

    other = parent.recipe
    for name in ("autoencoder", "denoiser"):
        own, its = (getattr(one, name).model_dump(mode="json") for one in (recipe, other))
        sizes = ("channels", "layers", "latent_channels", "groups", "attention", "heads", "head_dim", "patch")
        differs = [key for key in sizes if own.get(key) != its.get(key)]
        if differs:
            got = f"{its[differs[0]]} there and {own[differs[0]]} here"
            raise InputError(must(f"{name}.{differs[0]}", "as in the pretrained generator", got, "use its recipe"))
    if recipe.geometry != other.geometry or recipe.diffusion.prediction != other.diffusion.prediction:
        raise InputError(must("geometry and prediction", "as in the pretrained generator", "others", "use its recipe"))


def _train_autoencoder(
    job: GeneratorTraining, stage: str, work: Path, autoencoder: Any, device: torch.device, progress: Progress
) -> list[dict[str, Any]]:
    config = job.recipe.stage(stage).autoencoder
    if not config.epochs:
        autoencoder.eval()
        return []
    amp = autocast_dtype(job.recipe.precision, device)
    part = AutoencoderPart(job.recipe, config, autoencoder, job.store.crops, device, amp)
    shown = job.store.crops[job.rows[:8]]

    def draw(_: Any, path: Path) -> None:
        reconstruction_sheet(autoencoder, shown, f"{job.title}: real, and reconstructed by the autoencoder", path)

    lines = _train(job, stage, AUTOENCODER, work, part, job.rows, draw, progress)
    autoencoder.eval()
    return lines


def _encoded(
    job: GeneratorTraining, folder: Path, autoencoder: Any, history: list[dict[str, Any]], progress: Progress
) -> Latents:
    """Latents of the training figures; the file name contains a hash of the encoder's weights."""
    start = job.parent.fingerprint if job.parent else None
    trained = [[line["stage"], line["part"]] for line in history if line["part"] == AUTOENCODER]
    name = fingerprint(job.run_id, start, trained)[:16]
    path = folder / WORK / f"latents-{name}.npy"
    return encode_all(autoencoder.eval(), job.store.crops, job.rows, path, job.recipe.turns, progress)


def _train_denoiser(
    job: GeneratorTraining,
    stage: str,
    work: Path,
    networks: tuple[Any, Denoiser],
    latents: Latents,
    words: Mapping[str, tuple[str, ...]],
    progress: Progress,
) -> tuple[list[dict[str, Any]], Mapping[str, torch.Tensor]]:
    """Metrics of the epochs, and the averaged weights."""
    autoencoder, denoiser = networks
    config = job.recipe.stage(stage).denoiser
    if not config.epochs:
        return [], denoiser.state_dict()
    device = next(denoiser.parameters()).device
    codes = manifest_codes(job.figures, words, labelled=stage == FINETUNE)
    amp = autocast_dtype(job.recipe.precision, device)
    part = DenoiserPart(job.recipe, config, denoiser, latents, codes, amp)
    title = f"{job.title}, {stage}"

    def draw(trained: Any, path: Path) -> None:
        denoiser_sheet(autoencoder, trained.ema.network, latents, stage == FINETUNE, title, path, job.figures.task, amp)

    rows = np.arange(len(job.rows))
    lines = _train(job, stage, DENOISER, work, part, rows, draw, progress)
    assert part.ema is not None
    return lines, part.ema.network.state_dict()


def _train(
    job: GeneratorTraining,
    stage: str,
    name: str,
    work: Path,
    part: Any,
    rows: npt.NDArray[np.int64],
    draw: Draw,
    progress: Progress,
) -> list[dict[str, Any]]:
    labels = np.array([-1 if label is None else label for label in job.figures.table[r.LABEL].to_pylist()], np.int8)
    plan = StagePlan(
        name=f"{job.title}, {stage}, {name}",
        config=job.recipe.stage(stage).part(name),
        rows=rows,
        labels=labels if stage == FINETUNE else np.full(len(rows), -1, np.int8),
        seed=derive_seed(job.seed, job.title, stage, name),
        folder=work / name,
        run_id=fingerprint(job.run_id, stage, name),
        sheet=draw,
        sheet_every=job.recipe.sheet_every,
    )
    lines = train_part(plan, part, progress)
    return [{"stage": stage, "part": name, **line} for line in lines]


def _keep_record(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes the metrics of the epochs, and moves the sheets out of the work folder."""
    with disk_errors(folder):
        text = "".join(json.dumps(line) + "\n" for line in history)
        (folder / runs.METRICS).write_text(text, "utf-8")
        for sheet in sorted((folder / WORK).glob("*/*/sheets/*.png")):
            stage, part = sheet.parts[-4].partition("-")[2], sheet.parts[-3]
            target = folder / "sheets" / f"{stage}-{part}-{sheet.name}"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(sheet, target)
    write_json(folder / runs.ENVIRONMENT, dict(environment()))
