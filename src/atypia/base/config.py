"""Strict configuration: unknown keys are refused, every value has a type and a range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from atypia.base.errors import LONGEST_SHOWN, InputError, brief, must
from atypia.base.files.regularfiles import read_regular
from atypia.base.files.structured import MAX_YAML_BYTES, parse_yaml

M = TypeVar("M", bound="StrictModel")
CHOSEN = "chosen"
"""Type of the errors of :func:`chosen`."""


PAPER: Final = "paper"
"""Key of what a recipe or study says of its paper (:mod:`atypia.evaluation.papers`): no part of its values, so that no
run's identity depends on it."""


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


def read_settings(path: Path) -> dict[str, Any]:
    """The values of a recipe's or study's file: all but what it says of its paper (:data:`PAPER`).

    Raises:
        InputError: As of :func:`read_yaml`.
    """
    return {key: value for key, value in read_yaml(path).items() if key != PAPER}


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
    return path.stem, with_overrides(read_settings(path), overrides)


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
    changed = dict(values)
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or not key:
            raise InputError(must("--set", "key=value", override, "for instance --set seed=1"))
        try:
            value = parse_yaml(text, "it")
        except InputError as error:
            raise InputError(f"`--set {override[:LONGEST_SHOWN]}` has no valid YAML value: {error}") from error
        changed = with_value(changed, key, value, "--set")
    return changed


def with_value(values: Mapping[str, Any], key: str, value: Any, what: str = "key") -> dict[str, Any]:
    """Sets a dotted key; what is not on its way is shared with ``values``, which stay as they are.

    In a list of mappings that have a ``name``, a step of the key is such a name: the entry is changed, added where
    there is none, and taken out where the value is None.

    Args:
        values: Nested mapping.
        key: For instance ``optimiser.lr`` or ``terms.irm.weight``.
        value: What is set.
        what: What the key came by, for messages.

    Raises:
        InputError: A step goes through something that is neither, or a name is there twice.

    >>> with_value({"terms": [{"name": "irm", "weight": 1}]}, "terms.irm.weight", 10)
    {'terms': [{'name': 'irm', 'weight': 10}]}
    >>> with_value({"terms": [{"name": "irm", "weight": 1}]}, "terms.irm", None)
    {'terms': []}
    """
    return _stepped(values, key.split("."), value, what, key)


def _stepped(node: Any, steps: list[str], value: Any, what: str, key: str, above: str = "") -> Any:
    if not steps:
        return value
    first, *rest = steps
    if node is None:  # absent, or turned off by an earlier `key=null`
        node = {}
    if isinstance(node, Mapping):
        return {**node, first: _stepped(node.get(first), rest, value, what, key, first)}
    if _are_named(node):
        return _named(node, first, rest, value, what, key)
    raise InputError(must(what, f"a key below a mapping, {above!r} is none", key, "see the recipe"))


def _are_named(node: Any) -> bool:
    return isinstance(node, list | tuple) and all(isinstance(item, Mapping) and "name" in item for item in node)


def _named(node: Any, name: str, rest: list[str], value: Any, what: str, key: str) -> list[Any]:
    places = [place for place, item in enumerate(node) if item["name"] == name]
    if len(places) > 1:
        raise InputError(
            must(what, f"the name of one entry, {name!r} is there {len(places)} times", key, "set the list")
        )
    changed = list(node)
    if rest:
        new = _stepped(changed[places[0]] if places else {"name": name}, rest, value, what, key, name)
    else:
        new = {"name": name, **value} if isinstance(value, Mapping) else value
    if not places:
        return changed if new is None else [*changed, new]
    changed[places[0] : places[0] + 1] = [] if new is None else [new]
    return changed


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


def as_named_list(value: Any) -> Any:
    """A mapping of names to options as a list of mappings with a ``name``; None turns one off; all else as it is.

    >>> as_named_list({"irm": {"weight": 10}, "coral": None})
    [{'name': 'irm', 'weight': 10}]
    """
    if not isinstance(value, Mapping):
        return value
    return [
        {"name": name, **options} if isinstance(options, Mapping) else options
        for name, options in value.items()
        if options is not None
    ]


def chosen(
    values: Any, base: type[M], schema_of: Callable[[str], type[M]], kind: str, where: str, default: str | None = None
) -> M:
    """Validates ``{name: …, option: …}`` against the schema of what it names; for a validator of a larger schema.

    Args:
        values: What was given; options that were validated already are given back.
        base: Base of all schemas of the kind.
        schema_of: Schema of a name; raises InputError where there is none.
        kind: What is named, for messages («term»).
        where: Key of the values, for messages.
        default: The name where none is given.

    Raises:
        PydanticCustomError: With one line a fault, which :func:`parse` gives as they are.
    """
    if isinstance(values, base):
        return values
    name = values.get("name", default) if isinstance(values, Mapping) else None
    article = "an" if kind[0] in "aeiou" else "a"
    try:
        if not isinstance(values, Mapping) or not isinstance(name, str):
            raise InputError(
                must(where, f"a mapping with the name of {article} {kind}", values, "for instance {name: …}")
            )
        schema = schema_of(name)
        return schema.model_validate(values)
    except ValidationError as error:
        text = "\n  ".join(_fault(schema_of(str(name)), fault, where) for fault in error.errors())
    except InputError as error:
        text = str(error)
    raise PydanticCustomError(CHOSEN, "{text}", {"text": text})


def _fault(model: type[BaseModel], fault: Any, where: str = "") -> str:
    key = ".".join([*([where] if where else []), *(str(part) for part in fault["loc"])]) or "(top level)"
    if fault["type"] == CHOSEN:
        return fault["msg"]
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
