"""B_k, what a sample gains by being offloaded, and b*, its quantile."""

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.files.checks import require_fraction
from keras_ddnn.tasks.classification import COSTS


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
