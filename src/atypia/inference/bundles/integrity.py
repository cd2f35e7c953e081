"""Detects damage and changes of a classifier's files before they are used.

A bundle's ``config.json`` contains under ``files`` the SHA-256 of the files beside it, and under ``config_sha256`` that
of its own bytes, with zeros in this place. A file that ``atypia export`` writes contains its own hash: it ends with the
SHA-256 of everything before it, and states this at its beginning, so that a file with a damaged end is not taken for one
from before hashes existed. Each file is read once; the hashed bytes are the ones that are used.

This detects accidental damage and changes by somebody who does not know about the hashes. It is not a signature: somebody
who changes a file on purpose can also write its new hash.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from atypia.base.artifacts import atomic_file, file_sha256
from atypia.base.errors import DataError, must
from atypia.base.files.regularfiles import open_regular, read_regular
from atypia.base.files.structured import parse_json

FORMAT: Final = 1
"""Of a bundle."""
FILES: Final = "files"
"""Key in ``config.json`` of the hashes of the files beside it."""
CONFIG_SHA256: Final = "config_sha256"
"""Key in ``config.json`` of its own hash."""
MODEL_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "card.md"
BIN_FILE: Final = "model.bin"
"""Weights of an OpenVINO network, beside its ``.xml``."""
TRAIN: Final = "train it again, or put the original back (of a model that ships: install Atypia again)"
EXPORT: Final = "export it again, or put the original back"
HEX: Final = 64
MAX_CONFIG_BYTES: Final = 1 << 24
ZEROS: Final = "0" * HEX
SEALED: Final = "atypia.sealed"
"""Mark at the beginning of an exported file that ends with its hash: its domain (ONNX), or a comment (XML)."""
BEGINNING: Final = 1024
"""First bytes of a file, in which the mark is searched."""
ONNX_END: Final = b"\x72\x51\x0a\x0datypia.sha256\x12\x40"
"""Before the 64 digits at the end of an ONNX file: an entry of its metadata, field 14 of ``ModelProto``."""
DATA_SUFFIX: Final = ".data"
"""Behind the name of an ONNX file: the file of its weights, where one file cannot hold them."""
WEIGHTS_END: Final = re.compile(
    rb"\x72(?:[\x00-\x7f]|[\x80-\xff][\x00-\x7f])\x0a\x0eatypia\.weights"
    rb"\x12(?:[\x00-\x7f]|[\x80-\xff][\x00-\x7f])([0-9a-f]{64}) ([^\x00-\x1f/\\]+)\Z"
)
"""Before :data:`ONNX_END` where weights are in a file of their own: its hash and its name, an entry of the metadata."""
XML_END: Final = re.compile(
    rb"<!-- " + BIN_FILE.replace(".", r"\.").encode() + rb" ([0-9a-f]{64}) atypia\.sha256 ([0-9a-f]{64}) -->\n\Z"
)


# Bundles --------------------------------------------------------------------------------------


def hashed_config(config: Mapping[str, Any], files: Mapping[str, str]) -> bytes:
    """Bytes of a ``config.json`` that holds the hashes of the files beside it, and its own.

    Args:
        config: What it holds beside them.
        files: Name of each file, and its SHA-256 as 64 hex digits.
    """
    own = '"' + CONFIG_SHA256 + '": "{}"'
    text = json.dumps({**config, FILES: dict(files), CONFIG_SHA256: ZEROS}, indent=2, sort_keys=True) + "\n"
    return text.replace(own.format(ZEROS), own.format(_sha256(text.encode())), 1).encode()


def write_hashes(folder: Path) -> Path:
    """Writes the hashes of all files of a bundle's folder into its ``config.json``; nothing else is changed."""
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text("utf-8"))
    kept = {key: value for key, value in config.items() if key not in (FILES, CONFIG_SHA256)}
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and file.name != CONFIG_FILE)
    with atomic_file(path) as file:
        file.write(hashed_config(kept, {name: file_sha256(folder / name) for name in names}))
    return path


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle's configuration, and its files as far as they were read.

    Attributes:
        config: The content of ``config.json``, without the hashes.
        names: Files whose hashes it contains, all of them unchanged; none if it was written before hashes existed.
        contents: Bytes of the requested files.
    """

    config: dict[str, Any]
    names: frozenset[str]
    contents: dict[str, bytes] = field(default_factory=dict, repr=False)


def read_bundle(folder: Path, wanted: Iterable[str] = (), given: Mapping[str, bytes] | None = None) -> CheckedBundle:
    """Reads a bundle's configuration and compares every file that it names with its hash.

    Args:
        folder: The bundle.
        wanted: Names of files whose bytes are returned; the others are only compared.
        given: Bytes of files that were read already.

    Raises:
        DataError: The configuration is damaged, or a file is missing, damaged or was changed.
        FileNotFoundError: There is no ``config.json``, or no file of a wanted name.
        OSError: A file cannot be read.
    """
    contents = dict(given or {})
    config, files = _read_config(folder)
    for name in [name for name in wanted if name not in contents]:
        if name in files and not (folder / name).exists():
            raise DataError(_missing(folder, name))
        contents[name] = _bytes(folder / name)
    for name, want in files.items():
        if name not in contents and not (folder / name).exists():
            raise DataError(_missing(folder, name))
        have = _sha256(contents[name]) if name in contents else file_sha256(folder / name)
        if have != want:
            raise DataError(f"{folder} is a damaged bundle: {_changed(name)}")
    return CheckedBundle(config, frozenset(files), contents)


def _changed(path: Path | str, again: str = TRAIN) -> str:
    return f"{path} was changed after it was written, or is damaged; fix: {again}"


def _missing(folder: Path, name: str) -> str:
    return f"{folder} is no bundle: {name} is missing; fix: {TRAIN}"


def _read_config(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    path = folder / CONFIG_FILE
    data = read_regular(path, MAX_CONFIG_BYTES)
    try:
        config = parse_json(data, path.name, fix=TRAIN)
    except DataError as error:
        raise DataError(f"{path} is damaged ({error})") from error
    if not isinstance(config, dict):
        raise DataError(f"{folder} is a damaged bundle ({CONFIG_FILE} holds no mapping); fix: {TRAIN}")
    if config.get("format", FORMAT) != FORMAT:
        raise DataError(must(f"{folder} format", str(FORMAT), config["format"], "update Atypia"))
    if FILES not in config and CONFIG_SHA256 not in config:
        return config, {}
    files, own = config.pop(FILES, None), config.pop(CONFIG_SHA256, None)
    entry = f'"{CONFIG_SHA256}": "{own}"'.encode()
    blank = f'"{CONFIG_SHA256}": "{ZEROS}"'.encode()
    if not isinstance(own, str) or data.count(entry) != 1 or _sha256(data.replace(entry, blank)) != own:
        raise DataError(_changed(path))
    if not isinstance(files, dict) or not files or any(Path(name).name != name for name in files):
        raise DataError(f"{folder} is a damaged bundle ({FILES} names no files); fix: {TRAIN}")
    return config, files


# Exported files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightsFile:
    """The file beside an ONNX network that holds its weights, where one file cannot.

    Attributes:
        name: Its name, in the network's folder.
        sha256: Of its bytes, 64 hex digits.
    """

    name: str
    sha256: str


def sealed_onnx(data: bytes, weights: WeightsFile | None = None) -> bytes:
    """An ONNX file with its hash at its end, and before it that of the file of its weights.

    Args:
        data: A serialised ``ModelProto`` whose domain is :data:`SEALED`.
        weights: Where its weights are, if they are in a file of their own.
    """
    assert SEALED.encode() in data[:BEGINNING]
    if weights is not None:
        said = f"{weights.sha256} {weights.name}".encode()
        entry = b"\x0a\x0eatypia.weights\x12" + _varint(len(said)) + said
        data += b"\x72" + _varint(len(entry)) + entry
        assert weights_file(data + ONNX_END + bytes(HEX)) == weights
    data += ONNX_END
    return data + _sha256(data).encode()


def weights_file(data: bytes) -> WeightsFile | None:
    """The file that holds an exported ONNX network's weights; None if it holds them itself.

    Args:
        data: The network's file.
    """
    end = len(data) - HEX - len(ONNX_END)
    found = WEIGHTS_END.search(data[max(0, end - BEGINNING) : max(0, end)])
    return None if found is None else WeightsFile(found[2].decode(errors="replace"), found[1].decode())


def _varint(number: int) -> bytes:
    parts = b""
    while number >= 0x80:
        parts, number = parts + bytes([number & 0x7F | 0x80]), number >> 7
    return parts + bytes([number])


def sealed_xml(data: bytes, weights: bytes) -> bytes:
    """An OpenVINO ``.xml`` with the hashes of its weights and of itself at its end.

    Args:
        data: What OpenVINO wrote.
        weights: Its ``model.bin``.
    """
    head, rest = data.split(b"\n", 1)
    data = head + f"\n<!-- {SEALED} -->\n".encode() + rest.rstrip() + b"\n"
    data += f"<!-- {BIN_FILE} {_sha256(weights)} atypia.sha256 ".encode()
    close = b" -->\n"
    return data + _sha256(data + close).encode() + close


def check_exported(data: bytes, where: Path | str, weights: bytes | None = None) -> bool:
    """Compares an exported file with the hash that it ends with.

    Args:
        data: Its bytes.
        where: The file, for messages.
        weights: Bytes of the weights of an ``.xml``.

    Returns:
        Whether it has one; False for files that were written before hashes existed.

    Raises:
        DataError: It is damaged or was changed.
    """
    end = len(data) - HEX
    if data[max(0, end - len(ONNX_END)) : max(0, end)] == ONNX_END:
        if _sha256(data[:end]).encode() != data[end:]:
            raise DataError(_changed(where, EXPORT))
        return True
    found = XML_END.search(data, max(0, len(data) - BEGINNING))
    if found is not None:
        if _sha256(data[: found.start(2)] + data[found.end(2) :]).encode() != found[2]:
            raise DataError(_changed(where, EXPORT))
        if weights is None or _sha256(weights).encode() != found[1]:
            raise DataError(_changed(f"{BIN_FILE} of {where}", EXPORT))
        return True
    if SEALED.encode() in data[:BEGINNING]:
        raise DataError(_changed(where, EXPORT))
    return False


@dataclass(frozen=True)
class ExportedNetwork:
    """An exported network, read once and compared with its hashes.

    Attributes:
        path: The file.
        data: Its bytes.
        beside: Bytes of the files that it refers to, by name.
        config: What the ``config.json`` beside it holds; None if there is none.
        hashed: Whether there was a hash to compare with.
    """

    path: Path
    data: bytes = field(repr=False)
    beside: dict[str, bytes] = field(repr=False)
    config: dict[str, Any] | None
    hashed: bool

    @property
    def shares_weights(self) -> bool:
        """Whether it reads its weights from the bundle's file."""
        return MODEL_FILE in self.beside

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A copy of the compared bytes, for libraries that read only files, in a folder private to this user."""
        with tempfile.TemporaryDirectory(prefix="atypia-", ignore_cleanup_errors=True) as folder:
            for name, data in {self.path.name: self.data, **self.beside}.items():
                (Path(folder) / name).write_bytes(data)
            yield Path(folder) / self.path.name


def read_network(path: Path) -> ExportedNetwork:
    """Reads an exported network, alone or in its bundle's folder, with what it refers to.

    Raises:
        DataError: A file that the answer depends on is missing, damaged or was changed.
    """
    try:
        data = _bytes(path)
        given = {path.name: data}
        if path.suffix == ".xml":
            given[BIN_FILE] = _bytes(path.with_suffix(".bin"))
        outside = weights_file(data) if path.suffix == ".onnx" else None
        if outside is not None:
            given[outside.name] = _bytes(path.with_name(outside.name))
            if _sha256(given[outside.name]) != outside.sha256:
                raise DataError(_changed(f"{outside.name} of {path}", EXPORT))
        shares = path.suffix == ".onnx" and MODEL_FILE.encode() in data
        if not (path.parent / CONFIG_FILE).is_file():
            if shares:
                raise DataError(f"{path} reads its weights from its bundle, of which {CONFIG_FILE} is missing; "
                                "fix: name the bundle's whole folder")  # fmt: skip
            hashed = check_exported(data, path, given.get(BIN_FILE))
            return ExportedNetwork(path, data, {n: c for n, c in given.items() if n != path.name}, None, hashed)
        bundle = read_bundle(path.parent, (MODEL_FILE,) if shares else (), given)
    except FileNotFoundError as error:
        name = Path(error.filename or path).name
        raise DataError(f"{path} cannot be opened ({name} is missing); fix: export it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); fix: name a file that you may read") from error
    own = check_exported(data, path, given.get(BIN_FILE))
    # A bundle's hashes cover the files that were written with it; files exported into its folder later have their own.
    hashed = own or path.name in bundle.names
    beside = {name: content for name, content in bundle.contents.items() if name != path.name}
    return ExportedNetwork(path, data, beside, bundle.config, hashed)


def hashed_names(folder: Path) -> frozenset[str]:
    """Files that a bundle's configuration holds hashes of; none where it is not a bundle, or is damaged."""
    try:
        return frozenset(_read_config(folder)[1])
    except (OSError, DataError):
        return frozenset()


def old_form(path: Path) -> str | None:
    """A note where a classifier was written before its files held hashes; None if they do.

    Args:
        path: A bundle's folder or an exported file; damage is not looked for.
    """
    try:
        if path.is_dir() and (path / CONFIG_FILE).is_file():
            hashed = bool(_read_config(path)[1])
        else:
            file = next(iter(sorted(path.glob("model.xml"))), path) if path.is_dir() else path
            hashed = SEALED.encode() in _beginning(file)
            if not hashed and (file.parent / CONFIG_FILE).is_file():
                hashed = file.name in _read_config(file.parent)[1]
    except (OSError, DataError):
        return None  # opening it raises the error
    if hashed:
        return None
    again = "train or export it again" if path.is_dir() else "export it again"
    return f"{path} was written before classifiers held hashes: not every damage of it is noticed; fix: {again}"


def _beginning(file: Path) -> bytes:
    with open_regular(file) as opened:
        return opened.read(BEGINNING)


def _bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _sha256(data: bytes) -> str:
    return sha256(data).hexdigest()
