"""Resamples as counts, and the three intervals of a gain: over samples, over seeds, over both."""

import numpy as np
import pytest
from conftest import outcomes, random_outcomes
from scipy.stats import bootstrap

from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.statistics import (
    Interval,
    RankedSamples,
    audc_gain,
    audc_interval,
    audc_replicates,
    gain_of_replicates,
    hierarchical_gain,
    over_seeds,
)

# Right answers:   local  1 1 0 0 and cloud 1 0 1 1, in the order of the scores below.
LADDER = outcomes([True, True, False, False], [True, False, True, True])
SCORES = np.array([0.1, 0.2, 0.3, 0.4])


def noisy_rules(n, seed=0):
    """Return a bank, scores that know something of it, and scores that know a little less."""
    bank = random_outcomes(n)
    rng = np.random.default_rng(seed)
    gain = bank.cloud_correct.astype(float) - bank.local_correct
    good = gain + rng.normal(0, 2, n)
    return bank, good, good + rng.normal(0, 1, n)


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.0035, 0.0012, 0.0058), "+0.35 (0.12 … 0.58)"),
        (Interval(-0.0035, -0.0058, 0.0012), "-0.35 (-0.58 … 0.12)"),
        (Interval(-1e-9, -1e-9, 0.0), "+0.00 (0.00 … 0.00)"),
    ],
)
def test_an_interval_reads_in_points(interval, text):
    assert str(interval) == text


def test_a_resample_adds_up_costs_by_how_often_each_sample_was_drawn():
    ranked, counts = RankedSamples(SCORES, LADDER), np.array([2, 1, 0, 1])
    kept, cost = ranked.sweep(counts)
    # The cloud is right on the first, twice, and on the last, and wrong on the second: 1. Keeping
    # the first pair: 1, as both networks are right. Keeping the second: 1 - 1. The third was not
    # drawn. Keeping the last, on which the local network is wrong: 0 + 1.
    np.testing.assert_array_equal(kept, [0, 2, 3, 3, 4])
    np.testing.assert_array_equal(cost, [1, 1, 0, 0, 1])
    # Steps of 2, 1, 0 and 1 samples with mean accuracies 3, 3.5, 4 and 3.5, of 4 samples each way.
    assert ranked.audc(counts) == (2 * 3 + 1 * 3.5 + 0 * 4 + 1 * 3.5) / 4**2


def test_tied_samples_share_one_straight_step():
    # All tied: from the cloud's 3 right answers of 4 straight to the local network's 3 of 4.
    assert RankedSamples(np.zeros(4), LADDER).audc(np.array([2, 1, 0, 1])) == 3 / 4


@pytest.mark.parametrize("decimals", [0, 1, 8], ids=["3 values", "many ties", "no ties"])
def test_counts_weigh_as_samples_that_are_physically_repeated(decimals):
    bank = random_outcomes(200)
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 0.6, 200).round(decimals)
    counts = rng.multinomial(200, np.full(200, 1 / 200))
    rows = rng.permutation(np.repeat(np.arange(200), counts))
    repeated = bank.rows(rows)
    audc = RankedSamples(scores, bank).audc(counts)
    assert audc == pytest.approx(OffloadCurve.from_scores(scores[rows], repeated).audc, abs=1e-12)

    # By pairs: a sample is local at the local fractions beyond its rank, half of those of its ties.
    difference = np.subtract.outer(scores[rows], scores[rows])
    share_local = ((difference < 0) + 0.5 * (difference == 0)).mean(axis=1)
    answers = share_local * repeated.local_correct + (1 - share_local) * repeated.cloud_correct
    assert audc == pytest.approx(answers.mean(), abs=1e-12)


def test_the_interval_is_that_of_resampling_arrays():
    bank, scores, _ = noisy_rules(60)

    def audc(rows):
        return OffloadCurve.from_scores(scores[rows], bank.rows(rows)).audc

    expected = bootstrap(
        (np.arange(60),), audc, n_resamples=50, vectorized=False, method="percentile", rng=0
    ).confidence_interval
    interval = audc_interval(scores, bank, resamples=50)
    assert interval.mean == pytest.approx(OffloadCurve.from_scores(scores, bank).audc)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_the_audc_contains_it_and_narrows_with_more_samples():
    widths = []
    for n in (100, 1600):
        bank = random_outcomes(n)
        scores = np.random.default_rng(1).random(n)
        interval = audc_interval(scores, bank, resamples=200)
        assert interval.low < OffloadCurve.from_scores(scores, bank).audc < interval.high
        widths.append(width(interval))
    # The width falls with the square root of n: sixteen times the samples, a quarter of the width.
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)


