"""Reads untrusted JSON and YAML with limits: hostile input is refused before it uses memory or time.

A few hundred bytes of YAML aliases can expand to gigabytes; a few thousand brackets exhaust the stack of
later code; a number of ten thousand digits fits no column; a repeated key
is ambiguous. Every user file is read with :func:`parse_json` or :func:`parse_yaml`, which
return plain values: dictionaries with text keys, lists, texts, numbers, booleans and null.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, Final, NoReturn

from atypia.base.errors import DataError, must

MAX_DEPTH: Final = 100
"""Deepest nesting of lists and mappings. GeoJSON needs 8, a recipe 5."""
MAX_DIGITS: Final = 40
"""Most digits of an integer: more than any count, id or position needs, few enough to be fast."""
MAX_YAML_BYTES: Final = 1 << 20
MAX_YAML_NODES: Final = 20_000
"""Most values of a YAML file after expanding its aliases."""
_BLOCK: Final = 1 << 20
_LARGE_NUMBER: Final = re.compile(rb"\d{%d}|\d[eE]\+?\d{3}" % (MAX_DIGITS + 1))
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)


def parse_json(text: str | bytes, name: str, *, fix: str = "export it again", finite: bool = True) -> Any:
    """Reads JSON, under limits.

    Args:
        text: Content of a file; bytes are UTF-8, with or without a byte order mark.
        name: Its name in messages.
        fix: The remedy in messages.
        finite: Whether NaN and infinite numbers are refused. QuPath writes NaN for missing measurements.

    Raises:
        DataError: It is not JSON, is nested deeper than :data:`MAX_DEPTH`, has a whole number of more than
            :data:`MAX_DIGITS` digits, half of a character, a key twice in one object, or (``finite``) a number that
            is none.
    """
    try:
        raw = text if isinstance(text, bytes) else text.encode("utf-8")
        depth = _json_depth(raw)
        if depth > MAX_DEPTH:
            raise ValueError(f"{depth:,} levels, at most {MAX_DEPTH} are read")
        # Checking every number takes time, and few files have one that needs checking.
        hooks: dict[str, Any] = {"object_pairs_hook": _each_once}
        if finite:
            hooks["parse_constant"] = _no_number
        if _LARGE_NUMBER.search(raw):
            hooks |= {"parse_int": _whole, **({"parse_float": _finite} if finite else {})}
        value = json.loads(raw.decode("utf-8-sig"), **hooks)
        if _SURROGATE.search(raw):
            _whole_characters(value)
    except DataError:
        raise
    except UnicodeError as error:
        raise DataError(f"{name} is no valid JSON (no UTF-8: {error.reason}); fix: {fix}") from error  # pyright: ignore[reportAttributeAccessIssue]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no valid JSON ({error}); fix: {fix}") from error
    return value


def parse_yaml(text: str, name: str) -> Any:
    """Reads YAML, under limits; dates stay texts, tags of other types are refused.

    Args:
        text: Content of a file or an option.
        name: Its name in messages.

    Raises:
        DataError: It is no YAML, is longer than :data:`MAX_YAML_BYTES`, nested deeper than :data:`MAX_DEPTH`, has
            more than :data:`MAX_YAML_NODES` values once aliases are put in, an alias within itself, a number
            that is too large or of more than :data:`MAX_DIGITS` digits, or a key twice in one mapping.
    """
    import yaml

    if len(text) > MAX_YAML_BYTES:
        raise DataError(must(name, f"YAML of at most {MAX_YAML_BYTES:,} characters", f"{len(text):,}", "shorten it"))
    try:
        reader = _loader()(text)
        try:
            value = reader.get_single_data()
        finally:
            reader.dispose()
        if "\\" in text:
            _whole_characters(value)
        return value
    except yaml.YAMLError as error:
        raise DataError(f"{name} is not valid YAML: {error}") from error
    except UnicodeError as error:
        raise DataError(f"{name} is not valid YAML: a text holds half of a character") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not valid YAML: {error}") from error
    except (
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:  # raised by PyYAML if a tag does not fit its value
        raise DataError(f"{name} is not valid YAML: a value does not fit its tag ({error})") from error


def _json_depth(raw: bytes) -> int:
    """Nesting depth of lists and objects; brackets in strings do not count."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return 0  # the number of brackets bounds the depth
    import numpy as np

    deepest = level = 0
    inside = False
    if b"\\" in raw:
        raw = _ESCAPED.sub(b"", raw)  # outside of strings there is none in JSON
    steps = np.zeros(256, np.int8)
    steps[[ord("["), ord("{")]] = 1
    steps[[ord("]"), ord("}")]] = -1
    for start in range(0, len(raw), _BLOCK):
        block = np.frombuffer(raw, np.uint8, min(_BLOCK, len(raw) - start), start)
        quotes = np.logical_xor.accumulate(block == ord('"')) ^ inside
        levels = level + np.cumsum(np.where(quotes, 0, steps[block]), dtype=np.int64)
        deepest, level, inside = max(deepest, int(levels.max())), int(levels[-1]), bool(quotes[-1])
    return deepest


