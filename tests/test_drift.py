"""The drift guard: arithmetic by hand, promises counted over seeded streams, shifts of data."""

import itertools
import json
import pickle
from math import log

import numpy as np
import pytest

from keras_ddnn.serve.drift.audit import Audit, differ_and_lost
from keras_ddnn.serve.drift.guard import DriftGuard
from keras_ddnn.serve.drift.local_fraction_control import ShareController, ShareTest
from keras_ddnn.serve.drift.sample_bounds import highest_mean, share_error
from keras_ddnn.serve.drift.sequential_test import ExcessTest
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.regression import Regression


def of_classes(local, cloud, labels=None):
    """Return what an audit reads of class numbers; a negative label is unknown."""
    local, cloud = np.asarray(local), np.asarray(cloud)
    labels = np.full(local.shape, -1) if labels is None else np.asarray(labels)
    lost = np.where(labels < 0, np.nan, 1.0 * (cloud == labels) - (local == labels))
    return local != cloud, lost


def rng_of(seed):
    return np.random.default_rng([seed, 9])


def local_fraction(controller, scores):
    return 1.0 - controller.decide(scores).mean()


# The share.


def test_a_rank_rises_with_what_is_offloaded_and_falls_with_what_is_kept():
    controller = ShareController(0.75, 0.5, gain=0.1, memory=4)
    # Of 0.5 four times, rank 0.75 is 0.5; of 0.4 and 0.5 thrice, rank 0.725 is 0.5; of 0.4, 0.5
    # twice and 0.6, rank 0.8 is 0.6; rank 0.775 still is.
    assert controller.decide([0.4, 0.6, 0.5]).tolist() == [False, True, False]
    assert controller.rank == pytest.approx(0.775)
    assert controller.score_threshold == 0.6
    assert (controller.seen, controller.kept) == (3, 2)


def test_calibrated_scores_meet_the_calibrated_threshold():
    controller, scores = ShareController(0.3, 0.3), rng_of(0).random(200)
    assert (controller.decide(scores) == (scores >= 0.3)).mean() > 0.98


@pytest.mark.parametrize(
    "after",
    [
        lambda rng, n: 0.6 + 0.4 * rng.random(n),
        lambda rng, n: 0.1 * rng.random(n),
        lambda rng, n: 1e6 * rng.standard_normal(n),
        lambda rng, n: np.full(n, 0.3),
        lambda rng, n: rng.integers(0, 3, n) / 3.0,
    ],
    ids=["higher", "lower", "of another scale", "all alike", "three values"],
)
@pytest.mark.parametrize("target", [0.2, 0.5, 0.9])
def test_the_share_returns_after_a_shift(after, target):
    controller, rng = ShareController(target, target), rng_of(1)
    assert local_fraction(controller, rng.random(3000)) == pytest.approx(target, abs=0.02)
    assert local_fraction(controller, after(rng, 1200)) == pytest.approx(target, abs=0.085)
    shares = [local_fraction(controller, after(rng, 1000)) for _ in range(4)]
    np.testing.assert_allclose(shares, target, atol=0.02)


def adversary(controller, n):
    """Scores that the controller gets wrong whenever it can: always on the side it has too many."""
    for _ in range(n):
        low = controller.kept >= controller.local_fraction * controller.seen
        yield float(np.clip(controller.score_threshold, -9, 9)) + (-1 if low else 1)


@pytest.mark.parametrize("gain", [0.01, 0.1])
@pytest.mark.parametrize("target", [0.0, 0.1, 0.5, 1.0])
def test_no_sequence_takes_the_share_beyond_its_bound(target, gain):
    rng, n = rng_of(2), 2000
    controller = ShareController(target, 0.5, gain, memory=50)
    worst = [bool(controller.decide([score])[0]) for score in adversary(controller, n)]
    walk = np.cumsum(rng.standard_normal(n))
    for offloaded in (
        np.array(worst),
        ShareController(target, 0.5, gain, memory=50).decide(walk),
        ShareController(target, 0.5, gain).decide(np.arange(n)),
        ShareController(target, np.inf, gain).decide(-np.arange(n)),
    ):
        excess = np.append(0.0, np.cumsum(~offloaded - target))
        # Of all runs of samples in a row, the one with the largest sum.
        assert np.ptp(excess) <= (1 + gain) / gain + 1e-6
        assert abs(excess[-1]) / n <= (1 + gain) / (gain * n)


