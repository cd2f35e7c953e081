"""An exported network through onnxruntime, on the processor or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError, InputError, must
from atypia.base.process.cores import core_count
from atypia.inference.bundles.integrity import ExportedNetwork
from atypia.inference.runtimes.exported import Floats, in_batches, opened_network, settings
from atypia.inference.runtimes.providers import AUTO, CPU, PROCESSOR, ComputePlace, in_integers, place_of

BATCH: Final = 8
"""Crops that pass at once: what a layer gives for so few stays in the processor's cache, some 8 % faster than for 32."""
DEVICE_BATCH: Final = 256
"""Crops that a GPU takes at once."""


class OnnxRuntime:
    """A :class:`atypia.inference.runtimes.catalogue.Runtime` through onnxruntime.

    On the processor: one session on one thread, which several threads call with a piece of the crops each: for pieces this small that
    is faster than sharing out each layer's work (1.3 times on two cores for the model that ships).

    Args:
        model: What ``atypia export --to onnx`` wrote: the file, or its bytes.
        threads: Pieces that are scored at once on the processor; None: one for each core of this process.
        device: Where it is computed (:data:`atypia.inference.runtimes.providers.PREDICT_DEVICES`).

    Attributes:
        place: Where that is, and why.
        device: Its ``device``.

    Raises:
        InputError: The device is unknown, not there, or of no use for this network.
        DataError: The file, or one that it depends on, is absent, damaged or was changed; or it is no exported network.
    """

    name = "onnx"

    def __init__(self, model: Path | bytes, threads: int | None = None, device: str = AUTO) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # pyright: ignore[reportAttributeAccessIssue]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: its warnings are about its own optimiser
        network = opened_network(model)
        unreadable = (
            state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument, state.NoSuchFile,
            state.NotImplemented, state.RuntimeException,
        )  # fmt: skip
        self.place = place_of(device, onnxruntime.get_available_providers(), in_integers(network.data))
        try:
            self._session = _session(network, options, self.place.providers)
        except unreadable as error:
            raise DataError(f"{network.path} cannot be opened ({str(error).strip()}); fix: export it again") from error
        self.config, self.decision = settings(self._session.get_modelmeta().custom_metadata_map, network)
        self.place = _started(self.place, device, self._session.get_providers())
        self.device = self.place.device
        (crops,) = self._session.get_inputs()
        count = (threads or core_count()) if self.device == CPU else 1
        self._workers = ThreadPoolExecutor(count, "onnx") if count > 1 else None
        self._input = crops.name
        self.side_px = int(crops.shape[1])
        self.feature_dim = int(self._session.get_outputs()[1].shape[1])

    def run(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """See :meth:`atypia.inference.runtimes.catalogue.Runtime.run`."""
        batch = BATCH if self.device == CPU else DEVICE_BATCH
        return in_batches(crops, self.side_px, self.feature_dim, self._score, batch, self._workers)

    def _score(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        logits, features = self._session.run(None, {self._input: crops})
        return np.asarray(logits), np.asarray(features)


def _started(place: ComputePlace, asked: str, running: Sequence[str]) -> ComputePlace:
    """The place that a session really has: onnxruntime goes on without a provider that does not start.

    Raises:
        InputError: It is not the one that was asked for.
    """
    if place.device == CPU or place.providers[0] in running:
        return place
    fix = f"install the libraries that onnxruntime's {place.providers[0]} needs (its messages name them)"
    if asked != AUTO:
        raise InputError(must("device", "one that starts on this machine", asked, f"{fix}, or leave it out"))
    return ComputePlace(CPU, (PROCESSOR,), f"onnxruntime's {place.providers[0]} did not start", f"for the GPU: {fix}")


def _session(network: ExportedNetwork, options: Any, providers: Sequence[str]) -> Any:
    """A session of the bytes that were compared with their hashes."""
    import onnxruntime

    def opened(source: bytes | str) -> Any:
        return onnxruntime.InferenceSession(source, options, providers=list(providers))

    if not network.beside:
        return opened(network.data)
    if not hasattr(options, "add_external_initializers_from_files_in_memory"):  # older versions read files only
        with network.on_disk() as file:
            return opened(str(file))
    names, contents = list(network.beside), list(network.beside.values())
    options.add_external_initializers_from_files_in_memory(names, contents, [len(content) for content in contents])
    return opened(network.data)
