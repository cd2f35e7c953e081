"""Commands in processes of their own, with folders of their own and no data."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from atypia.data.phantom.dataset import write_phantom


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A few crops of the phantom set."""
    write_phantom(tmp_path / "crops", n=24, seed=3)
    return tmp_path / "crops"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This environment without data, with Atypia's folders in ``tmp_path``."""
    own = {"ATYPIA_HOME": str(tmp_path / "home"), "NO_COLOR": "1", "COLUMNS": "300"}
    return {key: value for key, value in os.environ.items() if key != "ATYPIA_DATA"} | own


@pytest.fixture
def ask(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Any]:
    """Starts ``COMMAND serve CROPS`` and returns what it answers to one request."""

    def ask(command: Sequence[str | Path], crops: Path, request: str, without: Sequence[str] = ()) -> Any:
        server = subprocess.Popen(
            [*command, "serve", crops, "--port", "0", "--no-open"],
            cwd=tmp_path, env={key: value for key, value in environment.items() if key not in without},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None and server.stderr is not None
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), server.stderr.read()
            with urllib.request.urlopen(f"{address.rstrip('/')}/{request}", timeout=60) as answer:
                return json.load(answer)
        finally:
            server.kill()
            server.communicate()

    return ask
