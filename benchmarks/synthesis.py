"""Synthesis: samples a second, what bf16 and the memory layout pay, and peak memory that does not grow.

**Sampling.** Crops of the shipped sizes are drawn with 50 DDIM steps and guidance 2 (two passes a
step) by networks of random weights, whose speed is that of trained ones. Settings (layout, precision)
alternate, so that all meet the same machine; figures are medians, and ratios to the recipe's own.

**Memory.** A fresh process loads a generator, resets the kernel's record of its greatest resident
memory and writes a set; what it added at its peak is told for two sizes of set. Each size of network
has its arithmetic beside it: bytes of weights, gradients and AdamW's moments.

On a GPU the size named «middle» is timed too, for training as well.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from atypia.data.manifest import Manifest
from atypia.data.provenance import seen_table
from atypia.synthesis.diffusion import SamplingConfig
from atypia.synthesis.generator import Facts, Generator, Sampler, save_generator
from atypia.synthesis.latents import Latents
from atypia.synthesis.networks import Denoiser, build_autoencoder, parameter_count
from atypia.synthesis.parts import DenoiserPart, cpu_state
from atypia.synthesis.sampling import Wanted, sample_set
from atypia.synthesis.schema import load_generator_recipe, shipped_generators
from benchmarks.memory import status_kib

ROUNDS = 3
BATCHES = {"cpu": 16, "cuda": 256}
SETTINGS = SamplingConfig(2.0, 50)
MEMORY_COUNTS = (128, 1024)
WORDS = {"class": ("normal", "atypical")}


def random_generator(name: str, folder: Path, changes: tuple[str, ...] = ()) -> Generator:
    """A generator of a shipped size with random weights, and an invented table of what it saw."""
    recipe = load_generator_recipe(name, changes)[1]
    rows = [{"figure_id": f"f{i}", "dataset": "benchmark", "image": f"f{i}.png"} for i in range(16)]
    seen = seen_table([Manifest.from_rows(rows, "benchmark")], "seen")
    channels = recipe.autoencoder.latent_channels
    facts = Facts(
        name=name, recipe=recipe.model_dump(mode="json"), run_id="benchmark", words=WORDS,
        standardisation={"shift": [0.0] * channels, "scale": [1.0] * channels}, task="atypical", labelled=True,
        fold=None, split=None, data="benchmark", seed=0, counts=(16, 0), joint=(), mpp=None, seen=seen.fingerprint,
    )  # fmt: skip
    torch.manual_seed(0)
    autoencoder = build_autoencoder(recipe.autoencoder, recipe.geometry.out_px)
    weights = {"autoencoder": cpu_state(autoencoder), "denoiser": cpu_state(Denoiser(recipe, WORDS))}
    return save_generator(folder, facts, weights, seen)


def draw(sampler: Sampler, batch: int) -> Callable[[], None]:
    """Draws one batch."""

    def run() -> None:
        sampler.draw([1] * batch, range(batch))

    return run


def in_turns(tasks: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each task, run in turns."""
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
            tasks[label] = draw(Sampler(made, torch.device(device), SETTINGS), batch)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = in_turns(tasks)
    found: dict[str, Any] = {"samples_per_s": round(batch / seconds["own"], 2), "batch": batch}
    found |= {f"{label}_to_own": round(value / seconds["own"], 2) for label, value in seconds.items() if label != "own"}
    if device == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def training(name: str, device: str, batch: int | None = None) -> dict[str, Any]:
    """Images a second of the denoiser's training on latents that are at hand, plain and compiled."""
    tasks: dict[str, Callable[[], None]] = {}
    recipe = load_generator_recipe(name)[1]
    size = batch or recipe.pretrain.denoiser.batch_size
    latent = (recipe.autoencoder.latent_channels, recipe.latent_px, recipe.latent_px)
    rng = np.random.default_rng(0)
    moments = rng.normal(size=(64, 1, 2, *latent)).astype(np.float16)
    latents = Latents(moments, np.zeros(latent[0]), np.ones(latent[0]))
    for label, changes in (("plain", ()), ("compiled", ("compile=true",))):
        if label == "compiled" and device == "cpu":
            continue
        own = load_generator_recipe(name, changes)[1]
        from atypia.training.loop import autocast_dtype

        amp = autocast_dtype(own.precision, torch.device(device))
        network = Denoiser(own, WORDS).to(device)
        part = DenoiserPart(own, own.pretrain.denoiser, network, latents, np.zeros((64, 1), dtype=np.int64), amp)

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
    """Parameters and bytes of each shipped size: weights in fp32, and what AdamW and the average add in training."""
    found = {}
    for name in shipped_generators():
        recipe = load_generator_recipe(name)[1]
        with torch.device("meta"):
            counts = (
                parameter_count(build_autoencoder(recipe.autoencoder, recipe.geometry.out_px)),
                parameter_count(Denoiser(recipe, WORDS)),
            )
        # Training: weights, gradients and two moments; the denoiser has its moving average besides.
        found[name] = {
            "autoencoder_millions": round(counts[0] / 1e6, 2),
            "denoiser_millions": round(counts[1] / 1e6, 2),
            "sampling_mb": round(4 * sum(counts) / 1e6, 1),
            "training_mb": round(max(16 * counts[0], 4 * counts[0] + 20 * counts[1]) / 1e6, 1),
        }
    return found


def memory(count: int) -> dict[str, float]:
    """MB that writing a set of tiny crops adds at its peak, in a fresh process; Linux only."""
    code = "import sys; from benchmarks.synthesis import written; written(int(sys.argv[1]))"
    run = subprocess.run([sys.executable, "-c", code, str(count)], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def written(count: int) -> None:
    """Writes a set, and what that added at its peak to standard output."""
    with TemporaryDirectory() as folder:
        made = random_generator("tiny", Path(folder) / "generator")
        quick = SamplingConfig(1.0, 2)
        sample_set(made, Path(folder) / "first", Wanted(0, 64, settings=quick), "cpu")  # caches, kernels
        Path("/proc/self/clear_refs").write_text("5")
        before = status_kib("VmRSS")
        sample_set(made, Path(folder) / "set", Wanted(0, count, settings=quick), "cpu")
        print(json.dumps({"crops": count, "added_mb": round((status_kib("VmHWM") - before) / 1024, 1)}))


def measure() -> dict[str, Any]:
    """All figures: the machine's load, sizes, samples a second, memory."""
    found: dict[str, Any] = {"load_before": os.getloadavg()[0], "threads": torch.get_num_threads(), "sizes": sizes()}
    found["tiny on cpu"] = {**sampling("tiny", "cpu"), **training("tiny", "cpu")}
    if torch.cuda.is_available():
        for name in ("tiny", "middle"):
            found[f"{name} on {torch.cuda.get_device_name(0)}"] = {**sampling(name, "cuda"), **training(name, "cuda")}
    if Path("/proc/self/clear_refs").exists():
        found["memory"] = [memory(count) for count in MEMORY_COUNTS]
    return found


def main() -> None:
    """Prints what :func:`measure` finds."""
    found = measure()
    print(f"load before {found.pop('load_before'):.1f}, {found.pop('threads')} threads")
    for name, about in found.pop("sizes").items():
        print(f"  {name:8s} " + ", ".join(f"{key} {value}" for key, value in about.items()))
    for row in found.pop("memory", ()):
        print(f"  {row['crops']:>6,} crops: peak memory + {row['added_mb']:.0f} MB")
    for name, about in found.items():
        print(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in about.items()))
