"""Rates corrected for a classifier's errors: formulas by hand, other implementations, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from atypia.base.errors import InputError
from atypia.statistics.error_rates import ErrorRates, LaboratoryErrors, between_variance, pooled_errors
from atypia.statistics.rates import corrected_rate, expected_rate, likeliest_rate, rogan_gladen

WIDE = ErrorRates(0.8, 0.9, (0.3, 0.25), 0.75, 4.0)


def test_the_estimate_inverts_the_errors() -> None:
    assert rogan_gladen(0.17, 0.8, 0.9) == pytest.approx(0.1)  # 0.1 · 0.8 + 0.9 · 0.1
    assert rogan_gladen(0.05, 0.8, 0.9) == 0.0  # fewer than the false positives of no atypical figure at all
    assert rogan_gladen(0.95, 0.8, 0.9) == 1.0
    assert math.isnan(rogan_gladen(0.3, 0.5, 0.5))


def test_the_interval_is_the_shortest_posterior_one() -> None:
    """Against scipy's beta distribution, whose shortest interval is found by its own quantiles."""
    from scipy.optimize import minimize_scalar
    from scipy.stats import beta

    exact = ErrorRates(1 - 1e-9, 1 - 1e-9)
    found = corrected_rate(17, 100, exact)
    posterior = beta(18, 84)
    best = minimize_scalar(lambda a: posterior.ppf(a + 0.95) - posterior.ppf(a), bounds=(0, 0.05), method="bounded").x
    assert (found.low, found.high) == pytest.approx((posterior.ppf(best), posterior.ppf(best + 0.95)), abs=1e-3)
    none = corrected_rate(0, 50, exact)
    assert (none.rate, none.low) == (0.0, 0.0) and none.high == pytest.approx(1 - 0.05 ** (1 / 51), abs=1e-3)


def test_the_interval_averages_over_the_errors() -> None:
    """Against the posterior by plain random draws of the errors, weighted by the count's likelihood."""
    from scipy.stats import binom, norm

    errors = ErrorRates(0.8, 0.9, (0.3, 0.25), 0.5)
    rng = np.random.default_rng(1)
    one, other, rates = rng.normal(size=40_000), rng.normal(size=40_000), rng.uniform(size=40_000)
    hits = norm.cdf(norm.ppf(0.8) + 0.3 * one)
    false = norm.cdf(norm.ppf(0.1) + 0.25 * (0.5 * one + math.sqrt(0.75) * other))
    weight = binom.pmf(30, 100, rates * hits + (1 - rates) * false)
    found = corrected_rate(30, 100, errors)
    inside = weight[(rates >= found.low) & (rates <= found.high)].sum() / weight.sum()
    assert inside == pytest.approx(0.95, abs=0.01)
    shifted = weight[(rates >= found.low + 0.05) & (rates <= found.high + 0.05)].sum() / weight.sum()
    assert shifted < inside  # the same width elsewhere holds less


def test_a_large_case_is_as_certain_as_its_errors_allow() -> None:
    sure = corrected_rate(17_000, 100_000, ErrorRates(0.8, 0.9))
    assert sure.low == pytest.approx(0.0967, abs=1e-3) and sure.high == pytest.approx(0.1033, abs=1e-3)
    spread = corrected_rate(17_000, 100_000, WIDE)
    assert spread.high - spread.low > 0.2


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_it_covers_rates_of_unseen_laboratories(rate: float) -> None:
    rng = np.random.default_rng(7)
    from scipy.special import ndtr, ndtri

    hit, cases = 0, 60
    for _ in range(cases):
        one, other = rng.normal(size=2) * math.sqrt(WIDE.freedom / rng.chisquare(WIDE.freedom))
        hits = ndtr(ndtri(WIDE.sensitivity) + WIDE.spread[0] * one)
        mixed = WIDE.together * one + math.sqrt(1 - WIDE.together**2) * other
        false = ndtr(ndtri(1 - WIDE.specificity) + WIDE.spread[1] * mixed)
        found = corrected_rate(int(rng.binomial(60, rate * hits + (1 - rate) * false)), 60, WIDE)
        hit += found.low - 1e-9 <= rate <= found.high + 1e-9
    assert hit / cases >= 0.86  # 95 % less three standard errors of 60 cases


