"""Where things live: option before environment before default."""

from __future__ import annotations

from pathlib import Path

import pytest

from atypia.base import paths


def test_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    monkeypatch.delenv("ATYPIA_DATA", raising=False)
    assert paths.data_root() == own_home / "data"
    monkeypatch.setenv("ATYPIA_DATA", str(tmp_path / "env"))
    assert paths.data_root() == tmp_path / "env"
    assert paths.data_root(tmp_path / "option") == tmp_path / "option"


def test_home_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATYPIA_HOME", str(tmp_path))
    monkeypatch.delenv("ATYPIA_CACHE")
    assert paths.cache_root() == tmp_path / "cache"
    monkeypatch.setenv("ATYPIA_CACHE", "~/elsewhere")
    assert paths.cache_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("ATYPIA_HOME")
    assert paths.home().name == "atypia"


def test_asking_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATYPIA_HOME", str(tmp_path / "none"))
    paths.home(), paths.data_root(), paths.cache_root()
    assert not (tmp_path / "none").exists()
