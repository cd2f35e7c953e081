"""Linear heads, weights and what no probe can be fitted on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_info

from atypia.base.errors import InputError
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows, LinearHead, Probe, balanced_weights, check_folds, log_loss, sigmoid
from atypia.methods.parallel import map_threads


def fold(train, val=()):
    return FeatureRows(np.array(train, dtype=np.int64), np.array(val, dtype=np.int64))


def test_logits_by_hand():
    head = LinearHead(np.array([2.0, -1.0]), 0.5)
    got = head.logits(np.array([[1, 1], [0, 3]], dtype=np.float16))
    assert got.dtype == np.float64
    assert got.tolist() == [1.5, -2.5]


@given(st.lists(st.integers(0, 1), min_size=2, max_size=50).filter(lambda y: 0 < sum(y) < len(y)))
def test_balanced_weights_are_sklearns(values):
    labels = np.array(values, dtype=np.int8)
    got = balanced_weights(labels)
    assert_allclose(got, compute_sample_weight("balanced", labels))
    assert got.mean() == pytest.approx(1)
    assert got[labels == 1].sum() == pytest.approx(got[labels == 0].sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_and_log_loss_neither_overflow_nor_cancel(dtype):
    logits = np.array([-1e4, -80, -1, 0, 1, 80, 1e4], dtype=dtype)
    with np.errstate(all="raise", under="ignore"):
        p, negative, positive = (
            sigmoid(logits),
            log_loss(logits, np.zeros(7, dtype)),
            log_loss(logits, np.ones(7, dtype)),
        )
    assert p.dtype == negative.dtype == dtype
    assert_allclose(p, expit(logits.astype(np.float64)), rtol=1e-5, atol=1e-30)
    assert_allclose(positive[[0, 1, 6]], [1e4, 80, 0], rtol=1e-5)
    assert_allclose(negative[[0, 5, 6]], [0, 80, 1e4], rtol=1e-5)
    small = np.array([-2.0, 0.5, 3.0], dtype=dtype)
    assert log_loss(small, np.array([1, 0, 1], dtype=dtype)).mean() == pytest.approx(
        sklearn_log_loss([1, 0, 1], expit(small.astype(np.float64))), rel=1e-5
    )


@pytest.mark.parametrize(
    ("train", "labels", "bad_rows", "message"),
    [
        ([0, 1], [1, 1, 0, 0], [], r"`training part 1` must be of both classes, got no negative figure; fix"),
        ([2, 3], [1, 1, 0, 0], [], r"no positive figure"),
        ([0, 1, 2], [1, 0, 0, 0], [0, 2], r"`features` must be finite, got NaN or infinity in 2 rows; fix"),
        ([0, 1, 2], [1, 0, 2, 0], [], r"`labels` must be 0 or 1, got \[0, 1, 2\]"),
    ],
)
def test_check_folds_refuses(train, labels, bad_rows, message):
    features = np.ones((4, 2), dtype=np.float16)
    features[bad_rows] = np.nan
    with pytest.raises(InputError, match=message):
        check_folds(features, np.array(labels, dtype=np.int8), [fold(train)])


def test_check_folds_reads_no_row_outside_the_folds():
    features = np.ones((4, 2))
    features[3] = np.nan
    check_folds(features, np.array([1, 0, 0, 7], dtype=np.int8), [fold([0, 1], [2])])
    with pytest.raises(InputError, match="NaN or infinity in 1 row"):
        check_folds(features, np.array([1, 0, 0, 0], dtype=np.int8), [fold([0, 1], [3])])


def test_check_folds_refuses_shapes_and_no_folds():
    labels = np.array([1, 0], dtype=np.int8)
    with pytest.raises(InputError, match=r"of shape \(2, d\), got \(3, 2\)"):
        check_folds(np.ones((3, 2)), labels, [fold([0, 1])])
    with pytest.raises(InputError, match="`folds` must be at least one"):
        check_folds(np.ones((2, 2)), labels, [])


def test_the_key_of_a_fold_tells_rows_and_parts_apart():
    keys = {fold(*parts).key for parts in (([0, 1], [2]), ([0], [1, 2]), ([1, 0], [2]), ([0, 1, 2], []))}
    assert len(keys) == 4
    assert fold([0, 1], [2]).key == FeatureRows(np.array([0, 1], np.int32), np.array([2], np.int32)).key


@pytest.mark.parametrize("name", list(PROBES))
def test_every_probe_is_registered_with_strict_options(name):
    probe = PROBES[name]
    assert isinstance(probe, Probe)
    assert probe.name == name
    assert probe.parse_options({}) == probe.options_model()
    with pytest.raises(InputError, match=f"options of probe {name}"):
        probe.parse_options({"no_such_option": 1})


def test_the_base_class_fits_nothing():
    with pytest.raises(NotImplementedError, match="Probe must define fit"):
        Probe().fit_folds(np.ones((2, 1)), np.array([0, 1], np.int8), np.array(["a", "b"]), [fold([0, 1])], 0, None)  # pyright: ignore


def test_each_keeps_the_order_and_gives_back_the_threads():
    before = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    seen: set[str] = set()

    def square(value: int) -> int:
        seen.add(threading.current_thread().name)
        np.ones((8, 8)) @ np.ones((8, 8))
        return value**2

    assert list(map_threads(square, range(7), workers=3)) == [0, 1, 4, 9, 16, 25, 36]
    assert all(name.startswith("fold") for name in seen)
    assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"] == before
    assert list(map_threads(square, [])) == []


@pytest.mark.parametrize(("workers", "items"), [(None, 1), (None, 5), (1, 2), (3, 3)])
def test_a_piece_has_one_thread_whatever_runs_beside_it(workers, items):
    """Sums of more threads are rounded in another order: a fold alone would differ from the same fold beside others."""

    def threads(_: int) -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    assert list(map_threads(threads, range(items), workers)) == [{1}] * items


BESIDE_AND_ALONE = """
import numpy as np
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows

