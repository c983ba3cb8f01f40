"""Costs, the benefit B_k, the threshold b* and the oracle, worked by hand."""

import numpy as np
import pytest
from conftest import bank_of

from keras_ddnn.data.gate_costs import benefit, hard_labels, threshold_for_fraction
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.tasks.classification import COSTS


def random_bank(n, num_classes, seed):
    rng = np.random.default_rng(seed)
    local, cloud = rng.dirichlet(np.ones(num_classes), (2, n))
    return bank_of(local, cloud, rng.integers(num_classes, size=n))


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        # p_cloud - p_local of the true class
        ("true_class", [0.9 - 0.2, 0.3 - 0.8, 0.7 - 0.6, 0.1 - 0.4]),
        # local wrong - cloud wrong
        ("zero_one", [1 - 0, 0 - 1, 0 - 0, 1 - 1]),
        # log p_cloud - log p_local of the true class
        ("cross_entropy", np.log([0.9 / 0.2, 0.3 / 0.8, 0.7 / 0.6, 0.1 / 0.4])),
    ],
)
def test_benefit_is_the_local_cost_minus_the_cloud_cost(four_cases, cost, expected):
    np.testing.assert_allclose(benefit(four_cases, cost), expected, atol=1e-6)


@pytest.mark.parametrize("cost", COSTS)
def test_a_certain_mistake_costs_more_than_a_doubtful_one_and_is_finite(cost):
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0]])
    costs = COSTS[cost](probabilities, np.array([1, 1, 1]))
    assert costs[0] >= costs[1] > costs[2]
    assert np.isfinite(costs).all()
    assert np.isfinite(costs).all()


@pytest.mark.parametrize(
    ("local_fraction", "labels"),
    [
        # B_k of the four cases is 0.7, -0.5, 0.1, -0.3: the lowest become easy first.
        (0.0, [1, 1, 1, 1]),
        (0.25, [1, 0, 1, 1]),
        (0.5, [1, 0, 1, 0]),
        (0.75, [1, 0, 0, 0]),
        (1.0, [0, 0, 0, 0]),
    ],
)
def test_the_share_l0_of_lowest_benefit_is_labelled_easy(four_cases, local_fraction, labels):
    assert hard_labels(benefit(four_cases), local_fraction).tolist() == labels


@pytest.mark.parametrize("local_fraction", [0.0, 0.1, 0.25, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_threshold_keeps_the_share_that_was_asked_for(local_fraction, dtype):
    scores = np.random.default_rng(0).normal(size=1000).astype(dtype)
    kept = scores < threshold_for_fraction(scores, local_fraction)
    assert kept.sum() == 1000 * local_fraction


@pytest.mark.parametrize(
    ("local_fraction", "hard"), [(0.0, 5), (0.2, 4), (0.4, 4), (0.8, 4), (1.0, 0)]
)
def test_tied_benefits_share_one_label_and_ties_at_the_threshold_are_hard(local_fraction, hard):
    assert hard_labels(np.array([0.0, 0.3, 0.3, 0.3, 0.3]), local_fraction).sum() == hard


@pytest.mark.parametrize("local_fraction", [-0.1, 1.1, 50, float("nan")])
def test_a_local_fraction_outside_the_unit_interval_is_refused(local_fraction):
    with pytest.raises(ValueError, match=rf"\[0, 1\]; received {local_fraction}"):
        threshold_for_fraction(np.array([0.1, 0.2]), local_fraction)


@pytest.mark.parametrize(
    ("values", "received"),
    [([], "0 values, 0 of them NaN"), ([0.1, np.nan, np.nan], "3 values, 2 of them NaN")],
)
def test_values_that_give_no_threshold_are_refused(values, received):
    with pytest.raises(ValueError, match=f"at least one value and no NaN; received {received}"):
        threshold_for_fraction(np.array(values), 0.5)


@pytest.mark.parametrize(
    ("case", "local", "cloud", "score"),
    [
        # The true class is 0; from two classes, a network is right above 0.5.
        ("only the cloud is right", 0.2, 0.9, 2 + 0.7),
        ("only the local network is right", 0.8, 0.3, -2 - 0.5),
        ("both are right, the cloud more surely", 0.6, 0.7, 0.1),
        ("both are right, the local network more surely", 0.7, 0.6, -0.1),
        ("both are right alike", 0.7, 0.7, 0.0),
        ("both are wrong, the cloud more surely", 0.4, 0.1, 1.0),
        ("both are wrong, the local network more surely", 0.1, 0.4, 1.0),
    ],
)
def test_the_oracle_decides_as_the_paper_does(case, local, cloud, score):
    bank = bank_of([[local, 1 - local]], [[cloud, 1 - cloud]], [0])
    np.testing.assert_allclose(oracle_scores(bank), [score], atol=1e-6, err_msg=case)
    assert (oracle_scores(bank) > 0) == (score > 0)


def test_the_oracle_ranks_a_cloud_that_is_barely_right_above_all_other_cases():
    # With many classes the cloud may be right with less probability than the local network, which
    # is wrong, gives the true class: B_k = 0.4 - 0.45 < 0, yet offloading gains an answer.
    local, cloud = [0.45, 0.5, 0.05, 0.0001], [0.4, 0.3, 0.2, 0.1]
    bank = bank_of([local, cloud, local], [cloud, local, [0.1, 0.9, 0.1, 0.1]], [0, 0, 2])
    gains, loses, neither = oracle_scores(bank)
    assert benefit(bank)[0] < 0
    assert gains > neither > 0 > loses


@pytest.mark.parametrize("seed", range(20))
def test_no_ranking_beats_the_oracle_at_any_local_fraction(seed):
    bank = random_bank(n=200, num_classes=2 + seed % 5, seed=seed)
    oracle = OffloadCurve.from_scores(oracle_scores(bank), bank).accuracy
    rng = np.random.default_rng(seed)
    for scores in (rng.random(200), rng.integers(5, size=200), benefit(bank), -benefit(bank)):
        assert (OffloadCurve.from_scores(scores, bank).accuracy <= oracle + 1e-12).all()
