"""Export to ONNX: weights, preprocessing and the bundle's configuration, in one file where one can hold them.

The exporter that captures programs (``dynamo=True``) gives the simpler graph: a sixth of the nodes that
tracing gives for EfficientNet-Lite0, all padding constant, and a faster session. Its references to the
source code at every node are removed, so that the file contains nothing about the machine that wrote it.
"""

from __future__ import annotations

import warnings
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file, atomic_folder, canonical_json
from atypia.base.errors import InputError, WorkError, must
from atypia.base.extras import require
from atypia.base.version import VERSION
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.bundles.integrity import DATA_SUFFIX, SEALED, WeightsFile, sealed_onnx
from atypia.inference.export.external import move_weights, weight_bytes
from atypia.inference.runtimes.exported import CONFIG_KEY, TENSORS_KEY, Floats

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET: Final = 20
"""The first in which GELU is one operator."""
TOLERANCE: Final = 1e-4
"""Largest difference from torch that is allowed; see :class:`Exported` for what it is relative to."""
HALF_TOLERANCE: Final = 0.05
"""The same where weights are stored in half precision; the difference itself is reported."""
MAX_BYTES: Final = 2_000_000_000
"""A little below what one ONNX file can hold (2 GiB)."""
HALF_MAX: Final = float(np.finfo(np.float16).max)
HALF_FROM: Final = 256
"""Tensors of fewer values stay in single precision: biases cost little space."""


@dataclass(frozen=True)
class Exported:
    """A network that was exported and agreed with torch.

    Attributes:
        path: The file or folder.
        size_bytes: Its size; of an ONNX network with that of the file of its weights.
        logit_difference: Largest difference of a logit from torch's on the crops compared, relative to
            the largest logit where that is above 1.
        feature_difference: The same of a feature, relative to the largest feature.
    """

    path: Path
    size_bytes: int
    logit_difference: float
    feature_difference: float


@dataclass(frozen=True, eq=False)
class Traced:
    """A bundle's network as a graph, with torch's answers to compare with.

    Attributes:
        model: The graph; carries the bundle's configuration.
        crops: Shape (b, s, s, 3), uint8.
        logits: Torch's, shape (b,).
        features: Torch's, shape (b, d).
    """

    model: ModelProto
    crops: npt.NDArray[np.uint8]
    logits: Floats
    features: Floats

    def differences(self, run: Callable[[npt.NDArray[np.uint8]], tuple[Floats, Floats]]) -> tuple[float, float]:
        """Largest differences of another runtime's logits and features, in one batch and one by one."""
        return _differences((self.logits, self.features), self.crops, run)


def _differences(
    expected: tuple[Floats, Floats],
    crops: npt.NDArray[np.uint8],
    run: Callable[[npt.NDArray[np.uint8]], tuple[Floats, Floats]],
) -> tuple[float, float]:
    together = run(crops)
    alone = [run(crops[i : i + 1]) for i in range(2)]
    pairs = [(together, expected), *((alone[i], (expected[0][i : i + 1], expected[1][i : i + 1])) for i in range(2))]
    return (
        max(_difference(got[0], want[0], 1.0) for got, want in pairs),
        max(_difference(got[1], want[1], float(np.finfo(np.float32).tiny)) for got, want in pairs),
    )


def export_onnx(
    bundle: Bundle, path: Path, half: bool = False, weights_file: Path | None = None, one_file: bool = False
) -> Exported:
    """Writes a bundle's network as ONNX, after it has agreed with torch.

    Its input ``crops`` is uint8 RGB, shape (b, s, s, 3) with any b; its outputs are ``logits`` (b,) and
    ``features`` (b, d), float32. Its metadata hold the bundle's configuration. Weights above :data:`MAX_BYTES` go
    into a second file, ``PATH.data``, which must stay beside the first.

    Args:
        bundle: Of any adaptation; adapters are merged.
        path: File to write, ``….onnx``.
        half: Store the weights in half precision: half the size; computed in single precision nevertheless.
        weights_file: A file of the user with the backbone's weights.
        one_file: Refuse a network that needs a second file.

    Raises:
        InputError: The name does not end in .onnx, or the network does not fit in one file where it must.
        AbsentError: The backbone's weights, or packages of the extra ``export``, are not on this machine.
        WorkError: The graph gives other numbers than torch.
    """
    from atypia.inference.runtimes.onnx_runtime import OnnxRuntime

    if path.suffix != ".onnx":
        raise InputError(must("out", "a file ending in .onnx", str(path), "for instance --out model.onnx"))
    traced = trace(bundle, weights_file, half, one_file)
    if half:
        halve_weights(traced.model)
    if weight_bytes(traced.model) > MAX_BYTES:
        return _in_two_files(traced, path, half)
    data = serialised(traced.model)
    differences = check_differences(traced, OnnxRuntime(data).run, half)
    with atomic_file(path) as file:
        file.write(data)
    return Exported(path, len(data), *differences)


def _in_two_files(traced: Traced, path: Path, half: bool) -> Exported:
    """Writes a graph, and its large tensors in a second file; both are checked before they take their places."""
    from atypia.inference.runtimes.onnx_runtime import OnnxRuntime

    folder, beside = path.with_name(f".{path.name}-parts"), f"{path.name}{DATA_SUFFIX}"
    with atomic_folder(folder) as part:
        with (part / beside).open("wb") as file:
            weights = move_weights(traced.model, beside, file)
        (part / path.name).write_bytes(serialised(traced.model, weights))
        size = sum((part / name).stat().st_size for name in (beside, path.name))
        differences = check_differences(traced, OnnxRuntime(part / path.name).run, half)
    # The weights first: a graph beside the weights of another network is refused, never read.
    for name in (beside, path.name):
        (folder / name).replace(path.with_name(name))
    folder.rmdir()
    return Exported(path, size, *differences)


