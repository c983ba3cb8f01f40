"""The proof behind a promise: how much can stay local without losing more than a given accuracy."""

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from keras_ddnn.files.checks import require_count, require_probability


def probability_of(delta: float) -> str:
    """Return 1 - `delta`, in (0, 1), as a promise says it: never as 0% nor as 100%."""
    exact = Decimal(str(float(delta)))
    digits = max(1, -(100 * min(exact, 1 - exact)).adjusted())
    return f"{1 - exact:.{digits}%}"


def certified_threshold(
    scores: np.ndarray,
    local_correct: np.ndarray,
    cloud_correct: np.ndarray,
    max_drop: float,
    delta: float,
) -> float:
    """Return the highest threshold certified to lose at most `max_drop`, or -∞ if none is.

    Learn then Test (Angelopoulos et al., 2021) with fixed-sequence testing. Keeping sample i at
    threshold t loses [s_i < t]·(cloud_correct_i - local_correct_i), in {-1, 0, 1}; the mean is the
    drop. Thresholds are tested upwards, "the drop is `max_drop` or more" against "less", until one
    test fails. Every cut between two scores is tested, so there is no grid to choose, and none that
    depends on the data: whichever threshold is the first to lose too much, its own test must err
    for it to be passed, which has probability `delta` at most. The drop need not rise with t, nor
    be positive; a threshold beyond a stretch that loses too much is never reached.

    Conformal risk control (Angelopoulos et al., 2022) would bound the mean drop over draws, not the
    probability of a large one, and only where it rises with t. MAPIE 1.6 tests by
    Hoeffding–Bentkus, for losses in [0, 1]: rescaled from [-1, 1], every sample counts as a coin
    toss, and 5,000 samples that lose nothing do not certify a drop of 1%.

    Args:
        scores: float of shape (n,), finite.
        local_correct: bool of shape (n,).
        cloud_correct: bool of shape (n,).
        max_drop: In (0, 1).
        delta: The probability of an error, in (0, 1).

    Raises:
        ValueError: If `max_drop` or `delta` lies outside (0, 1), or a score is not finite.
    """
    require_probability(max_drop=max_drop, delta=delta)

    def passes(order: np.ndarray, kept: np.ndarray) -> np.ndarray:
        losses, gains = (
            np.append(0, np.cumsum(case[order]))[kept]
            for case in (cloud_correct & ~local_correct, local_correct & ~cloud_correct)
        )
        return losses <= most_losses(len(scores), max_drop, delta)[gains]

    return last_passed(scores, passes)


