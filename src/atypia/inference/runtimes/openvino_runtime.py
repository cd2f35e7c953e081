"""An exported network through OpenVINO, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atypia.base.errors import DataError
from atypia.base.process.cores import core_count
from atypia.inference.bundles.integrity import BIN_FILE, ExportedNetwork
from atypia.inference.runtimes.exported import CONFIG_KEY, TENSORS_KEY, Floats, in_batches, opened_network, settings
from atypia.inference.runtimes.signalstack import kept_signal_stack


class OpenVinoRuntime:
    """A :class:`atypia.inference.runtimes.catalogue.Runtime` through OpenVINO, in single precision.

    Without being told so, OpenVINO computes in bfloat16 where the processor can, which changes
    probabilities in the second digit; here every processor gives the same.

    Args:
        model: A ``.xml`` of ``atypia export --to openvino`` with its ``.bin`` beside it, or a ``.onnx``.
        threads: Threads; None: all cores of this process.

    Raises:
        DataError: The file, or one that it depends on, is absent, damaged or was changed; or it is no exported network.
    """

    name = "openvino"

    def __init__(self, model: Path, threads: int | None = None) -> None:
        import openvino

        how = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or core_count(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        network = opened_network(model)
        try:
            core = openvino.Core()
            read = _read(core, network)
            self.config, self.decision = settings(metadata(read), network)
            with kept_signal_stack():
                self._compiled = core.compile_model(read, "CPU", how)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"{model} cannot be opened ({reason}); fix: export it again") from error
        self.side_px = int(self._compiled.input(0).partial_shape[1].get_length())
        self.feature_dim = int(self._compiled.output(1).partial_shape[1].get_length())

    def run(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """See :meth:`atypia.inference.runtimes.catalogue.Runtime.run`."""
        return in_batches(crops, self.side_px, self.feature_dim, self._score)

    def _score(self, crops: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        answer = self._compiled(crops)
        return answer[0], answer[1]


def _read(core: Any, network: ExportedNetwork) -> Any:
    """The model of a network's bytes: those that were compared with their hashes."""
    if network.path.suffix == ".xml":
        return core.read_model(network.data, network.beside[BIN_FILE])
    if not network.beside:
        return core.read_model(network.data)
    # OpenVINO takes weights beside an ONNX network from files only, which it would go on reading while it runs.
    core.set_property({"ENABLE_MMAP": False})
    with network.on_disk() as file:
        return core.read_model(file)


def metadata(model: Any) -> dict[str, str]:
    """What a read model carries, whichever form it was read from.

    Args:
        model: An ``openvino.Model``.
    """
    found = {}
    for key in (CONFIG_KEY, TENSORS_KEY):
        # A model read from ONNX keeps that file's metadata under «framework»; an IR has what was written into it.
        for path in ([key], ["framework", key]):
            if model.has_rt_info(path):
                found[key] = str(model.get_rt_info(path).value)
    return found
