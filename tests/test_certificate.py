"""Certificates of an accuracy drop: decisions worked by hand, errors counted over many draws."""

import itertools
from math import comb

import numpy as np
import pytest

from keras_ddnn.rules.certificate import certified_threshold, cuts, most_losses, violation_rate


def outcomes(cases):
    """Return local_correct and cloud_correct of "-" (lost if kept), "+" (gained) and "=" cases."""
    cases = np.array(list(cases))
    return cases != "-", cases != "+"


def certify(scores, cases, max_drop=0.01, delta=0.1):
    return certified_threshold(np.array(scores), *outcomes(cases), max_drop, delta)


def population(n, seed):
    """Return scores and outcomes of n samples of a known drop.

    A sample of score u, uniform in [0, 1], is lost with probability 0.3u and gained with 0.02. The
    drop at a threshold t is the integral, 0.15t² - 0.02t: negative up to t = 2/15, 0.01 at t = 1/3.
    """
    score, case = np.random.default_rng(seed).random((2, n))
    return score, ~(case < 0.3 * score), ~(case > 0.98)


@pytest.mark.parametrize(
    ("n", "losses"),
    [
        # Nothing lost, nothing gained: certified if 0.99ⁿ ≤ 0.1, and 0.99²²⁹ = 0.1001.
        (229, -1),
        (230, 0),
        # One lost: if 0.99ⁿ + n·0.01·0.99ⁿ⁻¹ ≤ 0.1, which is 0.1005 for n = 387, 0.0997 for 388.
        (387, 0),
        (388, 1),
    ],
)
def test_losses_alone_are_tested_by_the_binomial_distribution(n, losses):
    assert most_losses(n, 0.01, 0.1)[0] == losses


def test_a_threshold_passes_as_many_losses_as_certify():
    table = most_losses(500, 0.01, 0.1)
    assert table[:2].tolist() == [1, 2]
    scores = np.arange(500) / 500
    # The second loss, sample 200, is one too many: the threshold is its score, which offloads it.
    assert certify(scores, "-" + "=" * 199 + "-" + "=" * 299) == scores[200]
    # A gain before it pays for it, and the third loss is the end.
    cases = "-" + "=" * 98 + "+" + "=" * 100 + "-" + "=" * 199 + "-" + "=" * 99
    assert certify(scores, cases) == scores[400]
    # A gain behind it comes too late: the walk has ended.
    assert certify(scores, "-" + "=" * 199 + "-+" + "=" * 298) == scores[200]


def test_with_nothing_to_lose_everything_stays_local():
    assert certify(np.arange(300) / 300, "=" * 300) == np.inf
    assert certify(np.arange(300) / 300, "+" * 300) == np.inf


@pytest.mark.parametrize("n", [1, 2, 50])
def test_a_few_samples_certify_nothing(n):
    assert certify(np.arange(n) / n, "=" * n) == -np.inf


def test_no_samples_certify_nothing():
    assert certify([], "") == -np.inf
    with pytest.raises(ValueError, match="n must be a positive integer; received 0"):
        most_losses(0, 0.01, 0.1)


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores_that_are_no_numbers_certify_nothing(score):
    with pytest.raises(ValueError, match="expected finite scores; received 300 NaN or infinite"):
        certify(np.full(300, score), "=" * 300)


def test_tied_samples_stay_or_go_together():
    scores = np.repeat([0.1, 0.5, 0.9], [300, 100, 100])
    lost = "=" * 300 + "=" * 95 + "-" * 5 + "=" * 100
    assert certify(scores, lost) == 0.5
    # However they are ordered among themselves.
    shuffled = np.random.default_rng(0).permutation(500)
    assert certify(scores[shuffled], np.array(list(lost))[shuffled]) == 0.5


def test_constant_scores_leave_two_choices():
    assert certify(np.zeros(500), "=" * 499 + "-") == np.inf
    assert certify(np.zeros(500), "=" * 490 + "-" * 10) == 0.0


