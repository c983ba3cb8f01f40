"""How sure one may be of an AUDC, and of a difference between two rules on the same samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import bootstrap, sem, t

from keras_ddnn.data.gate_costs import CostsAtGate
from keras_ddnn.rules.sweep import RankedSamples


@dataclass(frozen=True)
class Interval:
    """An estimate in accuracy, within [-1, 1], and the ends of its 95% confidence interval.

    As text it is in points, hundredths of an accuracy: "+0.35 (0.12 … 0.58)". Of costs of any size
    a gain is the mean cost saved, in units of cost: read its numbers, not its text.
    """

    mean: float
    low: float
    high: float

    def __str__(self):
        return f"{100 * self.mean:+z.2f} ({100 * self.low:z.2f} … {100 * self.high:z.2f})"


def audc_interval(scores: np.ndarray, samples: CostsAtGate, resamples: int = 999) -> Interval:
    """Return the AUDC and its 95% percentile bootstrap interval over samples.

    It speaks of the samples alone: the networks and the rule are taken as given. Intervals of two
    rules may overlap although one is surely better, as both err on the same samples: `audc_gain`.

    Args:
        scores: Scores of a rule, float of shape (n,), n at least 2.
        samples: The n samples, a `Bank` or `GateCosts`.
        resamples: How many bootstrap resamples.

    Raises:
        ValueError: If there is not one finite score a sample.
    """
    return _over_samples(RankedSamples(scores, samples).audc, len(samples), resamples)


def audc_gain(
    scores: np.ndarray, baseline_scores: np.ndarray, samples: CostsAtGate, resamples: int = 999
) -> Interval:
    """Return how much better one rule is than another on the same samples, in AUDC.

    The comparison is paired: both rules use the same resamples. It describes the samples alone;
    for chance in training see `over_seeds` and `hierarchical_gain`. Of several rules the best looks
    better than it is: choose it on other samples than these.

    Args:
        scores: Scores of the rule, float of shape (n,), n at least 2.
        baseline_scores: Scores of the rule to beat, float of shape (n,).
        samples: The n samples, a `Bank` or `GateCosts`.
        resamples: How many bootstrap resamples.

    Returns:
        The difference of AUDC with its 95% percentile bootstrap interval (Efron, 1979).

    Raises:
        ValueError: If there is not one finite score a sample.
    """
    return _over_samples(_gain(scores, baseline_scores, samples), len(samples), resamples)


def over_seeds(gains: Sequence[float]) -> Interval:
    """Return the mean of one gain a seed and its 95% t interval.

    It speaks of chance in training: whether a new seed would gain as well, on these samples. With
    few seeds a t interval is the right one. A percentile bootstrap of five values is shorter by a
    factor of 0.89·1.96/2.78 = 0.63 and would contain the truth 84 times in 100, not 95.

    Args:
        gains: In accuracy, one a seed, at least two.

    Returns:
        The mean and its interval.

    Raises:
        ValueError: If there are fewer than two gains, or one is not finite.
    """
    values = np.asarray(gains, float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"expected two or more finite gains, one a seed; received {values!r}")
    mean, half = float(values.mean()), float(t.ppf(0.975, len(values) - 1) * sem(values))
    return Interval(mean, mean - half, mean + half)


def hierarchical_gain(
    per_seed: Sequence[tuple[np.ndarray, np.ndarray, CostsAtGate]], resamples: int = 999
) -> Interval:
    """Return how much better one rule is than another when seeds and samples are both drawn.

    Every resample draws seeds with replacement, then samples within each. Where all seeds are
    tested on the same samples, those drawn are the same for all of them: a test set that happens to
    flatter a rule flatters it under every seed, and independent draws would average that away
    (Owen, "The pigeonhole bootstrap", 2007). With few seeds it is too short, as any bootstrap of
    few values: quote `over_seeds` beside it. With a test set a seed it errs on the long side.

    Args:
        per_seed: The arguments of `audc_gain`, one triple a seed, at least two.
        resamples: How many bootstrap resamples.

    Returns:
        The mean gain over seeds with its 95% percentile bootstrap interval.

    Raises:
        ValueError: If there are fewer than two seeds, or not one finite score a sample.
    """
    return gain_of_replicates(
        [
            audc_replicates(scores, samples, resamples)
            - audc_replicates(baseline, samples, resamples)
            for scores, baseline, samples in per_seed
        ]
    )


def audc_replicates(scores: np.ndarray, samples: CostsAtGate, resamples: int = 999) -> np.ndarray:
    """Return the AUDC of samples, then of each of its bootstrap resamples, of (1 + resamples,).

    Sets of one size are resampled alike, so that replicates of two rules, or of two networks on
    the same test set, are paired. They are all that `gain_of_replicates` needs, and can be kept
    where scores and banks are too large to.

    Args:
        scores: Scores of a rule, float of shape (n,).
        samples: The n samples, a `Bank` or `GateCosts`.
        resamples: How many.

    Raises:
        ValueError: If there is not one finite score a sample.
    """
    ranked, n = RankedSamples(scores, samples), len(samples)
    draws = (draw.astype(int) for draw in _draws(n, resamples))
    return np.array([ranked.audc(np.ones(n, int)), *map(ranked.audc, draws)])


@lru_cache(maxsize=2)  # the rules of a study use the same resamples
def _draws(n: int, resamples: int) -> np.ndarray:
    """Return how often each of n samples is drawn in each resample, uint8 (resamples, n)."""
    rng = np.random.default_rng(0)
    draws = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples))
    return np.array([draw.astype(np.uint8) for draw in draws]).reshape(resamples, n)


def gain_of_replicates(gains: Sequence[np.ndarray]) -> Interval:
    """Return the interval of `hierarchical_gain` from differences of `audc_replicates`.

    Args:
        gains: One array a seed, at least two, all of one shape (1 + resamples,).

    Raises:
        ValueError: If there are fewer than two seeds.
    """
    if len(gains) < 2:
        raise ValueError(f"expected two or more seeds; received {len(gains)}")
    replicates = np.asarray(gains)
    resampled = replicates[:, 1:]
    seeds = np.random.default_rng(1).integers(len(gains), size=resampled.shape)
    drawn = np.take_along_axis(resampled, seeds, axis=0).mean(axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(replicates[:, 0].mean()), float(low), float(high))


def _gain(scores, baseline_scores, samples) -> Callable[[np.ndarray], float]:
    """Return the function from counts to the difference of AUDC."""
    ranked, baseline = RankedSamples(scores, samples), RankedSamples(baseline_scores, samples)
    return lambda counts: ranked.audc(counts) - baseline.audc(counts)


def _over_samples(statistic: Callable[[np.ndarray], float], n: int, resamples: int) -> Interval:
    interval = bootstrap(
        (np.arange(n),),
        lambda rows: statistic(np.bincount(rows, minlength=n)),
        n_resamples=resamples,
        batch=100,  # all resamples of 45,000 samples at once would take 0.4 GB
        vectorized=False,
        method="percentile",
        rng=0,
    ).confidence_interval
    whole = statistic(np.ones(n, int))
    return Interval(float(whole), float(interval.low), float(interval.high))
