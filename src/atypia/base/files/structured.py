"""JSON and YAML that somebody else wrote, under limits: what is hostile is refused before it costs anything.

A few hundred bytes of YAML aliases stand for gigabytes; a few thousand brackets exhaust the stack of
whatever walks the values later; a number of ten thousand digits fits no column; the same key twice
means two things. Every file of a user goes through :func:`parse_json` or :func:`parse_yaml`, which
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
"""Most lists and mappings within each other. GeoJSON needs 8, a recipe 5."""
MAX_DIGITS: Final = 40
"""Most digits of a whole number: above any count, id or position, below what costs anything."""
MAX_YAML_BYTES: Final = 1 << 20
MAX_YAML_NODES: Final = 20_000
"""Most values of a YAML file once its aliases are put in."""
_BLOCK: Final = 1 << 20
_LARGE_NUMBER: Final = re.compile(rb"\d{%d}|\d[eE]\+?\d{3}" % (MAX_DIGITS + 1))
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)


def parse_json(text: str | bytes, name: str, *, fix: str = "export it again", finite: bool = True) -> Any:
    """Reads JSON, under limits.

    Args:
        text: What a file holds; bytes are UTF-8, with or without a byte order mark.
        name: What messages call it.
        fix: The remedy that messages name.
        finite: Whether NaN and infinite numbers are refused. QuPath writes NaN for measurements that it has not.

    Raises:
        DataError: It is no JSON, is nested deeper than :data:`MAX_DEPTH`, has a whole number of more than
            :data:`MAX_DIGITS` digits, half of a character, a key twice in one object, or (``finite``) a number that
            is none.
    """
    try:
        raw = text if isinstance(text, bytes) else text.encode("utf-8")
        depth = _json_depth(raw)
        if depth > MAX_DEPTH:
            raise ValueError(f"{depth:,} levels, at most {MAX_DEPTH} are read")
        # Looking at every number costs time, and hardly a file has one that has to be looked at.
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
        text: What a file or an option holds.
        name: What messages call it.

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
    ) as error:  # PyYAML's, where a tag does not fit its value
        raise DataError(f"{name} is not valid YAML: a value does not fit its tag ({error})") from error


def _json_depth(raw: bytes) -> int:
    """How deep lists and objects lie in each other; brackets in strings do not count."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return 0  # it cannot be deeper than it has brackets
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
    """Refuses half of a character (a lone surrogate), which no file takes."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


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
    """The class of the YAML loader; made when it is first needed, as not every command reads YAML."""
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
        # A date stays the text that was written: no value of Atypia is one, and JSON has none.
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
                        raise ConstructorError(None, None, "a key that is no text", key.start_mark)
                    name = (key.tag, key.value)
                    if name in seen and key.tag != "tag:yaml.org,2002:merge":
                        raise ConstructorError(None, None, f"the key {key.value[:80]!r} occurs twice", key.start_mark)
                    seen.add(name)
            found = super().construct_mapping(node, deep)
            for key in found:
                if not isinstance(key, str):
                    raise ConstructorError(
                        None, None, f"the key {str(key)[:80]} is no text; fix: put it in quotes", node.start_mark
                    )
            return found

        def construct_yaml_int(self, node: Any) -> int:
            text = self.construct_scalar(node)
            if len(text) > MAX_DIGITS:
                raise ConstructorError(None, None, f"a number of {len(text):,} characters", node.start_mark)
            return super().construct_yaml_int(node)

        def construct_yaml_float(self, node: Any) -> float:
            value = super().construct_yaml_float(node)
            # What is written as infinite or as no number is for the schema to refuse, which names the key.
            if not math.isfinite(value) and len(node.value) > len("+.inf"):
                raise ConstructorError(None, None, "a number that is too large", node.start_mark)
            return value

    def _count(root: Node) -> None:
        """Counts values as if every alias were written out; parts are counted once and then known."""
        sizes: dict[int, int] = {}
        open_: set[int] = set()

        def size(node: Node) -> int:
            if isinstance(node, ScalarNode):
                return 1
            if id(node) in open_:
                raise ValueError("an alias stands within what it stands for")
            if id(node) not in sizes:
                open_.add(id(node))
                parts = node.value if isinstance(node, SequenceNode) else [part for pair in node.value for part in pair]
                sizes[id(node)] = 1 + sum(size(part) for part in parts)
                open_.discard(id(node))
            if sizes[id(node)] > MAX_YAML_NODES:
                raise ValueError(f"more than {MAX_YAML_NODES:,} values once its aliases are put in")
            return sizes[id(node)]

        size(root)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader
