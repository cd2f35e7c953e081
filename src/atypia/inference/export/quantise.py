"""Networks in 8-bit integers: a quarter of the bytes, and faster where the processor has instructions for it.

A convolutional network is quantised statically: the ranges of its activations are measured on
calibration crops and stored. A transformer's activations have outliers that no fixed range fits,
so it is quantised dynamically: the range of each token is measured at prediction time
(:mod:`atypia.inference.export.rows`). Preprocessing, the first convolutions, where rounding costs most accuracy, and
the head stay in single precision.

In a convolutional network activations take 8 unsigned and weights 8 signed bits. Processors without VNNI
instructions add products in 16 bits, where the largest may overflow: measure on the kind of machine that will be used.

Rounding costs accuracy; :func:`measure_loss` says how much on labelled crops.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from atypia.base.artifacts import atomic_file
from atypia.base.errors import InputError, WorkError, must
from atypia.inference.bundles.bundle import Bundle
from atypia.inference.export.onnx import preprocessing, require_export, serialised
from atypia.inference.export.rows import quantise_rows
from atypia.inference.runtimes.catalogue import Runtime
from atypia.statistics.metrics import auroc, balanced_accuracy

if TYPE_CHECKING:
    from onnx import ModelProto

CALIBRATION_BATCH: Final = 16
STATIC_OPS: Final = ["Conv", "Add", "Clip", "Relu"]
STEM_CONVOLUTIONS: Final = 3
"""First convolutions that are not quantised: stem and first block."""
CHUNK: Final = 256
"""Crops that are compared at a time, and the most that a data set gives to calibrate on."""

NOTHING_TURNED: Final = (
    "nothing of {} was turned into integers: its graph shows no layer of the form that is looked for; "
    "fix: export without --int8, or with the newest PyTorch and onnxscript"
)

Method = Literal["static", "dynamic"]


@dataclass(frozen=True)
class QuantisationLoss:
    """The loss by quantisation on labelled crops.

    Attributes:
        figures: Crops compared.
        balanced_accuracy_before: At the bundle's threshold, in single precision.
        balanced_accuracy: The same after quantisation.
        auroc_before: In single precision.
        auroc: After quantisation.
        decisions_changed: Share of the crops whose class changes.
        p_difference: Largest change of a calibrated probability.
    """

    figures: int
    balanced_accuracy_before: float
    balanced_accuracy: float
    auroc_before: float
    auroc: float
    decisions_changed: float
    p_difference: float

    @property
    def lost(self) -> float:
        """Loss in balanced accuracy; negative where it is gained."""
        return self.balanced_accuracy_before - self.balanced_accuracy


def quantise_onnx(source: Path, target: Path, crops: npt.NDArray[np.uint8] | None = None) -> Method:
    """Writes an exported network in 8-bit integers.

    Args:
        source: What :func:`atypia.inference.export.onnx.export_onnx` wrote in single precision.
        target: File to write.
        crops: Crops like those to be classified, shape (n, s, s, 3), uint8; a few hundred. Needed by a
            convolutional network.

    Returns:
        How it was quantised.

    Raises:
        InputError: A convolutional network is given without crops.
        WorkError: The exporter wrote the network in a form in which no layer is found that can be quantised.
        AbsentError: Packages of the extra ``export`` are not here.
    """
    require_export("onnx", "onnxruntime")
    import onnx

    model = onnx.load(source)
    if any(node.op_type == "Softmax" for node in model.graph.node):
        if not quantise_rows(model, [*_beginning(model, 0), _head(model)]):
            raise WorkError(NOTHING_TURNED.format(source))
        with atomic_file(target) as file:
            file.write(serialised(model))
        return "dynamic"
    if crops is None or not len(crops):
        raise InputError(must("crops", "a few hundred crops to calibrate on", "none", "give --calibrate DATA"))
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    carried = {entry.key: entry.value for entry in model.metadata_props}
    del model.graph.value_info[:]  # written for single precision: a quantiser would take them for facts
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # its advice does not apply
    outside = [*_beginning(model, STEM_CONVOLUTIONS), _head(model)]
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary) / "model.onnx"
        quantize_static(
            model, written, _reader(model.graph.input[0].name, crops), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=STATIC_OPS, per_channel=True, nodes_to_exclude=outside,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibration_providers=["CPUExecutionProvider"],
        )  # fmt: skip
        quantised = onnx.load(written)
    if not any(node.op_type == "DequantizeLinear" for node in quantised.graph.node):
        raise WorkError(NOTHING_TURNED.format(source))
    del quantised.graph.value_info[:]
    del quantised.metadata_props[:]
    for key, value in carried.items():
        quantised.metadata_props.add(key=key, value=value)
    with atomic_file(target) as file:
        file.write(serialised(quantised))
    return "static"


def measure_loss(
    before: Runtime,
    after: Runtime,
    crops: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer[Any]],
    rows: npt.NDArray[np.int64] | None = None,
) -> QuantisationLoss:
    """Compares two runtimes on labelled crops, at the decision that the first carries.

    Args:
        before: The reference.
        after: What is compared with it.
        crops: Shape (n, s, s, 3), uint8; may be memory-mapped, as only what is scored is read.
        labels: Shape (n,), 1 = atypical, 0 = normal.
        rows: Which of them; None: all.
    """
    rows = np.arange(len(crops)) if rows is None else rows
    decided: list[list[npt.NDArray[np.int8]]] = [[], []]
    p: list[list[npt.NDArray[np.float64]]] = [[], []]
    for start in range(0, len(rows), CHUNK):
        pixels = np.asarray(crops[rows[start : start + CHUNK]])
        for which, runtime in enumerate((before, after)):
            verdicts = before.decision.apply(runtime.run(pixels)[0])
            decided[which].append(verdicts.decision)
            p[which].append(verdicts.p)
    y = labels[rows]
    first, second = (np.concatenate(parts) if parts else np.empty(0, np.int8) for parts in decided)
    p_first, p_second = (np.concatenate(parts) if parts else np.empty(0) for parts in p)
    return QuantisationLoss(
        figures=len(rows),
        balanced_accuracy_before=balanced_accuracy(y, first),
        balanced_accuracy=balanced_accuracy(y, second),
        auroc_before=auroc(y, p_first),
        auroc=auroc(y, p_second),
        decisions_changed=float(np.mean(first != second)) if len(rows) else float("nan"),
        p_difference=float(np.abs(p_first - p_second).max()) if len(rows) else float("nan"),
    )


def calibrate_and_quantise(
    bundle: Bundle, data: str, source: Path, target: Path, root: Path | None = None
) -> tuple[Method, QuantisationLoss]:
    """Quantises an exported network by a data set, and measures the loss on the set's other figures.

    Args:
        bundle: Where the network came from.
        data: Labelled figures of the bundle's task: what :func:`atypia.data.sources.opening.open_data` takes.
        source: The network in single precision.
        target: File to write.
        root: Data root; None for the user's setting.

    Raises:
        InputError: The data are of another task, or hold fewer than two figures that can be read.
    """
    from atypia.base.seeds import generator
    from atypia.data.crops.store import open_store
    from atypia.data.sources.opening import open_data
    from atypia.inference.predict import check_task
    from atypia.inference.runtimes.onnx_runtime import OnnxRuntime

    manifest = open_data(data, root)
    check_task(bundle, manifest)
    labels = manifest.labels
    store = open_store(manifest, bundle.geometry)
    rows = generator(0, "export", "calibration").permutation(np.flatnonzero(store.usable))
    if len(rows) < 2:
        raise InputError(must("calibrate", "at least 2 readable figures", len(rows), "give a labelled data set"))
    count = min(CHUNK, len(rows) // 2)
    method = quantise_onnx(source, target, store.crops[np.sort(rows[:count])])
    rest = np.sort(rows[count:])
    return method, measure_loss(OnnxRuntime(source), OnnxRuntime(target), store.crops, labels, rest)


def _reader(name: str, crops: npt.NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Hands crops over batch by batch."""

        def __init__(self) -> None:
            self.batches = _batches(crops)

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    return Reader()


def _batches(crops: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(crops), CALIBRATION_BATCH):
        yield np.ascontiguousarray(crops[start : start + CALIBRATION_BATCH])


def _beginning(model: ModelProto, convolutions: int) -> list[str]:
    """Names of the nodes of the preprocessing, and of what follows up to so many convolutions and their activations.

    A network of no more convolutions than that has them all quantised.
    """
    nodes = list(model.graph.node)
    places = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
    end = places[convolutions] if len(places) > convolutions else len(preprocessing(model))
    return [node.name for node in nodes[:end]]


def _head(model: ModelProto) -> str:
    """Name of the last linear map: the head, whose output is the logit."""
    return next((node.name for node in reversed(model.graph.node) if node.op_type in ("Gemm", "MatMul")), "")
