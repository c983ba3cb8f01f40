"""What is true of all data, at worst, given the validation sample that a threshold was chosen on.

The threshold of an artefact is chosen by looking at the very sample that says how often it errs. An
interval of one proportion, such as Clopper–Pearson's, does not allow for that. The bounds here hold
for all thresholds at once, so that it does not matter how one of them was chosen. They need NumPy
alone, so that a device can compute them.
"""

from math import log, sqrt

import numpy as np

from keras_ddnn.files.checks import require_count, require_probability


def share_error(n: int, alpha: float) -> float:
    """Return by how much a share of the sample may differ from that of all data.

    The inequality of Dvoretzky, Kiefer and Wolfowitz with the constant of Massart (1990): with a
    probability of at least 1 - `alpha` no threshold keeps a share of all data that differs more
    from the share it keeps of the sample.

    Args:
        n: Samples.
        alpha: The probability of an error, in (0, 1).

    Raises:
        ValueError: If an argument lies outside its range.
    """
    require_count(n=n)
    require_probability(alpha=alpha)
    return min(sqrt(log(2.0 / alpha) / (2.0 * n)), 1.0)


def highest_mean(losses: float, gains: float, n: int, alpha: float) -> float:
    """Return the highest mean of all data that the sample allows for, or 0 if that is negative.

    Every sample below the threshold counts 1 for a loss, -1 for a gain, and 0 otherwise; samples
    above it count 0. With a probability of at least 1 - `alpha` no threshold has a mean over all
    data above the bound of its own counts. Without gains it is the bound of a rate, and with
    neither it is at least the rule of three's: 1 - alpha^(1/n).

    Proof: raise the threshold from the bottom up, and bet on fewer losses and more gains than
    there are. With p and q for the shares of all data that are losses and gains below the
    threshold, and d = p - q, the likelihood ratio of (1 - bet)·p and (1 + bet)·q to p and q is

        (1 - bet)^losses · (1 + bet)^gains · (1 + bet·d/(1 - p - q))^(n - losses - gains),

    a martingale that begins at 1, and so is the mean over several bets. By Ville's inequality it
    ever exceeds 1/alpha with a probability of at most `alpha`. As p + q ≥ d, it is no smaller than
    with 1 - d in place of 1 - p - q, where it rises with d: means for which that exceeds 1/alpha
    are ruled out. The bets are halves of halves down to 1/√n, as fine as n samples can tell.

    Losses and gains of any size up to 1 have the same bound, by their sums. Let a sample of size z
    count as a whole one with probability z, by a lot of its own: means stay what they are, and the
    proof holds for whole samples. The mean of its martingale over all lots is a martingale of the
    sizes themselves, and no smaller than with the sums in place of the counts, as a weighted mean
    of two factors is no smaller than their geometric one.

    Args:
        losses, gains: Counts or sums, of samples below the threshold; together at most n.
        n: Samples.
        alpha: The probability of an error, in (0, 1).

    Returns:
        In [0, 1).

    Raises:
        ValueError: If an argument lies outside its range.
    """
    require_count(n=n)
    require_probability(alpha=alpha)
    if min(losses, gains) < 0 or losses + gains > n:
        raise ValueError(
            f"losses and gains must not be negative, nor together more than {n} samples; received "
            f"{losses} and {gains}"
        )
    bets = 0.5 ** np.arange(1 + int(n).bit_length() // 2)
    # One loss ends a bet of everything.
    solvent = bets < 1.0 if losses else np.full(len(bets), True)
    held = bets[solvent]
    before = gains * np.log1p(held) + (losses * np.log1p(-held) if losses else 0.0)

    def ruled_out(mean):
        wealth = before + (n - losses - gains) * np.log1p(held * mean / (1.0 - mean))
        return np.logaddexp.reduce(wealth) - log(len(bets)) > -log(alpha)

    low, high = 0.0, 1.0
    for _ in range(50):  # 2⁻⁵⁰ is finer than any count
        middle = (low + high) / 2
        low, high = (low, middle) if ruled_out(middle) else (middle, high)
    return low
