"""Golden files as they were written, and commands on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atypia.cli.main import main

from .reading import unpacked

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def golden(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a version as it was written; the current folder. Nothing else of that machine is there."""
    folder = unpacked(HERE / request.param, tmp_path / "golden")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ATYPIA_DATA", raising=False)
    return folder


@pytest.fixture
def version(request: pytest.FixtureRequest, golden: Path) -> str:
    """The version of :func:`golden`."""
    return request.node.callspec.params["golden"]


@pytest.fixture
def atypia(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed, and gives what it prints."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["atypia", *map(str, words)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        assert not code, said.err
        return said.out + said.err

    return run
