"""The record of laboratories that were left out, and the errors that follow from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from atypia.base.errors import InputError
from atypia.inference.bundles.decision import Decision, fit_decision
from atypia.inference.bundles.left_out import LEFT_OUT_KEY, SCORES, LeftOutRecord, errors_at, recorded
from atypia.inference.classifier import Classifier
from atypia.statistics.error_rates import pooled_errors


def figures(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.25).astype(int)
    return labels, rng.normal(2.4 * labels - 1.2 + shift, 1.0)


@pytest.fixture(scope="module")
def plain() -> Decision:
    labels, logits = figures(1000, 0)
    return fit_decision(logits, labels)


@pytest.fixture(scope="module")
def known(plain: Decision) -> Decision:
    """With the record of four laboratories, in which the scores lie elsewhere."""
    sets = [figures(300, seed, shift) for seed, shift in ((1, -0.2), (2, 0.0), (3, 0.1), (4, 0.1))]
    labels, logits = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    names = [f"laboratory {i}" for i in range(4) for _ in range(300)]
    records = recorded([*names, None], [*labels, 1], [*plain.calibration.apply(logits), 0.5], plain.threshold)
    return replace(plain, fitted={**plain.fitted, LEFT_OUT_KEY: [one.as_dict() for one in records]})


def test_a_record_tells_the_errors_at_any_threshold(known: Decision) -> None:
    stored = json.loads(json.dumps(known.as_dict()))
    records = [LeftOutRecord.from_dict(one) for one in stored["fitted"][LEFT_OUT_KEY]]
    assert [one.as_dict() for one in records] == known.fitted[LEFT_OUT_KEY] and len(records) == 4
    labels, logits = figures(300, 1, -0.2)
    p = known.calibration.apply(logits)
    first = records[0]
    assert (first.atypical, first.normal) == (labels.sum(), 300 - labels.sum())
    for threshold in (known.threshold, 0.1, 0.6):
        errors = first.errors(threshold)
        assert errors.sensitivity == pytest.approx(np.mean(p[labels == 1] >= threshold), abs=1e-9)  # all are kept
        assert errors.specificity == pytest.approx(np.mean(p[labels == 0] < threshold), abs=1 / SCORES)


def test_it_corrects_by_the_laboratories(known: Decision, plain: Decision) -> None:
    found = errors_at(known)
    records = [LeftOutRecord.from_dict(one) for one in known.fitted[LEFT_OUT_KEY]]
    assert found.errors == pooled_errors([one.errors(known.threshold) for one in records])
    assert "4 laboratories that were left out" in found.words
    moved = errors_at(replace(known, threshold=0.77)).errors
    assert moved is not None and found.errors is not None and moved.sensitivity < found.errors.sensitivity
    # Without a record: the validation's shares, wider.
    unknown = errors_at(plain).errors
    assert unknown is not None and unknown.spread[0] > found.errors.spread[0]
    assert unknown.sensitivity == pytest.approx(plain.fitted["points"]["balanced"]["sensitivity"], abs=0.01)
    assert found.prior == pytest.approx(plain.fitted["figures"]["atypical"] / 1000)


def test_without_knowledge_nothing_is_corrected(plain: Decision) -> None:
    other = errors_at(replace(plain, threshold=0.7654))
    assert other.errors is None and "at the threshold 0.765 its errors are not recorded; known at" in other.words
    bare = errors_at(Decision())
    assert bare.errors is None and bare.prior is None and bare.words == "the model records no errors"
    few = recorded(["a"] * 30, [1] * 5 + [0] * 25, [0.5] * 30, 0.5)
    assert few == []


def test_a_damaged_record_is_refused(known: Decision) -> None:
    first = known.fitted[LEFT_OUT_KEY][0]
    for wrong in ({"sensitivity": 2.0}, {"n_normal": "many"}, {"scores": {"normal": [0.1]}}):
        broken = replace(known, fitted={**known.fitted, LEFT_OUT_KEY: [{**first, **wrong}]})
        with pytest.raises(InputError, match=r"left_out.*must be a list of laboratories.*fix: write the record again"):
            errors_at(broken)


def test_the_shipped_model_is_corrected_at_each_operating_point() -> None:
    shipped = Classifier.load().members[0].decision
    assert errors_at(shipped).errors is not None
    assert all(errors_at(shipped.at(name)).errors is not None for name in shipped.points)
