"""Probabilities of classes that are right as often as they say: logits over a temperature."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ddnn.tasks.classification import softmax

WIDEST = 20.0  # temperatures lie in [1 / WIDEST, WIDEST]
STEPS = 40  # halvings of that range


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of the least cross-entropy on samples that trained no network.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017. The cross-entropy of
    softmax(logits / T) is convex in 1 / T, so that its one minimum is found by halving. A network
    that has all samples right gets the lowest temperature, 1/20.

    Args:
        logits: Finite, of shape (n, num_classes), n at least 1.
        labels: Class numbers, int (n,).

    Returns:
        T, in [1/20, 20]; 1 where the logits say nothing, being all alike.
    """
    logits = logits.astype(np.float64)
    true = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0].mean()

    def slope(inverse: float) -> float:
        """Return the derivative of the cross-entropy by 1 / T."""
        return float((softmax(logits * inverse) * logits).sum(axis=1).mean() - true)

    if not np.ptp(logits, axis=1).any():
        return 1.0
    low, high = -np.log(WIDEST), np.log(WIDEST)  # of 1 / T
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def probabilities_at(logits: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Return probabilities, float32 (n, num_classes), of logits (n, num_classes).

    Args:
        logits: Finite.
        temperatures: Of the network that has made each row, (n,), above 0.
    """
    scaled = logits.astype(np.float64) / np.asarray(temperatures, np.float64)[:, None]
    return softmax(scaled).astype(np.float32)


def temperatures_of(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Return the temperatures of an artefact's two tiers, "local" and "cloud"; 1 if not known."""
    return {"local": 1.0, "cloud": 1.0} | manifest.get("temperatures", {})
