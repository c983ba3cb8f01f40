"""Audits: what a random sample of decisions has cost, and when it is surely more than promised."""

from typing import Any

import numpy as np

from keras_ddnn.data.classes import Classes
from keras_ddnn.files.checks import require_fraction, require_probability
from keras_ddnn.serve.drift.sequential_test import ExcessTest
from keras_ddnn.tasks.arrays import Numbers
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task


class Audit:
    """Draws samples by lot, and tests what the cloud says of those that were kept.

    Lots are drawn among all samples, so that the mean over those drawn is the mean over all: no
    local fraction need be estimated. Two means are tested. Both count 0 for a sample that was
    offloaded; for one that was kept,

    - `drop`, where the truth is known: what its answer costs more than the cloud's, of classes 1
      if only the cloud is right, -1 if only the device is. The mean is what is lost against asking
      the cloud about everything, the quantity of a certificate: of classes the drop of accuracy.
    - `disagreement`, without the truth: by how much the costs of both answers may differ, see
      `Task.differ`, of classes 1 if the cloud answers otherwise. The mean is an upper bound of the
      drop, for classes equal to it if the cloud were always right; it may rise without the drop.
      Its limit is a matter of judgement: with disagreement u0 and drop d0 on validation data,
      u0 + max_drop - d0 is where the drop exceeds `max_drop`, provided that disagreements which
      cost nothing have not become more frequent.

    Each test assumes that the mean, given what came before, is at most its limit; that is stronger
    than an average over good and bad times. See `ExcessTest` for the rest of the promise.

    Attributes:
        drop, disagreement: The tests.

    Args:
        max_drop: In units of cost, in (-b, b), where b is the bound of the costs: 1 for classes.
        max_disagreement: In units of cost, in (0, b]; None or b never alarm.
        delta: The probability that there is ever a false alarm, in (0, 1); shared by the tests.
        share: Share of the samples to draw, in [0, 1].
        seed: Seed of the draws.
        task: Whose reported cost is audited.

    Raises:
        ValueError: If an argument lies outside its range, or the costs of the task have no bound.
    """

    def __init__(
        self,
        max_drop: float,
        max_disagreement: float | None = None,
        delta: float = 0.1,
        share: float = 0.05,
        seed: int = 0,
        task: Task = CLASSIFICATION,
    ) -> None:
        bound = bound_of(task)
        max_disagreement = bound if max_disagreement is None else max_disagreement
        require_fraction("share", share)
        require_probability(delta=delta)
        # A comparison with NaN is false, so NaN is refused too.
        for what, value, range_, valid in (
            ("max_drop", max_drop, f"(-{bound:g}, {bound:g})", -bound < max_drop < bound),
            (
                "max_disagreement",
                max_disagreement,
                f"(0, {bound:g}]",
                0.0 < max_disagreement <= bound,
            ),
        ):
            if not valid:
                raise ValueError(f"{what} must lie in {range_}; received {value!r}")
        each = delta / 2 if max_disagreement < bound else delta
        self.share = float(share)
        self._words = ALARMS[task.measure.loss]
        self.drop = ExcessTest(max_drop, -bound, each)
        self.disagreement = ExcessTest(max_disagreement, 0.0, each)
        # A separate stream, so that data generated with the same seed are independent of the draws.
        self._lots = np.random.default_rng([seed, 2])

    def draw(self, n: int) -> np.ndarray:
        """Return which of the next n samples are drawn, bool of shape (n,)."""
        return self._lots.random(n) < self.share

    def learn(self, offloaded: Any, differ: Any, lost: Any = None) -> None:
        """Count drawn samples that the cloud has answered, those that were offloaded among them.

        Args:
            offloaded: bool of shape (n,).
            differ: By how much the costs of both answers may differ, of shape (n,).
            lost: What the device's answer costs more than the cloud's, of shape (n,), NaN where the
                truth is unknown; None if it is of all. See `differ_and_lost`.

        Raises:
            ValueError: If the shapes differ.
        """
        offloaded, differ = np.asarray(offloaded), np.asarray(differ)
        lost = np.full(offloaded.shape, np.nan) if lost is None else np.asarray(lost)
        shapes = [array.shape for array in (offloaded, differ, lost)]
        if offloaded.ndim != 1 or len(set(shapes)) > 1:
            raise ValueError(f"expected three arrays of one shape (n,); received {shapes}")
        kept = ~offloaded.astype(bool)
        for differs in (kept * differ).tolist():
            self.disagreement.learn(differs)
        for loss in (kept * lost)[~np.isnan(lost)].tolist():
            self.drop.learn(loss)

    @property
    def alarms(self) -> list[str]:
        """What is wrong, in plain words; empty as long as nothing is."""
        return [
            text.format(**test.status())
            for test, text in zip((self.drop, self.disagreement), self._words)
            if test.alarm_at is not None
        ]

    def status(self) -> dict:
        """Return the share and both tests as plain JSON types."""
        return {
            "share": self.share,
            "drop": self.drop.status(),
            "disagreement": self.disagreement.status(),
        }


def audited_numbers(
    classes: Classes | Numbers, labels: np.ndarray | None, count: int
) -> np.ndarray:
    """Return what the audit takes as the truth about `count` samples, of shape (count,).

    Args:
        classes: The user's labels, or that there are numbers in their place.
        labels: Of the samples, (count,), as for `EdgeRuntime.predict`; None if there are none.

    Returns:
        Class numbers, -1 where they are not known; or numbers, NaN where they are not known.

    Raises:
        ValueError: If there is not one label a sample, or training did not have one.
    """
    labels = np.full(count, None) if labels is None else labels
    if np.shape(labels) != (count,):
        raise ValueError(f"expected {count} labels; received shape {np.shape(labels)}")
    return classes.encode_known(labels)


def bound_of(task: Task) -> float:
    """Return the most that a sample can cost; ValueError, in one line, if there is no bound."""
    if task.bound is None:
        raise ValueError(
            f"an audit needs the most that a sample can cost; received the task {task.name!r} with "
            "bound=None: give it a bound and save the artefact anew, or leave the guard out"
        )
    return float(task.bound)


def differ_and_lost(
    task: Task, local: np.ndarray, cloud: np.ndarray, targets: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `Audit.learn` reads of the outputs of both networks, float64 (n,) each.

    Args:
        task: What the outputs are.
        local, cloud: Outputs of shape (n, ...).
        targets: The truth, of shape (n,).
        known: Where it is known, bool (n,).
    """
    lost = np.full(len(local), np.nan)
    stay, go = (task.bounded_cost(said[known], targets[known]) for said in (local, cloud))
    lost[known] = stay - go
    return task.differ(local, cloud), lost


# What a mean loss is called, see `Measure.loss` -> the alarms of both tests.
ALARMS = {
    "accuracy_drop": (
        "Accuracy has fallen more than {limit:.2%} below the cloud's, as found at sample "
        "{alarm_at:,} of those checked; over the last {recent_count:,} it is {recent:.2%} ± "
        "{standard_error:.2%}. Data have changed: choose a new threshold on recent, labelled "
        "samples.",
        "More than {limit:.2%} of all samples are kept although the cloud would answer otherwise, "
        "as found at sample {alarm_at:,} of those checked; over the last {recent_count:,} it is "
        "{recent:.2%} ± {standard_error:.2%}. Accuracy may be as much below the cloud's: label "
        "recent samples to know.",
    ),
    "cost_increase": (
        "The mean cost has risen more than {limit:.4g} above the cloud's, as found at sample "
        "{alarm_at:,} of those checked; over the last {recent_count:,} it is {recent:.4g} ± "
        "{standard_error:.4g}. Data have changed: choose a new threshold on recent samples whose "
        "truth is known.",
        "The costs of kept answers may differ from the cloud's by more than {limit:.4g} a sample, "
        "as found at sample {alarm_at:,} of those checked; over the last {recent_count:,} it is "
        "{recent:.4g} ± {standard_error:.4g}. The mean cost may be as much above the cloud's: "
        "find the truth of recent samples to know.",
    ),
}
