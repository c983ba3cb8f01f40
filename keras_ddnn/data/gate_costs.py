"""What each sample costs at a gate: all that evaluation knows of networks, classes and tiers.

The difference of the two costs is B_k, what a sample gains by being sent on; b* is its quantile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keras_ddnn.files.checks import require_fraction
from keras_ddnn.files.records import LEFT_OUT, fill
from keras_ddnn.tasks.task import ACCURACY, Measure


class CostsAtGate(Protocol):
    """What `GateCosts` holds; a `Bank` has it too, by the cost that its reports use."""

    @property
    def stay(self) -> np.ndarray:
        """See `GateCosts`."""

    @property
    def go(self) -> np.ndarray:
        """See `GateCosts`."""

    @property
    def differ(self) -> np.ndarray:
        """See `GateCosts`."""

    @property
    def benefit_cost(self) -> str | None:
        """The cost whose difference is B_k unless another is named; None for `go` and `stay`."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def gate_costs(self, cost: str | None = None) -> "GateCosts":
        """Return the two costs of each sample, by a cost of the task; by its own if None."""


@dataclass(frozen=True, eq=False)
class GateCosts:
    """What n samples cost if they are answered at a gate, and if they are sent on.

    Lower is better. The cost of going on is one number a sample, whatever lies behind the gate:
    one network, or several with gates of their own that are fixed already.

    Attributes:
        stay: Cost of the answer at this gate, float64 of shape (n,), finite.
        go: Cost of the answer behind it, float64 of shape (n,), finite.
        differ: Bound of |stay - go| that needs no truth, float64 of shape (n,). For classes it is 1
            where the two answers differ. |stay - go| itself by default.
        bound: The most that a sample can cost, the least being 0; None if there is no bound.
        measure: How their mean is told: as an accuracy, 1 - the mean cost, by default.
        paid: What a sample pays behind the gate if it is sent on, as a share of the price of all
            tiers there, float64 of shape (n,), in [0, 1]. 1 by default: all that are sent on reach
            the last tier.

    Raises:
        ValueError: If the arrays are not finite or not of one shape (n,), a cost lies outside 0 to
            `bound`, or a share outside 0 to 1.
    """

    stay: np.ndarray
    go: np.ndarray
    differ: np.ndarray = LEFT_OUT
    bound: float | None = None
    measure: Measure = ACCURACY
    paid: np.ndarray = LEFT_OUT
    benefit_cost = None

    def __post_init__(self) -> None:
        stay, go = (np.asarray(costs, np.float64) for costs in (self.stay, self.go))
        if stay.ndim != 1 or stay.shape != go.shape:
            raise ValueError(
                "stay and go must be of one shape (n,), a cost a sample; received "
                f"{stay.shape} and {go.shape}"
            )
        fill(self, differ=np.abs(stay - go), paid=np.ones(len(stay)))
        differ, paid = (np.asarray(each, np.float64) for each in (self.differ, self.paid))
        for name, values in {"stay": stay, "go": go, "differ": differ, "paid": paid}.items():
            if values.shape != stay.shape or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} must be {len(stay)} finite costs, one a sample; received shape "
                    f"{values.shape} with {np.count_nonzero(~np.isfinite(values))} NaN or infinite"
                )
            object.__setattr__(self, name, values)
        if len(paid) and not 0 <= paid.min() <= paid.max() <= 1:
            raise ValueError(
                f"paid must be shares of a price, from 0 to 1; received {paid.min():g} to "
                f"{paid.max():g}: divide by the price of all tiers behind the gate"
            )
        if self.bound is not None and len(stay):
            low, high = min(stay.min(), go.min()), max(stay.max(), go.max())
            if low < 0 or high > self.bound:
                raise ValueError(
                    f"costs must lie between 0 and their bound, {self.bound:g}; received {low:g} "
                    f"to {high:g}: give the most that they can be, or None"
                )

    def __len__(self) -> int:
        return len(self.stay)

    def gate_costs(self, cost: str | None = None) -> "GateCosts":
        """Return these costs.

        Raises:
            ValueError: If another cost is named: these are numbers, and no outputs to ask.
        """
        if cost is not None:
            raise ValueError(f"GateCosts are two costs a sample already; received cost={cost!r}")
        return self


def share_paid(prices: Sequence[float], sent_on: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of the price behind a gate that each sample pays; see `GateCosts.paid`.

    Args:
        prices: What it adds to reach each tier behind the gate.
        sent_on: Of the gate and of each behind it, which samples it sends on, bool (n,). Of the
            gate itself all of them: what is asked is what they pay if it does.
    """
    arrived, total = np.logical_and.accumulate(sent_on), sum(prices)
    return np.asarray(prices) @ arrived / total if total else np.ones(arrived.shape[1])


def right_answers(samples: CostsAtGate, reader: str) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the local and the cloud's answers are right, bool (n,) each.

    Args:
        samples: n samples, a `Bank` or `GateCosts`.
        reader: Who needs to know, for the message.

    Raises:
        ValueError: If a cost is neither 0 nor 1: answers are then not right or wrong.
    """
    costs = np.stack([samples.stay, samples.go])
    between = (costs != 0) & (costs != 1)
    if between.any():
        raise ValueError(
            f"{reader} needs answers that are right or wrong, which cost 0 or 1; received a cost "
            f"of {costs[between][0]:g}: take what reads costs, such as for_cost_increase"
        )
    return samples.stay == 0, samples.go == 0


def benefit(bank: CostsAtGate, cost: str | None = None) -> np.ndarray:
    """Return B_k, the local cost minus the cloud cost of each sample.

    Args:
        bank: n samples with the outputs of both networks and the truth.
        cost: A cost of its task, by default its `benefit_cost`. That of classes is "true_class",
            for which B_k = p_cloud[y] - p_local[y], in [-1, 1].

    Returns:
        float64 of shape (n,): how much a sample gains by being offloaded.
    """
    costs = bank.gate_costs(cost or bank.benefit_cost)
    return costs.stay - costs.go


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
