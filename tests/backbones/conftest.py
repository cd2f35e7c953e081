"""A crop store for tests of backbones: few crops, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests import threads


@dataclass
class FakeStore:
    """What features need of a crop store."""

    crops: np.ndarray
    usable: np.ndarray
    fingerprint: str
    quarantined: dict[str, str] = field(default_factory=dict)


def make_store(n: int = 21, side_px: int = 64, seed: int = 0, lost: tuple[int, ...] = ()) -> FakeStore:
    """Smooth random crops; those at ``lost`` are quarantined."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    crops = coarse.repeat(side_px // 8, axis=1).repeat(side_px // 8, axis=2)
    usable = np.ones(n, dtype=bool)
    usable[list(lost)] = False
    crops[list(lost)] = 0
    return FakeStore(crops, usable, f"store-{n}-{side_px}-{seed}-{lost}", {f"figure-{i}": "damaged" for i in lost})


@pytest.fixture(name="make_store")
def make_store_fixture() -> Callable[..., FakeStore]:
    """:func:`make_store`, for tests that need another store than the usual one."""
    return make_store


@pytest.fixture
def store() -> FakeStore:
    """21 crops of 64 px, of which numbers 3 and 20 are quarantined."""
    return make_store(lost=(3, 20))


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reaches the model hub, nor sees what is in the user's cache of it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other in tiny layers cost more than they bring, most of all on busy cores."""
    with threads.one_thread():
        yield
