"""Banerjee's probe against a plain loop in torch, and its schedule against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from threadpoolctl import threadpool_limits

from atypia.base.errors import InputError
from atypia.base.seeds import generator
from atypia.methods.catalogue import PROBES
from atypia.methods.head import FeatureRows
from atypia.methods.probes.banerjee import BanerjeeProbeOptions, FoldFit, Plateau
from atypia.statistics.metrics import balanced_accuracy

PROBE = PROBES["banerjee"]


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Matrices are so small here that a second thread only waits for the first."""
    with threadpool_limits(1, user_api="blas"):
        yield


def sample(n=90, d=7, seed=0, share=0.25):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    score = x[:, 0] - x[:, 1] + rng.standard_normal(n)
    return x, (score > np.quantile(score, 1 - share)).astype(np.int8)


def folds_of(n=90):
    rows = np.arange(n)
    return [FeatureRows(rows[rows % 3 != i], rows[rows % 3 == i]) for i in range(3)]


def by_torch(x, y, fold, seed, options):
    """The published loop: Adam, ReduceLROnPlateau and early stopping of torch, in double precision."""
    d = x.shape[1]
    start = generator(seed, "probe start", fold.key).uniform(-1 / np.sqrt(d), 1 / np.sqrt(d), d + 1)
    linear = torch.nn.Linear(d, 1, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(start[None, :-1]))
        linear.bias.copy_(torch.from_numpy(start[-1:]))
    adam = torch.optim.Adam(linear.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        adam, mode="max", factor=options.plateau_factor, patience=options.plateau_patience, min_lr=options.min_lr
    )
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y.astype(np.float64))
    p = 1 / np.bincount(y[fold.train])[y[fold.train]]
    best, best_score, best_epoch, stale, history = None, -1.0, -1, 0, []
    for epoch in range(options.epochs):
        order = generator(seed, "probe epoch", fold.key, epoch).choice(
            fold.train, size=len(fold.train), replace=True, p=p / p.sum()
        )
        for at in range(0, len(order), options.batch_size):
            rows = torch.from_numpy(order[at : at + options.batch_size])
            adam.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(linear(inputs[rows])[:, 0], targets[rows])
            loss.backward()
            adam.step()
        with torch.no_grad():
            decisions = (torch.sigmoid(linear(inputs[fold.val])[:, 0]) >= 0.5).numpy().astype(np.int8)
        score = balanced_accuracy(y[fold.val], decisions)
        history.append((adam.param_groups[0]["lr"], score))
        plateau.step(score)
        if score > best_score:
            best_score, best_epoch, stale = score, epoch, 0
            best = (linear.weight.detach().numpy()[0].copy(), float(linear.bias.detach()))
        else:
            stale += 1
            if stale >= options.patience:
                break
    return best, best_epoch, history


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.02, "epochs": 25, "patience": 6, "plateau_patience": 1},
        {"lr": 0.003, "epochs": 12, "weight_decay": 0.3, "batch_size": 7},
        {"lr": 5e-5, "epochs": 4},
    ],
)
def test_equals_a_loop_in_torch(changes):
    x, y = sample()
    options = PROBE.parse_options(changes)
    heads = PROBE.fit_folds(x, y, np.repeat("c", 90), folds_of(), 5, options)
    for fold, head in zip(folds_of(), heads, strict=True):
        (weight, bias), best_epoch, history = by_torch(x, y, fold, 5, options)
        assert_allclose(head.weight, weight, atol=1e-9)
        assert head.bias == pytest.approx(bias, abs=1e-9)
        assert head.info["best_epoch"] == best_epoch
        assert_allclose([line["lr"] for line in head.info["history"]], [lr for lr, _ in history])
        assert_allclose([line["val_balanced_accuracy"] for line in head.info["history"]], [ba for _, ba in history])
        assert head.info["epochs"] == len(history)
        assert head.info["val_balanced_accuracy"] == max(ba for _, ba in history)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.5, 0.50001, 0.5001, 0.6, 0.60003, 0.7, 0.9]), min_size=1, max_size=60),
    patience=st.integers(0, 4),
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    min_lr=st.sampled_from([0.0, 1e-7, 1e-3]),
)
def test_the_schedule_is_torchs(scores, patience, factor, min_lr):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5e-5)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, mode="max", factor=factor, patience=patience, min_lr=min_lr
    )
    ours = Plateau(5e-5, factor, patience, min_lr)
    for score in scores:
        torchs.step(score)
        ours.step(score)
        assert ours.lr == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)


