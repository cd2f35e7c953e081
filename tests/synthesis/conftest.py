"""A trained toy generator and its samples, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atypia.data.manifest import Manifest
from atypia.synthesis.generator import Generator, load_generator
from atypia.synthesis.model.diffusion import SamplingConfig
from atypia.synthesis.sampling import SamplingRequest, sample_set

from .toys import paint_toys, toy_recipe, train_toys


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small networks are slower on several threads, and results depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 48 toy crops of 8 cases; not to be changed."""
    return paint_toys(tmp_path_factory.mktemp("toys") / "toys")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, toys: Path) -> Path:
    """A training's folder: generators of both folds of the toys; not to be changed."""
    out = tmp_path_factory.mktemp("generators") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("synthesis-home")
        patch.setenv("ATYPIA_HOME", str(home))
        patch.setenv("ATYPIA_CACHE", str(home / "cache"))
        train_toys(toys, out, toy_recipe(), folds=())
    return out


@pytest.fixture(scope="session")
def generator(trained: Path) -> Generator:
    """The generator of the first fold."""
    return load_generator(trained / "fold-1")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, generator: Generator) -> Manifest:
    """Ten atypical and six normal crops of it; not to be changed."""
    wanted = SamplingRequest(6, 10, settings=SamplingConfig(1.5, 4), batch=8)
    return sample_set(generator, tmp_path_factory.mktemp("samples") / "set", wanted, "cpu")
