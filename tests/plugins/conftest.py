"""The package in ``package/``, built by its own pyproject.toml and unpacked as pip would."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

collect_ignore = ["package"]
PACKAGE = Path(__file__).parent / "package"


@pytest.fixture(scope="session")
def mylab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ``site-packages`` that holds the wheel of ``atypia-mylab``."""
    folder = tmp_path_factory.mktemp("mylab")
    shutil.copytree(PACKAGE, folder / "source")
    build = "import hatchling.build as b; print(b.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=folder / "source", text=True, capture_output=True, check=True
    )
    site = folder / "site"
    with zipfile.ZipFile(folder / "source" / done.stdout.split()[-1]) as wheel:
        wheel.extractall(site)
    return site
