"""The drift guard of a device: holds the local fraction, audits what that costs, notices shifts."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np

from keras_ddnn.files.checks import require_probability
from keras_ddnn.serve.drift.audit import Audit
from keras_ddnn.serve.drift.local_fraction_control import ShareController, ShareTest
from keras_ddnn.serve.drift.validation import ValidationSample
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.known import task_of
from keras_ddnn.tasks.task import Task

DELTA = 0.1
TOLERANCE = 0.1
# Share of the bound of costs, for classes of accuracy, that may be lost on top of validation's drop
# where nothing was certified.
SLACK = 0.01
CERTIFIED = {"max_drop": "max_drop", "max_increase": "max_drop", "delta": "delta"}
SPENT = 0.5  # of delta, on the chance that limits are wrong
PARTS = 3  # of either half: scores, drop, disagreement


class DriftGuard:
    """A `ShareController`, a `ShareTest` and an `Audit` of one stream; threads may share it.

    For every batch, `decide`; send what is offloaded or drawn; give what the cloud has answered of
    those drawn to `learn`. A sample that is kept and drawn costs a transmission, no more: its local
    answer stands, and need not wait. The local fraction is held whether or not that is still worth
    it; whether it is, the audit tells. After a new calibration, make a new guard.

    The guard of an artefact makes one promise. Over draws of the validation sample and of a stream
    of any length of the same kind of data, the probability that it ever gives any alarm is at most
    `delta`. Half of that is the chance that a limit is too low, because the validation sample was
    not like all data; half, that a test alarms below its limit. Scores, drop and disagreement have
    a third of either half each. For the scores this is proven. For the audit it is for a threshold
    that stays (`gain` 0); the controller's swings, and the mean under audit with it, by less than
    the limits leave room for: `python -m benchmarks.drift --draws 300` counts alarms with both.

    Attributes:
        controller: Decides.
        shift: Tests the scores.
        audit: Draws, and tests what the cloud says.
        delta: Error probability of the whole guard.

    Args:
        local_fraction: L0, the share of samples to keep local.
        score_threshold: The calibrated one.
        max_drop: Drop of accuracy, or rise of the mean cost, against asking the cloud about
            everything.
        max_disagreement: See `Audit`; None never alarms.
        delta: The probability that there is ever an alarm although no limit is exceeded, or, with
            `spent`, although nothing has changed; in (0, 1).
        audit_share: Share of samples to draw.
        tolerance: Deviation from the share that the calibrated threshold keeps, see `ShareTest`; 1
            never alarms.
        gain: See `ShareController`; 0 keeps the calibrated threshold.
        seed: Seed of the draws.
        spent: The share of `delta` that the limits were chosen with, in [0, 1); the tests have the
            rest.
        task: Whose costs are audited.

    Raises:
        ValueError: If an argument lies outside its range, or the costs of the task have no bound.
    """

    def __init__(
        self,
        local_fraction: float,
        score_threshold: float,
        *,
        max_drop: float = 0.01,
        max_disagreement: float | None = None,
        delta: float = DELTA,
        audit_share: float = 0.05,
        tolerance: float = TOLERANCE,
        gain: float = 0.01,
        seed: int = 0,
        spent: float = 0.0,
        task: Task = CLASSIFICATION,
    ) -> None:
        require_probability(delta=delta)
        # A comparison with NaN is false, so NaN is refused too.
        if not 0.0 <= spent < 1.0:
            raise ValueError(f"spent must lie in [0, 1); received {spent!r}")
        self.delta = float(delta)
        part = delta * (1.0 - spent) / PARTS
        self.controller = ShareController(local_fraction, score_threshold, gain)
        self.shift = ShareTest(local_fraction, score_threshold, tolerance, part)
        self.audit = Audit(
            max_drop, max_disagreement, delta * (1.0 - spent) - part, audit_share, seed, task
        )
        self._lock = Lock()

    @classmethod
    def of(cls, manifest: Mapping, **options) -> "DriftGuard":
        """Return the guard of an artefact.

        Args:
            manifest: What `read_manifest` returns. The local fraction is that of the validation
                data, by the calibration or the plan; `max_drop` and `delta` are those certified or,
                where nothing was, a hundredth of the bound of costs, for classes one point, more
                than the validation data's drop, and the default.
                Disagreement may rise by as much as the drop may. No limit is lower, nor the
                tolerance smaller, than a validation sample of that size allows for.
            **options: Arguments of the constructor, in place of these. Of a limit given so, `delta`
                promises no more than that it was exceeded.

        Raises:
            ValueError: If the artefact knows nothing of validation data, its costs have no bound,
                or an option lies outside its range.
        """
        sample, calibration = ValidationSample.of(manifest), manifest.get("calibration")
        asked = calibration["numbers"]["options"] if calibration else {}
        promised = {what: asked[name] for name, what in CERTIFIED.items() if name in asked}
        slack = SLACK * sample.bound
        wanted = {"max_drop": sample.drop + slack, "delta": DELTA, "spent": SPENT}
        wanted |= promised | options
        require_probability(delta=wanted["delta"])
        rise = wanted["max_drop"] - sample.drop
        limits = {
            "tolerance": TOLERANCE,
            "max_drop": wanted["max_drop"],
            "max_disagreement": min(sample.disagreement + rise, sample.bound),
        }
        if wanted["spent"]:
            lowest = sample.limits(wanted["delta"] * wanted["spent"] / PARTS)
            limits = {what: max(limit, lowest[what]) for what, limit in limits.items()}
        settings = {"task": task_of(manifest)} | wanted | limits | options
        return cls(sample.local_fraction, manifest["score_threshold"], **settings)

    def decide(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which samples to offload and which are drawn for audit, both bool of shape (n,).

        Args:
            scores: float of shape (n,), in the order of the stream.
        """
        with self._lock:
            self.shift.learn(scores)
            return self.controller.decide(scores), self.audit.draw(len(scores))

    def learn(self, offloaded: Any, differ: Any, lost: Any = None) -> None:
        """Count the samples drawn that the cloud has answered; see `Audit.learn`."""
        with self._lock:
            self.audit.learn(offloaded, differ, lost)

    def status(self) -> dict:
        """Return `alarms`, in plain words, `delta`, `share`, `shift` and `audit`: plain JSON."""
        with self._lock:
            alarms = [alarm for alarm in (self.shift.alarm, *self.audit.alarms) if alarm]
            return {
                "alarms": [f"{alarm} {PROMISE.format(delta=self.delta)}" for alarm in alarms],
                "delta": self.delta,
                "share": self.controller.status(),
                "shift": self.shift.status(),
                "audit": self.audit.status(),
            }


PROMISE = (
    "The probability that this guard ever alarms although nothing has changed is at most "
    "{delta:.1%}."
)