def test_scores_that_are_no_numbers_are_offloaded_and_teach_nothing():
    controller, twin = ShareController(0.5, 0.5), ShareController(0.5, 0.5)
    scores = rng_of(3).random(500)
    spoilt = np.insert(scores, 250, [np.nan, np.inf, -np.inf])
    decided = controller.decide(spoilt)
    assert decided[250:253].all()
    np.testing.assert_array_equal(np.delete(decided, [250, 251, 252]), twin.decide(scores))
    assert controller.unscored == 3
    assert controller.rank == twin.rank


def test_decisions_do_not_depend_on_batches():
    scores = rng_of(4).random(1000)
    one, many = ShareController(0.4, 0.5), ShareController(0.4, 0.5)
    parts = [many.decide(part) for part in np.split(scores, [1, 2, 50, 300, 999])]
    np.testing.assert_array_equal(one.decide(scores), np.concatenate(parts))


def test_without_gain_the_calibrated_threshold_stays():
    scores = rng_of(5).random(500)
    for target, threshold in ((0.5, 0.7), (0.0, 0.7), (1.0, 0.7), (1.0, np.inf), (0.0, -np.inf)):
        controller = ShareController(target, threshold, gain=0)
        np.testing.assert_array_equal(controller.decide(scores), scores >= threshold)
        assert controller.score_threshold == threshold


def test_scores_of_long_ago_are_forgotten():
    late, early = ShareController(0.5, 0.5, memory=20), ShareController(0.5, 0.5, memory=20)
    early.decide(10.0 + rng_of(6).random(500))
    for controller in (late, early):
        controller.decide(rng_of(7).random(500))
        assert 0.0 < controller.score_threshold < 1.0
    assert len(pickle.dumps(early)) == pytest.approx(len(pickle.dumps(late)), abs=50)


# The test of a mean.


def test_evidence_by_hand():
    test = ExcessTest(limit=0.1, lowest=-1.0, delta=0.1)
    assert test.evidence == 1.0
    test.learn(1)
    first = 1 - log(2) / log(3)
    factors = 1 + 0.5 ** np.arange(1, 9) / 1.1 * 0.9
    assert test.evidence == pytest.approx(first * factors.mean() + log(2) / log(3))


@pytest.mark.parametrize("lowest", [-1.0, 0.0])
def test_nobody_can_expect_to_win_by_enumeration(lowest):
    limit, expected = 0.2, 0.0
    chances = {1: 0.3, -1: 0.1, 0: 0.6} if lowest else {1: 0.2, 0: 0.8}
    for sequence in itertools.product(chances, repeat=6):
        test = ExcessTest(limit, lowest, 0.1)
        for outcome in sequence:
            test.learn(outcome)
        expected += np.prod([chances[outcome] for outcome in sequence]) * test.evidence
    assert expected == pytest.approx(1.0)


def alarm_of(test, outcomes):
    """Return the count at which a test alarms on outcomes, or None."""
    for outcome in outcomes.tolist():
        test.learn(outcome)
        if test.alarm_at:
            break
    return test.alarm_at


def outcomes_of(rng, p_lost, p_gained, n):
    return rng.choice([1, -1, 0], p=[p_lost, p_gained, 1 - p_lost - p_gained], size=n)


@pytest.mark.parametrize(("limit", "lowest", "p_gained"), [(0.05, -1.0, 0.05), (0.1, 0.0, 0.0)])
def test_there_is_no_more_than_delta_false_alarms_ever(limit, lowest, p_gained):
    streams, delta = 300, 0.2
    alarms = sum(
        alarm_of(
            ExcessTest(limit, lowest, delta),
            outcomes_of(rng_of(seed), limit + p_gained, p_gained, 300),  # at the very limit
        )
        is not None
        for seed in range(streams)
    )
    assert 0 < alarms / streams <= delta + 2 * np.sqrt(delta * (1 - delta) / streams)


