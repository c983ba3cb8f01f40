"""Thresholds that keep a promise, and what becomes of it on other data."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from conftest import bank_of

from keras_ddnn.rules.calibration import (
    CALIBRATIONS,
    for_accuracy_drop,
    for_budget,
    for_local_fraction,
    operating_points,
)

ASKED = {
    "local_fraction": {"local_fraction": 0.5},
    "accuracy_drop": {"max_drop": 0.01},
    "cost_increase": {"max_increase": 0.2},
    "budget": {"max_bytes": 500, "bytes_sent": 1000},
}


def bank_with(cases):
    """Return a bank of "-" (only the cloud right), "+" (only the local network) and "=" (both)."""
    cases = np.array(list(cases))
    p_local, p_cloud = np.where(cases != "-", 0.9, 0.1), np.where(cases != "+", 0.9, 0.1)
    return bank_of(
        np.stack([p_local, 1 - p_local], axis=1),
        np.stack([p_cloud, 1 - p_cloud], axis=1),
        np.zeros(len(cases), int),
    )


def ladder(n):
    return np.arange(n) / n


TEN = bank_with("=+==-===--")


def test_a_local_fraction_is_promised_with_its_interval():
    calibration = for_local_fraction(ladder(10), TEN, 0.5)
    # Scores 0.0 to 0.4 stay local: a "+" and a "-" cancel out.
    assert calibration.score_threshold == 0.45
    assert calibration.numbers["validation"] == {
        "local_fraction": 0.5,
        "accuracy": 0.9,
        "accuracy_drop": 0.0,
        "disagreement": 0.2,
    }
    # Clopper–Pearson for 5 in 10, from tables.
    assert calibration.limits["local_fraction"] == pytest.approx((0.187, 0.813), abs=1e-3)
    assert "between 18.7% and 81.3%" in calibration.promise


def test_realised_is_counted_on_the_data_it_is_given():
    calibration = for_local_fraction(ladder(10), TEN, 0.5)
    # Only the first score is below 0.45, and its sample is lost.
    realised = calibration.realised(np.array([0.1, 0.45, 0.8, 0.9]), bank_with("-=+="))
    # Cloud 3 in 4; without the first sample 2 in 4.
    assert realised == {
        "local_fraction": 1 / 4,
        "accuracy": 2 / 4,
        "accuracy_drop": 1 / 4,
        "disagreement": 1 / 4,
        "kept": True,
    }
    everything = calibration.realised(np.array([0.1, 0.2]), bank_with("=+"))
    assert everything["kept"] is False
    assert everything["accuracy_drop"] == -1 / 2
    assert calibration.describe(everything) == (
        f"promised: {calibration.promise} / realised: 100.0% local, accuracy 100.00%, "
        "50.00 points above the cloud's; broken"
    )


def test_an_accuracy_drop_is_certified_on_the_paired_loss():
    # By hand in test_certificate.py: of 500 samples, one loss certifies and the second does not.
    bank = bank_with("-" + "=" * 199 + "-" + "=" * 299)
    calibration = for_accuracy_drop(ladder(500), bank, max_drop=0.01, delta=0.1)
    assert calibration.score_threshold == 200 / 500
    assert calibration.numbers == {
        "n": 500,
        "options": {"max_drop": 0.01, "delta": 0.1},
        "validation": {
            "local_fraction": 0.4,
            "accuracy": 499 / 500,
            "accuracy_drop": 1 / 500,
            "disagreement": 1 / 500,
        },
    }
    assert "with probability 90.0% or more" in calibration.promise
    assert "at most 1.00 points below the cloud's (40.0% of 500" in calibration.promise


@pytest.mark.parametrize(("lost", "kept"), [(1, True), (2, False)])
def test_a_promised_drop_is_kept_up_to_the_last_sample(lost, kept):
    calibration = for_accuracy_drop(ladder(300), bank_with("=" * 300), max_drop=0.01)
    # A negative drop is no breach: the local network alone may be the better one.
    assert calibration.realised(ladder(100), bank_with("+" * 100))["kept"]
    realised = calibration.realised(ladder(100), bank_with("-" * lost + "=" * (100 - lost)))
    assert realised["accuracy_drop"] == lost / 100
    assert realised["kept"] is kept


def test_where_nothing_is_certified_everything_is_offloaded_and_the_promise_says_so():
    calibration = for_accuracy_drop(ladder(10), TEN)
    assert calibration.score_threshold == -np.inf
    assert calibration.promise.startswith("everything is offloaded, for 10 samples certify no")
    realised = calibration.realised(ladder(10) - 99, TEN)
    assert realised["local_fraction"] == realised["accuracy_drop"] == 0.0
    assert realised["kept"]


@pytest.mark.parametrize(
    ("budget", "local_fraction"),
    [
        # 10 samples of 1,000 bytes: each one offloaded adds 100 bytes to the mean.
        ({"max_bytes": 300}, 0.7),
        ({"max_bytes": 399}, 0.7),
        ({"max_bytes": 0}, 1.0),
        ({"max_bytes": 1000}, 0.0),
        # 2 ms for all; each one offloaded adds 8 ms / 10.
        ({"max_seconds": 0.002 + 4 * 0.0008}, 0.6),
        ({"max_seconds": 0.002}, 1.0),
        # Both: the stricter decides.
        ({"max_bytes": 300, "max_seconds": 1.0}, 0.7),
        ({"max_bytes": 900, "max_seconds": 0.004}, 0.8),
    ],
)
def test_a_budget_buys_as_much_offloading_as_fits(budget, local_fraction):
    calibration = for_budget(
        ladder(10), TEN, **budget, bytes_sent=1000, local_seconds=0.002, cloud_seconds=0.008
    )
    realised = calibration.realised(ladder(10), TEN)
    assert realised["local_fraction"] == local_fraction
    offloaded = 1 - local_fraction
    assert realised["bytes"] == pytest.approx(1000 * offloaded)
    assert realised["seconds"] == pytest.approx(0.002 + 0.008 * offloaded)
    assert realised["kept"]


def test_a_budget_is_kept_with_tied_scores():
    scores = np.array([0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9])
    calibration = for_budget(scores, TEN, max_bytes=500, bytes_sent=1000)
    # The three of 0.5 go together, and 6 of 10 would be too many.
    assert calibration.score_threshold == 0.9
    assert calibration.promise == (
        "at most 500 bytes a sample on average (70.0% of 10 samples stay local)"
    )
    # On other data it may be broken.
    realised = calibration.realised(np.ones(10), TEN)
    assert realised["bytes"] == 1000
    assert realised["kept"] is False


def test_constant_scores_are_all_offloaded_or_none():
    constant = np.zeros(10)
    assert for_budget(constant, TEN, max_bytes=999, bytes_sent=1000).score_threshold == np.inf
    assert for_local_fraction(constant, TEN, 0.5).numbers["validation"]["local_fraction"] == 0.0


def test_a_budget_for_everything_offloads_what_scores_lower_than_any_sample_too():
    calibration = for_budget(ladder(10), TEN, max_bytes=1000, bytes_sent=1000)
    assert calibration.realised(ladder(10) - 99, TEN)["local_fraction"] == 0.0


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "max_bytes, max_seconds or both; received neither"),
        ({"max_bytes": -1}, "max_bytes must be at least 0.0, .* received -1"),
        ({"max_seconds": 0.001}, "max_seconds must be at least 0.002, .* received 0.001"),
        ({"max_seconds": np.nan}, "max_seconds must be at least .* received nan"),
        ({"max_bytes": 1, "bytes_sent": -5}, "bytes_sent must be .* received -5"),
        ({"max_bytes": 1, "cloud_seconds": np.inf}, "cloud_seconds must be .* received inf"),
    ],
)
def test_an_impossible_budget_is_refused(budget, message):
    with pytest.raises(ValueError, match=message):
        for_budget(ladder(10), TEN, **({"bytes_sent": 1000, "local_seconds": 0.002} | budget))


def test_options_that_are_no_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"local_fraction must lie in .* received 50"):
        for_local_fraction(ladder(10), TEN, 50)
    with pytest.raises(ValueError, match=r"max_drop must lie in .* received 1"):
        for_accuracy_drop(ladder(10), TEN, max_drop=1)
    with pytest.raises(ValueError, match=r"delta must lie in .* received 0"):
        for_accuracy_drop(ladder(10), TEN, delta=0)


@pytest.mark.parametrize("name", CALIBRATIONS)
@pytest.mark.parametrize(
    ("scores", "received"),
    [
        (np.arange(9.0), r"shape \(9,\)"),
        (np.append(np.arange(8.0), [np.nan, np.inf]), "2 NaN or infinite"),
    ],
)
def test_a_calibration_needs_one_finite_score_a_sample(name, scores, received):
    with pytest.raises(ValueError, match=received):
        CALIBRATIONS[name](scores, TEN, **ASKED[name])
    with pytest.raises(ValueError, match=received):
        CALIBRATIONS[name](ladder(10), TEN, **ASKED[name]).realised(scores, TEN)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        for_accuracy_drop(np.array([]), bank_with(""))


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_calibration_knows_its_name_and_goes_through_json(name):
    calibration = CALIBRATIONS[name](ladder(10), TEN, **ASKED[name])
    assert calibration.name == name
    assert CALIBRATIONS[name].__doc__
    facts = json.loads(json.dumps(asdict(calibration)))
    assert facts["numbers"]["n"] == 10
    assert facts["numbers"]["options"].items() >= ASKED[name].items()
    realised = calibration.realised(ladder(10), TEN)
    assert json.loads(json.dumps(realised)) == realised
    assert realised | {"kept": None} == calibration.numbers["validation"] | {"kept": None}


def test_operating_points_lead_from_all_cloud_to_all_local(four_cases):
    scores = np.array([0.9, 0.1, 0.5, 0.5])
    points = operating_points(scores, four_cases)
    # Sample 0 is right in the cloud only, 1 on the device only, 2 in both, 3 in neither.
    first = {"score_threshold": 0.1, "local_fraction": 0.0, "accuracy": 0.5}
    assert points[0] == first | {"disagreement": 0.0}
    assert points[-1]["local_fraction"] == 1.0
    assert points[-1]["accuracy"] == 0.5
    best = max(points, key=lambda point: point["accuracy"])
    assert best["accuracy"] == 0.75
    assert best["local_fraction"] in (0.25, 0.75)
    thresholds = [point["score_threshold"] for point in points]
    assert thresholds == sorted(set(thresholds))
    assert np.isfinite(thresholds).all()
