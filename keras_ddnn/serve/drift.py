"""The drift guard of a device: holds the local fraction, audits what that costs, notices shifts."""

from collections.abc import Mapping
from threading import Lock

import numpy as np

from keras_ddnn.serve.audit import Audit
from keras_ddnn.serve.share import ShareController, ShareTest

SLACK = 0.01  # accuracy that may be lost on top of validation's drop where nothing was certified


class DriftGuard:
    """A `ShareController`, a `ShareTest` and an `Audit` of one stream; threads may share it.

    For every batch, `decide`; send what is offloaded or drawn; give what the cloud has answered of
    those drawn to `learn`. A sample that is kept and drawn costs a transmission, no more: its local
    answer stands, and need not wait. The local fraction is held whether or not that is still worth
    it; whether it is, the audit tells. After a new calibration, make a new guard.

    Attributes:
        controller: Decides.
        shift: Tests the scores.
        audit: Draws, and tests what the cloud says.

    Args:
        local_fraction: L0, the share of samples to keep local.
        score_threshold: The calibrated one.
        max_drop: Of accuracy against asking the cloud about everything.
        max_disagreement: See `Audit`; 1 never alarms.
        delta: The probability that there is ever a false alarm of the audit, and as much again of
            the scores.
        audit_share: Of samples to draw.
        tolerance: Of the share the calibrated threshold would keep, see `ShareTest`; 1 never
            alarms.
        gain: See `ShareController`; 0 keeps the calibrated threshold.
        seed: Of the lots.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    def __init__(
        self,
        local_fraction: float,
        score_threshold: float,
        *,
        max_drop: float = 0.01,
        max_disagreement: float = 1.0,
        delta: float = 0.1,
        audit_share: float = 0.05,
        tolerance: float = 0.1,
        gain: float = 0.01,
        seed: int = 0,
    ):
        self.controller = ShareController(local_fraction, score_threshold, gain)
        self.shift = ShareTest(local_fraction, score_threshold, tolerance, delta)
        self.audit = Audit(max_drop, max_disagreement, delta, audit_share, seed)
        self._lock = Lock()

    @classmethod
    def of(cls, manifest: Mapping, **options) -> "DriftGuard":
        """Return the guard of an artefact.

        Args:
            manifest: Of `read_manifest`. The local fraction is that of the validation data, by
                the calibration or the plan; `max_drop` and `delta` are those certified or, where
                nothing was, one point more than the validation data's drop, and the default.
                Disagreement may rise by as much as the drop may.
            **options: Of the constructor, in place of these.

        Raises:
            ValueError: If the artefact knows nothing of validation data.
        """
        calibration, plan = manifest.get("calibration"), manifest.get("plan")
        if not (calibration or plan):
            raise ValueError(
                "a drift guard expects an artefact that was saved with validation data; received "
                "one without"
            )
        threshold = manifest["score_threshold"]
        numbers = calibration["numbers"] if calibration else {"options": {}}
        asked, validation = numbers["options"], numbers.get("validation") or _at(threshold, plan)
        promised = {what: asked[what] for what in ("max_drop", "delta") if what in asked}
        limits = {"max_drop": validation["accuracy_drop"] + SLACK} | promised | options
        rise = limits["max_drop"] - validation["accuracy_drop"]
        limits = {"max_disagreement": min(validation["disagreement"] + rise, 1.0)} | limits
        return cls(validation["local_fraction"], threshold, **limits)

    def decide(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which samples to offload and which are drawn for audit, both bool of shape (n,).

        Args:
            scores: float of shape (n,), in the order of the stream.
        """
        with self._lock:
            self.shift.learn(scores)
            return self.controller.decide(scores), self.audit.draw(len(scores))

    def learn(self, offloaded, local_classes, cloud_classes, labels=None) -> None:
        """Count the samples drawn that the cloud has answered; see `Audit.learn`."""
        with self._lock:
            self.audit.learn(offloaded, local_classes, cloud_classes, labels)

    def status(self) -> dict:
        """Return `alarms`, in plain words, and `share`, `shift` and `audit` as plain JSON types."""
        with self._lock:
            return {
                "alarms": [alarm for alarm in (self.shift.alarm, *self.audit.alarms) if alarm],
                "share": self.controller.status(),
                "shift": self.shift.status(),
                "audit": self.audit.status(),
            }


def _at(threshold, plan) -> dict:
    """Return what a plan has at a threshold; between two points of it, on a straight line."""
    points = {what: [point[what] for point in plan] for what in plan[0]}
    thresholds = points.pop("score_threshold")
    found = {what: float(np.interp(threshold, thresholds, y)) for what, y in points.items()}
    # The first point offloads everything.
    return found | {"accuracy_drop": plan[0]["accuracy"] - found["accuracy"]}
