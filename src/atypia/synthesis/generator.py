"""A trained generator as a folder, without pickle: weights, recipe, condition values, and all figures that it saw.

::

    autoencoder.safetensors   decoder and encoder
    denoiser.safetensors      the moving average, used for sampling
    seen.parquet              a manifest of all figures that it learned from, pretraining included
    metrics.jsonl             one line per epoch, all stages
    sheets/                   samples drawn during training
    generator.json            everything else, and checksums; written last
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from atypia.base.artifacts import disk_errors, file_sha256, fingerprint, read_json, write_json
from atypia.base.config import parse
from atypia.base.errors import AtypiaError, DataError, InputError, WorkError, must
from atypia.data.audit.provenance import SEEN_NAME
from atypia.data.manifest import Manifest
from atypia.synthesis.model.conditions import Joint, codes_of, drawn_values
from atypia.synthesis.model.diffusion import Process, SamplingConfig, draw_latents, noise_generators
from atypia.synthesis.model.networks import Denoiser, build_autoencoder
from atypia.synthesis.model.pixels import images_to_crops
from atypia.synthesis.schema import CLASS, GeneratorRecipe
from atypia.training.epochs.precision import autocast_dtype

META: Final = "generator.json"
WEIGHTS: Final = {"autoencoder": "autoencoder.safetensors", "denoiser": "denoiser.safetensors"}
FORMAT: Final = 1
"""Increased when the layout of the folder changes."""

REBUILD: Final = "train it again with `atypia synth train`"


@dataclass(frozen=True)
class GeneratorFacts:
    """Recorded facts of a generator.

    Attributes:
        name: Name of its recipe.
        recipe: The recipe's values.
        run_id: Identity of its training.
        words: The values of each condition.
        standardisation: Shift and scale of the latents' channels.
        task: Key of :data:`atypia.base.records.CLASS_NAMES`.
        labelled: Whether it was trained with classes.
        fold: The fold that it was trained for; None without folds.
        split: Fingerprint of the split; None without a split.
        data: Name of its training data.
        seed: Master seed.
        counts: Training figures of class 0 and class 1.
        joint: How often conditions occur together.
        mpp: µm/px of its crops; None if they differ.
        seen: Fingerprint of the manifest of all figures that it learned from.
        parent: Fingerprint of the generator that it started from; None without one.
        seconds: Duration of its training.
    """

    name: str
    recipe: Mapping[str, Any]
    run_id: str
    words: Mapping[str, tuple[str, ...]]
    standardisation: Mapping[str, Sequence[float]]
    task: str
    labelled: bool
    fold: str | None
    split: str | None
    data: str
    seed: int
    counts: tuple[int, int]
    joint: Joint
    mpp: float | None
    seen: str
    parent: str | None = None
    seconds: float = field(default=0.0, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Returns the facts as JSON-like values."""
        return {
            **self.__dict__,
            "words": {name: list(words) for name, words in self.words.items()},
            "joint": [[label, list(rest), count] for label, rest, count in self.joint],
            "counts": list(self.counts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneratorFacts:
        """Reads the output of :meth:`as_dict`."""
        given = dict(values)
        given["words"] = {name: tuple(words) for name, words in given["words"].items()}
        given["joint"] = tuple((label, tuple(rest), count) for label, rest, count in given["joint"])
        given["counts"] = tuple(given["counts"])
        return cls(**given)


@dataclass(frozen=True, eq=False)
class Generator:
    """A trained generator; :func:`load_generator` opens one.

    Attributes:
        folder: Its folder.
        facts: Its recorded facts.
        fingerprint: Content hash of facts and weights.
    """

    folder: Path
    facts: GeneratorFacts
    fingerprint: str

    @property
    def recipe(self) -> GeneratorRecipe:
        """The recipe that it was trained with."""
        return parse(GeneratorRecipe, dict(self.facts.recipe), f"recipe in {self.folder}")

    def seen(self) -> Manifest:
        """All figures that it learned from.

        Raises:
            DataError: The table is absent, damaged, or belongs to another generator.
        """
        seen = Manifest.load(self.folder / SEEN_NAME)
        if seen.fingerprint != self.facts.seen:
            raise DataError(f"{self.folder / SEEN_NAME} belongs to another generator; fix: {REBUILD}")
        return seen

    def weights(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part."""
        return load_file(self.folder / WEIGHTS[part])


def save_generator(
    folder: Path, facts: GeneratorFacts, weights: Mapping[str, Mapping[str, Tensor]], seen: Manifest
) -> Generator:
    """Writes a generator; ``generator.json`` last, so that a folder without it is known to be incomplete.

    Raises:
        WorkError: The disk is full or not writable.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for part, name in WEIGHTS.items():
            try:
                save_file(dict(weights[part]), folder / name)
            except SafetensorError as error:
                raise WorkError(f"cannot write {folder / name} ({error}); fix: free some space") from error
    seen.save(folder / SEEN_NAME)
    sums = {name: file_sha256(folder / name) for name in WEIGHTS.values()}
    content = {"format": FORMAT, **facts.as_dict(), "sums": sums}
    write_json(folder / META, content)
    return Generator(folder, facts, _fingerprint(content))


def load_generator(folder: Path) -> Generator:
    """Opens a generator's folder and checks its checksums.

    Raises:
        InputError: The folder contains no complete generator.
        DataError: It is damaged.
    """
    path = folder / META
    if not path.is_file():
        hint = "" if not folder.is_dir() else f" (it holds {', '.join(sorted(p.name for p in folder.iterdir())[:6])})"
        expected = "the folder of a complete generator"
        raise InputError(must("generator", expected, f"{folder}{hint}", "give a fold's folder of `atypia synth train`"))
    try:
        content = read_json(path)
        sums = content["sums"]
        for name in WEIGHTS.values():
            if file_sha256(folder / name) != sums[name]:
                raise DataError(f"{folder / name} does not match its checksum; fix: {REBUILD}")
        values = {key: value for key, value in content.items() if key not in ("format", "sums")}
        if content["format"] != FORMAT:
            raise DataError(f"{path} is of another version; fix: {REBUILD}")
        return Generator(folder, GeneratorFacts.from_dict(values), _fingerprint(content))
    except (KeyError, TypeError, ValueError, AttributeError, OSError, WorkError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder} is damaged ({error}); fix: {REBUILD}") from error


def is_complete(folder: Path, run_id: str) -> bool:
    """Whether a folder contains the complete generator of a training."""
    try:
        return load_generator(folder).facts.run_id == run_id
    except AtypiaError:
        return False


def _fingerprint(content: Mapping[str, Any]) -> str:
    """Content hash of everything that determines samples and their provenance; not of the training's duration."""
    return fingerprint(json.loads(json.dumps({k: v for k, v in content.items() if k != "seconds"})))


class GeneratorSampler:
    """A generator on a device, ready to draw crops.

    Args:
        generator: The generator.
        device: Device.
        settings: Guidance, steps and sampler.
    """

    def __init__(self, generator: Generator, device: torch.device, settings: SamplingConfig) -> None:
        recipe = generator.recipe
        self.generator, self.settings, self.device = generator, settings, device
        self.facts = generator.facts
        self.process = Process(recipe.diffusion)
        _ = self.process.sampler(settings)  # raises for too many steps before any work
        self.autoencoder = build_autoencoder(recipe.autoencoder, recipe.geometry.out_px)
        self.autoencoder.load_state_dict(generator.weights("autoencoder"))
        self.autoencoder.to(device).eval().requires_grad_(False)
        if recipe.channels_last:
            self.autoencoder.to(memory_format=torch.channels_last)
        self.denoiser = Denoiser(recipe, self.facts.words)
        self.denoiser.load_state_dict(generator.weights("denoiser"))
        self.denoiser.to(device).eval().requires_grad_(False)
        self.amp = autocast_dtype(recipe.precision, device)
        self.shift, self.scale = (
            torch.tensor(self.facts.standardisation[key], dtype=torch.float32, device=device)[:, None, None]
            for key in ("shift", "scale")
        )

    def conditions(self, labels: Sequence[int | None], seeds: Sequence[int]) -> dict[str, list[str | None]]:
        """Conditions given to samples: the class, and other conditions drawn with their frequency in training.

        Args:
            labels: Class of each sample; None for no class.
            seeds: Seed of each sample; determines the other conditions.
        """
        from atypia.base.records import CLASS_NAMES

        classes = CLASS_NAMES[self.facts.task]
        others = [name for name in self.facts.words if name != CLASS]
        values: dict[str, list[str | None]] = {name: [] for name in self.facts.words}
        for label, seed in zip(labels, seeds, strict=True):
            values[CLASS].append(None if label is None else classes[label])
            drawn = (
                (None,) * len(others)
                if label is None
                else drawn_values(self.facts.joint, label, np.random.default_rng(seed))
            )
            for name, value in zip(others, drawn, strict=True):
                values[name].append(value)
        return values

    @torch.inference_mode()
    def draw(self, labels: Sequence[int | None], seeds: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Draws crops.

        Args:
            labels: Class of each crop; None for no class.
            seeds: Seed of each crop: determines its noise.

        Returns:
            RGB, shape (n, side, side, 3), uint8.

        Raises:
            WorkError: The samples are not finite.
        """
        codes = torch.from_numpy(codes_of(self.conditions(labels, seeds), self.facts.words)).to(self.device)
        latents = draw_latents(self.denoiser, self.process, codes, noise_generators(seeds), self.settings, self.amp)
        if not bool(torch.isfinite(latents).all()):
            raise WorkError(
                f"{self.generator.folder}: samples are not finite; fix: lower the guidance, or train longer"
            )
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            images = self.autoencoder.decode(latents * self.scale + self.shift).sample
        return images_to_crops(images)
