"""Seeds: the same everywhere, different for every use."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atypia.base.seeds import derive_seed, generator

NAMES = st.lists(st.one_of(st.text(max_size=8), st.integers()), max_size=4)


def test_a_seed_is_what_its_definition_says() -> None:
    digest = hashlib.blake2b(b"7\x1ffold\x1f3", digest_size=4).digest()
    assert derive_seed(7, "fold", 3) == int.from_bytes(digest, "little")


@given(st.integers(-5, 2**40), NAMES)
def test_seeds_are_32_bit_and_repeatable(seed: int, names: list[object]) -> None:
    value = derive_seed(seed, *names)
    assert 0 <= value < 2**32
    assert derive_seed(seed, *names) == value


def test_different_uses_have_different_seeds() -> None:
    uses = [(seed, kind, i) for seed in range(10) for kind in ("fold", "sampler") for i in range(100)]
    assert len({derive_seed(*use) for use in uses}) == len(uses)
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")
    assert derive_seed(0, "a") != derive_seed(0, "a", "")
    assert derive_seed(1, 2) != derive_seed(12)


def test_another_process_with_another_hash_seed_derives_the_same() -> None:
    code = "from atypia.base.seeds import derive_seed; print(derive_seed(3, 'phantom', 5))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": s}, capture_output=True, text=True, check=True
        )
        for s in ("1", "2")
    ]
    assert {int(run.stdout) for run in runs} == {derive_seed(3, "phantom", 5)}


def test_generators_repeat_and_are_independent_by_name() -> None:
    a, again, other = (generator(0, name).random(1000) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(a, again)
    assert abs(np.corrcoef(a, other)[0, 1]) < 0.1