@pytest.mark.parametrize(("good", "delay"), [(0, 150), (1000, 350), (10_000, 450)])
def test_a_long_good_time_hides_no_change(good, delay):
    delays = []
    for seed in range(5):
        rng, test = rng_of(seed), ExcessTest(limit=0.01, lowest=-1.0, delta=0.1)
        assert alarm_of(test, outcomes_of(rng, 0.01, 0.02, good)) is None
        delays.append(alarm_of(test, outcomes_of(rng, 0.17, 0.02, 1000)) - good)
    assert max(delays) <= delay


def test_an_alarm_stays_and_evidence_stays_finite():
    test = ExcessTest(limit=0.01, lowest=0.0, delta=0.1)
    assert alarm_of(test, np.ones(50)) < 10
    for _ in range(2000):
        test.learn(1)
    assert np.isfinite(test.evidence)
    assert test.alarm_at < 10


# The audit.


def test_an_audit_counts_what_keeping_has_cost():
    audit = Audit(max_drop=0.01, max_disagreement=0.3)
    #            offloaded  kept: both right, only cloud, only local, both wrong, unlabelled
    audit.learn(
        np.array([1, 0, 0, 0, 0, 0], bool),
        *of_classes([3, 1, 2, 1, 2, 1], [1, 1, 1, 2, 3, 4], [1] * 5 + [-1]),
    )
    assert list(audit.drop._recent) == [0, 0, 1, -1, 0]
    assert list(audit.disagreement._recent) == [0, 0, 1, 1, 1, 1]
    status = audit.status()
    assert status["drop"]["recent"] == 0.0
    assert status["drop"]["standard_error"] == pytest.approx(np.sqrt(2 / 5 / 5))
    assert status["disagreement"]["recent"] == pytest.approx(4 / 6)


def test_without_labels_the_drop_learns_nothing():
    audit = Audit(max_drop=0.01)
    audit.learn([False], *of_classes([1], [2]))
    assert (audit.drop.count, audit.disagreement.count) == (0, 1)


def test_two_tests_share_the_probability_of_a_false_alarm():
    assert Audit(0.01, delta=0.1).drop.delta == 0.1
    both = Audit(0.01, max_disagreement=0.05, delta=0.1)
    assert (both.drop.delta, both.disagreement.delta) == (0.05, 0.05)


def test_lots_are_those_of_the_seed_and_as_many_as_asked():
    audit, twin, other = Audit(0.01, share=0.2), Audit(0.01, share=0.2), Audit(0.01, seed=1)
    drawn = audit.draw(5000)
    assert drawn.mean() == pytest.approx(0.2, abs=0.02)
    np.testing.assert_array_equal(drawn, np.concatenate([twin.draw(7), twin.draw(4993)]))
    assert (drawn != other.draw(5000)).any()


# The scores.


def test_a_shift_of_scores_alarms_either_way():
    for after, kept in (((0.0, 0.5), "100.0%"), ((0.6, 1.0), "0.0%")):
        test, rng = ShareTest(0.5, 0.5), rng_of(0)
        test.learn(rng.random(3000))
        assert test.alarm is None
        test.learn(rng.uniform(*after, 300))
        assert 3000 < test.status()["alarm_at"] < 3200
        test.learn(rng.uniform(*after, 1000))
        assert f"would keep {kept} of" in test.alarm
        assert "the last 1,000, where 50.0% were expected" in test.alarm


def test_a_shift_within_the_tolerance_is_none():
    alarms = 0
    for seed in range(40):
        test = ShareTest(0.5, 0.6, tolerance=0.1, delta=0.2)  # 60% are kept
        test.learn(rng_of(seed).random(1000))
        alarms += test.alarm is not None
    assert alarms / 40 <= 0.2 + 2 * np.sqrt(0.2 * 0.8 / 40)


