"""Fixtures of tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .auditing import Built


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], Built]:
    """Makes a set of pictures, of its own folder and name."""
    return lambda name: Built(tmp_path / name, name)
