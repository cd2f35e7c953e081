"""Linear maps of a transformer in 8-bit integers, each token with a range of its own.

A map y = x W of tokens x, shape (…, inputs), becomes

    x̂ = round(x · 127 / m) + 128 as unsigned bytes,   m = max |x| of the token,
    y ≈ (x̂ − 128) Ŵ · (scale / 127) · m,

with the integers Ŵ and their scales of :mod:`atypia.inference.bundles.packing`. No token's rounding depends on another, so a
crop gets the same result in any batch; outliers affect only their own tokens. Source of the idea: Dettmers et al.,
NeurIPS 2022 (vector-wise quantisation).

All operators are of the standard, but for the product itself: onnxruntime's ``MatMulIntegerToFloat``, which OpenVINO
reads too, turns the sums into floats and multiplies them by the scales while they are in the processor's cache. By
``MatMulInteger``, ``Cast`` and ``Mul``, which give the same numbers, the network takes 3 to 8 % longer.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from atypia.base.errors import InputError, must
from atypia.inference.bundles.packing import INTEGERS, PACKED_FROM, quantise_matrix

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

STEPS: Final = 127
"""Steps of a token's values on either side of zero."""
LEAST: Final = STEPS * float(np.finfo(np.float32).tiny)
"""What a token of nothing but zeros counts as: the smallest m of which 127 / m is finite."""
ZERO: Final = 128
PRODUCT: Final = "MatMulIntegerToFloat"
PRODUCT_DOMAIN: Final = "com.microsoft"
_STEPS, _ONE, _ZERO, _NO_OFFSET, _LEAST, _LAST = (
    f"rows.{name}" for name in ("steps", "one", "zero", "none", "tiny", "last")
)


def quantise_rows(model: ModelProto, outside: Collection[str] = ()) -> int:
    """Turns the products with constant matrices into integers, in place.

    Args:
        model: In single precision.
        outside: Names of the nodes that stay as they are.

    Returns:
        How many were turned.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    turn_constants(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    tokens: dict[str, str] = {}
    new: dict[str, np.ndarray[Any, Any]] = {}
    for node in graph.node:
        matrix = constants.get(node.input[1]) if node.op_type == "MatMul" and node.name not in outside else None
        if matrix is None or len(matrix.dims) != 2 or np.prod(matrix.dims) < PACKED_FROM:
            nodes.append(node)
            continue
        source, name = node.input[0], matrix.name
        if source not in tokens:  # query, key and value share theirs
            tokens[source] = f"rows.{len(tokens)}"
            nodes += _tokens(source, tokens[source])
        if name + INTEGERS not in new:
            new[name + INTEGERS], scale = quantise_matrix(numpy_helper.to_array(matrix), axis=0)
            new[f"{name}.step"] = (scale / STEPS).astype(np.float32)
        of = f"{node.name}.rows"
        nodes += [
            helper.make_node(
                PRODUCT,
                [f"{tokens[source]}.int", name + INTEGERS, _ONE, f"{name}.step", _ZERO, _NO_OFFSET],
                [f"{of}.unit"],
                of,
                domain=PRODUCT_DOMAIN,
            ),
            helper.make_node("Mul", [f"{of}.unit", f"{tokens[source]}.max"], [node.output[0]], f"{of}.token"),
        ]
    if not tokens:
        return 0
    new |= {
        _STEPS: np.array(STEPS, np.float32), _ONE: np.array(1, np.float32), _ZERO: np.array(ZERO, np.uint8),
        _NO_OFFSET: np.array(0, np.int8),
        _LEAST: np.array(LEAST, np.float32), _LAST: np.array([-1], np.int64),
    }  # fmt: skip
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    turned = sum(node.op_type == PRODUCT for node in nodes)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(value, name) for name, value in new.items())])
    if PRODUCT_DOMAIN not in {known.domain for known in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(PRODUCT_DOMAIN, 1))
    return turned


def turn_constants(model: ModelProto) -> None:
    """Replaces transposed constant matrices by constants, in place: PyTorch before 2.7 writes a linear map as x · Transpose(W)."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    turned = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in constants]
    for node in turned:
        order = next((tuple(one.ints) for one in node.attribute if one.name == "perm"), (1, 0))
        matrix = np.ascontiguousarray(numpy_helper.to_array(constants[node.input[0]]).transpose(order))
        graph.initializer.append(numpy_helper.from_array(matrix, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for name in {node.input[0] for node in turned} - used:
        graph.initializer.remove(constants[name])


def _tokens(source: str, name: str) -> list[NodeProto]:
    """Nodes that round tokens: ``NAME.int`` and what each is multiplied by, ``NAME.max``."""
    from onnx import helper

    return [
        helper.make_node("Abs", [source], [f"{name}.abs"], f"{name}.abs"),
        helper.make_node("ReduceMax", [f"{name}.abs", _LAST], [f"{name}.most"], f"{name}.most", keepdims=1),
        helper.make_node("Max", [f"{name}.most", _LEAST], [f"{name}.max"], f"{name}.max"),
        # One division a token, not one a value: multiplying is faster.
        helper.make_node("Div", [_STEPS, f"{name}.max"], [f"{name}.inverse"], f"{name}.inverse"),
        helper.make_node("Mul", [source, f"{name}.inverse"], [f"{name}.unit"], f"{name}.unit"),
        helper.make_node("QuantizeLinear", [f"{name}.unit", _ONE, _ZERO], [f"{name}.int"], f"{name}.int"),
    ]


def share(model: ModelProto, weights: Path) -> int:
    """Lets a graph read its integer matrices from the safetensors file that will lie beside it, in place.

    The two forms of a model that ships then cost the space of one.

    Args:
        model: What :func:`quantise_rows` made of the network whose packed weights the file holds.
        weights: ``model.safetensors`` of its bundle.

    Returns:
        How many matrices are shared.

    Raises:
        InputError: One is not in the file.
    """
    from onnx import TensorProto, helper, numpy_helper

    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    places = {
        sha256(content[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]).digest(): (name, entry)
        for name, entry in header.items() if name.endswith(INTEGERS)
    }  # fmt: skip
    turns: list[NodeProto] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.INT8 or len(tensor.dims) != 2:
            continue
        values = numpy_helper.to_array(tensor)
        place = places.get(sha256(np.ascontiguousarray(values.T).tobytes()).digest())
        if place is None:
            raise InputError(must(tensor.name, f"a matrix of {weights.name}", "another", "export the same bundle"))
        name, entry = place
        turned, (begin, end) = tensor.name, entry["data_offsets"]
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.data_location = name, TensorProto.INT8, TensorProto.EXTERNAL
        tensor.dims.extend(entry["shape"])
        for key, value in (("location", weights.name), ("offset", start + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        turns.append(helper.make_node("Transpose", [name], [turned], f"{turned}.turn", perm=[1, 0]))
    nodes = [*turns, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(turns)
