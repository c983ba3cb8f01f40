"""Curves, their areas, and thresholds that come from calibration data, worked by hand."""

import numpy as np
import pytest
from conftest import bank_of, outcomes, random_outcomes

from keras_ddnn.data.bank import Bank
from keras_ddnn.evaluation.curves import (
    OffloadCurve,
    compare_rules,
    decision_accuracy,
    routed_accuracy,
)
from keras_ddnn.rules.confidence import OffloadRule, Random


class ByFirstLogit(OffloadRule):
    """Scores by the logit of class 0, moved by `shift` for banks of `n` samples."""

    def __init__(self, shift=0.0, n=None):
        self.shift, self.n = shift, n

    def score(self, edge):
        return edge.outputs[:, 0].astype(float) + (self.shift if len(edge) == self.n else 0.0)


# Right answers:   local  1 1 0 0 and cloud 1 0 1 1, in the order of the scores below.
LADDER = outcomes([True, True, False, False], [True, False, True, True])
SCORES = np.array([0.1, 0.2, 0.3, 0.4])


def test_the_curve_counts_right_answers_as_samples_are_kept_one_by_one():
    curve = OffloadCurve.from_scores(SCORES, LADDER)
    # Keep none: the cloud's 1+0+1+1 = 3. Keep one: 1 + (0+1+1) = 3. Keep two: 1+1 + (1+1) = 4.
    # Keep three: 1+1+0 + (1) = 3. Keep all: the local network's 1+1+0+0 = 2.
    np.testing.assert_array_equal(curve.local_fraction, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.accuracy, np.array([3, 3, 4, 3, 2]) / 4)


def test_audc_is_the_area_by_trapezoids_and_apgr_its_share_of_the_gap():
    curve = OffloadCurve.from_scores(SCORES, LADDER)
    # Four steps of width 1/4 and mean heights (3+3)/8, (3+4)/8, (4+3)/8, (3+2)/8.
    audc = (6 / 8 + 7 / 8 + 7 / 8 + 5 / 8) / 4
    assert curve.audc == pytest.approx(audc)
    # A_local = 2/4, A_cloud = 3/4
    assert curve.apgr == pytest.approx((audc - 2 / 4) / (3 / 4 - 2 / 4))


def test_between_two_samples_the_curve_is_interpolated():
    curve = OffloadCurve.from_scores(SCORES, LADDER)
    np.testing.assert_allclose(curve.at([0.5, 0.625]), [4 / 4, (4 / 4 + 3 / 4) / 2])


@pytest.mark.parametrize("n", [1, 7, 999])
def test_the_ends_of_a_curve_are_the_accuracies_of_the_two_networks(n):
    bank = random_outcomes(n)
    curve = OffloadCurve.from_scores(np.random.default_rng(1).random(n), bank)
    assert curve.cloud_accuracy == bank.cloud_correct.mean()
    assert curve.local_accuracy == bank.local_correct.mean()


def test_a_constant_score_is_the_straight_line():
    curve = OffloadCurve.from_scores(np.zeros(4), LADDER)
    np.testing.assert_allclose(curve.accuracy, np.linspace(3 / 4, 2 / 4, 5), rtol=1e-15)
    assert curve.apgr == 0.5


def test_tied_samples_count_by_the_mean_over_their_orders():
    tied = OffloadCurve.from_scores(np.array([0.1, 0.2, 0.2, 0.4]), LADDER)
    orders = ([0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4])
    accuracies = [OffloadCurve.from_scores(np.array(o), LADDER).accuracy for o in orders]
    np.testing.assert_allclose(tied.accuracy, np.mean(accuracies, axis=0))


def test_random_decisions_recover_half_of_the_gap():
    bank = random_outcomes(10_000)
    curve = OffloadCurve.from_scores(Random().score(bank.edge), bank)
    assert curve.apgr == pytest.approx(0.5, abs=0.02)


def test_equally_accurate_networks_have_no_gap_to_recover():
    bank = outcomes([True, False], [False, True])
    assert np.isnan(OffloadCurve.from_scores(np.array([0.1, 0.2]), bank).apgr)


@pytest.mark.parametrize(
    ("scores", "received"),
    [
        ([0.1, np.nan, 0.3, 0.4], "1 NaN or infinite"),
        ([0.1, np.inf, -np.inf, 0.4], "2 NaN or infinite"),
        ([0.1, 0.2, 0.3], r"shape \(3,\)"),
        ([[0.1], [0.2], [0.3], [0.4]], r"shape \(4, 1\)"),
    ],
)
def test_a_curve_needs_one_finite_score_a_sample(scores, received):
    with pytest.raises(ValueError, match=received):
        OffloadCurve.from_scores(np.array(scores), LADDER)


@pytest.mark.parametrize(
    ("offloaded", "decisions", "answers"),
    [
        # The oracle offloads samples 0, 2 and 3. Right: the cloud on 0 and 2, the local on 1 and 2.
        ([True, False, True, True], 4 / 4, 3 / 4),
        ([True, True, True, True], 3 / 4, 2 / 4),
        ([False, False, False, False], 1 / 4, 2 / 4),
        ([False, True, False, False], 0 / 4, 1 / 4),
    ],
)
def test_decisions_are_compared_with_the_oracle_and_answers_with_the_truth(
    four_cases, offloaded, decisions, answers
):
    assert decision_accuracy(np.array(offloaded), four_cases) == decisions
    assert routed_accuracy(np.array(offloaded), four_cases) == answers


@pytest.mark.parametrize("cloud", [0.6, 0.7])
def test_staying_local_is_the_right_decision_where_the_cloud_is_no_surer(cloud):
    bank = bank_of([[0.7, 0.3]], [[cloud, 1 - cloud]], [0])
    assert decision_accuracy(np.array([False]), bank) == 1.0


def continuous(n, seed) -> Bank:
    local, cloud = np.random.default_rng(seed).dirichlet(np.ones(3), (2, n))
    return bank_of(local, cloud, np.arange(n) % 3)


def test_thresholds_come_from_calibration_data_and_never_from_the_test():
    calibration, test = continuous(1000, 0), continuous(900, 1)
    rules = {"alike": ByFirstLogit(), "shifted": ByFirstLogit(shift=-50.0, n=900)}
    table, curves = compare_rules(rules, calibration, test, local_fraction=0.3)
    alike, shifted = (table.set_index("rule").loc[name] for name in rules)

    assert (ByFirstLogit().score(calibration.edge) < alike.score_threshold).mean() == 0.3
    assert alike.realised_local_fraction == pytest.approx(0.3, abs=0.05)
    # Every shifted score falls below the threshold: all stay local, which the curve cannot see.
    assert shifted.score_threshold == alike.score_threshold
    assert shifted.realised_local_fraction == 1.0
    assert shifted.accuracy == test.local_correct.mean()
    np.testing.assert_array_equal(curves["alike"].accuracy, curves["shifted"].accuracy)


def test_the_table_starts_with_the_oracle_and_falls_in_audc():
    bank = continuous(500, 0)
    rules = {"random": Random(), "by first logit": ByFirstLogit()}
    table, curves = compare_rules(rules, bank, bank, local_fraction=0.5, intervals=True)
    assert table["rule"][0] == "oracle"
    assert table["audc"].is_monotonic_decreasing
    assert set(table["rule"]) == set(curves) == {"oracle", *rules}
    for row in table.itertuples():
        assert row.audc_low < row.audc == curves[row.rule].audc < row.audc_high


@pytest.mark.parametrize("local_fraction", [-0.1, 50])
def test_a_local_fraction_that_is_no_fraction_is_refused(four_cases, local_fraction):
    with pytest.raises(ValueError, match=rf"received {local_fraction}"):
        compare_rules({}, four_cases, four_cases, local_fraction)