@pytest.mark.parametrize(("target", "threshold"), [(0.0, -np.inf), (1.0, np.inf)])
def test_nothing_shifts_where_one_machine_answers_everything(target, threshold):
    test = ShareTest(target, threshold)
    test.learn(np.append(rng_of(0).random(500), np.nan))
    assert test.alarm is None
    assert test.status()["count"] == 501


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_lost_are_a_shift(score):
    test = ShareTest(0.5, 0.5)
    test.learn(rng_of(0).random(500))
    assert test.alarm is None
    test.learn(np.full(200, score))
    assert test.alarm.startswith("Scores have shifted")


# The guard.


def stream(rng, n, drift=0.0):
    """Return scores and answers of ten classes; the higher a score, the more often local errs.

    The cloud is right with 90%, local with 90% at score 0 and 50% at score 1 — or less by `drift`.
    """
    scores, labels = rng.random(n), rng.integers(0, 10, n)
    wrong = (labels + 1) % 10
    local = np.where(rng.random(n) < 0.9 - 0.4 * scores - drift, labels, wrong)
    cloud = np.where(rng.random(n) < 0.9, labels, (labels + 2) % 10)
    return scores, local, cloud, labels


def watch(guard, scores, local, cloud, labels, known=True):
    """Send a stream through a guard in batches; return after how many samples it first alarmed."""
    for start in range(0, len(scores), 50):
        part = slice(start, start + 50)
        offloaded, drawn = guard.decide(scores[part])
        answers = (array[part][drawn] for array in (local, cloud))
        truth = labels[part][drawn] if known else None
        guard.learn(offloaded[drawn], *of_classes(*answers, truth))
        if guard.status()["alarms"]:
            return start + 50
    return None


def test_a_guard_sees_the_drop_of_all_samples():
    guard = DriftGuard(0.5, 0.5, max_drop=0.5, audit_share=1.0)
    watch(guard, *stream(rng_of(0), 1000))
    # Half are kept, at scores up to 0.5: 0.4·∫s ds from 0 to 0.5 = 5%.
    status = guard.status()["audit"]["drop"]
    assert status["count"] == 1000
    assert status["recent"] == pytest.approx(0.05, abs=3 * status["standard_error"])


def test_a_guard_is_silent_while_the_promise_holds_and_alarms_when_it_is_broken():
    alarms, delays = 0, []
    for seed in range(10):
        rng = rng_of(seed)
        guard = DriftGuard(0.5, 0.5, max_drop=0.055, audit_share=0.2, tolerance=1.0, seed=seed)
        alarms += watch(guard, *stream(rng, 2000)) is not None
        delays.append(watch(guard, *stream(rng, 8000, drift=0.4)))
    assert alarms <= 0.1 * 10 + 2 * np.sqrt(0.09 * 10)
    assert None not in delays
    assert np.median(delays) <= 2000  # 400 of them checked


def test_without_labels_disagreement_alarms():
    rng = rng_of(1)
    guard = DriftGuard(0.5, 0.5, max_disagreement=0.2, audit_share=0.2)
    assert watch(guard, *stream(rng, 2000), known=False) is None
    assert watch(guard, *stream(rng, 8000, drift=0.4), known=False) <= 4000
    (alarm,) = guard.status()["alarms"]
    assert alarm.startswith("More than 20.00% of all samples are kept although the cloud would")


def test_without_a_limit_disagreement_never_alarms():
    guard = DriftGuard(1.0, np.inf, audit_share=1.0)
    everything = np.zeros(500, int)
    guard.learn(everything.astype(bool), everything + 1)
    assert guard.status()["alarms"] == []
    assert guard.status()["audit"]["disagreement"]["recent"] == 1.0


def test_an_alarm_says_in_plain_words_what_to_do():
    guard = DriftGuard(1.0, np.inf, max_drop=0.02, audit_share=1.0)
    zeros = np.zeros(40, int)
    guard.learn(zeros.astype(bool), *of_classes(zeros + 1, zeros, zeros))
    (alarm,) = guard.status()["alarms"]
    assert alarm == (
        "Accuracy has fallen more than 2.00% below the cloud's, as found at sample 14 of those "
        "checked; over the last 40 it is 100.00% ± 0.00%. Data have changed: choose a new "
        "threshold on recent, labelled samples. The probability that this guard ever alarms "
        "although nothing has changed is at most 10.0%."
    )


