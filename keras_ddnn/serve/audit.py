"""Audits: what a random sample of decisions has cost, and when it is surely more than promised."""

from collections import deque
from math import log

import numpy as np

from keras_ddnn.checks import require_fraction

BETS = 0.5 ** np.arange(1, 9)  # shares of the largest bet that cannot ruin
LARGEST = 1e12  # evidence beyond it says nothing new, and must not overflow


class ExcessTest:
    """Tests after every outcome whether their mean has risen above a limit, now or at any time.

    Betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    2024): a stake is multiplied by 1 + bet·(outcome - limit) at every outcome. As long as each
    outcome's expectation, given those before it, is at most the limit, nobody can expect to win; by
    Ville's inequality the wealth ever reaches 1/δ with a probability of at most δ.

    A player who has bet through a long good time is poor when the change comes, and old evidence
    hides it. So a unit of capital is spread over players who enter one at each outcome, with
    ln 2/ln(t+1) - ln 2/ln(t+2) for the t-th, and over eight bets. Their total obeys Ville's
    inequality as one player's does, and is a sum that one recursion keeps. Those sums of e-processes
    started one after another are the e-detectors of Shin, Ramdas and Rinaldo, "E-detectors: a
    nonparametric framework for sequential change detection" (2024); theirs, unweighted, promise
    only a mean time to a false alarm, and in the end there is one. The weights buy a probability for
    a run of any length, at the price of a delay that grows with its logarithm: with δ = 0.1 it is
    that of a mean time of 0.7 million outcomes at the 1,000th, of 200 million at the 100,000th.

    Attributes:
        limit: Of the mean.
        delta: The probability that there is ever an alarm although no mean was above the limit.
        count: Outcomes so far.
        alarm_at: The count at which there was an alarm, or None; an alarm stays.

    Args:
        limit: Above `lowest`.
        lowest: The least outcome possible.
        delta: In (0, 1).
        memory: Recent outcomes of which to tell the mean.
    """

    def __init__(self, limit: float, lowest: float, delta: float, memory: int = 1000):
        self.limit, self.delta = float(limit), float(delta)
        self.count, self.alarm_at = 0, None
        self._bets = BETS / (limit - lowest)
        self._wealth = np.zeros(len(BETS))
        self._recent = deque(maxlen=memory)

    @property
    def evidence(self) -> float:
        """The wealth of all players and the capital not yet staked; 1/delta is an alarm."""
        return float(self._wealth.mean()) + _reserve(self.count)

    def learn(self, outcome: float) -> None:
        """Count an outcome between `lowest` and 1."""
        entering = _reserve(self.count) - _reserve(self.count + 1)
        wealth = (self._wealth + entering) * (1.0 + self._bets * (outcome - self.limit))
        self._wealth = np.minimum(wealth, LARGEST)
        self.count += 1
        self._recent.append(outcome)
        if self.alarm_at is None and self.evidence >= 1.0 / self.delta:
            self.alarm_at = self.count

    def status(self) -> dict:
        """Return it all as plain JSON types; `recent` is the mean of the last outcomes, if any."""
        n = len(self._recent)
        return {
            "count": self.count,
            "limit": self.limit,
            "delta": self.delta,
            "evidence": self.evidence,
            "alarm_at": self.alarm_at,
            "recent_count": n,
            "recent": float(np.mean(self._recent)) if n else None,
            "standard_error": float(np.std(self._recent) / np.sqrt(n)) if n else None,
        }


def _reserve(count: int) -> float:
    """The capital of the players who enter after `count` outcomes."""
    return log(2) / log(count + 2)


