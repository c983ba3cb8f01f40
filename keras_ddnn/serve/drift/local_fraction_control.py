"""The share of samples that stay local: held while scores drift, and the drift noticed."""

from bisect import bisect_left, insort
from collections import deque

import numpy as np

from keras_ddnn.files.checks import require_count, require_fraction, require_probability
from keras_ddnn.serve.drift.sequential_test import ExcessTest


class ShareController:
    """Decides sample by sample, and moves the threshold so that the local fraction stays put.

    Adaptive conformal inference (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution
    Shift", 2021), which is the integral part of conformal PID control (Angelopoulos, Candès and
    Tibshirani, 2023). What is adapted is no score but a rank among the last `memory` scores, so
    that one `gain` suits every rule: after each sample it rises by gain·L0, and falls by gain if
    the sample was kept. The threshold is the score of this rank. At rank 0 and below everything is
    offloaded, at 1 and above everything is kept, so that the rank cannot leave
    [-gain·(1-L0), 1 + gain·L0], and whatever the scores are, for every T samples in a row

        |local fraction - L0| ≤ (1 + gain) / (gain·T).

    Scores that are all alike are parted too: the rank moves to where their threshold is passed, and
    back, in the right proportion. A shift is made good in about 1/gain samples. The price is a
    threshold that is never quite still: its rank has a standard deviation of √(gain·L0·(1-L0)/2).

    The memory begins full of the calibrated threshold, which therefore stays as it is until the
    rank has moved or scores have replaced it. Decisions do not depend on batches.

    Attributes:
        local_fraction: L0.
        gain: See above; 0 keeps the calibrated threshold.
        seen, kept: Finite scores so far, and how many of them stayed local.
        unscored: NaN and infinite scores; such samples are offloaded, and teach nothing.

    Args:
        local_fraction: L0, in [0, 1].
        score_threshold: The calibrated one; ±∞ are allowed.
        gain: In [0, 1].
        memory: Scores remembered.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    def __init__(self, local_fraction, score_threshold, gain=0.01, memory=1000):
        require_fraction("local_fraction", local_fraction)
        require_fraction("gain", gain)
        require_count(memory=memory)
        if np.isnan(score_threshold):
            raise ValueError("score_threshold must be a number; received nan")
        self.local_fraction, self.gain = float(local_fraction), float(gain)
        self.seen = self.kept = self.unscored = 0
        self._scores = deque([float(score_threshold)] * memory)
        self._sorted = list(self._scores)
        self._decisions = deque(maxlen=memory)

    @property
    def rank(self) -> float:
        """The rank of the threshold; from counts, so that rounding does not add up."""
        return self.local_fraction + self.gain * (self.local_fraction * self.seen - self.kept)

    @property
    def score_threshold(self) -> float:
        """The next sample is offloaded if its score is this or higher."""
        if not self.gain:
            return self._sorted[0]
        rank = self.rank
        if rank <= 0.0:
            return -np.inf
        return self._sorted[int(rank * len(self._sorted))] if rank < 1.0 else np.inf

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Return whether to offload each of n samples, bool (n,), from their scores, float (n,)."""
        return np.array([self._decide(score) for score in np.asarray(scores, float).tolist()], bool)

    def _decide(self, score):
        if not np.isfinite(score):
            self.unscored += 1
            return True
        offload = score >= self.score_threshold
        self.seen += 1
        self.kept += not offload
        self._decisions.append(not offload)
        if self.gain:
            del self._sorted[bisect_left(self._sorted, self._scores.popleft())]
            self._scores.append(score)
            insort(self._sorted, score)
        return offload

    def status(self) -> dict:
        """Return counts, shares and the threshold as plain JSON types; None where there is none."""
        threshold = float(self.score_threshold)
        return {
            "target": self.local_fraction,
            "seen": self.seen,
            "local_fraction": self.kept / self.seen if self.seen else None,
            "recent_local_fraction": float(np.mean(self._decisions)) if self.seen else None,
            "score_threshold": threshold if np.isfinite(threshold) else None,
            "unscored": self.unscored,
        }


class ShareTest:
    """Tests whether the calibrated threshold would still keep the share that it used to keep.

    Data of another kind show in the scores at once, without labels or audits, and even where the
    accuracy drop stays small because the cloud is as lost as the device. Two `ExcessTest`s share
    `delta`: of what would be kept, above L0 + tolerance, and of what would be offloaded, above
    1 - L0 + tolerance. Samples that come in long runs of one kind are a shift to them too.

    Args:
        local_fraction: L0, in [0, 1].
        score_threshold: The calibrated one.
        tolerance: In [0, 1]; 1 never alarms.
        delta: The probability that there is ever a false alarm, in (0, 1).

    Raises:
        ValueError: If an argument lies outside its range.
    """

    def __init__(self, local_fraction, score_threshold, tolerance=0.1, delta=0.1):
        require_fraction("local_fraction", local_fraction)
        require_probability(delta=delta)
        # A comparison with NaN is false, so NaN is refused too.
        if not 0.0 < tolerance <= 1.0:
            raise ValueError(f"tolerance must lie in (0, 1]; received {tolerance!r}")
        self.local_fraction, self.score_threshold = float(local_fraction), float(score_threshold)
        self.tolerance = float(tolerance)
        self._more, self._fewer = (
            ExcessTest(min(share + tolerance, 1.0), 0.0, delta / 2)
            for share in (local_fraction, 1.0 - local_fraction)
        )

    def learn(self, scores: np.ndarray) -> None:
        """Count scores, float of shape (n,).

        Those that are not finite count as offloaded, which is what happens to such samples:
        validation data have none, and a device whose scores are lost must not look as ever.
        """
        scores = np.asarray(scores, float)
        for kept in (np.isfinite(scores) & (scores < self.score_threshold)).tolist():
            self._more.learn(kept)
            self._fewer.learn(not kept)

    @property
    def alarm(self) -> str | None:
        """What is wrong, in plain words, or None."""
        if self._more.alarm_at is None and self._fewer.alarm_at is None:
            return None
        return SHIFT_ALARM.format(**self.status())

    def status(self) -> dict:
        """Return it all as plain JSON types; `recent` is the share that would now be kept."""
        more, fewer = self._more.status(), self._fewer.status()
        alarms = [test["alarm_at"] for test in (more, fewer) if test["alarm_at"] is not None]
        return {
            "count": more["count"],
            "expected": self.local_fraction,
            "tolerance": self.tolerance,
            "delta": more["delta"] + fewer["delta"],
            "evidence": max(more["evidence"], fewer["evidence"]),
            "alarm_at": min(alarms, default=None),
            "recent_count": more["recent_count"],
            "recent": more["recent"],
        }


SHIFT_ALARM = (
    "Scores have shifted, as found at sample {alarm_at:,}: the calibrated threshold would keep "
    "{recent:.1%} of the last {recent_count:,}, where {expected:.1%} were expected. What was "
    "certified or measured holds for the former kind of data; label recent samples to know how "
    "right both networks still are."
)
