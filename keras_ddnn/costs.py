"""What a wrong answer costs, the benefit B_k of offloading, and the oracle that knows it."""

import numpy as np

from keras_ddnn.bank import Bank, normalised_entropy
from keras_ddnn.checks import require_fraction


def true_class(probabilities, labels):
    """1 - p[y], the cost of the paper."""
    return 1.0 - _of_true_class(probabilities, labels)


def zero_one(probabilities, labels):
    """1 where the most probable class is wrong, else 0."""
    return (probabilities.argmax(axis=1) != labels).astype(np.float64)


def cross_entropy(probabilities, labels):
    """-log p[y], in nats."""
    return -np.log(np.maximum(_of_true_class(probabilities, labels), np.finfo(np.float64).tiny))


def margin(probabilities, labels):
    """max p[j ≠ y] - p[y], in [-1, 1]: negative where the answer is right, however surely."""
    others = probabilities.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return others.max(axis=1) - _of_true_class(probabilities, labels)


def entropy_adjusted(probabilities, labels):
    """1 - p[y]·(1 - H(p) / log C), in [0, 1]: an unsure right answer costs more than a sure one.

    Our reading of the refined cost that the paper proposes as future work; C classes.
    """
    certainty = 1.0 - normalised_entropy(probabilities)
    return 1.0 - _of_true_class(probabilities, labels) * certainty


def benefit(bank: Bank, cost: str = "true_class") -> np.ndarray:
    """Return B_k, the local cost minus the cloud cost of each sample.

    Args:
        bank: n samples with the logits of both networks and labels.
        cost: A key of `COSTS`. For "true_class", B_k = p_cloud[y] - p_local[y], in [-1, 1].

    Returns:
        float64 of shape (n,): how much a sample gains by being offloaded.
    """
    local = COSTS[cost](bank.edge.local_probabilities, bank.labels)
    return local - COSTS[cost](bank.cloud_probabilities, bank.labels)


def threshold_for_fraction(values: np.ndarray, local_fraction: float) -> float:
    """Return the threshold with a share `local_fraction` of `values` (n,) strictly below it.

    Of a benefit it is b*, the L0 quantile that makes labels; of a score, the `score_threshold` that
    makes decisions. Values equal to the threshold are offloaded, so that ties may leave the share
    below the one asked for.

    Args:
        values: float of shape (n,), n at least 1.
        local_fraction: L0, in [0, 1].

    Returns:
        The L0 quantile of `values`; -∞ for 0 and ∞ for 1, so that other values fare alike.

    Raises:
        ValueError: If `local_fraction` lies outside [0, 1], or there are no values or NaN among
            them: the threshold would be NaN, at which everything stays local.
    """
    require_fraction("local_fraction", local_fraction)
    if not len(values) or np.isnan(values).any():
        raise ValueError(
            f"expected at least one value and no NaN; received {len(values)} values, "
            f"{np.count_nonzero(np.isnan(values))} of them NaN"
        )
    if local_fraction in (0.0, 1.0):
        return float("inf") if local_fraction else float("-inf")
    return float(np.quantile(values, local_fraction))


def hard_labels(benefits: np.ndarray, local_fraction: float) -> np.ndarray:
    """Label samples by b*, the L0 quantile of their benefit.

    Args:
        benefits: B_k of n samples; see `benefit`.
        local_fraction: L0, the share to label easy, in [0, 1].

    Returns:
        int64 of shape (n,): 0 for easy (B_k < b*, stays local), 1 for hard.

    Raises:
        ValueError: If `local_fraction` lies outside [0, 1].
    """
    return (benefits >= threshold_for_fraction(benefits, local_fraction)).astype(np.int64)


def oracle_scores(bank: Bank) -> np.ndarray:
    """Return the score of the paper's oracle; it offloads where the score is above zero.

    Only the cloud right: cloud. Only the local network right: local. Both right: whichever gives
    the true class the higher probability, local on a tie. Both wrong: cloud. Sorted by this score,
    samples that gain come first and samples that lose come last, so that its curve bounds every
    rule's from above.

    Args:
        bank: n samples with the logits of both networks and labels.

    Returns:
        float64 of shape (n,): within (1, 3), (-3, -1) and [-1, 1] in the first three cases; 1 in
        the last.
    """
    gain = benefit(bank)
    cases = [bank.cloud_correct & bank.local_correct, bank.cloud_correct, bank.local_correct]
    return np.select(cases, [gain, 2.0 + gain, -2.0 + gain], default=1.0)


def _of_true_class(probabilities, labels):
    return np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]


# (probabilities (n, num_classes), labels (n,)) -> cost (n,)
COSTS = {
    "true_class": true_class,
    "zero_one": zero_one,
    "cross_entropy": cross_entropy,
    "margin": margin,
    "entropy_adjusted": entropy_adjusted,
}