@pytest.mark.parametrize("guard", [DriftGuard(0.5, 0.5), DriftGuard(1.0, np.inf)])
def test_a_status_is_plain_json(guard):
    for _ in range(2):
        assert json.loads(json.dumps(guard.status(), allow_nan=False)) == guard.status()
        watch(guard, *stream(rng_of(0), 200))


def manifest_of(options, drop, n=5000):
    validation = {"local_fraction": 0.4, "accuracy": 0.8, "accuracy_drop": drop}
    numbers = {"n": n, "options": options, "validation": validation | {"disagreement": 0.04}}
    calibration = {"numbers": numbers}
    return {"score_threshold": 0.7, "calibration": calibration}


ENDLESS = 10**8  # samples, which leave nothing to chance


def test_a_guard_of_an_artefact_watches_what_was_certified():
    guard = DriftGuard.of(manifest_of({"max_drop": 0.02, "delta": 0.05}, 0.015, ENDLESS), seed=3)
    assert guard.audit.drop.limit == 0.02
    assert guard.audit.disagreement.limit == pytest.approx(0.045)
    assert guard.controller.local_fraction == 0.4
    assert guard.controller.score_threshold == 0.7
    assert guard.delta == 0.05


def test_a_guard_of_an_artefact_without_a_certificate_allows_a_point_more_than_validation_lost():
    manifest = manifest_of({}, 0.015, ENDLESS)
    assert DriftGuard.of(manifest).audit.drop.limit == pytest.approx(0.025)
    assert DriftGuard.of(manifest, max_drop=0.1).audit.drop.limit == 0.1
    assert DriftGuard.of(manifest_of({}, 0.015, 20), max_drop=0.001).audit.drop.limit == 0.001


def plan_of(*points):
    names = ("score_threshold", "local_fraction", "accuracy", "disagreement")
    return [dict(zip(names, point)) for point in points]


def test_a_guard_of_an_artefact_without_calibration_reads_its_plan():
    # The sixth digits say that there were a million samples.
    plan = plan_of(
        (0.1, 0.0, 0.85, 0.0), (0.5, 0.4, 0.840001, 0.020001), (0.9, 1.0, 0.699999, 0.299999)
    )
    guard = DriftGuard.of({"score_threshold": 0.5, "calibration": None, "plan": plan})
    assert guard.controller.local_fraction == 0.4
    assert guard.audit.drop.limit == pytest.approx(0.01 + 0.01, abs=2e-6)
    assert guard.audit.disagreement.limit == pytest.approx(0.02 + 0.01, abs=2e-6)
    between = DriftGuard.of({"score_threshold": 0.6, "calibration": None, "plan": plan})
    # A quarter of the way from the second point to the third. Nobody knows what lies between: up to
    # the third point all that disagree may do so, and each may be a loss.
    assert between.controller.local_fraction == pytest.approx(0.55)
    assert between.shift.tolerance == pytest.approx(1.0 - 0.55, abs=0.002)
    assert between.audit.drop.limit == pytest.approx(0.01 + 0.28, abs=0.005)
    assert between.audit.disagreement.limit == pytest.approx(0.3, abs=0.005)


def promise_of(guard):
    """Return what all tests of a guard may alarm with, together."""
    tests = (guard.audit.drop, guard.audit.disagreement)
    return guard.shift.status()["delta"] + sum(test.delta for test in tests)


def test_scores_and_audits_share_one_probability_of_a_false_alarm():
    assert promise_of(DriftGuard(0.5, 0.5, max_disagreement=0.2)) == pytest.approx(0.1)
    # Half of it is the chance that the validation sample was not like all data.
    assert promise_of(DriftGuard.of(manifest_of({}, 0.015))) == pytest.approx(0.05)
    assert promise_of(DriftGuard.of(manifest_of({}, 0.015), delta=0.4)) == pytest.approx(0.2)
    assert DriftGuard.of(manifest_of({}, 0.015), delta=0.4).status()["delta"] == 0.4