def test_the_rate_halves_after_more_than_three_epochs_without_a_rise_and_ends_at_its_least():
    plateau = Plateau(5e-5, 0.5, 3, 1e-7)
    rates = []
    for _ in range(60):
        plateau.step(0.6)
        rates.append(plateau.lr)
    assert rates[3] == 5e-5
    assert rates[4] == 2.5e-5
    assert rates[8] == 1.25e-5
    # 5e-5 / 2⁸ = 1.95e-7, then 1e-7, where it stays.
    assert min(rates) == rates[-1] == 1e-7


def test_defaults_are_the_papers():
    options = BanerjeeProbeOptions()
    assert (options.lr, options.weight_decay, options.batch_size, options.epochs) == (5e-5, 1e-5, 8, 100)
    assert (options.patience, options.plateau_factor, options.plateau_patience, options.min_lr) == (15, 0.5, 3, 1e-7)


def test_the_first_of_equal_epochs_wins_and_stopping_waits_for_patience():
    x, y = sample()
    fold = folds_of()[0]
    zero = np.zeros(8)
    fit = FoldFit("k", fold.train, fold.val, zero, zero, Plateau(1e-3, 0.5, 3, 0.0), (zero, zero.copy()))
    ones = np.hstack([x, np.ones((90, 1))])
    for epoch in range(5):
        fit.weight = np.full(8, -0.0) if epoch == 0 else np.zeros(8)  # always all positive: BA 0.5
        PROBE._end_epoch(fit, ones, y, epoch)
    assert (fit.best_epoch, fit.best_score, fit.stale) == (0, 0.5, 4)
    options = PROBE.parse_options({"lr": 1e-12, "epochs": 40, "patience": 6})
    told = []
    head = PROBE.fit_folds(x, y, np.repeat("c", 90), [fold], 0, options, lambda *at: told.append(at))[0]
    assert (head.info["best_epoch"], head.info["epochs"]) == (0, 7)
    assert told[-1] == (40, 40, "epochs of the probe")


def test_draws_are_balanced_in_expectation():
    x, y = sample(n=900, share=0.1)
    fold = FeatureRows(np.arange(900), np.arange(900))
    fit = PROBE._start(np.hstack([x, np.ones((900, 1))]), y, fold, 0, PROBE.parse_options({}))
    assert fit.probabilities.sum() == pytest.approx(1)
    assert fit.probabilities[y == 1].sum() == pytest.approx(0.5)
    assert np.abs(fit.weight).max() <= 1 / np.sqrt(7)


def test_a_fold_does_not_depend_on_the_others_and_the_seed_counts():
    x, y = sample()
    options = PROBE.parse_options({"epochs": 3, "lr": 0.01})
    cases = np.repeat("c", 90)
    together = PROBE.fit_folds(x, y, cases, folds_of(), 1, options)
    alone = PROBE.fit_folds(x, y, cases, folds_of()[2:], 1, options)[0]
    assert (alone.weight == together[2].weight).all()
    other = PROBE.fit_folds(x, y, cases, folds_of()[2:], 2, options)[0]
    assert (alone.weight != other.weight).any()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: x.__setitem__((4, 0), np.nan), "NaN or infinity in 1 row"),
        (lambda x, y: y.__setitem__(slice(None, None, 3), 0), r"`validation part 1` must be of both classes, got 30"),
        (lambda x, y: y.__setitem__(slice(None), 1), "no negative figure"),
    ],
)
def test_bad_input_is_refused(spoil, message):
    x, y = sample()
    spoil(x, y)
    with pytest.raises(InputError, match=message):
        PROBE.fit_folds(x, y, np.repeat("c", 90), folds_of(), 0, PROBE.parse_options({}))


@pytest.mark.parametrize("options", [{"lr": 0}, {"batch_size": 0}, {"plateau_factor": 1}, {"rate": 1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="options of probe banerjee"):
        PROBE.parse_options(options)
