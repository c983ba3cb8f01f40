"""Plans of a chain: six samples worked by hand, and searches of everything for larger ones."""

import numpy as np
import pytest
from conftest import random_outcomes

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.rules.calibration import for_budget
from keras_ddnn.rules.confidence import MaxProb
from keras_ddnn.rules.plans import ScoredChain

INF = np.inf

# | sample | exit 1 | exit 2 | exit 3 | score 1 | score 2 |
# |--------|--------|--------|--------|---------|---------|
# | A      | right  | right  | right  | 0.1     | 0.6     |
# | B      | right  | right  | right  | 0.2     | 0.1     |
# | C      | wrong  | right  | right  | 0.3     | 0.5     |
# | D      | right  | wrong  | right  | 0.4     | 0.2     |
# | E      | wrong  | right  | right  | 0.5     | 0.4     |
# | F      | wrong  | wrong  | right  | 0.6     | 0.3     |
RIGHT = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
SCORES = [np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.array([0.6, 0.1, 0.5, 0.2, 0.4, 0.3])]
PRICES = (1, 2, 4)  # a sample that ends at exit 1, 2, 3 pays 1, 3, 7
SIX = ScoredChain(SCORES, 1 - RIGHT, PRICES)


def generated(n, tiers, seed=0):
    """Return a chain of n samples, of which the hard ones are wrong more often and score higher."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)
    wrong = rng.random((n, tiers)) < hardness[:, None] * np.linspace(0.7, 0.2, tiers)
    scores = [hardness + rng.normal(0, 0.3, n) for _ in range(tiers - 1)]
    return ScoredChain(scores, wrong, range(1, tiers + 1))


def least_costs(chain, budgets):
    """Try all combinations of thresholds; return the least mean cost within each budget."""
    every = [[-INF, *np.unique(scores)[1:], INF] for scores in chain.scores]
    n, reached = len(chain), np.ones((*map(len, every), len(chain)), bool)
    cost, price = np.zeros(reached.shape[:-1]), chain.prices[0] * np.ones(reached.shape[:-1])
    for gate, (scores, thresholds) in enumerate(zip(chain.scores, every)):
        shape = [1] * len(every) + [n]
        shape[gate] = len(thresholds)
        sent = reached & (scores >= np.array(thresholds)[:, None]).reshape(shape)
        cost += (reached & ~sent) @ chain.costs[:, gate]
        price += sent.sum(axis=-1) * chain.prices[gate + 1] / n
        reached = sent
    cost += reached @ chain.costs[:, -1]
    return [cost[price <= budget + 1e-9].min() / n for budget in budgets]


def test_each_sample_ends_at_the_first_gate_that_keeps_it():
    # Gate 1 keeps A and B. Of the others, gate 2 keeps D and F, both wrong there.
    assert SIX.ends((0.3, 0.4)).tolist() == [0, 0, 2, 1, 2, 1]
    plan = SIX.plan((0.3, 0.4))
    assert plan.cost == 2 / 6
    assert plan.price == 1 + (4 * 2 + 2 * 4) / 6  # four reach exit 2, two exit 3
    assert plan.shares == (2 / 6, 2 / 6, 2 / 6)


def test_anytime_all_samples_leave_at_one_exit():
    first, second, third = SIX.anytime()
    assert (first.price, first.accuracy, first.shares) == (1, 3 / 6, (1, 0, 0))
    assert (second.price, second.shares) == (3, (0, 1, 0))
    assert second.accuracy == pytest.approx(4 / 6)
    assert (third.price, third.accuracy, third.shares) == (7, 1, (0, 0, 1))


def test_the_frontier_of_six_samples():
    """Six times a price is 6 + 2·(those that reach exit 2) + 4·(those that reach exit 3).

    Exit 1 keeps the first i of A B C D E F, of which 0 0 0 1 1 2 3 are wrong. The dear plans that
    lose nothing keep A B there and send on C D E F to the end: 6 + 2·4 + 4·4 = 30. One is lost,
    C, if A B C D stay and E F go to the end: 6 + 2·2 + 4·2 = 18. Two are lost, C and F, if E F end
    at exit 2: 6 + 2·2 = 10. Three are lost if all stay: 6.
    """
    found = [(6 * plan.price, 6 * plan.cost) for plan in SIX.frontier()]
    np.testing.assert_allclose(found, [(6, 3), (10, 2), (18, 1), (30, 0)])
    ends = [SIX.ends(plan.thresholds).tolist() for plan in SIX.frontier()]
    assert ends == [[0] * 6, [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 2, 2], [0, 0, 2, 2, 2, 2]]


@pytest.mark.parametrize(
    ("budget", "lost"), [(1, 3), (9 / 6, 3), (10 / 6, 2), (17 / 6, 2), (3, 1), (4.9, 1), (5, 0)]
)
def test_a_budget_buys_the_least_cost(budget, lost):
    plan = SIX.for_budget(budget)
    assert 6 * plan.cost == pytest.approx(lost)
    assert plan.price <= budget


def test_gate_by_gate_does_not_reach_what_both_thresholds_together_do():
    """A budget of 3 is used up by keeping A B at exit 1 and one of the others from exit 3.

    6 + 2·4 + 4·1 = 18, and D and F are lost; together, 18 buys a single loss.
    """
    assert 6 * SIX.plan((0.3, 0.5)).cost == pytest.approx(2)
    assert SIX.plan((0.3, 0.5)).price == SIX.for_budget(3).price == 3
    assert 6 * SIX.for_budget(3).cost == pytest.approx(1)


def test_no_plan_of_three_exits_is_better_than_the_one_found():
    chain, budgets = generated(200, 3), (1.2, 2, 3, 4.5, 6)
    for budget, least in zip(budgets, least_costs(chain, budgets)):
        plan = chain.for_budget(budget)
        assert plan.price <= budget
        assert plan.cost == pytest.approx(least)
        ends = chain.ends(plan.thresholds)
        assert plan.cost == pytest.approx(np.mean(chain.costs[np.arange(200), ends]))


@pytest.mark.parametrize("tiers", [2, 3, 4])
def test_costs_and_prices_may_be_any_numbers(tiers):
    """Some tiers are free, some scores tie, and some samples are alone."""
    rng = np.random.default_rng(tiers)
    for n in (1, 2, 7, 20):
        scores = [rng.random(n).round(1) for _ in range(tiers - 1)]
        prices = rng.random(tiers) * (rng.random(tiers) < 0.8)
        chain = ScoredChain(scores, rng.normal(size=(n, tiers)), prices)
        budgets = prices[0] + rng.random(4) * prices[1:].sum()
        for budget, least in zip(budgets, least_costs(chain, budgets)):
            plan = chain.for_budget(budget)
            assert plan.price <= budget
            assert plan.cost == pytest.approx(least)
        frontier = [(plan.price, plan.cost) for plan in chain.frontier()]
        assert frontier == sorted(frontier)
        assert [cost for _, cost in frontier] == sorted({cost for _, cost in frontier})[::-1]


def test_ties_are_kept_or_sent_together():
    chain = generated(120, 3)
    tied = ScoredChain([s.round(1) for s in chain.scores], chain.costs, chain.prices)
    for budget, least in zip(budgets := (1.5, 3, 5), least_costs(tied, budgets)):
        assert tied.for_budget(budget).cost == pytest.approx(least)


def test_the_gap_of_four_exits_to_a_search_of_everything():
    """A grid of 7 thresholds a gate, then moves: of 60 samples, at most one more is wrong."""
    gaps, budgets = [], (1.5, 2.5, 4, 6, 8)
    for seed in range(3):
        chain = generated(60, 4, seed)
        least = least_costs(chain, budgets)
        found = [chain.for_budget(budget, tries=1) for budget in budgets]
        assert all(plan.price <= budget for plan, budget in zip(found, budgets))
        gaps += [60 * (plan.cost - cost) for plan, cost in zip(found, least)]
    # With a grid of all thresholds it is the search of everything.
    assert chain.for_budget(4, tries=61**2).cost == pytest.approx(least[2])
    assert min(gaps) >= -1e-9
    assert max(gaps) <= 1 + 1e-9
    assert np.mean(gaps) <= 0.1


def two_ends(n=300):
    """Return a bank of a device and a cloud that are wrong here and there, each for itself."""
    bank = random_outcomes(n)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(n, 4)).astype(np.float32)
    return Bank(
        {"local": TierOutputs(logits), "cloud": TierOutputs(logits * [2, 1, 1, 1])}, bank.labels
    )


def test_of_two_tiers_the_plans_are_the_points_of_the_curve():
    bank = two_ends()
    n, scores = len(bank), MaxProb().score(bank.edge)
    curve = OffloadCurve.from_scores(scores, bank)
    chain = ScoredChain.of(bank, [MaxProb()], [0, 1])
    for kept in range(n + 1):
        plan = chain.for_budget((n - kept) / n)
        # The best point of the curve that offloads no more.
        assert plan.cost == curve.total_cost[kept:].min() / n
        assert plan.cost == curve.total_cost[round(n * plan.shares[0])] / n
    assert [plan.accuracy for plan in chain.anytime()] == [
        pytest.approx(curve.local_accuracy),
        pytest.approx(curve.cloud_accuracy),
    ]


def test_of_two_tiers_a_budget_chooses_the_threshold_of_for_budget():
    """Where each sample that is offloaded is one more right answer, the two agree."""
    scores = np.random.default_rng(0).random(50).round(2)
    costs = np.stack([np.ones(50), np.zeros(50)], axis=1)
    bank = random_outcomes(50)
    for budget in (0, 10, 333.3, 500, 999, 1000):
        (threshold,) = ScoredChain([scores], costs, [0, 1000]).for_budget(budget).thresholds
        chosen = for_budget(scores, bank, max_bytes=budget, bytes_sent=1000)
        assert chosen.score_threshold == threshold


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": SCORES[:1]}, "has 2 gates with scores, and 3 prices; received 1 and 3"),
        ({"prices": (1, 2)}, "received 2 and 2"),
        ({"prices": (1, -2, 4)}, "not negative: what each tier adds; received -2 for tier 1"),
        ({"scores": [SCORES[0], SCORES[1] * np.nan]}, "gate 1: expected 6 finite scores"),
        ({"costs": np.ones((6, 1))}, "costs must be finite, of shape .* received shape"),
    ],
)
def test_what_is_no_chain_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ScoredChain(**{"scores": SCORES, "costs": 1 - RIGHT, "prices": PRICES} | change)


def test_a_budget_below_the_first_tier_is_refused():
    with pytest.raises(ValueError, match=r"budget must be at least 1, .* received 0\.5"):
        SIX.for_budget(0.5)
    with pytest.raises(ValueError, match="expected 2 thresholds, one a gate; received 1"):
        SIX.ends([0.5])
