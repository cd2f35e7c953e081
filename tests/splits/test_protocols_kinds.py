"""What each kind of protocol promises: cross-validation, hold-outs, domains, Monte-Carlo, size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from atypia.base import records as r
from atypia.base.errors import InputError
from atypia.data.manifest import Manifest
from atypia.splits.leakage import check_split
from atypia.splits.protocol import make_split

from .dividing import assert_grouped

# Cross-validation -----------------------------------------------------------------------------


def test_kfold_validates_every_figure_once_and_tests_none(fabricated):
    split = make_split("kfold", fabricated, folds=4)
    assert [fold.name for fold in split.folds] == ["fold-1", "fold-2", "fold-3", "fold-4"]
    assert sorted(figure for fold in split.folds for figure in fold.val) == sorted(fabricated.ids)
    for fold in split.folds:
        assert sorted((*fold.train, *fold.val)) == sorted(fabricated.ids)
        assert fold.test == ()


def test_nested_kfold_tests_every_figure_once(fabricated):
    split = make_split("kfold", fabricated, nested=True)
    assert sorted(figure for fold in split.folds for figure in fold.test) == sorted(fabricated.ids)
    for fold in split.folds:
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(fabricated.ids)
        assert len(fold.val) / (len(fold.val) + len(fold.train)) == pytest.approx(0.2, abs=0.03)


def test_folds_have_the_classes_in_proportion(make):
    manifest = make(cases=150, prevalence=0.2)
    positives = int(manifest.labels.sum())
    for balanced in (False, True):
        split = make_split("kfold", manifest, balance_domains=balanced)
        for fold in split.folds:
            assert split.positives[fold.name][1] == pytest.approx(positives / 5, abs=3)
            assert len(fold.val) == pytest.approx(len(manifest) / 5, abs=6)


def test_official_keeps_the_published_parts(fabricated):
    split = make_split("official", fabricated)
    part = dict(zip(fabricated.ids, fabricated.table[r.PART].to_pylist(), strict=True))
    train = sorted(figure for figure, where in part.items() if where == "train")
    test = sorted(figure for figure, where in part.items() if where == "test")
    assert sorted(figure for fold in split.folds for figure in fold.val) == train
    for fold in split.folds:
        assert list(fold.test) == test
        assert sorted((*fold.train, *fold.val)) == train


@pytest.mark.parametrize("name", ["official", "banerjee"])
def test_published_parts_are_asked_for(name, make):
    with pytest.raises(InputError, match=r"`part` must be 'train' and 'test'.*got 0 and 0 figures.*for instance kfold"):
        make_split(name, make(**{r.PART: None}))


def test_a_case_in_both_published_parts_is_found(make):
    rows = make().table.to_pylist()
    for row in rows:
        row[r.CASE_ID] = {"case-1": "case-0"}.get(row[r.CASE_ID], row[r.CASE_ID])
    leaking = Manifest.from_rows(rows, "leaking")
    split = make_split("official", leaking)
    assert any("case-across-parts" in warning for warning in split.warnings)
    with pytest.raises(InputError, match=r"both (train|val) and test of"):
        check_split(split, leaking)


def test_too_many_folds_are_refused(make):
    with pytest.raises(InputError, match=r"`cases` must be at least 5, one for each part, got 4 .*use fewer folds"):
        make_split("kfold", make(cases=4))


def test_a_class_that_sits_in_one_case_cannot_be_trained_on_everywhere(make):
    rows = make(cases=20).table.to_pylist()
    for row in rows:
        row[r.LABEL] = int(row[r.CASE_ID] == "case-3")
    lone = Manifest.from_rows(rows, "lone")
    with pytest.raises(InputError, match=r"kfold, fold-\d` must be a fold that can be trained.*0 atypical in training"):
        make_split("kfold", lone)


def test_a_part_without_a_class_is_warned_of(make):
    rows = make(cases=20).table.to_pylist()
    for row in rows:
        row[r.LABEL] = int(row[r.CASE_ID] in {"case-3", "case-5"})
    few = Manifest.from_rows(rows, "few")
    split = make_split("kfold", few)
    assert any(w.startswith("no atypical figure in the val part of 3 of 5 folds") for w in split.warnings)


# Hold-out -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "share"), [("pooled-95-5", 0.05), ("holdout-75-25", 0.25)])
def test_holdouts_have_their_shares(name, share, make):
    manifest = make(cases=300)
    split = make_split(name, manifest, repeats=2)
    assert [fold.name for fold in split.folds] == ["repeat-1", "repeat-2"]
    assert split.folds[0].val != split.folds[1].val
    for fold in split.folds:
        assert sorted((*fold.train, *fold.val)) == sorted(manifest.ids)
        assert len(fold.val) == pytest.approx(share * len(manifest), abs=3)
        assert split.positives[fold.name][1] == pytest.approx(share * manifest.labels.sum(), abs=3)


# Domains --------------------------------------------------------------------------------------


def test_lodo_tests_each_domain_in_turn(fabricated):
    split = make_split("lodo", fabricated)
    scanner = dict(zip(fabricated.ids, fabricated.table[r.SCANNER].to_pylist(), strict=True))
    assert [fold.name for fold in split.folds] == ["alpha", "beta-2", "gamma"]
    for fold, name in zip(split.folds, ("Alpha", "Beta | 2", "Gamma"), strict=True):
        assert sorted(fold.test) == sorted(figure for figure, where in scanner.items() if where == name)
        assert name not in {scanner[figure] for figure in (*fold.train, *fold.val)}
        assert {scanner[figure] for figure in fold.val} == set(scanner.values()) - {name}
        assert len(fold.val) / (len(fold.train) + len(fold.val)) == pytest.approx(0.2, abs=0.03)


def test_figures_of_unknown_domain_are_used_nowhere(make):
    rows = make().table.to_pylist()
    unknown = [row[r.FIGURE_ID] for row in rows if row[r.CASE_ID] in {"case-1", "case-2"}]
    for row in rows:
        if row[r.FIGURE_ID] in unknown:
            row[r.SCANNER] = row[r.DOMAIN] = None
    manifest = Manifest.from_rows(rows, "partly")
    for name in ("lodo", "cross-domain"):
        split = make_split(name, manifest)
        placed = {figure for fold in split.folds for figure in (*fold.train, *fold.val, *fold.test)}
        assert placed == set(manifest.ids) - set(unknown)
        assert f"left out because their domain is unknown: {len(unknown)} figures" in split.warnings


def test_a_case_that_spans_domains_is_not_divided(make):
    rows = make().table.to_pylist()
    spanning = [row for row in rows if row[r.CASE_ID] == "case-3"]
    assert len(spanning) > 1
    spanning[0][r.SCANNER] = spanning[0][r.DOMAIN] = "Gamma"
    manifest = Manifest.from_rows(rows, "spanning")
    split = make_split("lodo", manifest)
    assert_grouped(split, manifest)
    gamma = next(fold for fold in split.folds if fold.name == "gamma")
    assert spanning[0][r.FIGURE_ID] in gamma.test
    assert not {row[r.FIGURE_ID] for row in spanning[1:]} & {*gamma.train, *gamma.val, *gamma.test}
    assert any("share a case with 'Gamma'" in warning for warning in split.warnings)
    assert_grouped(make_split("cross-domain", manifest), manifest)


def test_cross_domain_trains_on_one_and_tests_on_all(fabricated):
    split = make_split("cross-domain", fabricated, repeats=2)
    scanner = dict(zip(fabricated.ids, fabricated.table[r.SCANNER].to_pylist(), strict=True))
    names = [
        "alpha-repeat-1",
        "alpha-repeat-2",
        "beta-2-repeat-1",
        "beta-2-repeat-2",
        "gamma-repeat-1",
        "gamma-repeat-2",
    ]
    assert [fold.name for fold in split.folds] == names
    for fold in split.folds:
        (own,) = {scanner[figure] for figure in (*fold.train, *fold.val)}
        assert {figure for figure in scanner if scanner[figure] != own} <= set(fold.test)
        held_out = [figure for figure in fold.test if scanner[figure] == own]
        of_own = sum(where == own for where in scanner.values())
        assert len(held_out) / of_own == pytest.approx(0.2, abs=0.04)
        assert len(fold.val) / of_own == pytest.approx(0.16, abs=0.04)
        assert len(fold.train) + len(fold.val) + len(held_out) == of_own
    assert split.folds[0].train != split.folds[1].train


def test_a_small_domain_is_only_tested(make):
    rows = make().table.to_pylist()
    for row in rows:
        if row[r.CASE_ID] in {"case-0", "case-3"}:
            row[r.SCANNER] = row[r.DOMAIN] = "Tiny"
    manifest = Manifest.from_rows(rows, "tiny")
    split = make_split("cross-domain", manifest)
    assert not any(fold.name.startswith("tiny") for fold in split.folds)
    assert any("domain 'Tiny' has too few cases" in warning for warning in split.warnings)
    tiny = {row[r.FIGURE_ID] for row in rows if row[r.SCANNER] == "Tiny"}
    assert all(tiny <= set(fold.test) for fold in split.folds)


@pytest.mark.parametrize("name", ["lodo", "cross-domain"])
def test_domains_are_asked_for(name, make, fabricated):
    with pytest.raises(InputError, match="`domain` must be known, with at least two values, got 1"):
        make_split(name, make(**{r.SCANNER: "Alpha"}))
    with pytest.raises(InputError, match="`tumour` must be known, with at least two values, got 0"):
        make_split(name, fabricated, by="tumour")
    with pytest.raises(InputError, match=r"`by`: .*must be one of domain, scanner, origin, species, tumour, dataset"):
        make_split(name, fabricated, by="case_id")


# Monte-Carlo ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Manifest:
    rng = np.random.default_rng(0)
    rows = [
        {
            r.FIGURE_ID: f"{case}-{number}",
            r.DATASET: "large",
            r.IMAGE: "x.tiff",
            r.CASE_ID: f"{case}",
            r.LABEL: int(rng.random() < 0.45),
            r.SCANNER: "ABCDE"[case % 5],
        }
        for case in range(350)
        for number in range(1 + rng.poisson(60))
    ]
    return Manifest.from_rows(rows, "large", r.MITOSIS_TASK)


@pytest.mark.parametrize("nested", [True, False])
def test_monte_carlo_has_the_sizes_of_its_fractions(large, nested):
    split = make_split("monte-carlo", large, repeats=2, nested=nested)
    assert len(split.folds) == 8
    assert_grouped(split, large)
    for repeat in (1, 2):
        folds = [fold for fold in split.folds if fold.name.startswith(f"repeat-{repeat}-")]
        assert [fold.name.rpartition("-")[2] for fold in folds] == ["0.001", "0.01", "0.1", "1"]
        assert len({fold.test for fold in folds}) == 1
        assert len(folds[0].test) == pytest.approx(0.2 * len(large), abs=30)
        pool = len(large) - len(folds[0].test)
        assert len(folds[-1].train) + len(folds[-1].val) == pool
        assert len(folds[-1].val) == pytest.approx(0.2 * pool, abs=30)
        for fold, fraction in zip(folds[:3], (0.001, 0.01, 0.1), strict=True):
            used = int(pool * fraction)
            assert (len(fold.train), len(fold.val)) == (used - int(used * 0.2), int(used * 0.2))
        for smaller, larger in pairwise(folds):
            inside = set(smaller.train) <= set(larger.train) and set(smaller.val) <= set(larger.val)
            assert inside == nested or larger is folds[-1]
    prevalence = large.labels.mean()
    for fold in split.folds:
        assert split.positives[fold.name][0] == pytest.approx(
            prevalence * len(fold.train), abs=1 + 0.01 * len(fold.train)
        )


def test_one_test_part_can_serve_all_repeats_of_monte_carlo(fabricated):
    asked = {"fractions": [0.1, 1.0], "repeats": 3}
    own = make_split("monte-carlo", fabricated, **asked)
    shared = make_split("monte-carlo", fabricated, shared_test=True, **asked)
    assert_grouped(shared, fabricated)
    assert len({fold.test for fold in own.folds}) == 3
    assert {fold.test for fold in shared.folds} == {own.folds[0].test}
    assert shared.folds[:2] == own.folds[:2]  # the first repeat is the same
    assert len({fold.train for fold in shared.folds}) == 6  # each repeat draws its own training part


def test_a_fraction_that_is_too_small_is_refused_with_the_others_named(fabricated):
    with pytest.raises(
        InputError, match=r"`fractions` must be so large .*got \[0.001\] of \d+ .*pass fractions=\[0.1, 1.0\]"
    ):
        make_split("monte-carlo", fabricated, fractions=[0.001, 0.1, 1])
    with pytest.raises(InputError, match=r"`fractions.0`: Input should be greater than 0"):
        make_split("monte-carlo", fabricated, fractions=[0])


# Size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kfold", "lodo", "cross-domain", "monte-carlo", "pooled-95-5"])
def test_25000_figures_are_divided_without_leakage(name, large):
    times = 2 if len(large) < 25_000 else 1
    rows = np.tile(np.arange(len(large)), times)[:25_000]
    table = large.table.take(rows)
    ids = [f"{figure}/{row}" for row, figure in enumerate(table[r.FIGURE_ID].to_pylist())]
    table = table.set_column(0, large.table.schema.field(r.FIGURE_ID), [ids])
    manifest = Manifest(table, "25k", r.MITOSIS_TASK)
    split = make_split(name, manifest)
    check_split(split, manifest)
    assert split.folds and all(set(fold.train).isdisjoint(fold.test) for fold in split.folds)
    assert max(len(fold.train) + len(fold.val) + len(fold.test) for fold in split.folds) > 20_000