def test_it_says_when_nothing_can_be_said() -> None:
    coin = corrected_rate(30, 100, ErrorRates(0.55, 0.55))
    assert not coin.says and math.isnan(coin.rate)
    assert not corrected_rate(0, 0, WIDE).says and math.isnan(corrected_rate(0, 0, WIDE).low)
    assert not corrected_rate(1, 1, ErrorRates(0.7, 0.7, (0.5, 0.5))).says
    assert corrected_rate(12, 60, WIDE).says


def test_laboratories_are_pooled_as_in_a_meta_analysis() -> None:
    """DerSimonian and Laird: Q = 2 of K − 1 = 1 degree of freedom, C = 2 − 1; and an unseen one by hand."""
    assert between_variance([0.0, 2.0], [1.0, 1.0]) == pytest.approx(1.0)
    assert between_variance([1.0, 1.1, 0.9], [1.0, 1.0, 1.0]) == 0.0
    alike = [LaboratoryErrors(name, 10**7, 10**7, 0.8, 0.9) for name in "abcd"]
    pooled = pooled_errors(alike, between_cases=0.2)
    assert (pooled.sensitivity, pooled.specificity) == pytest.approx((0.8, 0.9), abs=1e-4)
    assert pooled.spread == pytest.approx((0.2, 0.2), abs=1e-3) and pooled.freedom == 3
    from scipy.stats import norm

    unlike = [LaboratoryErrors(str(p), 10**7, 10**7, p, 0.9) for p in norm.cdf([0.5, 1.0, 1.5])]
    found = pooled_errors(unlike, between_cases=0.0)
    # variance of (0.5, 1, 1.5) is 0.25, and that of their mean a third of it; figures of unlike shares weigh unlike
    assert norm.ppf(found.sensitivity) == pytest.approx(1.0, abs=1e-3)
    assert found.spread[0] == pytest.approx(math.sqrt(0.25 * 4 / 3), rel=0.05) and found.spread[1] < 1e-3
    with pytest.raises(InputError, match=r"`?laboratories`? must be three that were left out, or more, got 2; fix: "):
        pooled_errors(unlike[:2])


def test_nodes_have_the_distribution_that_they_are_of() -> None:
    from scipy.special import ndtri
    from scipy.stats import t

    hits, false, weights = ErrorRates(0.8, 0.9, (0.3, 0.2), 0.75).nodes()
    a, b = ndtri(hits), ndtri(false)
    mean = weights @ a, weights @ b
    assert weights.sum() == pytest.approx(1) and mean == pytest.approx((ndtri(0.8), ndtri(0.1)), abs=1e-9)
    sd = np.sqrt([weights @ (a - mean[0]) ** 2, weights @ (b - mean[1]) ** 2])
    assert sd == pytest.approx((0.3, 0.2), rel=1e-6)
    assert weights @ ((a - mean[0]) * (b - mean[1])) == pytest.approx(0.75 * 0.3 * 0.2, rel=1e-6)
    hits, false, weights = WIDE.nodes()
    for far in (1.0, 3.0, 10.0):  # both marginals are t distributions, also far out
        for values, typical, spread in ((hits, 0.8, 0.3), (false, 0.1, 0.25)):
            beyond = weights[ndtri(values) > ndtri(typical) + far * spread].sum()
            assert beyond == pytest.approx(t(4).sf(far), rel=0.12)
    (low, high), (least, most) = WIDE.limits()
    far = 0.3 * t(4).ppf(0.975)
    assert (ndtri(low), ndtri(high)) == pytest.approx((ndtri(0.8) - far, ndtri(0.8) + far))
    assert (ndtri(least) + ndtri(most)) / 2 == pytest.approx(ndtri(0.9)) and least < 0.9 < most


