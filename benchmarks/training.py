"""Training speed: the loop against its floor, and against a plain loop, in one run.

Three things are timed alternately on the same network, crop size, batch size and number of threads,
and compared by the medians of several rounds:

- *floor*: forward, backward and optimiser step alone, on one ready batch;
- *loop*: what `atypia train` does for a step: draw, read, augment, normalise, all of the recipe's
  losses, backward, step, schedule, moving average;
- *plain*: the usual script: PNG files, Pillow, torchvision transforms one image at a time,
  a DataLoader with as many workers as cores, fp32, eager.

Predicted before the first run for full training of EfficientNet-Lite0: loop/floor 1.05 to 1.10
(augmentation costs about 1 ms an image, the step about 12), plain/loop near 2. Came out: 1.005 and
3.4 on two idle cores (15.2 ms an image both ways): the augmentation is cheaper than
predicted, and below what the floor varies by. LoRA on the ViT-S/14 was predicted under 1.05 and, on a
busy machine, came out at 1.03, with plain/loop at 1.7: a quarter of the step draws dropout masks, which
both loops do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from atypia.backbones.catalogue import BACKBONES
from atypia.data.augment.pipeline import augmentation
from atypia.data.crops.store import open_store
from atypia.data.images.geometry import CropGeometry
from atypia.data.manifest import Manifest
from atypia.inference.crops import Frame
from atypia.methods.network import Network, build_network
from atypia.methods.sampler import Population
from atypia.training.epochs.feed import Feed
from atypia.training.epochs.loop import FoldPlan, Loop
from atypia.training.epochs.objective import Objective
from atypia.training.epochs.precision import precision_on
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe
from benchmarks.measuring import turns

ROUNDS, STEPS = 5, 2
CASES = (("full", "efficientnet-lite0"), ("lora", "vit-s14-focus"))


def data() -> Manifest:
    """Real AMi-Br where it is on disk, else a phantom set."""
    from atypia.data.sources.opening import open_data, source_folder

    if source_folder("ami-br") is not None:
        return open_data("ami-br")
    from atypia.base.paths import cache_root
    from atypia.data.phantom.dataset import write_phantom

    return write_phantom(cache_root() / "benchmark-phantom", 1000)


def make_loop(
    recipe: NetworkRecipe, manifest: Manifest, folder: Path, device: str = "cpu", objective: Objective | None = None
) -> Loop:
    """The training loop of a recipe over a manifest, ready to step; its objective where it has teachers."""
    store = open_store(manifest, CropGeometry())
    spec = network_spec(recipe)
    network = build_network(spec, pretrained=recipe.pretrained)
    labels = manifest.labels
    n = len(manifest)
    zeros = np.zeros(n, dtype=np.int64)
    population = Population(np.arange(n), labels, labels.astype(np.float64), zeros, np.arange(n))
    entry = BACKBONES[recipe.backbone]
    frame = Frame(spec.input_px, spec.view)
    feed = Feed(store.crops, entry, frame, augmentation(recipe.augment), device, recipe.channels_last)
    plan = FoldPlan("benchmark", recipe, feed, population, np.arange(64), labels[:64], manifest.ids, 0, folder, "bench")
    return Loop(plan, network, objective or Objective(recipe, network.encoder.feature_dim, 1))


def loop_steps(loop: Loop) -> Callable[[], None]:
    """A few steps of the loop."""
    order = loop.sampler.draw(0)
    size = loop.recipe.batch_size

    def run() -> None:
        loop.network.train()
        for step in range(STEPS):
            loop.step(order[step * size : (step + 1) * size], step)
        synchronise(loop.device)

    return run


def floor_steps(loop: Loop) -> Callable[[], None]:
    """Forward, backward and optimiser step on one ready batch, with the loop's own network and settings."""
    rows = loop.plan.train.rows[: loop.recipe.batch_size]
    images = loop.plan.feed.plain_batch(rows)
    target = torch.rand(len(rows), device=loop.device)

    def run() -> None:
        loop.network.train()
        for _ in range(STEPS):
            with torch.autocast(loop.device.type, dtype=loop.amp, enabled=loop.amp is not None):
                logits = loop.step_network(images).logits
            torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target).backward()
            loop.optimiser.step()
            loop.optimiser.zero_grad(set_to_none=True)
        synchronise(loop.device)

    return run


