"""JSON and YAML under limits."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import atypia
from atypia.base.errors import DataError
from atypia.base.files.structured import MAX_DEPTH, parse_json, parse_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(PLAIN, st.sampled_from([None, 2]))
def test_what_is_plain_json_is_read_as_python_reads_it(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert parse_json(text, "x") == json.loads(text) == parse_json(text.encode(), "x")


def _deep(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_deep(MAX_DEPTH + 1), r"x is no valid JSON \(101 levels, at most 100 are read\); fix: export it again"),
        ("[" * 1_000_000, "1,000,000 levels"),
        ('{"a":' * 500, "500 levels"),
        ("[" + "9" * 6000 + "]", "a whole number of 6,000 digits"),
        ("[" + "9" * 41 + "]", "a whole number of 41 digits"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e400]", "1e400 is too large"),
        ("[" + "9" * 400 + ".5]", "too large for a number"),
        ('["\\ud800"]', "surrogates not allowed"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice in one object"),
        ("", "Expecting value"),
        (b"\xff", "no UTF-8"),
        ("\ud800", "no UTF-8"),
    ],
)
def test_hostile_json_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_json(text, "x")


def test_what_only_looks_hostile_is_read() -> None:
    assert parse_json(_deep(MAX_DEPTH), "x")
    text = json.dumps(["[" * 5000, '"[' * 5000, "\\[" * 5000, "9" * 6000, "1e999", "😀"])
    assert parse_json(text, "x") == json.loads(text)
    assert parse_json(b"\xef\xbb\xbf[1]", "x") == [1]
    assert parse_json("[NaN, 1e400]", "x", finite=False)[1] == float("inf")


def test_every_shipped_file_is_read_as_before() -> None:
    files = sorted(Path(atypia.__file__).parent.rglob("*.yaml"))
    assert len(files) > 10
    for file in files:
        text = file.read_text("utf-8")
        assert parse_yaml(text, file.name) == yaml.safe_load(text)


def _bomb(form: str) -> str:
    names = "abcdefghijk"
    lines = [f"a: &a {form.format('x, x')}"]
    lines += [f"{at}: &{at} {form.format(', '.join([f'*{before}'] * 9))}" for before, at in pairwise(names)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_bomb("[{}]"), "more than 20,000 values after expanding its aliases"),
        ("a: &a {x: 1}\n" + "\n".join(f"{y}: &{y} {{<<: [{', '.join([f'*{x}'] * 9)}]}}" for x, y in zip("abcdefgh", "bcdefghi", strict=True)), "after expanding its aliases"),
        ("a: &a [*a]", "an alias refers to itself"),
        ("[" * 100_000, "more than 100 levels"),
        ("- " * 100_000, "more than 100 levels"),
        ("a: " + "9" * 6000, "a number of 6,000 characters"),
        ("a: " + "1:" * 3000 + "1", "a number of 6,001 characters"),
        ("a: " + "9" * 400 + ".0", "a number that is too large"),
        ("a: 1\na: 2", "the key 'a' occurs twice"),
        ("a: {b: 1, 'b': 2}", "the key 'b' occurs twice"),
        ("1: a", "the key 1 is not text"),
        ("yes: a", "the key True is not text"),
        ("? [a]\n: b", "a key that is not text"),
        ("a: !!binary eA==", "could not determine a constructor"),
        ("a: !!timestamp 2020-01-01", "could not determine a constructor"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        ("a: !!bool x", "a value does not fit its tag"),
        ('a: "\\uD800"', "half of a character"),
        ('a: "\\UFFFFFFFF"', "is not valid YAML"),
        ("x" * 2_000_000, "YAML of at most 1,048,576 characters"),
        ("- a\n" * 30_000, "more than 20,000 values"),
    ],
)  # fmt: skip
def test_hostile_yaml_is_refused(text: str, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            parse_yaml(text, "x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20


def test_dates_stay_texts_and_aliases_are_taken() -> None:
    text = "a: 2020-13-45\nb: 2020-01-01\nc: &c {x: 1}\nd: {<<: *c, y: 2}\ne: {<<: *c, x: 3}\nf: 1_000"
    assert parse_yaml(text, "x") == {
        "a": "2020-13-45", "b": "2020-01-01", "c": {"x": 1}, "d": {"x": 1, "y": 2}, "e": {"x": 3}, "f": 1000,
    }  # fmt: skip
