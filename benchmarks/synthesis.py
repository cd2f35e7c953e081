"""Synthesis: samples per second, what bf16 and the memory layout pay, and peak memory that does not grow.

**Sampling.** Crops of the shipped sizes are drawn with 50 DDIM steps and guidance 2 (two passes a
step) by networks of random weights, whose speed is that of trained ones. Settings (layout, precision)
alternate, so that all meet the same machine; figures are medians, and ratios to the recipe's own.

**Memory.** A fresh process loads a generator, resets the kernel's record of its greatest resident
memory and writes a set; what it added at its peak is told for two sizes of set. Training takes steps of
two small batches for each size of network, each in a fresh process, and the line through both gives the
peak at the recipe's own batch, which for the larger sizes would take minutes a step here.

On a GPU the size named «middle» is timed too, for training as well.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from atypia.data.audit.provenance import seen_table
from atypia.data.manifest import Manifest
from atypia.synthesis.generator import Generator, GeneratorFacts, GeneratorSampler, save_generator
from atypia.synthesis.model.diffusion import SamplingConfig
from atypia.synthesis.model.latents import Latents
from atypia.synthesis.model.networks import Denoiser, build_autoencoder, parameter_count
from atypia.synthesis.sampling import SamplingRequest, sample_set
from atypia.synthesis.schema import AUTOENCODER, DENOISER, GeneratorRecipe, load_generator_recipe, shipped_generators
from atypia.synthesis.training.parts import AutoencoderPart, DenoiserPart, cpu_state
from benchmarks.measuring.memory import RECORD, reset_peak, status_kib

ROUNDS = 3
BATCHES = {"cpu": 16, "cuda": 256}
SETTINGS = SamplingConfig(2.0, 50)
MEMORY_COUNTS = (1_000, 10_000)
ON_CPU = ("tiny", "small")
SMALL_BATCHES = (2, 6)
WORDS = {"class": ("normal", "atypical")}


def random_generator(name: str, folder: Path, changes: tuple[str, ...] = ()) -> Generator:
    """A generator of a shipped size with random weights, and an invented table of what it saw."""
    recipe = load_generator_recipe(name, changes)[1]
    rows = [{"figure_id": f"f{i}", "dataset": "benchmark", "image": f"f{i}.png"} for i in range(16)]
    seen = seen_table([Manifest.from_rows(rows, "benchmark")], "seen")
    channels = recipe.autoencoder.latent_channels
    facts = GeneratorFacts(
        name=name, recipe=recipe.model_dump(mode="json"), run_id="benchmark", words=WORDS,
        standardisation={"shift": [0.0] * channels, "scale": [1.0] * channels}, task="atypical", labelled=True,
        fold=None, split=None, data="benchmark", seed=0, counts=(16, 0), joint=(), mpp=None, seen=seen.fingerprint,
    )  # fmt: skip
    torch.manual_seed(0)
    autoencoder = build_autoencoder(recipe.autoencoder, recipe.geometry.out_px)
    weights = {"autoencoder": cpu_state(autoencoder), "denoiser": cpu_state(Denoiser(recipe, WORDS))}
    return save_generator(folder, facts, weights, seen)


def draw(sampler: GeneratorSampler, batch: int) -> Callable[[], None]:
    """Draws one batch."""

    def run() -> None:
        sampler.draw([1] * batch, range(batch))

    return run


def in_turns(tasks: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each task, run alternately."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def sampling(name: str, device: str) -> dict[str, Any]:
    """Samples a second of a size, and of its other settings relative to its own."""
    batch, variants = BATCHES[device], {
        "own": (), "fp32": ("precision=fp32",), "bf16": ("precision=bf16",), "channels-first": ("channels_last=false",)
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        tasks = {}
        for label, changes in variants.items():
            made = random_generator(name, Path(folder) / label, changes)
            tasks[label] = draw(GeneratorSampler(made, torch.device(device), SETTINGS), batch)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = in_turns(tasks)
    found: dict[str, Any] = {"samples_per_s": round(batch / seconds["own"], 2), "batch": batch}
    found |= {f"{label}_to_own": round(value / seconds["own"], 2) for label, value in seconds.items() if label != "own"}
    if device == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def denoiser_part(
    recipe: GeneratorRecipe, count: int, device: str = "cpu", amp: torch.dtype | None = None
) -> DenoiserPart:
    """A denoiser in training on invented latents of some figures."""
    latent = (recipe.autoencoder.latent_channels, recipe.latent_px, recipe.latent_px)
    moments = np.random.default_rng(0).normal(size=(count, 1, 2, *latent)).astype(np.float16)
    latents = Latents(moments, np.zeros(latent[0]), np.ones(latent[0]))
    network, codes = Denoiser(recipe, WORDS).to(device), np.zeros((count, 1), dtype=np.int64)
    return DenoiserPart(recipe, recipe.pretrain.denoiser, network, latents, codes, amp)


def training(name: str, device: str, batch: int | None = None) -> dict[str, Any]:
    """Images a second of the denoiser's training on latents that are available, plain and compiled."""
    tasks: dict[str, Callable[[], None]] = {}
    recipe = load_generator_recipe(name)[1]
    size = batch or recipe.pretrain.denoiser.batch_size
    for label, changes in (("plain", ()), ("compiled", ("compile=true",))):
        if label == "compiled" and device == "cpu":
            continue
        own = load_generator_recipe(name, changes)[1]
        from atypia.training.epochs.precision import autocast_dtype

        amp = autocast_dtype(own.precision, torch.device(device))
        part = denoiser_part(own, 64, device, amp)

        def run(part: DenoiserPart = part) -> None:
            rows = np.arange(size, dtype=np.int64) % 64
            for step in range(4):
                float(part.step(rows, torch.Generator().manual_seed(step), 0)["loss"])

        tasks[label] = run
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = in_turns(tasks)
    found: dict[str, Any] = {f"{label}_images_per_s": round(4 * size / value, 1) for label, value in seconds.items()}
    if device == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def sizes() -> dict[str, dict[str, float]]:
    """Parameters of each shipped size, megabytes of weights, and peak memory of a training of each part on a CPU."""
    found = {}
    for name in shipped_generators():
        recipe = load_generator_recipe(name)[1]
        with torch.device("meta"):
            counts = (
                parameter_count(build_autoencoder(recipe.autoencoder, recipe.geometry.out_px)),
                parameter_count(Denoiser(recipe, WORDS)),
            )
        found[name] = {
            "autoencoder_millions": round(counts[0] / 1e6, 2),
            "denoiser_millions": round(counts[1] / 1e6, 2),
            "weights_mb": round(4 * sum(counts) / 1e6, 1),
        }
        for part in (AUTOENCODER, DENOISER) if RECORD.exists() else ():
            least, most = SMALL_BATCHES
            low, high = (in_process("stepped", name, part, batch)["added_mb"] for batch in SMALL_BATCHES)
            batch = recipe.pretrain.part(part).batch_size
            found[name][f"{part}_training_mb"] = round(low + (high - low) * (batch - least) / (most - least))
    return found