def plain_steps(recipe: NetworkRecipe, manifest: Manifest) -> Callable[[], None]:
    """The usual script: files, Pillow, torchvision, DataLoader, fp32, eager."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms as tv

    entry = BACKBONES[recipe.backbone]
    spec = network_spec(recipe)
    side = spec.input_px
    transform = tv.Compose(
        [
            tv.RandomHorizontalFlip(),
            tv.RandomVerticalFlip(),
            tv.RandomAffine(180, translate=(0.05, 0.05), scale=(0.9, 1.15)),
            tv.ColorJitter(0.15, 0.15, 0.15, 0.03),
            tv.RandomApply([tv.GaussianBlur(5, (0.1, 1.2))], 0.2),
            tv.CenterCrop(Frame(side, spec.view).seen_px(CropGeometry().out_px)),
            tv.Resize((side, side)),
            tv.ToTensor(),
            tv.Normalize(entry.mean, entry.std),
        ]
    )
    assert manifest.root is not None
    paths = [manifest.root / image for image in manifest.table["image"].to_pylist()]
    labels = manifest.labels

    class Crops(Dataset[Any]):
        def __len__(self) -> int:
            return STEPS * recipe.batch_size

        def __getitem__(self, index: int) -> Any:
            return transform(Image.open(paths[index]).convert("RGB")), float(labels[index])

    network: Network = build_network(spec, pretrained=recipe.pretrained).train()
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=recipe.optimiser.lr)

    def run() -> None:
        loader = DataLoader(Crops(), recipe.batch_size, shuffle=True, num_workers=os.cpu_count() or 1)
        for images, target in loader:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images).logits, target.float())
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return run


def synchronise(device: torch.device) -> None:
    """Waits for a GPU's queue."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def ms_an_image(tasks: dict[str, Callable[[], None]], images: int) -> dict[str, float]:
    """Median milliseconds per image of each task, run in turns."""
    return _ms(turns.in_turns(tasks, ROUNDS), images)


def _ms(times: turns.Seconds, images: int) -> dict[str, float]:
    return {name: 1e3 * seconds / images for name, seconds in turns.medians(times).items()}


def measure() -> dict[str, Any]:
    """The cases on a GPU where there is one; else on the processor, with the floor under other settings and where a step's time goes."""
    if torch.cuda.is_available():
        return cases("cuda")
    return {**cases(), "floor, relative to the recipe's own settings": variants(), "profile": profile()}


def cases(device: str = "cpu", plain: bool = True, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Milliseconds an image and ratios, for each case."""
    manifest = data()
    kept: dict[str, list[float]] = {}
    found: dict[str, Any] = {"device": device, "threads": torch.get_num_threads(), "pairs": kept}
    with TemporaryDirectory() as folder:
        for name, backbone in CASES:
            recipe = load_recipe(name, [f"backbone={backbone}", *overrides])[1]
            assert isinstance(recipe, NetworkRecipe)
            loop = make_loop(recipe, manifest, Path(folder), device)
            tasks = {"floor": floor_steps(loop), "loop": loop_steps(loop)}
            if plain and device == "cpu":
                tasks["plain"] = plain_steps(recipe, manifest)
            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            times = turns.in_turns(tasks, ROUNDS)
            ms = _ms(times, STEPS * recipe.batch_size)
            for other, said in (("floor", "forward, backward and step alone"), ("plain", "a plain loop")):
                if other in times and device == "cpu":
                    kept[f"training: {name}, against {said}"] = turns.pairs(times[other], times["loop"])
            line: dict[str, Any] = {f"{key}_ms": round(value, 3) for key, value in ms.items()}
            line["loop_to_floor"] = round(ms["loop"] / ms["floor"], 3)
            if "plain" in ms:
                line["plain_to_loop"] = round(ms["plain"] / ms["loop"], 2)
            if device != "cpu":
                line["images_per_s"] = round(1e3 / ms["loop"])
                line["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            line["precision"] = precision_on(recipe.precision, torch.device(device))
            found[f"{name} {backbone}"] = line
    return found


SETTINGS: dict[str, tuple[str, ...]] = {
    "channels-last": ("channels_last=true",),
    "channels-first": ("channels_last=false",),
    "bf16": ("precision=bf16",),
    "fp32": ("precision=fp32",),
    "compiled": ("compile=true",),
}
"""Settings that are compared with the recipe's own."""


def variants() -> dict[str, float]:
    """Time of the floor under other settings, relative to the recipe's own; and on one thread, relative to all."""
    manifest, found = data(), {}
    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        for name, backbone in CASES:
            tasks = {}
            for label, overrides in {"own": (), **SETTINGS}.items():
                recipe = load_recipe(name, [f"backbone={backbone}", *overrides])[1]
                assert isinstance(recipe, NetworkRecipe)
                tasks[label] = floor_steps(make_loop(recipe, manifest, Path(folder)))
            tasks["one thread"] = on_threads(1, threads, tasks["own"])
            ms = ms_an_image(tasks, STEPS * 32)
            found |= {f"{name}, {label}": round(value / ms["own"], 2) for label, value in ms.items() if label != "own"}
    return found


def on_threads(count: int, after: int, task: Callable[[], None]) -> Callable[[], None]:
    """The task on another number of threads."""

    def run() -> None:
        torch.set_num_threads(count)
        task()
        torch.set_num_threads(after)

    return run


def profile() -> dict[str, list[str]]:
    """Where a step's time goes: the operators with the largest own time, as shares."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    manifest, found = data(), {}
    with TemporaryDirectory() as folder:
        for name, backbone in CASES:
            recipe = load_recipe(name, [f"backbone={backbone}"])[1]
            assert isinstance(recipe, NetworkRecipe)
            task = loop_steps(make_loop(recipe, manifest, Path(folder)))
            task()
            with profiled(activities=[ProfilerActivity.CPU]) as taken:
                task()
            events = sorted(taken.key_averages(), key=lambda e: -e.self_cpu_time_total)
            whole = sum(event.self_cpu_time_total for event in events)
            found[name] = [f"{e.key} {100 * e.self_cpu_time_total / whole:.0f} %" for e in events[:8]]
    return found
