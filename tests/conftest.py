"""Fixtures that every test may use."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.threads import one_thread

SIDE_PX = 32
os.environ["ATYPIA_PLUGINS"] = "none"  # what is installed beside Atypia must not change its tests


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders, one for each test; `mktemp` would read the names of all that there are, thousands of times."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives every test a home and a cache of its own, so that none reads what another derived."""
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("ATYPIA_HOME", str(home))
    monkeypatch.setenv("ATYPIA_CACHE", str(home / "cache"))
    return home


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts() -> Iterator[None]:
    """Files are not forced to the disk: that guards against power cuts alone, which no test makes, and costs milliseconds a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module", name="one_thread")
def _one_thread() -> Iterator[None]:
    """One thread for a module's tests, by ``pytestmark = pytest.mark.usefixtures("one_thread")``."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of the real published data; the test is skipped where it is absent."""
    root = os.environ.get("ATYPIA_DATA")
    if not root or not (Path(root) / "AMi-Br_Benchmark").is_dir():
        pytest.skip("real data absent: set ATYPIA_DATA to a folder that holds AMi-Br_Benchmark/")
    return Path(root).resolve()


@contextmanager
def away_from_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of its own for fixtures that outlive a test; no hub, no waiting threads."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("session-home")
        patch.setenv("ATYPIA_HOME", str(home))
        patch.setenv("ATYPIA_CACHE", str(home / "cache"))
        yield


def paint_set(folder: Path, cases: int = 8, seed: int = 0, per_case: int = 10) -> Path:
    """Writes small crops whose class shows as the direction of stripes, and a table of them.

    Every third figure is atypical; cases alternate between two domains, every fourth is ``test``.

    Returns:
        The table, ``folder/figures.csv``.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    stripes = 60 * (np.arange(SIDE_PX) // 4 % 2)
    lines = []
    for index in range(cases * per_case):
        case, label = index // per_case, int(index % 3 == 0)
        pixels = rng.integers(80, 160, (SIDE_PX, SIDE_PX, 3)) + (case % 2) * 10
        pixels += (stripes[:, None] if label else stripes[None, :])[..., None]
        name = f"s{seed}-{index:03d}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        lines.append((name, label, f"s{seed}-case-{case}", f"scanner {case % 2}", "test" if case % 4 == 3 else "train"))
    with open(folder / "figures.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "case_id", "scanner", "part"))
        writer.writerows(lines)
    return folder / "figures.csv"


@pytest.fixture(scope="session")
def paint() -> Callable[..., Path]:
    """:func:`paint_set`, for tests that change the set."""
    return paint_set


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 80 small crops of 8 cases; not to be changed."""
    return paint_set(tmp_path_factory.mktemp("small") / "small")


@pytest.fixture(scope="session")
def other_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 other crops, of other cases; not to be changed."""
    return paint_set(tmp_path_factory.mktemp("other") / "elsewhere", cases=4, seed=1)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom set of 100 crops of 4 cases, one a domain; not to be changed."""
    from atypia.data.phantom.dataset import write_phantom

    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    write_phantom(folder, 100, workers=1)
    return folder


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory, small_csv: Path) -> Path:
    """A probe on random features, two folds of :func:`small_csv`; copy it before changing it."""
    from atypia.data.sources.opening import open_data
    from atypia.splits.protocol import make_split
    from atypia.training.recipe import load_recipe
    from atypia.training.train import train
    from atypia.training.trainer import TrainingRequest

    out = tmp_path_factory.mktemp("trained") / "probe"
    with away_from_home(tmp_path_factory):
        name, recipe = load_recipe("probe", ["backbone=tiny-cnn", "geometry.out_px=32"])
        manifest = open_data(str(small_csv))
        train(TrainingRequest(name, recipe, manifest, make_split("kfold", manifest, 0, folds=2), out))
    return out