def stepped(name: str, part: str, batch: str) -> None:
    """Two training steps of a part, and what they added at their peak to standard output."""
    recipe = load_generator_recipe(name, ("checkpointing=false",))[1]
    size, side = int(batch), recipe.geometry.out_px
    reset_peak()
    before = status_kib("VmRSS")
    if part == AUTOENCODER:
        crops = np.random.default_rng(0).integers(0, 255, (size, side, side, 3), dtype=np.uint8)
        network = build_autoencoder(recipe.autoencoder, side)
        trained: Any = AutoencoderPart(recipe, recipe.pretrain.autoencoder, network, crops, torch.device("cpu"))
    else:
        trained = denoiser_part(recipe, size)
    for step in range(2):
        trained.step(np.arange(size), torch.Generator().manual_seed(step), epoch=100)
    print(json.dumps({"added_mb": round((status_kib("VmHWM") - before) / 1024, 1)}))


def in_process(function: str, *words: Any) -> dict[str, float]:
    """What a function of this module prints, in a fresh process; Linux only."""
    code = f"import sys; from benchmarks.synthesis import {function}; {function}(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def written(count: str) -> None:
    """Writes a set of tiny crops, and what that added at its peak to standard output."""
    with TemporaryDirectory() as folder:
        made = random_generator("tiny", Path(folder) / "generator")
        quick = SamplingConfig(1.0, 2)
        sample_set(made, Path(folder) / "first", SamplingRequest(0, 64, settings=quick), "cpu")  # caches, kernels
        reset_peak()
        before = status_kib("VmRSS")
        sample_set(made, Path(folder) / "set", SamplingRequest(0, int(count), settings=quick), "cpu")
        print(json.dumps({"crops": int(count), "added_mb": round((status_kib("VmHWM") - before) / 1024, 1)}))


def measure() -> dict[str, Any]:
    """All figures: the machine's load, sizes, samples per second, memory."""
    found: dict[str, Any] = {"load_before": os.getloadavg()[0], "threads": torch.get_num_threads(), "sizes": sizes()}
    for name in ON_CPU:
        found[f"{name} on cpu"] = {**sampling(name, "cpu"), **training(name, "cpu")}
    if torch.cuda.is_available():
        for name in (*ON_CPU, "middle"):
            found[f"{name} on {torch.cuda.get_device_name(0)}"] = {**sampling(name, "cuda"), **training(name, "cuda")}
    if RECORD.exists():
        found["memory"] = [in_process("written", count) for count in MEMORY_COUNTS]
    return found


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What people read."""
    left = dict(found)
    yield f"load before {left.pop('load_before'):.1f}, {left.pop('threads')} threads"
    for name, about in left.pop("sizes").items():
        yield f"  {name:8s} " + ", ".join(f"{key} {value}" for key, value in about.items())
    for row in left.pop("memory", ()):
        yield f"  {row['crops']:>6,} crops: peak memory + {row['added_mb']:.0f} MB"
    for name, about in left.items():
        yield f"  {name}: " + ", ".join(f"{key} {value}" for key, value in about.items())