class Audit:
    """Draws samples by lot, and tests what the cloud says of those that were kept.

    Lots are drawn among all samples, so that the mean over those drawn is the mean over all, without
    an estimate of the local fraction. Two means are tested. Both count 0 for a sample that was
    offloaded; for one that was kept,

    - `drop`, where its label is known: 1 if only the cloud is right, -1 if only the device is.
      The mean is the accuracy lost against asking the cloud about everything, the quantity of a
      certificate.
    - `disagreement`, without labels: 1 if the cloud answers otherwise. The mean is an upper bound
      of the drop, equal to it if the cloud were always right; it may rise without the drop. Its
      limit is a matter of judgement: with disagreement u0 and drop d0 on validation data,
      u0 + max_drop - d0 is where the drop exceeds `max_drop`, provided that disagreements which
      cost nothing have not become more frequent.

    Each test assumes that the mean, given what came before, is at most its limit; that is stronger
    than an average over good and bad times. See `ExcessTest` for the rest of the promise.

    Attributes:
        drop, disagreement: The tests.

    Args:
        max_drop: In (-1, 1).
        max_disagreement: In (0, 1]; 1 never alarms.
        delta: The probability that there is ever a false alarm, in (0, 1); shared by the tests.
        share: Of the samples to draw, in [0, 1].
        seed: Of the lots.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    def __init__(self, max_drop, max_disagreement=1.0, delta=0.1, share=0.05, seed=0):
        require_fraction("share", share)
        # A comparison with NaN is false, so NaN is refused too.
        for what, value, range_, valid in (
            ("max_drop", max_drop, "(-1, 1)", -1.0 < max_drop < 1.0),
            ("max_disagreement", max_disagreement, "(0, 1]", 0.0 < max_disagreement <= 1.0),
            ("delta", delta, "(0, 1)", 0.0 < delta < 1.0),
        ):
            if not valid:
                raise ValueError(f"{what} must lie in {range_}; received {value!r}")
        each = delta / 2 if max_disagreement < 1.0 else delta
        self.share = float(share)
        self.drop = ExcessTest(max_drop, -1.0, each)
        self.disagreement = ExcessTest(max_disagreement, 0.0, each)
        # Salted: data drawn from the same seed must not know the lots.
        self._lots = np.random.default_rng([seed, 2])

    def draw(self, n: int) -> np.ndarray:
        """Return which of the next n samples are drawn, bool of shape (n,)."""
        return self._lots.random(n) < self.share

    def learn(self, offloaded, local_classes, cloud_classes, labels=None) -> None:
        """Count drawn samples that the cloud has answered, those that were offloaded among them.

        Args:
            offloaded: bool of shape (n,).
            local_classes: int of shape (n,).
            cloud_classes: int of shape (n,).
            labels: int of shape (n,), negative where unknown; None if all are.

        Raises:
            ValueError: If the shapes differ.
        """
        offloaded, local, cloud = map(np.asarray, (offloaded, local_classes, cloud_classes))
        labels = np.full(offloaded.shape, -1) if labels is None else np.asarray(labels)
        shapes = [array.shape for array in (offloaded, local, cloud, labels)]
        if offloaded.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(f"expected four arrays of one shape (n,); received {shapes}")
        kept = ~offloaded.astype(bool)
        for differs in (kept & (local != cloud)).tolist():
            self.disagreement.learn(differs)
        lost = kept * ((cloud == labels).astype(int) - (local == labels))
        for loss in lost[labels >= 0].tolist():
            self.drop.learn(loss)

    @property
    def alarms(self) -> list[str]:
        """What is wrong, in plain words; empty as long as nothing is."""
        return [
            text.format(**test.status())
            for test, text in ((self.drop, DROP_ALARM), (self.disagreement, DISAGREEMENT_ALARM))
            if test.alarm_at is not None
        ]

    def status(self) -> dict:
        """Return both tests and the alarms as plain JSON types."""
        return {
            "share": self.share,
            "drop": self.drop.status(),
            "disagreement": self.disagreement.status(),
            "alarms": self.alarms,
        }


DROP_ALARM = (
    "Accuracy has fallen more than {limit:.2%} below the cloud's, as found at sample {alarm_at:,} "
    "of those checked; over the last {recent_count:,} it is {recent:.2%} ± {standard_error:.2%}. "
    "Data have changed: choose a new threshold on recent, labelled samples. The probability that "
    "this alarm is false is at most {delta:.1%}."
)
DISAGREEMENT_ALARM = (
    "More than {limit:.2%} of all samples are kept although the cloud would answer otherwise, as "
    "found at sample {alarm_at:,} of those checked; over the last {recent_count:,} it is "
    "{recent:.2%} ± {standard_error:.2%}. Accuracy may be as much below the cloud's: label recent "
    "samples to know. The probability that this alarm is false is at most {delta:.1%}."
)
