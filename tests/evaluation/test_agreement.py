"""Agreement of raters: published examples, scikit-learn, ties, and the votes of AMi-Br."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.statistics.agreement import agreement, cohen_kappa, fleiss_kappa, majority_of_others, vote_matrix
from atypia.statistics.metrics import UndefinedMetricWarning


def test_cohens_kappa_by_hand() -> None:
    # 20 both yes, 5 and 10 split, 15 both no: agreement 0.7, by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.5.
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1)
)
def test_cohens_kappa_is_scikit_learns(votes: list[tuple[int, int]]) -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = np.array(votes, dtype=float).T
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_fleiss_kappa_by_hand() -> None:
    # Four figures, three raters, 3, 2, 1 and 0 votes for atypical. Agreement of pairs 1, 1/3, 1/3, 1;
    # the classes' shares are ½ and ½: (2/3 − 1/2) / (1/2).
    votes = [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert fleiss_kappa(votes) == pytest.approx(1 / 3)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(5, 40))
def test_fleiss_kappa_from_its_published_form(seed: int, raters: int, n: int) -> None:
    votes = np.random.default_rng(seed).integers(0, 2, (n, raters))
    votes[0], votes[1] = 0, 1
    counts = np.stack([(votes == 0).sum(axis=1), (votes == 1).sum(axis=1)], axis=1)
    shares = counts.sum(axis=0) / (n * raters)
    observed = ((counts**2).sum() - n * raters) / (n * raters * (raters - 1))
    assert fleiss_kappa(votes) == pytest.approx((observed - (shares**2).sum()) / (1 - (shares**2).sum()))


def test_missing_votes_are_left_out() -> None:
    nan = math.nan
    votes = [[1, 1, 1], [1, 1, nan], [0, nan, 0], [0, 1, 0], [1, nan, nan]]
    # Agreement over the four figures with two votes: 1, 1, 1, 1/3. Shares of atypical: 1, 1, 0, 1/3, 1.
    share = (1 + 1 + 0 + 1 / 3 + 1) / 5
    chance = share**2 + (1 - share) ** 2
    assert fleiss_kappa(votes) == pytest.approx(((3 + 1 / 3) / 4 - chance) / (1 - chance))
    assert cohen_kappa([1, nan, 0, 1], [1, 1, 0, nan]) == 1.0


def test_each_rater_against_the_others() -> None:
    votes = vote_matrix([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1], [1, 0, 0], None, [1, None, 1]])

    found = agreement(votes)

    # Rater 0 is compared where 1 and 2 agree: figures 0, 2, 3, 5 — and 7, where only rater 2 voted.
    assert np.array_equal(majority_of_others(votes, 0), [1, np.nan, 1, 0, np.nan, 0, np.nan, 1], equal_nan=True)
    first = found.scores[0]
    assert (first.n, first.n_positive, first.ties) == (5, 3, 2)
    assert (first.sensitivity, first.specificity) == pytest.approx((2 / 3, 1 / 2))
    assert first.balanced_accuracy == pytest.approx(7 / 12)
    assert (found.n, found.n_complete, found.unanimous, found.raters) == (7, 6, 2, 3)
    assert found.unanimous_share == pytest.approx(1 / 3)
    assert found.human_level == pytest.approx(np.mean([s.balanced_accuracy for s in found.scores]))
    assert found.cohen[0][1] == found.cohen[1][0] == cohen_kappa(votes[:, 0], votes[:, 1])
    assert found.cohen[2][2] == 1.0


def test_a_third_rater_asked_only_where_the_others_differ_cannot_be_scored() -> None:
    votes = vote_matrix([[1, 1, None], [0, 0, None], [1, 0, 1], [0, 1, 1], [1, 0, 0]])
    with pytest.warns(UndefinedMetricWarning, match="balanced accuracy of rater 2 is undefined"):
        found = agreement(votes)
    assert (found.scores[2].n, found.scores[2].ties) == (0, 3)
    assert math.isnan(found.human_level)


def test_undefined() -> None:
    with pytest.warns(UndefinedMetricWarning, match="Cohen's kappa is undefined: the raters have no figure in common"):
        assert math.isnan(cohen_kappa([1, math.nan], [math.nan, 0]))
    with pytest.warns(UndefinedMetricWarning, match="Fleiss' kappa is undefined: all votes are of one class"):
        assert math.isnan(fleiss_kappa([[1, 1], [1, 1]]))
    with pytest.warns(UndefinedMetricWarning, match="no figure has two votes"):
        assert math.isnan(fleiss_kappa([[1, math.nan]]))


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([[1, 0], [1]], "`votes` must be one element per rater on every figure, got between 1 and 2"),
        ([None, None], "got no votes"),
        ([[1, 2]], "`votes` must be 0, 1 or NaN, got 2.0"),
    ],
)
def test_wrong_votes(votes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vote_matrix(votes)


def test_wrong_input() -> None:
    with pytest.raises(InputError, match="`votes` must be of at least two raters, got 1"):
        agreement([[1], [0]])
    with pytest.raises(InputError, match=r"`votes` must be of shape \(n, raters\), got shape \(2,\)"):
        fleiss_kappa([1, 0])
    with pytest.raises(InputError, match="`rater` must be between 0 and 1, got 2"):
        majority_of_others([[1, 0]], 2)


@pytest.mark.real
def test_raters_of_ami_br(real_root: Path) -> None:
    from atypia.data.sources.opening import open_data

    manifest = open_data("ami-br", root=real_root)
    found = agreement(vote_matrix(manifest.table[r.VOTES].to_pylist()))

    # The paper: all three agree on 2,908 of 3,720 (78.2 %).
    assert (found.n_complete, found.unanimous) == (3720, 2908)
    assert round(100 * found.unanimous_share, 1) == 78.2
    # The same, counted from the published table without any of the functions above.
    with open(real_root / "tables" / "AMI-BR.csv", newline="", encoding="utf-8-sig") as file:
        table = [[row[f"expert{i}_atypical"] == "True" for i in (1, 2, 3)] for row in csv.DictReader(file)]
    for score in found.scores:
        own_and_others = [(row.pop(score.rater), row) for row in map(list, table)]
        cells = Counter((others[0], own) for own, others in own_and_others if others[0] == others[1])
        assert score.ties == 3720 - cells.total()
        assert score.sensitivity == cells[True, True] / (cells[True, True] + cells[True, False])
        assert score.specificity == cells[False, False] / (cells[False, False] + cells[False, True])
    assert [round(score.balanced_accuracy, 3) for score in found.scores] == [0.784, 0.882, 0.933]
    assert round(found.human_level, 3) == 0.866
    assert round(found.fleiss, 3) == 0.578