def test_a_gain_is_the_difference_of_two_audc_on_the_same_samples():
    bank, good, worse = noisy_rules(2000)
    gain = audc_gain(good, worse, bank, resamples=200)
    audc, baseline = (audc_interval(s, bank, resamples=200) for s in (good, worse))
    assert gain.mean == pytest.approx(audc.mean - baseline.mean)
    assert 0 < gain.low < gain.mean < gain.high
    # Both rules err on the same samples, which two separate intervals cannot see: they overlap.
    assert audc.low < baseline.high
    assert width(gain) < 0.5 * width(audc)


def test_a_gain_turned_round_is_a_loss():
    bank, good, worse = noisy_rules(300)
    gain, loss = audc_gain(good, worse, bank, 199), audc_gain(worse, good, bank, 199)
    assert (loss.mean, loss.low, loss.high) == pytest.approx((-gain.mean, -gain.high, -gain.low))


def test_the_same_order_gains_nothing_surely():
    bank, scores, _ = noisy_rules(300)
    assert audc_gain(scores, 2 * scores + 1, bank, resamples=50) == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize("scores", [[0.1, np.nan, 0.3, 0.4], [0.1, 0.2, 0.3]])
def test_a_gain_needs_one_finite_score_a_sample_of_either_rule(scores):
    for pair in ((np.array(scores), SCORES), (SCORES, np.array(scores))):
        with pytest.raises(ValueError, match="expected 4 finite scores"):
            audc_gain(*pair, LADDER)


def test_over_seeds_is_a_t_interval():
    # Standard deviation 0.01, so a standard error of 0.01/√3; t(0.975) of 2 degrees is 4.3027.
    interval = over_seeds([0.01, 0.02, 0.03])
    half = 4.3027 * 0.01 / np.sqrt(3)
    expected = (0.02, 0.02 - half, 0.02 + half)
    assert (interval.mean, interval.low, interval.high) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("gains", [[], [0.01], [0.01, np.nan], [[0.01, 0.02]]])
def test_over_seeds_needs_two_finite_gains(gains):
    with pytest.raises(ValueError, match="two or more finite gains"):
        over_seeds(gains)


def test_one_test_set_flatters_a_rule_under_every_seed_but_separate_ones_average_out():
    bank, good, worse = noisy_rules(1000)
    of_samples = audc_gain(good, worse, bank)
    # Four seeds that agree to the last sample teach nothing new: as wide as one.
    shared = hierarchical_gain([(good, worse, bank)] * 4)
    assert shared.mean == pytest.approx(of_samples.mean)
    assert width(shared) == pytest.approx(width(of_samples), rel=0.15)
    # On four sets of other samples, here the same in another order, chance averages out, but for
    # the one time in four that two draws are of one seed: √(1/4 + 3/4·1/4) of the width.
    orders = [np.random.default_rng(seed).permutation(1000) for seed in range(4)]
    separate = hierarchical_gain([(good[o], worse[o], bank.rows(o)) for o in orders])
    assert width(separate) == pytest.approx(np.sqrt(7 / 16) * width(of_samples), rel=0.15)


def test_seeds_that_disagree_widen_the_interval():
    bank, good, worse = noisy_rules(1000)
    # Two seeds gain and two lose as much: the mean of four draws of ±g.
    per_seed = [(good, worse, bank), (worse, good, bank)] * 2
    gain, interval = audc_gain(good, worse, bank), hierarchical_gain(per_seed)
    assert interval.mean == pytest.approx(0.0, abs=1e-15)
    # All four draws alike: 2 of 16 times, so that 95% of the draws reach from -g to +g.
    assert width(interval) == pytest.approx(2 * gain.mean, rel=0.4)


def test_a_hierarchy_needs_two_seeds():
    with pytest.raises(ValueError, match="two or more seeds; received 1"):
        hierarchical_gain([(SCORES, SCORES, LADDER)])


def test_replicates_are_the_audc_and_those_of_its_resamples():
    bank, good, _ = noisy_rules(500)
    whole, *resampled = audc_replicates(good, bank)
    interval = audc_interval(good, bank)
    assert whole == interval.mean
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert high - low == pytest.approx(width(interval), rel=0.15)


def test_replicates_of_two_rules_are_paired():
    bank, good, worse = noisy_rules(500)
    gains = audc_replicates(good, bank) - audc_replicates(worse, bank)
    low, high = np.quantile(gains[1:], [0.025, 0.975])
    assert high - low == pytest.approx(width(audc_gain(good, worse, bank)), rel=0.15)


def test_kept_replicates_give_the_interval_of_the_hierarchy():
    bank, good, worse = noisy_rules(300)
    per_seed = [(good, worse, bank), (worse, good, bank), (good, good, bank)]
    kept = [audc_replicates(g, b, 99) - audc_replicates(w, b, 99) for g, w, b in per_seed]
    assert gain_of_replicates(kept) == hierarchical_gain(per_seed, 99)
    with pytest.raises(ValueError, match="two or more seeds; received 1"):
        gain_of_replicates(kept[:1])