def check_differences(
    traced: Traced, run: Callable[[npt.NDArray[np.uint8]], tuple[Floats, Floats]], half: bool
) -> tuple[float, float]:
    """The differences of a runtime from torch, within tolerance.

    Raises:
        WorkError: They are larger.
    """
    differences = traced.differences(run)
    allowed = HALF_TOLERANCE if half else TOLERANCE
    if not max(differences) <= allowed:  # NaN is not
        raise WorkError(
            f"the exported network differs from torch by {differences[0]:.2g} in its logits and {differences[1]:.2g} "
            f"in its features, more than {allowed:g}; fix: " + ("export without --half" if half else "predict by torch")
        )
    return differences


def differences_from_torch(
    bundle: Bundle, run: Callable[[npt.NDArray[np.uint8]], tuple[Floats, Floats]]
) -> tuple[float, float]:
    """Largest differences of a runtime's logits and features from torch's, as :class:`Exported` states them."""
    import torch

    from atypia.inference.runtimes.graph import deployable, sample_crops

    module = deployable(bundle)
    crops = sample_crops(module.side_px)
    with torch.inference_mode():
        logits, features = module(torch.from_numpy(crops))
    return _differences((logits.numpy(), features.numpy()), crops, run)


def trace(bundle: Bundle, weights_file: Path | None = None, half: bool = False, one_file: bool = True) -> Traced:
    """Captures a bundle's network as an ONNX graph.

    Args:
        bundle: Of any adaptation.
        weights_file: A file of the user with the backbone's weights.
        half: Whether the weights will be stored in half precision; for the limit of a file's size.
        one_file: Whether what will be written is one file, which has that limit.

    Raises:
        InputError: The network does not fit in one file.
        AbsentError: As :func:`export_onnx`.
    """
    require_export("onnx", "onnxscript")
    import torch

    from atypia.inference.runtimes.graph import deployable, exported_config, sample_crops, without_idle_tokens

    module = deployable(bundle, weights_file)
    size = sum(parameter.numel() for parameter in module.parameters()) * (2 if half else 4)
    if one_file and size > MAX_BYTES:
        expected = f"at most {MAX_BYTES / 1e9:g} GB, which one file of this form holds"
        fix = "export --to onnx, which takes two files" if half else "store half precision (--half), or --to onnx"
        raise InputError(must("network", expected, f"{size / 1e9:.1f} GB", fix))
    crops = sample_crops(module.side_px)
    pixels = torch.from_numpy(crops)
    with torch.inference_mode():
        logits, features = module(pixels)
    without_idle_tokens(module)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's own parts
        program = torch.onnx.export(
            module, (pixels,), dynamo=True, external_data=False, opset_version=OPSET, verbose=False,
            input_names=["crops"], output_names=["logits", "features"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1 << 20)},),
        )  # fmt: skip
    assert program is not None  # None is given only where a file is written
    model = program.model_proto
    drop_source_notes(model)
    stamp(model, exported_config(bundle), bundle.decision.tensors())
    return Traced(model, crops, logits.numpy(), features.numpy())


def drop_source_notes(model: ModelProto) -> None:
    """Removes the exporter's references to source files, and shapes that a quantiser would consider fixed; in place."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    del model.metadata_props[:]
    model.doc_string = ""
    graph.name = "atypia"
    model.producer_name, model.producer_version = "atypia", VERSION


def stamp(model: ModelProto, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes a bundle's configuration and its decision's tensors into a graph's metadata, in place."""
    for key, value in metadata(config, tensors).items():
        model.metadata_props.add(key=key, value=value)


def metadata(config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """The metadata of an exported network, as text; read by :func:`atypia.inference.runtimes.exported.carried`."""
    from safetensors.numpy import save

    values = {CONFIG_KEY: canonical_json(config)}
    if tensors:
        values[TENSORS_KEY] = b64encode(save({k: np.ascontiguousarray(v) for k, v in tensors.items()})).decode()
    return values


def serialised(model: ModelProto, weights: WeightsFile | None = None) -> bytes:
    """A graph's file, which ends with its hash (:mod:`atypia.inference.bundles.integrity`).

    Every graph is written with this function: an older hash among its metadata is dropped.

    Args:
        model: The graph.
        weights: Where its weights are, if they are in a file of their own.
    """
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key in (CONFIG_KEY, TENSORS_KEY)}
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)
    model.domain = SEALED
    return sealed_onnx(model.SerializeToString(), weights)


def halve_weights(model: ModelProto) -> int:
    """Stores the network's weights in half precision, each followed by a cast to single; in place.

    The runtimes cast once, when they open the file. Values that half precision cannot represent are not changed,
    nor are the constants of the preprocessing.

    Returns:
        How many tensors were changed.
    """
    from onnx import TensorProto, helper, numpy_helper

    exact = {name for node in preprocessing(model) for name in node.input}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in exact:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < HALF_FROM or not float(np.abs(values).max()) <= HALF_MAX:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"cast.{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(casts)


def preprocessing(model: ModelProto) -> list[NodeProto]:
    """The nodes before the first convolution: the preprocessing, from pixels to the network's input."""
    nodes = list(model.graph.node)
    return nodes[: next((i for i, node in enumerate(nodes) if node.op_type == "Conv"), 0)]


def require_export(*packages: str) -> None:
    """Makes sure that packages of the extra ``export`` are installed.

    Raises:
        AbsentError: One is not.
    """
    require("an export", *packages)


def _difference(got: Floats, want: Floats, least: float) -> float:
    return float(np.abs(got - want).max() / max(least, float(np.abs(want).max())))
