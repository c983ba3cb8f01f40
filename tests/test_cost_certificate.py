"""Certificates of a cost: decisions worked by hand, errors counted on costs of six kinds."""

import numpy as np
import pytest

from keras_ddnn.data.gate_costs import GateCosts
from keras_ddnn.rules.calibration import for_cost_increase
from keras_ddnn.rules.certificate import certified_threshold
from keras_ddnn.rules.cost_certificate import certified_cost_threshold, cost_violation_rate
from keras_ddnn.tasks.task import COST

DELTA = 0.1


def certify(scores, stay, go=None, bound=1.0, max_increase=0.05, delta=DELTA):
    stay = np.asarray(stay, float)
    go = np.zeros(len(stay)) if go is None else np.asarray(go, float)
    return certified_cost_threshold(np.asarray(scores, float), stay, go, bound, max_increase, delta)


def population(kind, n=20_000, seed=0):
    """Return scores, costs of staying and of going on, their bound, and an increase to certify.

    The higher the score u, uniform in [0, 1], the more a sample loses by staying.
    """
    rng = np.random.default_rng(seed)
    u, noise, other = rng.random((3, n))
    match kind:
        case "right or wrong":
            return u, 1.0 * (noise < 0.1 + 0.4 * u), 1.0 * (other < 0.1), 1.0, 0.05
        case "even":
            return u, u * noise, 0.3 * other, 1.0, 0.05
        case "ties":  # of scores and of costs
            return u.round(1), (2 * u * noise).round(1), (0.5 * other).round(1), 2.0, 0.1
        case "heavy tail":  # one in some hundred loses all there is
            tail = np.minimum((1 - noise) ** -0.7 - 1, 50.0)
            return u, np.minimum(u * tail, 50.0), 0.0 * u, 50.0, 0.4
        case "rare and large":
            return u, 0.01 * noise + 0.99 * (other < 0.1 * u), 0.01 * noise, 1.0, 0.02
        case "provisioning":  # in units of cost: a slope, a penalty and a slope
            error = rng.normal(size=(2, n)) * np.stack([0.5 + 3.0 * u, np.full(n, 0.5)])
            costs = np.where(error < 0, 5.0 - 2.0 * error, error)
            return u, *np.minimum(costs, 30.0), 30.0, 1.0
    raise AssertionError(kind)


KINDS = ("right or wrong", "even", "ties", "heavy tail", "rare and large", "provisioning")


def rate_of(kind, splits, size=1000):
    scores, stay, go, bound, most = population(kind)
    return cost_violation_rate(
        scores, stay, go, bound, most, splits=splits, calibration_size=size, delta=DELTA
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_threshold_that_costs_too_much_is_no_more_frequent_than_promised(kind):
    splits = 60
    rate = rate_of(kind, splits)
    assert rate["violation_share"] <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / splits)
    assert 0 < rate["best_local_fraction"] < 1


def test_on_half_of_the_distributions_half_of_what_could_stay_does():
    rates = [rate_of(kind, 10) for kind in KINDS]
    shares = [rate["local_fraction"] / rate["best_local_fraction"] for rate in rates]
    assert sum(share >= 0.5 for share in shares) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_draws_break_the_promise_no_more_often_than_promised(kind):
    rate = rate_of(kind, 1000)
    assert rate["violation_share"] <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 1000)


def test_a_certificate_that_must_err_does():
    scores, stay, go, bound, most = population("even")
    rate = cost_violation_rate(
        scores, stay, go, bound, most, splits=50, calibration_size=300, delta=0.99
    )
    assert rate["violation_share"] > 0.1


def test_one_player_s_stake_decides_by_hand():
    # With δ = 0.5 and 4 samples: √(2·ln 2 / 4) = 0.59, so that three players, of
    # λ = 1/(1 - 0.5) = 2, of 1 and of 1/2, bet on less than 0.5. Samples that add nothing give
    # ((1 + 2/2)⁴ + (1 + 1/2)⁴ + (1 + 1/4)⁴) / 3 = (16 + 5.06 + 2.44) / 3 = 7.8, above 1/δ = 2.
    # The first sample kept adds 1: 0·8, 1/2·(3/2)³ = 1.69 and 3/4·(5/4)³ = 1.46, mean 1.05.
    assert certify([1, 2, 3, 4], [0, 0, 0, 0], max_increase=0.5, delta=0.5) == np.inf
    assert certify([1, 2, 3, 4], [1, 0, 0, 0], max_increase=0.5, delta=0.5) == 1.0
    assert certify([1, 2, 3, 4], [0, 1, 0, 0], max_increase=0.5, delta=0.5) == 2.0
    # δ = 0.97 asks for 1.03; the bets, of √(2·ln(1/0.97)/4) = 0.12 on, are 2, 1, … 1/16.
    stakes = [(1 - bet / 2) * (1 + bet / 2) ** 3 for bet in 2.0 * 0.5 ** np.arange(6)]
    assert np.mean(stakes) > 1 / 0.97
    assert certify([1, 2, 3, 4], [1, 0, 0, 0], max_increase=0.5, delta=0.97) == np.inf


