"""Configuration: unknown keys and wrong values are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from atypia.base.config import StrictModel, parse, read_yaml, with_overrides
from atypia.base.errors import InputError


class Optimiser(StrictModel):
    rate: float = Field(default=0.1, gt=0)
    steps: int = Field(default=10, ge=1)


class Recipe(StrictModel):
    name: str
    optimiser: Optimiser = Optimiser()


def test_values_are_parsed_with_defaults() -> None:
    recipe = parse(Recipe, {"name": "probe", "optimiser": {"rate": 1e-3}}, "recipe.yaml")
    assert recipe == Recipe(name="probe", optimiser=Optimiser(rate=1e-3, steps=10))


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe(name="probe").name = "other"  # type: ignore[misc]


def test_every_fault_is_named_with_its_key() -> None:
    values = {"optimiser": {"rate": -1, "steps": "many", "momentum": 0.9}, "nmae": "probe"}
    with pytest.raises(InputError) as caught:
        parse(Recipe, values, "recipe.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == "recipe.yaml is not valid:"
    text = "\n".join(sorted(lines))
    assert "`name`: Field required" in text
    assert "`nmae` is not a known key; known here: name, optimiser" in text
    assert "`optimiser.momentum` is not a known key; known here: rate, steps" in text
    assert "`optimiser.rate`: Input should be greater than 0, got -1" in text
    assert "`optimiser.steps`: Input should be a valid integer" in text
    assert len(lines) == 5


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e400"])
def test_a_number_that_is_not_finite_is_refused_with_its_key(value: str) -> None:
    with pytest.raises(InputError, match="`rate`: Input should be a finite number"):
        parse(Optimiser, with_overrides({}, [f"rate={value}"]), "here")


def test_not_a_number_is_refused_where_a_range_is_given() -> None:
    with pytest.raises(InputError, match=r"`rate`: Input should be a finite number, got nan"):
        parse(Optimiser, {"rate": float("nan")}, "here")


def test_yaml_is_read_with_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: probe\r\noptimiser:\r\n  rate: 0.5\r\n")
    assert read_yaml(file) == {"name": "probe", "optimiser": {"rate": 0.5}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"- 1\n- 2\n", "must be a YAML mapping, got list; fix: "),
        (b"", "must be a YAML mapping, got NoneType"),
        (b"!!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_yaml(file)


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.yaml does not exist; fix: check the path"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); fix: name a file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=1", {"a": 1, "b": {"c": 2}}),
        ("b.c=[1, 2]", {"b": {"c": [1, 2]}}),
        ("b.d=null", {"b": {"c": 2, "d": None}}),
        ("x.y.z=true", {"b": {"c": 2}, "x": {"y": {"z": True}}}),
        ("b=1e-3", {"b": "1e-3"}),
        ("b=1.0e-3", {"b": 0.001}),
        ("a=", {"a": None, "b": {"c": 2}}),
        ("a=x=y", {"a": "x=y", "b": {"c": 2}}),
    ],
)
def test_overrides_are_dotted_keys_with_yaml_values(override: str, expected: dict[str, object]) -> None:
    original = {"b": {"c": 2}}
    assert with_overrides(original, [override]) == expected
    assert original == {"b": {"c": 2}}


def test_a_number_in_the_short_form_reaches_a_float_field() -> None:
    values = with_overrides({"name": "probe"}, ["optimiser.rate=1e-3"])
    assert parse(Recipe, values, "--set").optimiser.rate == 1e-3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", r"`--set` must be key=value, got a; fix: for instance --set seed=1"),
        ("=1", r"`--set` must be key=value"),
        ("b.c.d=1", r"a key below a mapping, 'c' is none"),
        ("a=[1", r"`--set a=\[1` has no valid YAML value"),
    ],
)
def test_bad_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_overrides({"b": {"c": 2}}, [override])


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3), st.sampled_from("abc"), st.integers())
def test_the_last_override_wins_and_others_stay(values: dict[str, int], key: str, value: int) -> None:
    changed = with_overrides(values, [f"{key}=0", f"{key}={value}"])
    assert changed == {**values, key: value}