def test_cuts_are_where_scores_differ():
    order, kept, thresholds = cuts(np.array([0.5, 0.1, 0.5, 0.2]))
    assert order.tolist() == [1, 3, 0, 2]
    assert kept.tolist() == [0, 1, 2, 4]
    assert thresholds.tolist() == [0.1, 0.2, 0.5, np.inf]


@pytest.mark.parametrize(
    ("n", "max_drop", "delta"), [(12, 0.2, 0.3), (15, 0.05, 0.5), (9, 0.5, 0.1), (9, 0.8, 0.01)]
)
def test_the_test_errs_with_probability_delta_at_most_by_enumeration(n, max_drop, delta):
    table = most_losses(n, max_drop, delta)
    assert (np.diff(table) >= 0).all()
    worst = 0.0
    for p_gain, p_loss in itertools.product(np.linspace(0, 1, 81), repeat=2):
        if p_gain + p_loss <= 1 and p_loss - p_gain >= max_drop - 1e-9:
            p_none = max(1 - p_gain - p_loss, 0.0)
            error = sum(
                comb(n, g) * comb(n - g, k) * p_gain**g * p_loss**k * p_none ** (n - g - k)
                for g in range(n + 1)
                for k in range(min(int(table[g]), n - g) + 1)
            )
            worst = max(worst, error)
    # Of so few samples, the counts are too coarse to use all of delta.
    assert delta / 4 < worst <= delta * 1.01


def test_a_sure_test_allows_the_losses_of_the_normal_approximation():
    # 5,000 samples, 40 gains: 40 + 50 - 1.2816·√(49.5 + 80) = 75.4, where betting's 2.15 has 65.6.
    assert most_losses(5000, 0.01, 0.1)[40] == pytest.approx(75.4, abs=1)


def test_thresholds_that_lose_too_much_are_certified_no_more_often_than_promised():
    draws, delta = 300, 0.1
    thresholds = np.array(
        [certified_threshold(*population(2000, seed), 0.01, delta) for seed in range(draws)]
    )
    violations = np.mean(thresholds > 1 / 3)
    assert 0.0 < violations <= delta + 2 * np.sqrt(delta * (1 - delta) / draws)
    # Of the 1/3 that could stay local, most does; what merely fits the sample would break its word
    # in half of the draws.
    assert 0.25 < thresholds.mean() < 1 / 3


def test_a_larger_sample_or_a_looser_promise_keeps_more_local():
    few, many = population(1000, 0), population(20_000, 0)
    assert certified_threshold(*few, 0.01, 0.1) < certified_threshold(*many, 0.01, 0.1)
    strict, loose = ((0.005, 0.1), (0.02, 0.1)), ((0.01, 0.01), (0.01, 0.3))
    for tighter, wider in (strict, loose):
        assert certified_threshold(*few, *tighter) < certified_threshold(*few, *wider)


def test_the_violation_rate_of_a_population():
    sample = population(15_000, 7)
    rate = violation_rate(*sample, splits=100, calibration_size=1000)
    assert rate["violation_share"] <= 0.1 + 2 * np.sqrt(0.09 / 100)
    assert rate["best_local_fraction"] == pytest.approx(1 / 3, abs=0.05)
    assert 0.5 < rate["local_fraction"] / rate["best_local_fraction"] < 1.0
    assert rate == violation_rate(*sample, splits=100, calibration_size=1000)


def test_a_certificate_that_must_err_does():
    # With δ close to 1, almost any threshold is certified.
    rate = violation_rate(*population(5000, 7), splits=50, calibration_size=500, delta=0.9)
    assert rate["violation_share"] > 0.5


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 10, np.nan])
@pytest.mark.parametrize("what", ["max_drop", "delta"])
def test_what_is_no_probability_is_refused(what, value):
    with pytest.raises(ValueError, match=rf"{what} must lie in \(0, 1\); received {value!r}"):
        certify([0.1, 0.2], "==", **{what: value})
