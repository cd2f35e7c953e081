"""Selection rules: greater is better, whatever the metric's own direction."""

from __future__ import annotations

from typing import get_args

import pytest

from atypia.base.errors import InputError
from atypia.training.epochs.selection import SELECTIONS
from atypia.training.sections import SelectConfig

GOOD = {"balanced_accuracy": 0.8, "auroc": 0.9, "loss": 0.4}
BAD = {"balanced_accuracy": 0.7, "auroc": 0.8, "loss": 0.6}


def test_the_schema_offers_exactly_the_registered_rules() -> None:
    assert set(get_args(SelectConfig.model_fields["metric"].annotation)) == set(SELECTIONS)


@pytest.mark.parametrize("name", list(SELECTIONS))
def test_the_better_epoch_scores_higher(name: str) -> None:
    assert SELECTIONS[name](GOOD) > SELECTIONS[name](BAD)


@pytest.mark.parametrize("name", list(SELECTIONS))
def test_a_rule_looks_at_its_own_metric_only(name: str) -> None:
    mixed = {key: (GOOD if key == name else BAD)[key] for key in GOOD}
    assert SELECTIONS[name](mixed) == SELECTIONS[name](GOOD)


def test_values() -> None:
    assert SELECTIONS["loss"](GOOD) == -0.4
    assert SELECTIONS["auroc"](GOOD) == 0.9
    with pytest.raises(InputError, match=r"unknown selection rule 'accuracy'"):
        SELECTIONS["accuracy"]
