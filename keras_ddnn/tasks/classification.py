"""What an answer of class probabilities costs, given the truth. Lower is better."""

from types import ModuleType

import numpy as np

TINY = float(np.finfo(np.float32).tiny)  # keeps the logarithm of a probability of 0 finite


def softmax(logits: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    """Return probabilities of logits (n, num_classes), of the same type.

    Args:
        logits: Finite floats.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
    """
    powers = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return powers / xp.sum(powers, axis=1, keepdims=True)


def normalised_entropy(probabilities: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    """Return the entropy of (n, num_classes) over log num_classes, of shape (n,), in [0, 1].

    Args:
        probabilities: Rows that sum to 1.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
    """
    # A probability of 0 counts as 0, which is the limit of p log p.
    logs = xp.log(xp.maximum(probabilities, xp.full_like(probabilities, TINY)))
    nats = -xp.sum(probabilities * logs, axis=1)
    shares = nats / float(np.log(probabilities.shape[1]))
    # The sum of p log p may exceed log num_classes in its last digit.
    return xp.minimum(shares, xp.ones_like(shares))


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