def _whole_characters(value: Any) -> None:
    """Refuses half of a character (a lone surrogate), which cannot be written to a file."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text):,} digits, at most {MAX_DIGITS} are read")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:80]} is too large for a number")
    return value


@lru_cache(maxsize=1)
def _loader() -> Any:
    """The class of the YAML loader; created at first use, because not every command reads YAML."""
    import yaml
    from yaml.constructor import ConstructorError
    from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

    class Loader(yaml.SafeLoader):
        """:class:`yaml.SafeLoader` with plain types only, and with limits."""

        yaml_constructors = {  # noqa: RUF012  as PyYAML has it
            tag: construct
            for tag, construct in yaml.SafeLoader.yaml_constructors.items()
            if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
        }
        # Dates stay text: Atypia uses no dates, and JSON has none.
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
        depth = composed = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            self.composed += 1
            if self.composed > MAX_YAML_NODES:
                raise ValueError(f"more than {MAX_YAML_NODES:,} values")
            if self.depth > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} levels")
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

        def construct_document(self, node: Any) -> Any:
            _count(node)
            return super().construct_document(node)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if isinstance(node, MappingNode):
                seen: set[tuple[str, str]] = set()
                for key, _ in node.value:
                    if not isinstance(key, ScalarNode):
                        raise ConstructorError(None, None, "a key that is not text", key.start_mark)
                    name = (key.tag, key.value)
                    if name in seen and key.tag != "tag:yaml.org,2002:merge":
                        raise ConstructorError(None, None, f"the key {key.value[:80]!r} occurs twice", key.start_mark)
                    seen.add(name)
            found = super().construct_mapping(node, deep)
            for key in found:
                if not isinstance(key, str):
                    raise ConstructorError(
                        None, None, f"the key {str(key)[:80]} is not text; fix: put it in quotes", node.start_mark
                    )
            return found

        def construct_yaml_int(self, node: Any) -> int:
            text = self.construct_scalar(node)
            if len(text) > MAX_DIGITS:
                raise ConstructorError(None, None, f"a number of {len(text):,} characters", node.start_mark)
            return super().construct_yaml_int(node)

        def construct_yaml_float(self, node: Any) -> float:
            value = super().construct_yaml_float(node)
            # Infinity and NaN are refused by the schema, which names the key.
            if not math.isfinite(value) and len(node.value) > len("+.inf"):
                raise ConstructorError(None, None, "a number that is too large", node.start_mark)
            return value

    def _count(root: Node) -> None:
        """Counts values as if every alias were expanded; each part is counted once and cached."""
        sizes: dict[int, int] = {}
        open_: set[int] = set()

        def size(node: Node) -> int:
            if isinstance(node, ScalarNode):
                return 1
            if id(node) in open_:
                raise ValueError("an alias refers to itself")
            if id(node) not in sizes:
                open_.add(id(node))
                parts = node.value if isinstance(node, SequenceNode) else [part for pair in node.value for part in pair]
                sizes[id(node)] = 1 + sum(size(part) for part in parts)
                open_.discard(id(node))
            if sizes[id(node)] > MAX_YAML_NODES:
                raise ValueError(f"more than {MAX_YAML_NODES:,} values after expanding its aliases")
            return sizes[id(node)]

        size(root)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader
