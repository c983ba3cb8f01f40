"""Two costs a sample are all that evaluation needs: worked by hand, and as those of a bank."""

import numpy as np
import pytest
from conftest import random_outcomes

from keras_ddnn.data.gate_costs import GateCosts
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.statistics import audc_gain
from keras_ddnn.rules.calibration import for_budget, for_local_fraction

# Three samples, of which the second gains by being sent: 3 instead of 5.
NUMBERS = GateCosts(stay=np.array([1.0, 5.0, 2.0]), go=np.array([2.0, 3.0, 2.0]))
SCORES = np.array([0.1, 0.9, 0.5])


def test_a_curve_of_numbers_adds_up_costs_as_samples_are_kept_one_by_one():
    curve = OffloadCurve.from_scores(SCORES, NUMBERS)
    # Send all: 2+3+2. Keep the first: 1+3+2. Keep the first and the third: 1+3+2. Keep all: 1+5+2.
    np.testing.assert_array_equal(curve.total_cost, [7, 6, 6, 8])
    # Three steps of width 1/3, with mean costs of 6.5, 6 and 7 for three samples.
    assert curve.mean_cost == pytest.approx((6.5 + 6 + 7) / 3 / 3)
    # From 8 (all local) to 7 (all sent), 6.5 is the mean: 1.5 of 1.
    assert curve.apgr == pytest.approx((8 - (6.5 + 6 + 7) / 3) / (8 - 7))


def test_a_threshold_on_numbers_says_what_it_costs():
    calibration = for_local_fraction(SCORES, NUMBERS, 2 / 3)
    realised = calibration.realised(SCORES, NUMBERS)
    assert realised["local_fraction"] == 2 / 3
    assert realised["accuracy_drop"] == pytest.approx((6 - 7) / 3)  # one less than sending all
    assert realised["disagreement"] == pytest.approx((1 + 0) / 3)  # |1 - 2| and |2 - 2|


def test_the_costs_of_a_bank_give_its_numbers_to_the_last_bit():
    bank = random_outcomes(500)
    costs = GateCosts(bank.stay, bank.go, bank.differ)
    scores, other = np.random.default_rng(1).random((2, 500)).round(2)
    ours, of_bank = (OffloadCurve.from_scores(scores, samples) for samples in (costs, bank))
    np.testing.assert_array_equal(ours.accuracy, of_bank.accuracy)
    assert ours.audc == of_bank.audc
    assert ours.apgr == of_bank.apgr
    assert audc_gain(scores, other, costs) == audc_gain(scores, other, bank)
    budget = {"max_bytes": 50.0, "bytes_sent": 100.0}
    assert for_budget(scores, costs, **budget) == for_budget(scores, bank, **budget)


@pytest.mark.parametrize(
    ("stay", "go", "message"),
    [
        ([1.0, 2.0], [1.0], r"one shape \(n,\).*\(2,\) and \(1,\)"),
        ([[1.0]], [[1.0]], r"one shape \(n,\).*\(1, 1\)"),
        ([1.0, np.nan], [1.0, 2.0], "stay must be 2 finite costs.* 1 NaN or infinite"),
        ([1.0], [-np.inf], "go must be 1 finite costs.* 1 NaN or infinite"),
    ],
)
def test_costs_that_are_not_one_finite_number_a_sample_are_refused(stay, go, message):
    with pytest.raises(ValueError, match=message):
        GateCosts(np.array(stay), np.array(go))
