"""A certificate for a whole chain: walks worked by hand, and errors counted over many draws."""

import numpy as np
import pytest

from keras_ddnn.rules.certificate import most_losses
from keras_ddnn.rules.chain_certificate import certified_plan, for_chain_drop
from keras_ddnn.rules.plans import ScoredChain

INF = np.inf
DELTA = 0.1


def population(n, seed):
    """Return n samples whose best plan is known.

    The score u of both gates is uniform in [0, 1]. Exit 1 is wrong with probability 0.3u, exit 2
    with 0.1u, the last never. Where t1 ≤ t2, the drop is the integral, 0.15·t1² + 0.05·(t2² - t1²).
    Each exit has the price 1, so that t1 + t2 is saved of the price of 3.
    """
    u, luck = np.random.default_rng(seed).random((2, n))
    wrong = np.stack([luck < 0.3 * u, luck < 0.1 * u, np.zeros(n, bool)], axis=1)
    return ScoredChain([u, u], wrong, [1, 1, 1])


def true_drop(thresholds):
    first, second = np.clip(thresholds, 0, 1)
    return 0.15 * first**2 + 0.05 * (max(first, second) ** 2 - first**2)


def true_saving(thresholds):
    first, second = np.clip(thresholds, 0, 1)
    return first + max(first, second)


def best_plan(max_drop):
    """0.1·t1² + 0.05·t2² = d, and t1 + t2 as large as possible: t2 = 2·t1, so that 0.3·t1² = d."""
    return np.array([1, 2]) * np.sqrt(max_drop / 0.3)


def test_the_best_plan_of_the_population():
    best = best_plan(0.01)
    assert true_drop(best) == pytest.approx(0.01)
    others = np.random.default_rng(0).random((5000, 2)) / 2
    fit = [plan for plan in others if true_drop(plan) <= 0.01]
    assert max(map(true_saving, fit)) <= true_saving(best)
    drawn = population(200_000, 1)
    assert drawn.plan(best).cost == pytest.approx(0.01, abs=1e-3)
    assert 3 - drawn.plan(best).price == pytest.approx(true_saving(best), abs=0.01)


def certified_in(draws, n):
    """Return, for so many draws of n samples, what the plan of a drop of 0.05 loses and saves."""
    chains = (population(n, seed) for seed in range(draws))
    plans = [for_chain_drop(chain, 0.05, DELTA).plan.thresholds for chain in chains]
    return np.array([(true_drop(plan), true_saving(plan)) for plan in plans]).T


def test_plans_that_lose_too_much_are_certified_no_more_often_than_promised():
    drops, savings = certified_in(draws := 100, 600)
    assert 0 < np.mean(drops > 0.05) <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / draws)
    # What merely fits the sample would break its word in half of the draws.
    assert 0.5 < savings.mean() / true_saving(best_plan(0.05)) < 1


@pytest.mark.slow
def test_plans_that_lose_too_much_are_certified_no_more_often_than_promised_in_1000_draws():
    drops, _ = certified_in(draws := 1000, 1000)
    assert 0 < np.mean(drops > 0.05) <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / draws)


def test_five_thousand_samples_keep_more_than_half_of_what_the_best_plan_saves():
    certified = for_chain_drop(population(5000, 3), 0.01, DELTA)
    assert true_drop(certified.plan.thresholds) <= 0.01
    assert true_saving(certified.plan.thresholds) >= true_saving(best_plan(0.01)) / 2
    assert certified.n == 2500
    assert certified.promise.startswith("with probability 90.0% or more, accuracy is at most 1.00")


def three_exits(losses, gains, n=500):
    """Return n samples, all sent on at gate 1; gate 2 keeps first losses, then gains, the rest."""
    right = np.ones((n, 3), bool)
    right[:losses, 1] = False
    right[losses : losses + gains, 2] = False
    return ScoredChain([np.ones(n), np.arange(n)], ~right, [1, 1, 1])


def test_a_walk_ends_at_the_first_plan_that_may_lose_too_much():
    table = most_losses(500, 0.01, 0.1)
    assert table[:2].tolist() == [1, 2]
    chain = three_exits(losses=3, gains=0)
    steps = [(0, 1), (0, 2), (0, 3)]  # the second loss is one too many
    found = certified_plan(steps[:1], chain, 0.01, 0.1)
    assert found.plan.thresholds == (0, 1)
    assert found.plan.shares == (0, 1 / 500, 499 / 500)
    assert certified_plan(steps, chain, 0.01, 0.1).plan.thresholds == (0, 1)
    # Gains behind come too late, though they would pay for all losses.
    chain = three_exits(losses=3, gains=20)
    assert certified_plan([(0, 1), (0, 3), (0, 23)], chain, 0.01, 0.1).plan.thresholds == (0, 1)
    assert certified_plan([(0, 1), (0, 23)], chain, 0.01, 0.1).plan.thresholds == (0, 23)
    # Beside a gain two losses pass.
    assert certified_plan([(0, 3)], three_exits(2, 1), 0.01, 0.1).plan.thresholds == (0, 3)
    assert certified_plan([(0, 2)], three_exits(2, 1), 0.01, 0.1).plan.shares == (0, 0, 1)


def test_where_nothing_is_certified_everything_goes_to_the_last_tier_and_the_promise_says_so():
    certified = for_chain_drop(population(20, 0))
    assert certified.plan.thresholds == (-INF, -INF)
    assert certified.promise == (
        "everything goes to the last tier, for 10 samples certify no plan at a drop of 1.00 points "
        "with probability 90.0%"
    )


def test_a_promise_of_one_sample_is_in_the_singular():
    assert "for 1 sample certifies no plan" in for_chain_drop(population(2, 0)).promise


@pytest.mark.parametrize(
    ("delta", "probability"),
    [(0.1, "90.0%"), (0.05, "95.0%"), (0.9999, "0.01%"), (1e-9, "99.9999999%")],
)
def test_the_probability_of_a_promise_is_never_0_nor_100_percent(delta, probability):
    promise = certified_plan([], three_exits(0, 0), 0.01, delta).promise
    assert promise.endswith(f"with probability {probability}")


def test_the_certificate_of_two_tiers_is_for_the_chain_of_two():
    u = np.arange(1000) / 1000
    chain = ScoredChain([u], np.stack([u > 0.5, u > 2], axis=1), [0, 1])
    (threshold,) = for_chain_drop(chain).plan.thresholds
    assert 0.45 < threshold < 0.515


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_drop": 0.0}, r"max_drop must lie in \(0, 1\); received 0\.0"),
        ({"delta": 1.0}, r"delta must lie in \(0, 1\); received 1\.0"),
        ({"chain": population(1, 0)}, "expected two samples or more, .* received 1"),
        (
            {"chain": ScoredChain([np.arange(3)], np.full((3, 2), 0.5), [1, 1])},
            r"expected costs of 0 and 1; received 0\.5; score the chain by such a cost",
        ),
        ({"max_drop": np.float64(1.5)}, r"max_drop must lie in \(0, 1\); received 1\.5"),
        ({"chain": "a bank"}, r"expected a ScoredChain, as ScoredChain\.of\(bank, .*received str"),
    ],
)
def test_what_cannot_be_certified_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        for_chain_drop(**{"chain": population(10, 0)} | change)
