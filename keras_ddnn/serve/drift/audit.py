"""Audits: what a random sample of decisions has cost, and when it is surely more than promised."""

import numpy as np

from keras_ddnn.files.checks import require_fraction, require_probability
from keras_ddnn.serve.drift.sequential_test import ExcessTest


class Audit:
    """Draws samples by lot, and tests what the cloud says of those that were kept.

    Lots are drawn among all samples, so that the mean over those drawn is the mean over all: no
    local fraction need be estimated. Two means are tested. Both count 0 for a sample that was
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
        share: Share of the samples to draw, in [0, 1].
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    def __init__(self, max_drop, max_disagreement=1.0, delta=0.1, share=0.05, seed=0):
        require_fraction("share", share)
        require_probability(delta=delta)
        # A comparison with NaN is false, so NaN is refused too.
        for what, value, range_, valid in (
            ("max_drop", max_drop, "(-1, 1)", -1.0 < max_drop < 1.0),
            ("max_disagreement", max_disagreement, "(0, 1]", 0.0 < max_disagreement <= 1.0),
        ):
            if not valid:
                raise ValueError(f"{what} must lie in {range_}; received {value!r}")
        each = delta / 2 if max_disagreement < 1.0 else delta
        self.share = float(share)
        self.drop = ExcessTest(max_drop, -1.0, each)
        self.disagreement = ExcessTest(max_disagreement, 0.0, each)
        # A separate stream, so that data generated with the same seed are independent of the draws.
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
        """Return the share and both tests as plain JSON types."""
        return {
            "share": self.share,
            "drop": self.drop.status(),
            "disagreement": self.disagreement.status(),
        }


DROP_ALARM = (
    "Accuracy has fallen more than {limit:.2%} below the cloud's, as found at sample {alarm_at:,} "
    "of those checked; over the last {recent_count:,} it is {recent:.2%} ± {standard_error:.2%}. "
    "Data have changed: choose a new threshold on recent, labelled samples."
)
DISAGREEMENT_ALARM = (
    "More than {limit:.2%} of all samples are kept although the cloud would answer otherwise, as "
    "found at sample {alarm_at:,} of those checked; over the last {recent_count:,} it is "
    "{recent:.2%} ± {standard_error:.2%}. Accuracy may be as much below the cloud's: label recent "
    "samples to know."
)
