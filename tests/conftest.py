"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives every test a home and a cache of its own, so that none reads what another derived."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ATYPIA_HOME", str(home))
    monkeypatch.setenv("ATYPIA_CACHE", str(home / "cache"))
    return home


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of the real published data; the test is skipped where it is absent."""
    root = os.environ.get("ATYPIA_DATA")
    if not root or not (Path(root) / "AMi-Br_Benchmark").is_dir():
        pytest.skip("real data absent: set ATYPIA_DATA to a folder that holds AMi-Br_Benchmark/")
    return Path(root).resolve()