def sample_of(n, local_fraction=0.5, drop=0.0, disagreement=0.0):
    """Return the manifest of an artefact that was saved with n validation samples."""
    shares = {"local_fraction": local_fraction, "accuracy_drop": drop, "disagreement": disagreement}
    numbers = {"n": n, "options": {}, "validation": shares}
    return {"score_threshold": 0.5, "calibration": {"numbers": numbers}}


def test_of_few_validation_samples_none_of_which_disagrees_the_limit_is_the_rule_of_threes():
    guard = DriftGuard.of(sample_of(20), delta=0.3)  # of which a sixth is each limit's: 5%
    rule_of_three = 1 - 0.05 ** (1 / 20)  # 13.9%, nearly 3/20
    assert rule_of_three <= guard.audit.disagreement.limit < 0.2
    assert rule_of_three <= guard.audit.drop.limit < 0.2
    assert guard.shift.tolerance == pytest.approx(np.sqrt(np.log(2 / 0.05) / 40))


def test_many_validation_samples_leave_limits_that_are_wanted():
    guard = DriftGuard.of(sample_of(ENDLESS))
    assert guard.audit.drop.limit == guard.audit.disagreement.limit == 0.01
    assert guard.shift.tolerance == 0.1


def test_the_fewest_samples_that_fit_a_plan_are_taken_for_its_number():
    plan = plan_of((0.1, 0.0, 0.85, 0.0), (0.5, 0.5, 0.85, 0.0), (0.9, 1.0, 0.7, 0.15))
    guard = DriftGuard.of({"score_threshold": 0.5, "calibration": None, "plan": plan})
    assert guard.audit.drop.limit == DriftGuard.of(sample_of(20)).audit.drop.limit
    plan[1]["accuracy"] = 0.8498  # of 5,000 samples, one was lost
    guard = DriftGuard.of({"score_threshold": 0.5, "calibration": None, "plan": plan})
    assert guard.audit.drop.limit == pytest.approx(0.0102)


def test_a_highest_mean_by_hand():
    assert highest_mean(0, 0, 1, 0.05) == pytest.approx(0.95)
    # Of two samples, bets of 1 and 1/2 on neither: the mean of 1/(1 - d)² and (1 + d/(1 - d)/2)².
    d = highest_mean(0, 0, 2, 0.05)
    assert (1 / (1 - d) ** 2 + (1 + d / (1 - d) / 2) ** 2) / 2 == pytest.approx(1 / 0.05)
    # One lost, and one not: the bet of 1 is ruined, that of 1/2 halved.
    d = highest_mean(1, 0, 2, 0.05)
    assert 0.5 * (1 + d / (1 - d) / 2) / 2 == pytest.approx(1 / 0.05)
    assert highest_mean(0, 100, 100, 0.05) == 0.0
    assert 0.99 < highest_mean(100, 0, 100, 0.05) < 1.0


@pytest.mark.parametrize(("p_loss", "p_gain"), [(0.4, 0.0), (0.3, 0.2), (0.05, 0.04), (0.9, 0.0)])
def test_a_highest_mean_holds_for_all_thresholds_at_once(p_loss, p_gain):
    n, draws, alpha, broken = 30, 500, 0.1, 0
    bound = {
        (losses, gains): highest_mean(losses, gains, n, alpha)
        for losses in range(n + 1)
        for gains in range((n + 1 - losses) * (p_gain > 0) + (not p_gain))
    }
    for seed in range(draws):
        scores, case = np.sort(rng_of(seed).random(n)), rng_of(seed + draws).random(n)
        losses = np.append(0, np.cumsum(case < p_loss))
        gains = np.append(0, np.cumsum(case > 1 - p_gain))
        # Scores are uniform; no count changes up to the next.
        means = np.append(scores, 1.0) * (p_loss - p_gain)
        highest = [bound[pair] for pair in zip(losses.tolist(), gains.tolist())]
        broken += (means > highest).any()
    assert broken / draws <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / draws)


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match=r"must .*received"):
        highest_mean(*counts, 0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, np.nan])
