"""The same proof for costs of any size up to a bound: how much can stay local for little more."""

import numpy as np

from keras_ddnn.files.checks import require_positive, require_probability
from keras_ddnn.rules.certificate import last_passed, violations


def certified_cost_threshold(
    scores: np.ndarray,
    stay: np.ndarray,
    go: np.ndarray,
    bound: float,
    max_increase: float,
    delta: float,
) -> float:
    """Return the highest threshold certified to cost at most `max_increase` more, or -∞ if none is.

    The walk is that of `certified_threshold`; the test is for costs of any size up to a bound b.
    Keeping sample i at threshold t costs X_i = [s_i < t]·(stay_i - go_i) more, in [-b, b]. Under
    "the mean of X is d = `max_increase` or more", the stake of a player who bets on less, the
    product of 1 + λ·(d - X_i) over all samples, is expected to be 1 at most, for each λ in [0, 1 /
    (b - d)]; so is the mean stake of several players, which exceeds 1/`delta` with a probability of
    `delta` at most (Markov). It then passes.

    Betting: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    2024. λ halves from player to player, from the largest to that which suits costs of the greatest
    variance, √(2·ln(1/δ)/n)/b: one of them is near the best, and to be one among m costs ln m of
    evidence at most. A λ that follows the samples seen so far, as theirs does, costs less; but each
    cut would want a pass over all samples, where these stakes change by one factor from cut to cut
    and do not depend on the order of the samples.

    Hoeffding–Bentkus (Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", 2021)
    sees of X no more than its mean and its bounds. Rescaled from [-b, b] to [0, 1], a sample that
    costs nothing more is 1/2, and counts as a coin toss: with n = 5,000 and δ = 0.1 it certifies no
    increase below 0.025·b. Here what does not differ does not count.

    Args:
        scores: float of shape (n,), finite.
        stay: Costs if samples are kept, in [0, `bound`], of shape (n,).
        go: Costs if they are sent on, likewise.
        bound: b, the most that any sample can cost, in units of cost.
        max_increase: d, in units of cost, in (0, `bound`).
        delta: The probability of an error, in (0, 1).

    Raises:
        ValueError: If an argument lies outside its range, or a score is not finite.
    """
    require_probability(delta=delta)
    require_positive(bound=bound)
    if not 0 < max_increase < bound:
        raise ValueError(
            f"max_increase must lie in (0, {bound:g}), of which the end is the bound of costs; "
            f"received {max_increase!r}"
        )
    most = max(stay.max(initial=0.0), go.max(initial=0.0))
    least = min(stay.min(initial=0.0), go.min(initial=0.0))
    if not 0 <= least <= most <= bound:
        raise ValueError(
            f"costs must lie in [0, {bound:g}], their bound; received {least:g} to {most:g}"
        )

    def passes(order: np.ndarray, kept: np.ndarray) -> np.ndarray:
        n = len(order)
        smallest = np.sqrt(2 * np.log(1 / delta) / n) / bound
        players = max(1, int(np.ceil(np.log2(1 / (bound - max_increase) / smallest))) + 1)
        added = (stay - go)[order]
        evidence = []
        for bet in 0.5 ** np.arange(players) / (bound - max_increase):
            with np.errstate(divide="ignore"):  # the largest bet may lose everything
                factors = np.log(np.maximum(1 + bet * (max_increase - added), 0.0))
            logs = np.append(0.0, np.cumsum(factors))[kept]
            evidence.append(logs + (n - kept) * np.log1p(bet * max_increase))
        return np.logaddexp.reduce(evidence, axis=0) - np.log(players) >= np.log(1 / delta)

    return last_passed(scores, passes)


def cost_violation_rate(
    scores: np.ndarray,
    stay: np.ndarray,
    go: np.ndarray,
    bound: float,
    max_increase: float,
    *,
    splits: int = 200,
    calibration_size: int = 5000,
    delta: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """Measure how often a certificate of a cost errs, and how much it lets stay local.

    See `violation_rate`, whose `splits`, `calibration_size`, `seed` and results it has, and
    `certified_cost_threshold` for the other arguments.
    """

    def certify(drawn: np.ndarray) -> float:
        return certified_cost_threshold(
            scores[drawn], stay[drawn], go[drawn], bound, max_increase, delta
        )

    lost = np.asarray(stay - go)
    return violations(scores, lost, certify, splits, calibration_size, max_increase, seed)
