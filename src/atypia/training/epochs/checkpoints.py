"""Checkpoints: the complete state of a training, without pickle, written so that a kill damages nothing.

A checkpoint is a folder with the tensors (``state.safetensors``), everything else
(``state.json``) and their checksums (``sums.json``, written last inside the folder). A new one is
complete before the old one is set aside as ``checkpoint-previous``; a damaged last checkpoint
falls back to the previous one, with a warning.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from atypia.base import runs
from atypia.base.artifacts import atomic_folder, disk_errors, file_sha256
from atypia.base.errors import DataError

LAST, PREVIOUS = runs.CHECKPOINT, "checkpoint-previous"
TENSORS, REST, SUMS = "state.safetensors", "state.json", "sums.json"
TENSOR_KEY, FORMAT_KEY, INT_KEYS = "$tensor", "$channels_last", "$int_keys"


class DamagedCheckpointError(DataError):
    """A checkpoint's files do not match their checksums, or cannot be read."""


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> Path:
    """Writes the state as ``folder/checkpoint-last`` and keeps the one before.

    Args:
        folder: The run folder.
        state: Nested dictionaries (keys are all strings or all integers) and lists of tensors,
            numbers, strings, booleans and None. Tuples are read as lists.

    Raises:
        TypeError: The state contains something else.
        WorkError: The disk is full or cannot be written; the previous checkpoint stays.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _flatten(state, "", tensors)
    last, previous = folder / LAST, folder / PREVIOUS
    with atomic_folder(folder / "checkpoint-new") as part:
        _save_tensors(tensors, part / TENSORS)
        (part / REST).write_text(json.dumps(skeleton, allow_nan=True), "utf-8")
        sums = {name: file_sha256(part / name) for name in (TENSORS, REST)}
        (part / SUMS).write_text(json.dumps(sums), "utf-8")
    with disk_errors(folder):
        # A kill between these renames leaves the new or the previous checkpoint; both are complete.
        if last.exists():
            shutil.rmtree(previous, ignore_errors=True)
            last.rename(previous)
        (folder / "checkpoint-new").rename(last)
    return last


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Reads the last intact checkpoint of a run folder; None if there is none.

    Warns if the last one is damaged and the previous one is used.

    Raises:
        DamagedCheckpointError: There are checkpoints, but none is intact.
    """
    faults = []
    for name in ("checkpoint-new", LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except DamagedCheckpointError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warnings.warn(f"{fault}; going on from {name}", RuntimeWarning, stacklevel=2)
        return state
    if faults:
        raise DamagedCheckpointError(f"{'; '.join(faults)}; fix: delete the checkpoints in {folder} and train again")
    return None


def load_own_checkpoint(folder: Path, run_id: str) -> dict[str, Any] | None:
    """Reads the last intact checkpoint of this run; None if there is none.

    Checkpoints of another run are removed, with a warning.

    Raises:
        DamagedCheckpointError: As :func:`load_checkpoint`.
    """
    state = load_checkpoint(folder)
    if state is None or state["run_id"] == run_id:
        return state
    warnings.warn(f"{folder}: the checkpoint is of another run; starting anew", RuntimeWarning, stacklevel=2)
    clear_checkpoints(folder)
    return None


def clear_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a run that is complete."""
    for name in ("checkpoint-new", LAST, PREVIOUS):
        shutil.rmtree(folder / name, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        sums = json.loads((path / SUMS).read_text("utf-8"))
        for name in (TENSORS, REST):
            if not isinstance(sums, dict) or file_sha256(path / name) != sums.get(name):
                raise DamagedCheckpointError(f"{path / name} does not match its checksum")
        tensors = load_file(path / TENSORS)
        return _restore(json.loads((path / REST).read_text("utf-8")), tensors)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedCheckpointError(f"{path} cannot be read ({error})") from error


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        # The library rewords the system's error; the error number is needed to name the remedy.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number.group(1)) if number else errno.EIO
        raise OSError(code, str(error), str(path)) from error


def _flatten(node: Any, at: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        # The position makes the name unique; the path is for people. The clone is needed because the
        # format refuses tensors that share storage.
        name = f"{len(tensors)}{at}"
        # Fused optimisers read a parameter and its moments in memory order, so moments that were restored
        # in another memory order would silently be applied to the wrong weights.
        last = node.ndim == 4 and not node.is_contiguous() and node.is_contiguous(memory_format=torch.channels_last)
        tensors[name] = node.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {TENSOR_KEY: name, FORMAT_KEY: last}
    if isinstance(node, Mapping):
        keys = list(node)
        if keys and all(isinstance(key, int) for key in keys):
            return {INT_KEYS: {str(key): _flatten(node[key], f"{at}/{key}", tensors) for key in keys}}
        if not all(isinstance(key, str) for key in keys):
            raise TypeError(f"keys must be strings, or integers throughout, at {at or 'the top'}")
        return {key: _flatten(node[key], f"{at}/{key}", tensors) for key in keys}
    if isinstance(node, list | tuple):
        return [_flatten(value, f"{at}/{i}", tensors) for i, value in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"a checkpoint cannot hold {type(node).__name__} at {at or 'the top'}")


def _restore(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if set(node) == {TENSOR_KEY, FORMAT_KEY}:
            tensor = tensors[node[TENSOR_KEY]]
            return tensor.contiguous(memory_format=torch.channels_last) if node[FORMAT_KEY] else tensor
        if set(node) == {INT_KEYS}:
            return {int(key): _restore(value, tensors) for key, value in node[INT_KEYS].items()}
        return {key: _restore(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_restore(value, tensors) for value in node]
    return node


def rng_state() -> dict[str, Tensor]:
    """State of torch's global generators (CPU, and the current GPU if there is one)."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Mapping[str, Tensor]) -> None:
    """Restores what :func:`rng_state` gave; a GPU's part only if there is a GPU now."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def write_history(folder: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Rewrites ``metrics.jsonl``: one line per epoch, none twice after a resume."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in history)
        (folder / runs.METRICS).write_text(text, "utf-8")


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, so that a step is always finished; a second signal acts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers; the code that started this thread handles signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