def test_limits_that_may_always_or_never_be_wrong_are_refused(alpha):
    for limit in (lambda: highest_mean(0, 0, 5, alpha), lambda: share_error(5, alpha)):
        with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\); received"):
            limit()


def calibrated(rng, n):
    """Return the manifest of a threshold that keeps half of n validation samples."""
    scores, local, cloud, labels = stream(rng, n)
    threshold = float(np.median(scores))
    kept = scores < threshold
    drop = np.mean(kept * ((cloud == labels).astype(int) - (local == labels)))
    return sample_of(n, kept.mean(), drop, np.mean(kept & (local != cloud))) | {
        "score_threshold": threshold
    }


@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_few_validation_samples_and_no_drift_give_no_more_alarms_than_promised(gain):
    draws, alarms = 40, 0
    for seed in range(draws):
        rng = rng_of(seed)
        guard = DriftGuard.of(calibrated(rng, 100), audit_share=0.5, gain=gain, seed=seed)
        alarms += watch(guard, *stream(rng, 1000)) is not None
    assert alarms / draws <= 0.1


def test_an_artefact_without_validation_data_has_no_guard():
    with pytest.raises(ValueError, match="saved with validation data; received one without"):
        DriftGuard.of({"score_threshold": 0.7, "calibration": None, "plan": None})


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("local_fraction", 1.5),
        ("score_threshold", np.nan),
        ("gain", -0.1),
        ("max_drop", 1.0),
        ("max_drop", np.nan),
        ("max_disagreement", 0.0),
        ("delta", 1.0),
        ("audit_share", 1.1),
        ("tolerance", 0.0),
    ],
)
def test_what_is_out_of_range_is_refused(what, value):
    options = {"local_fraction": 0.5, "score_threshold": 0.5} | {what: value}
    with pytest.raises(ValueError, match=f"{what.removeprefix('audit_')} must .*received"):
        DriftGuard(**options)


def test_answers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected three arrays of one shape \(n,\); received"):
        Audit(0.01).learn([True], [1, 2], [1, 2])


# Costs of any size up to a bound.

FOUR = Regression("absolute", bound=4.0)


def test_an_audit_of_numbers_counts_what_they_cost_up_to_the_bound():
    # |x - 3| of 1, 2 and 9 on the device: 2, unknown and 6, which counts as 4; in the cloud of 2, 2
    # and 3: 1, unknown and 0. So 1 and 4 are lost. Two answers differ by their distance at most.
    local, cloud = np.array([[1.0], [2], [9]]), np.array([[2.0], [2], [3]])
    known = np.array([True, False, True])
    said = differ_and_lost(FOUR, local, cloud, np.array([3.0, np.nan, 3]), known)
    audit = Audit(0.5, 2.0, task=FOUR)
    audit.learn(np.zeros(3, bool), *said)
    assert list(audit.drop._recent) == [1, 4]
    assert list(audit.disagreement._recent) == [1, 0, 4]
    audit.learn(np.ones(1, bool), [4.0], [4.0])  # sent: nothing is lost
    assert audit.status()["drop"]["recent"] == pytest.approx(5 / 3)


def test_of_classes_the_losses_are_those_of_right_and_wrong_answers():
    local, cloud = np.eye(3)[[0, 1, 2, 1]], np.eye(3)[[0, 0, 1, 2]]
    labels = np.array([0, 0, 2, -1])
    differ, lost = differ_and_lost(CLASSIFICATION, local, cloud, labels, labels >= 0)
    assert differ.tolist() == [0, 1, 1, 1]
    np.testing.assert_array_equal(lost, [0, 1, -1, np.nan])


def test_an_alarm_of_costs_says_so_and_in_their_unit():
    guard = DriftGuard(1.0, np.inf, max_drop=0.5, audit_share=1.0, task=FOUR)
    guard.learn(np.zeros(60, bool), np.full(60, 3.0), np.full(60, 3.0))
    (alarm,) = guard.status()["alarms"]
    assert alarm.startswith("The mean cost has risen more than 0.5 above the cloud's, as found at")
    assert "over the last 60 it is 3 ± 0." in alarm


