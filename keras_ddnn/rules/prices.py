"""The threshold of the least mean cost, where each sample that is sent has a price."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ddnn.data.gate_costs import CostsAtGate
from keras_ddnn.files.checks import expect, require_fraction, require_positive
from keras_ddnn.rules.calibration import Calibration
from keras_ddnn.rules.certificate import cuts
from keras_ddnn.rules.outcome import checked_scores, outcome_of


def for_price(
    scores: np.ndarray,
    samples: CostsAtGate,
    price: float,
    *,
    classes: np.ndarray | None = None,
    limits: Mapping[int, tuple[float, float]] | None = None,
) -> Calibration:
    """Send what is worth its price: choose the threshold of the least mean cost and price together.

    A sample is worth sending if its expected benefit E[B_k] is at least the price of a send. Where
    the score is that expectation, the price itself is the best threshold; for any other score each
    cut between two scores is tried on validation data. Where several are best, the one that sends
    least is taken.

    Args:
        scores: float of shape (n,), of validation data.
        samples: The n samples scored, a `Bank` or `GateCosts`.
        price: Of a sample that is sent, in units of the cost, from 0 on.
        classes: Class number of each sample, int (n,), for `limits`.
        limits: Class number → the least and the most of its samples that may stay local, in [0, 1].

    Returns:
        A calibration that promises nothing of other data: `realised` tells their mean `price`.

    Raises:
        ValueError: If the price is negative, there is not one finite score a sample, or no
            threshold keeps to the limits.
    """
    if price != 0:
        require_positive(price=price)
    order, kept, thresholds = cuts(checked_scores(scores, samples))
    n = len(samples)
    added = np.append(0.0, np.cumsum((samples.stay - samples.go)[order]))[kept]
    total = added + price * (n - kept)
    total = np.where(_within(order, kept, classes, limits or {}), total, np.inf)
    best = len(total) - 1 - int(np.argmin(total[::-1]))
    threshold, prices = float(thresholds[best]), {"price": (0.0, float(price))}
    validation = outcome_of(threshold, scores, samples, prices)
    promise = (
        f"the least mean cost and price of {n:,} samples, at {price:g} for each that is sent "
        f"({validation['local_fraction']:.1%} of them stay local)"
    )
    options: dict[str, Any] = {"price": price}
    if limits:
        promise += "; " + ", ".join(
            f"{low:.0%} to {high:.0%} of class {number}" for number, (low, high) in limits.items()
        )
        options["limits"] = {str(number): [low, high] for number, (low, high) in limits.items()}
    numbers = {"n": n, "options": options, "validation": validation}
    return Calibration("price", threshold, promise, {}, numbers, prices)


def _within(
    order: np.ndarray,
    kept: np.ndarray,
    classes: np.ndarray | None,
    limits: Mapping[int, tuple[float, float]],
) -> np.ndarray:
    """Return which cuts, bool (cuts,), keep to the limits of all classes; see `for_price`."""
    allowed = np.ones(len(kept), bool)
    if not limits:
        return allowed
    n = len(order)
    received = () if classes is None else np.shape(classes)
    expect(received == (n,), "classes", f"the class of each of {n:,} samples, for limits", received)
    for number, (low, high) in limits.items():
        for end in (low, high):
            require_fraction(f"a limit of class {number}", end)
        own = np.asarray(classes)[order] == number
        expect(own.any(), f"limits of class {number}", "samples of that class", "none")
        share = np.append(0, np.cumsum(own))[kept] / own.sum()
        allowed &= (low <= share) & (share <= high)
    expect(
        allowed.any(),
        "limits",
        "shares that some threshold keeps to",
        f"{dict(limits)}: no threshold does; widen one of them",
    )
    return allowed
