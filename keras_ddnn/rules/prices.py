"""The threshold of the least mean cost, where each sample that is sent has a price."""

import numpy as np

from keras_ddnn.data.gate_costs import CostsAtGate
from keras_ddnn.files.checks import require_positive
from keras_ddnn.rules.calibration import Calibration
from keras_ddnn.rules.certificate import cuts
from keras_ddnn.rules.outcome import checked_scores, outcome_of


def for_price(scores: np.ndarray, samples: CostsAtGate, price: float) -> Calibration:
    """Send what is worth its price: choose the threshold of the least mean cost and price together.

    A sample is worth sending if its expected benefit E[B_k] is at least the price of a send. Where
    the score is that expectation, the price itself is the best threshold; for any other score each
    cut between two scores is tried on validation data. Where several are best, the one that sends
    least is taken.

    Args:
        scores: float of shape (n,), of validation data.
        samples: The n samples scored, a `Bank` or `GateCosts`.
        price: Of a sample that is sent, in units of the cost, from 0 on.

    Returns:
        A calibration that promises nothing of other data: `realised` tells their mean `price`.

    Raises:
        ValueError: If the price is negative, or there is not one finite score a sample.
    """
    if price != 0:
        require_positive(price=price)
    order, kept, thresholds = cuts(checked_scores(scores, samples))
    n = len(samples)
    added = np.append(0.0, np.cumsum((samples.stay - samples.go)[order]))[kept]
    total = added + price * (n - kept)
    best = len(total) - 1 - int(np.argmin(total[::-1]))
    threshold, prices = float(thresholds[best]), {"price": (0.0, float(price))}
    validation = outcome_of(threshold, scores, samples, prices)
    promise = (
        f"the least mean cost and price of {n:,} samples, at {price:g} for each that is sent "
        f"({validation['local_fraction']:.1%} of them stay local)"
    )
    numbers = {"n": n, "options": {"price": price}, "validation": validation}
    return Calibration("price", threshold, promise, {}, numbers, prices)
