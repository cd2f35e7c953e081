"""A classifier with another decision: the network's files are kept, everything with the decision is rewritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from atypia.base.artifacts import atomic_folder, canonical_json
from atypia.base.errors import DataError, InputError, must
from atypia.inference.bundles.bundle import FINGERPRINT, Bundle, card
from atypia.inference.bundles.integrity import (
    CARD_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    SEALED,
    read_network,
    sealed_onnx,
    weights_file,
    write_hashes,
)
from atypia.inference.export.onnx import metadata
from atypia.inference.runtimes.catalogue import ONNX_FILE, open_runtime

_DOMAIN: Final = 4
_METADATA: Final = 14
"""Fields of ``ModelProto`` (onnx/onnx.proto)."""


def save_derived(source: Path, bundle: Bundle, folder: Path) -> Path:
    """Writes a bundle whose network is that of another one's folder.

    ``model.safetensors`` is copied bit for bit, because an exported network may read its weights from positions in it;
    in ``model.onnx`` the configuration is replaced. Other exported forms are left out: export them again.

    Args:
        source: Folder of the original bundle.
        bundle: The same with another name, decision and facts.
        folder: Output folder; must not exist.

    Raises:
        InputError: The folder exists, or the bundle has other tensors.
        DataError: The source is damaged, or the written bundle does not open as intended.
    """
    check_new(folder)
    with atomic_folder(folder) as part:
        shutil.copyfile(source / MODEL_FILE, part / MODEL_FILE)
        config = {**bundle.config, FINGERPRINT: bundle.fingerprint}
        (part / CARD_FILE).write_text(card(bundle), "utf-8")
        (part / CONFIG_FILE).write_text(json.dumps(config), "utf-8")
        if (source / ONNX_FILE).is_file():
            values = metadata(json.loads(canonical_json(config)), bundle.decision.tensors())
            network = read_network(source / ONNX_FILE)
            (part / ONNX_FILE).write_bytes(with_metadata(network.data, values, source / ONNX_FILE))
            outside = weights_file(network.data)
            if outside is not None:
                (part / outside.name).write_bytes(network.beside[outside.name])
        write_hashes(part)
        opened = open_runtime(part)
        if opened.decision.as_dict() != bundle.decision.as_dict():
            raise DataError(f"{folder} would decide otherwise than asked; fix: train the model again")
    return folder


def check_new(folder: Path) -> None:
    """Refuses an output folder that is there.

    Raises:
        InputError: It exists.
    """
    if folder.exists():
        raise InputError(must("out", "a folder that does not exist yet", str(folder), "choose another name"))


def with_metadata(data: bytes, values: Mapping[str, str], where: Path | str) -> bytes:
    """An exported ONNX file with other metadata and a new hash; nothing else of its graph is read or changed.

    Uses the wire format of protocol buffers directly, so that it needs no packages beyond those for prediction.

    Args:
        data: The file.
        values: Its metadata.
        where: The file, for messages.

    Raises:
        DataError: The bytes are no ONNX file.
    """
    kept = [piece for number, piece in _fields(data, where) if number not in (_DOMAIN, _METADATA)]
    entries = [
        _text_field(_METADATA, _text_field(1, k.encode()) + _text_field(2, v.encode())) for k, v in values.items()
    ]
    return sealed_onnx(b"".join([_text_field(_DOMAIN, SEALED.encode()), *kept, *entries]), weights_file(data))


def _fields(data: bytes, where: Path | str) -> Iterator[tuple[int, bytes]]:
    """Number and bytes, its tag included, of every field of the outermost message."""
    at = 0
    try:
        while at < len(data):
            start = at
            tag, at = _number(data, at)
            kind = tag & 7
            if kind == 0:
                _, at = _number(data, at)
            elif kind == 2:
                size, at = _number(data, at)
                at += size
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                raise IndexError
            if at > len(data):
                raise IndexError
            yield tag >> 3, data[start:at]
    except IndexError:
        raise DataError(f"{where} is no ONNX file; fix: export it again") from None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _text_field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
