"""What a threshold does on samples: who answers, what that costs, and how it is said."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_ddnn.data.gate_costs import CostsAtGate


def checked_scores(scores: np.ndarray, samples: CostsAtGate) -> np.ndarray:
    """Return the scores; ValueError unless there is a finite one for each of n ≥ 1 samples."""
    if scores.shape != (len(samples),) or not len(samples) or not np.isfinite(scores).all():
        raise ValueError(
            f"expected a finite score for each of {len(samples)} samples, at least one; received "
            f"shape {scores.shape} with {np.count_nonzero(~np.isfinite(scores))} NaN or infinite"
        )
    return scores


def mean_price(price: tuple[float, float], offloaded: Any, n: int) -> Any:
    """Return the mean of what every sample costs and what offloading adds, of n samples."""
    every, added = price
    return every + offloaded * added / n


def outcome_of(
    threshold: float,
    scores: np.ndarray,
    samples: CostsAtGate,
    prices: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> dict[str, float]:
    """Return what a threshold does on samples; see `Calibration.realised`, which adds `kept`."""
    local = checked_scores(scores, samples) < threshold
    n, offloaded = len(samples), int(np.sum(~local))
    # Summed before it is divided, so that a drop of 1 in 100 is 0.01 to the last bit.
    added = np.sum(samples.stay[local] - samples.go[local])
    measure = samples.gate_costs().measure
    return {
        "local_fraction": (n - offloaded) / n,
        measure.name: float(measure.of(np.sum(samples.go) + added, n)),
        measure.loss: float(added / n),
        "disagreement": float(np.mean(local * samples.differ)),
        **{what: float(mean_price(prices[what], offloaded, n)) for what in prices},
    }


def _drop_in_words(drop: float) -> str:
    return f"{100 * abs(drop):.2f} points {'above' if drop < 0 else 'below'} the cloud's"


# Quantity -> how it is said.
FORMATS: dict[str, Callable[[float], str]] = {
    "local_fraction": "{:.1%} local".format,
    "accuracy": "accuracy {:.2%}".format,
    "accuracy_drop": _drop_in_words,
    "cost": "mean cost {:.4g}".format,
    "cost_increase": "{:+.4g} against sending everything".format,
    "price": "{:.4g} for what is sent".format,
    "bytes": "{:,.0f} bytes a sample".format,
    "seconds": "{:.3g} seconds a sample".format,
}