def test_the_unit_of_cost_does_not_matter():
    scores, stay, go, bound, most = population("provisioning", 1000)
    in_cents = certify(scores, 100 * stay, 100 * go, 100 * bound, 100 * most)
    assert in_cents == certify(scores, stay, go, bound, most)


def test_neither_does_the_order_of_the_samples_nor_that_of_ties():
    scores, stay, go, bound, most = population("ties", 1000)
    shuffled = np.random.default_rng(0).permutation(1000)
    ours = certify(scores, stay, go, bound, most)
    assert -np.inf < ours < np.inf
    assert certify(scores[shuffled], stay[shuffled], go[shuffled], bound, most) == ours


def test_gains_pay_for_losses_and_a_tighter_promise_keeps_less():
    scores, stay, go, bound, most = population("even", 2000)
    ours = certify(scores, stay, go, bound, most)
    assert certify(scores, stay, np.minimum(go + 0.2, 1.0), bound, most) > ours
    assert certify(scores, stay, go, bound, most / 2) < ours
    assert certify(scores, stay, go, bound, most, delta=0.001) < ours
    assert certify(scores, stay, go, 10 * bound, most) < ours


def test_of_right_and_wrong_answers_the_exact_test_certifies_more():
    scores, stay, go, bound, most = population("right or wrong", 2000)
    exact = certified_threshold(scores, stay == 0, go == 0, most, DELTA)
    assert -np.inf < certify(scores, stay, go, bound, most) < exact


def test_no_samples_and_a_few_certify_nothing():
    assert certify([], []) == -np.inf
    assert certify([1, 2], [0, 0]) == -np.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_increase": 1.0}, r"max_increase must lie in \(0, 1\).* received 1.0"),
        ({"max_increase": -0.1}, "max_increase must lie in .* received -0.1"),
        ({"max_increase": np.nan}, "max_increase must lie in .* received nan"),
        ({"delta": 0}, "delta must lie in .* received 0"),
        ({"bound": np.inf}, "bound must be positive; received inf"),
        ({"stay": [0.0, 1.5]}, r"costs must lie in \[0, 1\], their bound; received 0 to 1.5"),
        ({"stay": [0.0, -0.5]}, r"costs must lie in \[0, 1\], their bound; received -0.5 to 0"),
        ({"stay": [0.0, np.nan]}, "costs must lie in .* received nan to nan"),
        ({"scores": [0.0, np.nan]}, "expected finite scores; received 1 NaN or infinite of 2"),
    ],
)
def test_what_lies_outside_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        certify(**{"scores": [0.1, 0.2], "stay": [0.0, 0.0]} | options)


class TestACalibrationByCost:
    def test_promises_and_tells_the_rise_of_the_mean_cost(self):
        scores, stay, go, bound, most = population("provisioning", 2000)
        samples = GateCosts(stay, go, bound=bound, measure=COST)
        calibration = for_cost_increase(scores, samples, most)
        assert calibration.score_threshold == certify(scores, stay, go, bound, most)
        assert calibration.limits == {"cost_increase": (-30.0, 1.0)}
        assert calibration.promise.startswith(
            "with probability 90.0% or more, the mean cost is at most 1 above that of sending every"
        )
        scores, stay, go, *_ = population("provisioning", 20_000, seed=1)
        realised = calibration.realised(scores, GateCosts(stay, go, measure=COST))
        assert realised["kept"]
        assert 0.3 < realised["local_fraction"] < 1

    def test_says_so_where_nothing_can_be_promised(self):
        samples = GateCosts(np.ones(20), np.ones(20), bound=1.0, measure=COST)
        calibration = for_cost_increase(np.arange(20.0), samples, 0.01)
        assert calibration.score_threshold == -np.inf
        assert calibration.promise == (
            "everything is offloaded, for 20 samples certify no threshold at a rise of the mean "
            "cost by 0.01 with probability 90.0%"
        )

    def test_needs_a_bound(self):
        with pytest.raises(
            ValueError, match="the most that a sample can cost; received bound=None"
        ):
            for_cost_increase(np.arange(2.0), GateCosts(np.ones(2), np.ones(2)), 0.1)

    def test_costs_outside_their_bound_are_refused(self):
        with pytest.raises(ValueError, match="between 0 and their bound, 2; received 1 to 3"):
            GateCosts(np.array([1.0, 3.0]), np.array([1.0, 2.0]), bound=2.0)
