"""The runtime that was measured to be the fastest for a model on this machine (``atypia doctor --tune``).

A choice holds for one state of the model, one processor, number of cores, and version of each installed runtime: with any
other it does not count. It lies in the cache (kind ``runtimes``), and only :func:`keep_choice` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import canonical_json, write_json
from atypia.base.files.regularfiles import read_regular
from atypia.base.paths import cache_root
from atypia.base.process.cores import core_count, processor_name
from atypia.inference.bundles.integrity import CONFIG_FILE

KIND: Final = "runtimes"
MOST_BYTES: Final = 1 << 20


def choice_folder() -> Path:
    """Where choices lie."""
    return cache_root() / KIND


def kept_choice(model: Path, packages: Iterable[str]) -> str | None:
    """Name of the runtime that was chosen for a model; None if nothing was, for this state of it and of the machine.

    Args:
        model: A bundle's folder or an exported file.
        packages: Import names of the installed runtimes.
    """
    try:
        if not choice_folder().is_dir():
            return None  # the usual case costs one look
        found = json.loads(read_regular(_file(model, packages), MOST_BYTES))
    except (OSError, ValueError):
        return None
    name = found.get("runtime") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def keep_choice(model: Path, packages: Iterable[str], runtime: str, measured: Iterable[dict[str, Any]]) -> Path:
    """Keeps the choice of a runtime, with what was measured; returns the file."""
    path = _file(model, packages)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"runtime": runtime, "model": str(model), "measured": list(measured), **_machine(packages)})
    return path


def forget_choice(model: Path, packages: Iterable[str]) -> None:
    """Removes the choice for a model, if there is one."""
    _file(model, packages).unlink(missing_ok=True)


def _machine(packages: Iterable[str]) -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": core_count(),
        "versions": {name: runtime_version(name) for name in sorted(packages)},
    }


def runtime_version(package: str) -> str:
    """Version of an installed runtime, whichever of its distributions it came with; empty if that is not known."""
    for distribution in (package, *(f"{package}-{kind}" for kind in ("gpu", "directml", "cpu"))):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return ""


def _file(model: Path, packages: Iterable[str]) -> Path:
    # A bundle's configuration holds the hashes of its other files.
    state = model / CONFIG_FILE if model.is_dir() else model
    key = {"model": sha256(state.read_bytes()).hexdigest(), **_machine(packages)}
    return choice_folder() / f"{sha256(canonical_json(key).encode()).hexdigest()[:32]}.json"
