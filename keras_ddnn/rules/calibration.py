"""Score thresholds that keep a promise: a local fraction, a drop, a cost, or a budget."""

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import binomtest

from keras_ddnn.data.gate_costs import CostsAtGate, right_answers, threshold_for_fraction
from keras_ddnn.rules.certificate import certified_threshold, probability_of
from keras_ddnn.rules.cost_certificate import certified_cost_threshold
from keras_ddnn.rules.outcome import FORMATS, checked_scores, outcome_of
from keras_ddnn.rules.plans import ScoredChain


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what was promised of it. `dataclasses.asdict` of it is JSON-able.

    Attributes:
        name: A key of `CALIBRATIONS`, or "price" of `for_price`.
        score_threshold: Samples with a score at or above it are offloaded; -∞ offloads everything.
        promise: The promise in plain words.
        limits: Quantity → the lowest and the highest value promised.
        numbers: `n`, the `options` asked for, and the `validation` data's own outcome.
        prices: Quantity → what every sample costs, and what offloading it adds.
    """

    name: str
    score_threshold: float
    promise: str
    limits: dict[str, tuple[float, float]]
    numbers: dict
    prices: dict[str, tuple[float, float]] = field(default_factory=dict)

    def realised(self, scores: np.ndarray, samples: CostsAtGate) -> dict:
        """Return what the threshold does on other data, and whether the promise is kept there.

        Args:
            scores: float of shape (n,), by the rule that was calibrated.
            samples: The n samples scored, a `Bank` or `GateCosts`.

        Returns:
            `local_fraction`, `accuracy` and `accuracy_drop` (cloud-only accuracy minus accuracy,
            negative where offloading less helps), in shares, or the mean `cost` and
            `cost_increase` where these are reported, see `Measure`; `disagreement`, the share kept
            local where the cloud answers otherwise, or by how much it may, at least the drop;
            `bytes` and `seconds`, the means a
            sample, if prices are known; `kept`, whether all of them lie within the limits. A
            promise on the long run may be broken by the chance of a small n.

        Raises:
            ValueError: If there is not one finite score a sample.
        """
        outcome = outcome_of(self.score_threshold, scores, samples, self.prices)
        kept = all(low <= outcome[what] <= high for what, (low, high) in self.limits.items())
        return outcome | {"kept": kept}

    def describe(self, realised: dict) -> str:
        """Return "promised … / realised …" for an outcome of `realised`."""
        facts = ", ".join(FORMATS[what](x) for what, x in realised.items() if what in FORMATS)
        verdict = "kept" if realised["kept"] else "broken"
        return f"promised: {self.promise} / realised: {facts}; {verdict}"


def for_local_fraction(
    scores: np.ndarray, samples: CostsAtGate, local_fraction: float
) -> Calibration:
    """Keep a share of the samples local.

    Args:
        scores: float of shape (n,), of validation data.
        samples: The n samples scored, a `Bank` or `GateCosts`.
        local_fraction: L0, in [0, 1]; ties may leave the share below it.

    Returns:
        A calibration that promises the 95% Clopper–Pearson interval of the long-run share.

    Raises:
        ValueError: If `local_fraction` lies outside [0, 1] or a score is not finite.
    """
    threshold = threshold_for_fraction(checked_scores(scores, samples), local_fraction)
    validation = outcome_of(threshold, scores, samples)
    interval = binomtest(int(np.sum(scores < threshold)), len(samples)).proportion_ci()
    low, high = float(interval.low), float(interval.high)
    promise = (
        f"between {low:.1%} and {high:.1%} of samples stay local "
        f"({local_fraction:.1%} asked; 95% interval from {len(samples):,} samples)"
    )
    options = {"local_fraction": local_fraction}
    numbers = {"n": len(samples), "options": options, "validation": validation}
    limits = {"local_fraction": (low, high)}
    return Calibration("local_fraction", threshold, promise, limits, numbers)


def operating_points(scores: np.ndarray, samples: CostsAtGate, points: int = 101) -> list[dict]:
    """Return what one would choose a threshold from: where it leads, from all cloud to all local.

    Args:
        scores: float of shape (n,), of validation data.
        samples: The n samples scored, a `Bank` or `GateCosts`.
        points: Their number at most; thresholds that tie are one.

    Returns:
        A record a threshold, rising: `score_threshold`, finite, and the `local_fraction`,
        `accuracy` and `disagreement` it has on the samples, see `Calibration.realised`.

    Raises:
        ValueError: If there is not one finite score a sample.
    """
    thresholds = np.quantile(checked_scores(scores, samples), np.linspace(0.0, 1.0, points))
    thresholds[-1] = np.nextafter(thresholds[-1], np.inf)  # above all: everything stays local
    measured = samples.gate_costs().measure.name
    outcomes = ((float(t), outcome_of(t, scores, samples)) for t in np.unique(thresholds))
    return [
        {"score_threshold": threshold}
        | {name: float(outcome[name]) for name in ("local_fraction", measured, "disagreement")}
        for threshold, outcome in outcomes
    ]


def for_accuracy_drop(
    scores: np.ndarray, samples: CostsAtGate, max_drop: float = 0.01, delta: float = 0.1
) -> Calibration:
    """Keep as much local as certainly costs no more than `max_drop` of the cloud's accuracy.

    Certainty is over the draw of the validation data: in a share of at least 1 - `delta` of all
    draws, the drop expected on new samples of the same kind is at most `max_drop`. See
    `certified_threshold`. If nothing can be certified, everything is offloaded.

    Args:
        scores: float of shape (n,), of validation data that trained neither network nor rule.
        samples: The n samples scored, a `Bank` or `GateCosts`.
        max_drop: The accuracy drop allowed against offloading everything, in (0, 1).
        delta: The probability of a larger drop that is put up with, in (0, 1).

    Returns:
        A calibration that promises an accuracy drop of at most `max_drop`.

    Raises:
        ValueError: If `max_drop` or `delta` lies outside (0, 1), a score is not finite, or answers
            are not right or wrong: see `for_cost_increase`.
    """
    threshold = certified_threshold(
        checked_scores(scores, samples), *right_answers(samples, "accuracy_drop"), max_drop, delta
    )
    drop = f"{100 * max_drop:.2f} points"
    words = f"accuracy is at most {drop} below the cloud's", f"a drop of {drop}"
    limits = {"accuracy_drop": (-1.0, max_drop)}
    options = {"max_drop": max_drop, "delta": delta}
    return _certified("accuracy_drop", threshold, scores, samples, limits, options, words)


def for_cost_increase(
    scores: np.ndarray, samples: CostsAtGate, max_increase: float, delta: float = 0.1
) -> Calibration:
    """Keep as much local as certainly costs no more than `max_increase` above sending everything.

    See `for_accuracy_drop`, and `certified_cost_threshold` for the test. It takes costs of any size
    up to a bound; where answers are right or wrong, `for_accuracy_drop` keeps more local.

    Args:
        scores: float of shape (n,), of validation data that trained neither network nor rule.
        samples: The n samples scored, a `Bank` or `GateCosts`, of a task whose costs have a bound.
        max_increase: What the mean cost may rise by, in units of cost, above 0, below the bound.
        delta: The probability of a larger rise that is put up with, in (0, 1).

    Returns:
        A calibration that promises a rise of the mean cost of at most `max_increase`.

    Raises:
        ValueError: If costs have no bound, an option lies outside its range or a score is not
            finite.
    """
    costs = samples.gate_costs()
    if costs.bound is None:
        raise ValueError(
            "a certificate of costs needs the most that a sample can cost; received bound=None: "
            "give it to the task or to GateCosts, or take for_local_fraction"
        )
    threshold = certified_cost_threshold(
        checked_scores(scores, samples), costs.stay, costs.go, costs.bound, max_increase, delta
    )
    words = (
        f"the mean cost is at most {max_increase:g} above that of sending everything",
        f"a rise of the mean cost by {max_increase:g}",
    )
    limits = {costs.measure.loss: (-costs.bound, max_increase)}
    options = {"max_increase": max_increase, "delta": delta}
    return _certified("cost_increase", threshold, scores, samples, limits, options, words)


def for_budget(
    scores: np.ndarray,
    samples: CostsAtGate,
    *,
    max_bytes: float | None = None,
    max_seconds: float | None = None,
    bytes_sent: float,
    local_seconds: float = 0.0,
    cloud_seconds: float = 0.0,
) -> Calibration:
    """Offload as much as a budget allows: the smallest local fraction within it.

    Within it are the means of the validation data. Other samples scatter about them and exceed a
    budget that is used up about half of the time, by a little: √(L(1-L)/n) is the standard
    deviation of the share offloaded.

    Args:
        scores: float of shape (n,), of validation data.
        samples: The n samples scored, a `Bank` or `GateCosts`.
        max_bytes: Bytes sent a sample, on average over all samples.
        max_seconds: Latency a sample, on average over all samples.
        bytes_sent: Bytes sent for a sample that is offloaded.
        local_seconds: Latency of the local network and the rule, which every sample waits for.
        cloud_seconds: Latency that offloading adds: the network both ways, and the cloud.

    Returns:
        A calibration that promises mean `bytes` and `seconds` within the budget.

    Raises:
        ValueError: If no budget is given, a price is negative, even keeping everything local
            exceeds the budget, or a score is not finite.
    """
    asked = {"bytes": max_bytes, "seconds": max_seconds}
    limits = {what: (0.0, most) for what, most in asked.items() if most is not None}
    if not limits:
        raise ValueError("expected max_bytes, max_seconds or both; received neither")
    costs = {
        "bytes_sent": bytes_sent,
        "local_seconds": local_seconds,
        "cloud_seconds": cloud_seconds,
    }
    for what, cost in costs.items():
        if not 0 <= cost < np.inf:
            raise ValueError(f"{what} must be finite and not negative; received {cost!r}")
    prices = {"bytes": (0.0, bytes_sent), "seconds": (local_seconds, cloud_seconds)}

    n = len(samples)
    thresholds: list[float] = []
    # What is least within a budget is the local fraction, so that staying is what costs.
    staying = np.tile([1.0, 0.0], (n, 1))
    for what, (_, most) in limits.items():
        if not prices[what][0] <= most:
            raise ValueError(
                f"max_{what} must be at least {prices[what][0]}, the price of keeping everything "
                f"local; received {most!r}"
            )
        chain = ScoredChain([checked_scores(scores, samples)], staying, prices[what])
        thresholds += chain.for_budget(most).thresholds
    # Where everything fits, what scores lower than any validation sample is offloaded too.
    threshold = max(thresholds)
    validation = outcome_of(threshold, scores, samples, prices)
    allowed = " and ".join(f"{FORMATS[what](most)}" for what, (_, most) in limits.items())
    promise = (
        f"at most {allowed} on average "
        f"({validation['local_fraction']:.1%} of {n:,} samples stay local)"
    )
    options = {f"max_{what}": most for what, most in asked.items()} | costs
    numbers = {"n": n, "options": options, "validation": validation}
    return Calibration("budget", threshold, promise, limits, numbers, prices)


def _certified(name, threshold, scores, samples, limits, options, words):
    validation, n = outcome_of(threshold, scores, samples), len(samples)
    probability, (promised, asked) = probability_of(options["delta"]), words
    promise = (
        f"with probability {probability} or more, {promised} "
        f"({validation['local_fraction']:.1%} of {n:,} samples stay local)"
        if threshold > -np.inf
        else f"everything is offloaded, for {n:,} samples certify no threshold at {asked} with "
        f"probability {probability}"
    )
    numbers = {"n": n, "options": options, "validation": validation}
    return Calibration(name, threshold, promise, limits, numbers)


# (scores (n,), Bank, options) -> Calibration
CALIBRATIONS = {
    "local_fraction": for_local_fraction,
    "accuracy_drop": for_accuracy_drop,
    "cost_increase": for_cost_increase,
    "budget": for_budget,
}