def of_costs(validation, options, n=ENDLESS):
    """Return the manifest of an artefact whose costs are at most 4."""
    numbers = {"n": n, "options": options, "validation": validation}
    task = {"name": "regression", "config": FOUR.get_config()}
    return {"score_threshold": 0.5, "calibration": {"numbers": numbers}, "task": task}


def test_the_guard_of_an_artefact_of_costs_watches_what_was_certified():
    validation = {"local_fraction": 0.4, "cost": 1.3, "cost_increase": 0.1, "disagreement": 0.6}
    guard = DriftGuard.of(of_costs(validation, {"max_increase": 0.2, "delta": 0.05}))
    assert guard.audit.drop.limit == 0.2
    assert guard.audit.disagreement.limit == pytest.approx(0.6 + 0.1)
    assert guard.delta == 0.05
    # Without a certificate: a hundredth of the bound more.
    assert DriftGuard.of(of_costs(validation, {})).audit.drop.limit == pytest.approx(0.1 + 0.04)
    plan = [
        {"score_threshold": t, "local_fraction": f, "cost": c, "disagreement": u}
        for t, f, c, u in ((0.1, 0.0, 1.2, 0.0), (0.5, 0.400001, 1.3, 0.6), (0.9, 1.0, 2.0, 3.0))
    ]
    told = of_costs({}, {}) | {"calibration": None, "plan": plan}
    assert DriftGuard.of(told).audit.drop.limit == pytest.approx(0.1 + 0.04, abs=1e-4)


def test_a_highest_mean_of_sums_holds_for_all_thresholds_at_once():
    n, alpha, draws, broken = 20, 0.2, 60, 0
    for seed in range(draws):
        rng = rng_of(seed)
        scores, lost = np.sort(rng.random(n)), rng.random(n) * rng.choice([1, -1], n, p=[0.8, 0.2])
        # Of mean (0.8 - 0.2)/2 a sample; no sum changes up to the next score.
        means = np.append(scores, 1.0) * 0.3
        sums = (np.append(0.0, np.cumsum(np.maximum(sign * lost, 0))) for sign in (1, -1))
        highest = [highest_mean(*pair, n, alpha) for pair in zip(*sums)]
        broken += (means > highest).any()
    assert broken / draws <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / draws)


def costs_of(rng, n, drift=0.0):
    """Return scores, and true and predicted numbers: the higher a score, the more local errs."""
    scores, truth = rng.random(n), rng.random(n)
    local = truth + scores * rng.normal(size=n) + drift
    return scores, local[:, None], truth[:, None] + 0.1 * rng.normal(size=(n, 1)), truth


def test_a_guard_of_costs_is_silent_without_drift_and_alarms_with_it():
    scores, local, cloud, truth = costs_of(rng_of(0), 2000)
    kept, every = scores < 0.5, np.ones(2000, bool)
    differ, lost = differ_and_lost(FOUR, local, cloud, truth, every)
    validation = {"local_fraction": kept.mean(), "cost_increase": np.mean(kept * lost)}
    validation |= {"disagreement": np.mean(kept * differ)}
    guard = DriftGuard.of(of_costs(validation, {}, 2000), audit_share=1.0, gain=0.0)

    def send(drift):
        scores, local, cloud, truth = costs_of(rng_of(1), 1000, drift)
        offloaded, _ = guard.decide(scores)
        guard.learn(offloaded, *differ_and_lost(FOUR, local, cloud, truth, every[:1000]))
        return guard.status()["alarms"]

    assert send(0.0) == []
    assert [alarm[:13] for alarm in send(1.5)] == ["The mean cost", "The costs of "]


def test_costs_without_a_bound_have_no_audit():
    with pytest.raises(ValueError, match="an audit needs the most that a sample can cost"):
        Audit(0.1, task=Regression("absolute"))
