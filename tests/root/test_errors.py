"""Errors name what is wrong and the remedy, and carry the exit code."""

from __future__ import annotations

import pytest

from atypia.base import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.AtypiaError, 1),
        (errors.WorkError, 1),
        (errors.InputError, 2),
        (errors.DataError, 2),
        (errors.LeakageError, 2),
        (errors.AbsentError, 2),
    ],
)
def test_exit_codes(kind: type[errors.AtypiaError], code: int) -> None:
    with pytest.raises(errors.AtypiaError) as caught:
        raise kind("message")
    assert caught.value.exit_code == code


def test_wrong_input_is_a_value_error_and_failed_work_is_not() -> None:
    assert issubclass(errors.LeakageError, ValueError)
    assert not issubclass(errors.WorkError, ValueError)


@pytest.mark.parametrize(
    ("got", "shown"),
    [(0, "0"), ("shape (2,)", "shape (2,)"), ([1, "a"], "[1, 'a']"), (None, "None"), (0.5, "0.5")],
)
def test_must_words_any_value(got: object, shown: str) -> None:
    expected = f"`x` must be positive, got {shown}; fix: pass --x 1"
    assert errors.must("x", "positive", got, "pass --x 1") == expected