@pytest.mark.parametrize(
    ("atypical", "figures", "low", "high"),
    [(3, 300, 0, 0.787), (0, 78, 0, 0.837), (20, 300, 0, 0.219), (97, 100, 0.618, 1), (60, 300, 0, 0.349), (2, 12, 0, 0.552),
     (300, 3000, 0, 0.197), (6000, 30_000, 0, 0.335)],
)  # fmt: skip
def test_a_count_that_hardly_fits_the_errors_has_the_interval_of_many_random_laboratories(
    atypical: int, figures: int, low: float, high: float
) -> None:
    """Ends: by adaptive quadrature of the same posterior on 301 to 601 points an axis. Random laboratories agree."""
    found = corrected_rate(atypical, figures, WIDE)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
    if atypical in (20, 60, 2):  # elsewhere a million of them hold too few that explain the count
        rng = np.random.default_rng(1)
        from scipy.special import ndtr, ndtri

        x = rng.multivariate_normal((0, 0), ((1, 0.75), (0.75, 1)), 200_000) * np.sqrt(
            4 / rng.chisquare(4, (200_000, 1))
        )
        hits, false = ndtr(ndtri(0.8) + 0.3 * x[:, 0]), ndtr(ndtri(0.1) + 0.25 * x[:, 1])
        rates = np.linspace(0, 1, 101)
        share = [pi * hits + (1 - pi) * false for pi in rates]
        density = np.array([binom.pmf(atypical, figures, q).mean() for q in share])
        held = np.cumsum(density / density.sum())
        assert float(np.interp(0.95, held, rates)) == pytest.approx(high, abs=0.025)


def test_a_larger_case_than_the_grid_resolves_has_a_steady_interval() -> None:
    widths = [corrected_rate(n // 5, n, WIDE).high for n in (20_000, 100_000, 10**6, 10**8)]
    assert np.ptp(widths) < 0.005
    known = corrected_rate(200_000, 1_000_000, ErrorRates(0.8, 0.9))  # without a spread every figure counts
    assert known.high - known.low == pytest.approx(2 * 1.96 * 0.4 / 1000 / 0.7, rel=0.2)


def test_the_likeliest_rate_is_the_fixed_point_of_expectation_and_maximisation() -> None:
    rng = np.random.default_rng(3)
    p, prior = rng.beta(0.5, 1.5, 400), 0.25
    rate = prior
    for _ in range(5000):  # Saerens et al., eq. 2.9, as it stands
        moved = rate / prior * p / (rate / prior * p + (1 - rate) / (1 - prior) * (1 - p))
        rate = float(moved.mean())
    assert likeliest_rate(p, prior) == pytest.approx(rate, abs=1e-6)
    assert likeliest_rate([0.01, 0.02], 0.25) == 0.0 and likeliest_rate([0.99], 0.25) == 1.0
    assert likeliest_rate([0.9, 0.1], 0.5, [3, 1]) > likeliest_rate([0.9, 0.1], 0.5)


def test_probabilities_move_to_a_known_prevalence() -> None:
    p = np.array([0.5, 0.8])
    odds = p / (1 - p) * (0.1 / 0.9) / (0.25 / 0.75)  # Bayes: odds times the ratio of the priors' odds
    assert expected_rate(p, 0.25, 0.1) == pytest.approx(float(np.mean(odds / (1 + odds))))
    assert expected_rate(p, 0.25, 0.25) == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: corrected_rate(3, 2, WIDE), "atypical.*must be from 0 to 2, got 3"),
        (lambda: corrected_rate(1, 2, WIDE, 1.0), "confidence.*must be between 0 and 1"),
        (lambda: ErrorRates(1.0, 0.9), "error rates.*must be between 0 and 1"),
        (lambda: LaboratoryErrors("a", 0, 3, 0.5, 0.5), "a.*must be a laboratory with figures of both classes"),
        (lambda: expected_rate([0.5], 0.5, 20), "prevalence.*must be between 0 and 1, got 20; fix: give a share"),
        (lambda: likeliest_rate([], 0.5), "probabilities.*must be at least one"),
        (lambda: likeliest_rate([0.5], 0.0), "prior.*must be between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, said: str) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=said):
        call()
