"""Packages beside Atypia: written into a folder as an installer leaves them, and found by child processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, points: Mapping[str, str], release: str = "1.0", **modules: str) -> Path:
    """Writes modules and the metadata that pip would write.

    Args:
        folder: Like ``site-packages``.
        name: Name of the package.
        points: Entry points of ``atypia.plugins``.
        release: Version of the package.
        modules: Text of each module.
    """
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text, "utf-8")
    about = folder / f"{name.replace('-', '_')}-{release}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n", "utf-8")
    lines = "".join(f"{key} = {value}\n" for key, value in points.items())
    (about / "entry_points.txt").write_text(f"[atypia.plugins]\n{lines}", "utf-8")
    return folder


def environment(*folders: Path, **settings: str) -> dict[str, str]:
    """The environment of a process that finds these folders before what is installed, with plug-ins switched on."""
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ATYPIA_PLUGINS": "", **settings}


def python(code: str, *folders: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(*folders, **settings), text=True, capture_output=True, timeout=300
    )


def atypia(*words: str | Path, folders: tuple[Path, ...], **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "atypia", *map(str, words)]
    return subprocess.run(command, env=environment(*folders, **settings), text=True, capture_output=True, timeout=600)