def last_passed(
    scores: np.ndarray, passes: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> float:
    """Return the highest threshold up to which all pass, or -∞.

    Args:
        scores: float of shape (n,).
        passes: (order, kept) of `cuts` → whether each cut passes its own test, bool (m,).

    Raises:
        ValueError: If a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError(
            f"expected finite scores; received {np.count_nonzero(~np.isfinite(scores))} NaN or "
            f"infinite of {len(scores)}"
        )
    if not len(scores):  # of which no test can say anything
        return float("-inf")
    order, kept, thresholds = cuts(scores)
    certified = np.count_nonzero(np.logical_and.accumulate(passes(order, kept)))
    return float(thresholds[certified - 1]) if certified else float("-inf")


@lru_cache(maxsize=64)
def most_losses(n: int, max_drop: float, delta: float) -> np.ndarray:
    """Return how many losses still certify a drop below `max_drop`, for every number of gains.

    An exact unconditional test, like Barnard's, of p_loss - p_gain ≥ d = `max_drop` from the counts
    of a trinomial. Its region of rejection has the form of a score test (Tango, 1998), with p_gain
    estimated by its own frequency: losses ≤ gains + n·d + z·√(n·d(1-d) + 2·gains). Instead of
    taking z from the normal distribution, we take the largest for which the probability of an error
    is at most `delta` whatever p_gain is. Fewer losses or more gains never leave the region, so
    that an error is most probable where p_loss - p_gain = d: one parameter is left to maximise
    over, on a grid that finds the maximum to 1% of `delta`.

    Betting (Waudby-Smith and Ramdas, 2024) is valid as well, but must be so at any time: its margin
    is √(2·ln(1/δ)) standard errors wide, 2.1 where this test needs 1.3 (δ = 0.1).

    Args:
        n: Samples, at least 1.
        max_drop: d, in (0, 1).
        delta: The probability of an error, in (0, 1).

    Returns:
        Whole numbers, float64 of shape (n + 1,), read-only: entry g is the largest number of losses
        beside g gains; negative where not even none will do.

    Raises:
        ValueError: If n is below 1, where no z makes an error improbable.
    """
    require_count(n=n)
    # Evenly in √p_gain, on whose scale the standard deviation of the gains is nearly constant.
    p_gain = np.linspace(0, np.sqrt((1 - max_drop) / 2), 256) ** 2
    first, last = (np.maximum(x, 0).astype(int) for x in binom.interval(1 - 1e-10, n, p_gain))
    sizes = last - first + 1
    starts = np.append(0, np.cumsum(sizes)[:-1])
    gains = np.arange(sizes.sum()) - np.repeat(starts - first, sizes)
    probability = binom.pmf(gains, n, np.repeat(p_gain, sizes))
    # Of a loss, given that the sample is no gain; rounding may carry it past 1.
    p_loss = np.repeat(np.minimum((p_gain + max_drop) / (1 - p_gain), 1), sizes)

    every = np.arange(n + 1)
    spread = np.sqrt(n * max_drop * (1 - max_drop) + 2 * every)

    def region(z):
        return np.maximum.accumulate(np.floor(every + n * max_drop + z * spread))

    def error(z):
        rejected = probability * binom.cdf(region(z)[gains], n - gains, p_loss)
        return np.add.reduceat(rejected, starts).max()

    # The regions are nested: the larger z, the larger the region and its error.
    low, high = -40.0, 40.0
    for _ in range(22):
        z = (low + high) / 2
        low, high = (z, high) if error(z) <= delta else (low, z)
    table = region(low)
    table.flags.writeable = False  # the cache hands out this very array
    return table


def violation_rate(
    scores: np.ndarray,
    local_correct: np.ndarray,
    cloud_correct: np.ndarray,
    splits: int = 200,
    calibration_size: int = 5000,
    max_drop: float = 0.01,
    delta: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """Measure how often a certificate errs, and how much it lets stay local.

    The samples given are taken for the whole population, whose drop is then known, and calibration
    data are drawn from them with replacement. Held-out samples would add a chance of their own to
    the verdict: with twice as many of them as for calibration, an error of 10% looks like 15%.

    Args:
        scores: float of shape (n,), finite.
        local_correct: bool of shape (n,).
        cloud_correct: bool of shape (n,).
        splits: How many times calibration data are drawn.
        calibration_size: Samples in a draw.
        max_drop: In (0, 1).
        delta: In (0, 1).
        seed: Seed of the draws.

    Returns:
        `violation_share`: of draws whose threshold loses more than `max_drop`; at most `delta`, up
        to chance. `local_fraction`: the mean certified. `best_local_fraction`: where a walk that
        knows the drop would stop.

    Raises:
        ValueError: If `max_drop` or `delta` lies outside (0, 1).
    """

    def certify(drawn: np.ndarray) -> float:
        return certified_threshold(
            scores[drawn], local_correct[drawn], cloud_correct[drawn], max_drop, delta
        )

    lost = cloud_correct.astype(int) - local_correct
    return violations(scores, lost, certify, splits, calibration_size, max_drop, seed)


def violations(
    scores: np.ndarray,
    lost: np.ndarray,
    certify: Callable[[np.ndarray], float],
    splits: int,
    calibration_size: int,
    most_lost: float,
    seed: int,
) -> dict[str, float]:
    """Return what `violation_rate` does, for any certificate.

    Args:
        scores: float of shape (n,), finite.
        lost: What keeping each sample costs more than sending it on, of shape (n,).
        certify: Rows of the samples, int (calibration_size,) → the threshold certified on them.
        splits, calibration_size, seed: See `violation_rate`.
        most_lost: The mean that may be lost.
    """
    rng = np.random.default_rng(seed)
    order, kept, _ = cuts(scores)
    ordered, n = scores[order], len(scores)
    total = np.append(0, np.cumsum(lost[order]))
    stay = np.empty(splits, int)
    for split in range(splits):
        stay[split] = np.searchsorted(ordered, certify(rng.integers(0, n, calibration_size)))
    tolerable = np.logical_and.accumulate(total[kept] / n <= most_lost)
    return {
        "violation_share": float(np.mean(total[stay] / n > most_lost)),
        "local_fraction": float(np.mean(stay) / n),
        "best_local_fraction": float(kept[tolerable][-1] / n),
    }


def cuts(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every way a threshold can part n scores; tied samples stay together.

    Returns:
        The order of the scores, int64 of shape (n,), and, of shape (m,) and ascending: how many
        samples stay local, 0 to n, and the highest threshold that keeps just these; ∞ for all.
    """
    order = np.argsort(scores, kind="stable")
    thresholds = np.append(scores[order], np.inf)
    kept = np.flatnonzero(np.append(True, np.diff(thresholds) > 0))
    return order, kept, thresholds[kept]
