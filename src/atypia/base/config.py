"""Strict configuration: unknown keys are refused, every value has a type and a range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from atypia.base.errors import LONGEST_SHOWN, InputError, brief, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import MAX_YAML_BYTES, parse_yaml

M = TypeVar("M", bound="StrictModel")


class StrictModel(BaseModel):
    """Base of every configuration: immutable, strict types, finite numbers, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds one mapping.

    Raises:
        InputError: The file is absent, not a regular file, is not YAML, holds something else, or exceeds the limits of
            :func:`atypia.base.files.structured.parse_yaml`.
    """
    try:
        text = read_regular(path, MAX_YAML_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; fix: check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); fix: name a file that you may read") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    loaded = parse_yaml(text, str(path))
    if not isinstance(loaded, dict):
        raise InputError(must(str(path), "a YAML mapping", type(loaded).__name__, "see a shipped file"))
    return loaded


def shipped_yaml(*folders: str) -> dict[str, Path]:
    """Name and file of every YAML file in a folder of the package, in alphabetical order."""
    folder = Path(str(resources.files("atypia"))).joinpath(*folders)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_shipped(
    what: str, reference: str, shipped: Mapping[str, Path], overrides: Iterable[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Reads a shipped file by its name, or another by its path, and applies ``key=value`` overrides.

    Args:
        what: What it is, for the message («recipe»).
        reference: A name in ``shipped``, or the path of a YAML file.
        shipped: As :func:`shipped_yaml` gives it.
        overrides: As ``--set`` takes them.

    Returns:
        The file's stem and its values.

    Raises:
        InputError: No such name and no YAML file, or an override does not fit.
    """
    path = shipped_or_named(what, reference, shipped)
    return path.stem, with_overrides(read_yaml(path), overrides)


def shipped_or_named(what: str, reference: str, shipped: Mapping[str, Path]) -> Path:
    """The YAML file that a reference stands for; arguments as of :func:`read_shipped`.

    Raises:
        InputError: No such name and no YAML file.
    """
    path = shipped.get(reference) or Path(reference)
    if reference not in shipped and path.suffix not in {".yaml", ".yml"}:
        raise InputError(f"unknown {what} {reference!r}; choices: {', '.join(shipped)}, or a .yaml file")
    return path


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Applies ``--set a.b=value`` overrides to nested values.

    Args:
        values: Nested mapping; not changed.
        overrides: ``key=value`` strings; the key may be dotted, the value is read as YAML.

    Returns:
        A new nested dictionary.

    Raises:
        InputError: An override has no ``=`` or steps through something that is not a mapping.

    >>> with_overrides({"probe": {"strengths": [1]}}, ["probe.strengths=[1, 2]"])
    {'probe': {'strengths': [1, 2]}}
    >>> with_overrides({"ema": {"debias": True}}, ["ema=null", "ema.momentum=0.9"])
    {'ema': {'momentum': 0.9}}
    """
    changed = _copy(values)
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or not key:
            raise InputError(must("--set", "key=value", override, "for instance --set seed=1"))
        node = changed
        *parents, last = key.split(".")
        for parent in parents:
            if node.get(parent) is None:  # absent, or turned off by an earlier `key=null`
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                raise InputError(must("--set", f"a key below a mapping, {parent!r} is none", key, "see the recipe"))
        try:
            node[last] = parse_yaml(text, "it")
        except InputError as error:
            raise InputError(f"`--set {override[:LONGEST_SHOWN]}` has no valid YAML value: {error}") from error
    return changed


def _copy(node: Any) -> Any:
    return {k: _copy(v) for k, v in node.items()} if isinstance(node, Mapping) else node


def parse(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Validates values against a schema, naming every fault with its key.

    Args:
        model: The schema.
        values: What to validate.
        where: Where the values come from, for the message.

    Raises:
        InputError: One line a fault: key, what is wrong, and for an unknown key the known ones.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_fault(model, fault) for fault in error.errors()]
        raise InputError(f"{where} is not valid:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _fault(model: type[BaseModel], fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "(top level)"
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, fault["loc"][:-1])
        return f"`{key}` is not a known key; known here: {', '.join(known)}"
    return f"`{key}`: {fault['msg']}, got {brief(fault.get('input'))}"


def _known_keys(model: type[BaseModel], parents: tuple[Any, ...]) -> list[str]:
    for parent in parents:
        field = model.model_fields.get(str(parent))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ["see the documentation"]
        model = inner
    return list(model.model_fields)
