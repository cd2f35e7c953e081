"""Wheel and source distribution in a fresh environment, without any extra: needs a package index."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MOST_MIB = 520
"""Most of the core with its dependencies. It has 509, which are 534 MB; the goal of 500 MB is missed (docs/install.md)."""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["whl", "tar.gz"])
def test_the_core_is_installed_and_works(
    form: str, crops: Path, environment: dict[str, str], ask: Callable[..., Any], tmp_path: Path
) -> None:
    said = {key: value for key, value in environment.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words: str | Path) -> str:
        return subprocess.run(words, cwd=tmp_path, env=said, capture_output=True, text=True, check=True).stdout

    source, built, fresh = tmp_path / "source", tmp_path / "built", tmp_path / "fresh"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", built], cwd=source, check=True, capture_output=True
    )
    (archive,) = built.glob(f"*.{form}")
    run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, fresh)
    python = fresh / "bin" / "python"
    installed = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--python", python, archive],
        env=said, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "error sending request" in installed.stderr.lower() or "failed to fetch" in installed.stderr.lower():
        pytest.skip(f"no package index: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr

    atypia = fresh / "bin" / "atypia"
    run(atypia, "predict", crops, "--out", "calls.csv", "--page", "case.html")
    assert len((tmp_path / "calls.csv").read_text("utf-8").splitlines()) == 25
    assert "<html" in (tmp_path / "case.html").read_text("utf-8")
    assert len(ask([atypia], crops, "figures?limit=3", without=["PYTHONPATH", "VIRTUAL_ENV"])["figures"]) == 3
    lacking = subprocess.run([atypia, "train", "probe", "--data", crops, "--out", "o"], cwd=tmp_path, env=said,
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert lacking.returncode == 2 and "pip install 'atypia[train]'" in lacking.stderr
    packages = fresh / "lib"
    size = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file() and file.suffix != ".pyc")
    assert size < MOST_MIB * 2**20
    assert not [name for name in ("torch", "timm", "ray") if list(packages.glob(f"*/site-packages/{name}"))]
