"""Weights of an ONNX graph in a second file, if one file cannot contain them (ONNX: external data).

A protocol buffer is limited to 2 GiB; H-optimus-0 has 4.5 GB of weights in single precision and 2.3 in half. The graph
stores for each large tensor the name of the second file and the position in it; its own hash covers that file's hash.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final

from atypia.inference.bundles.integrity import WeightsFile

if TYPE_CHECKING:
    from onnx import ModelProto

ALIGNMENT: Final = 64
"""Every tensor begins at a multiple of so many bytes, which any type and any vector unit can read in place."""
LEAST_BYTES: Final = 1024
"""Smaller tensors stay in the graph: shapes and the constants of the preprocessing."""


def weight_bytes(model: ModelProto) -> int:
    """Size of a graph's tensors."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def move_weights(model: ModelProto, name: str, out: BinaryIO) -> WeightsFile:
    """Moves a graph's large tensors into a file.

    Args:
        model: Its tensors keep the file's name and their place in it.
        name: The file's.
        out: The file, empty.

    Returns:
        The file's name and the hash of what was written.
    """
    from onnx import TensorProto

    digest, at = sha256(), 0
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        if size < LEAST_BYTES:
            continue
        content = tensor.raw_data + bytes(-size % ALIGNMENT)
        out.write(content)
        digest.update(content)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", at), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        at += len(content)
    return WeightsFile(name, digest.hexdigest())