rng = np.random.default_rng(0)
x, y = rng.standard_normal((240, 96)).astype(np.float32), (np.arange(240) % 3 == 0).astype(np.int8)
x[:, 0] += y
cases, third = np.array([f"c{i % 24}" for i in range(240)]), np.arange(240) % 24 // 8
folds = [FeatureRows(np.flatnonzero(third != k), np.flatnonzero(third == k)) for k in range(3)]
for name in PROBES:
    probe, options = PROBES[name], PROBES[name].parse_options({})
    for fold, beside in zip(folds, probe.fit_folds(x, y, cases, folds, 0, options)):
        (alone,) = probe.fit_folds(x, y, cases, [fold], 0, options)
        gap = np.abs(alone.logits(x) - beside.logits(x)).max()
        print(name, gap)
"""


@pytest.mark.parametrize("kernels", ["Haswell", "SkylakeX", "Nehalem"])
def test_a_fold_alone_is_the_same_fold_beside_others_whatever_the_kernels(kernels):
    """To the last bit with AVX2 and later; older kernels add up by where an array lies in memory, which moves a logit by
    1e-12. With threads shared among the folds it was 1e-8. A BLAS that does not know the name takes its usual kernels."""
    if kernels == "SkylakeX" and "avx512f" not in cpu_flags():
        pytest.skip("this processor has no AVX-512, without which these kernels end the process")
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernels}
    done = subprocess.run([sys.executable, "-c", BESIDE_AND_ALONE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, _ in said} == set(PROBES) and len(said) == 3 * len(list(PROBES))
    assert max(float(gap) for _, gap in said) < 1e-10


def cpu_flags() -> str:
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_figure_has_the_same_logit_to_the_last_bit_in_any_batch(dtype):
    rng = np.random.default_rng(0)
    features, head = rng.standard_normal((4200, 133)).astype(dtype), LinearHead(rng.standard_normal(133), 0.3)
    whole = head.logits(features)

    np.testing.assert_allclose(whole, features.astype(np.float64) @ head.weight + 0.3, rtol=1e-12, atol=1e-12)
    for start, stop in ((0, 1), (1, 4), (5, 12), (4090, 4110), (3, 4200)):
        assert (head.logits(features[start:stop]) == whole[start:stop]).all()
    assert (head.logits(features[::-1]) == whole[::-1]).all() and head.logits(features[:0]).shape == (0,)


def test_each_raises_what_a_piece_raises_and_drops_the_rest():
    done = []

    def work(value: int) -> int:
        if value == 1:
            raise InputError("no")
        time.sleep(0.01)
        done.append(value)
        return value

    with pytest.raises(InputError, match="no"):
        list(map_threads(work, range(50), workers=1))
    assert len(done) < 49
