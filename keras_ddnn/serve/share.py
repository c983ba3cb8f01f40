"""The share of samples that stay local, held while scores drift."""

from bisect import bisect_left, insort
from collections import deque

import numpy as np

from keras_ddnn.checks import require_count, require_fraction


class ShareController:
    """Decides sample by sample, and moves the threshold so that the local fraction stays put.

    Adaptive conformal inference (Gibbs and Candès, "Adaptive Conformal Inference Under Distribution
    Shift", 2021), which is the integral part of conformal PID control (Angelopoulos, Candès and
    Tibshirani, 2023). What is adapted is no score but a rank among the last `memory` scores, so that
    one `gain` suits every rule: after each sample it rises by gain·L0, and falls by gain if the
    sample was kept. The threshold is the score of this rank. At rank 0 and below everything is
    offloaded, at 1 and above everything is kept, so that the rank cannot leave
    [-gain·(1-L0), 1 + gain·L0], and whatever the scores are, for every T samples in a row

        |local fraction - L0| ≤ (1 + gain) / (gain·T).

    Scores that are all alike are parted too: the rank moves to where their threshold is passed, and
    back, in the right proportion. A shift is made good in about 1/gain samples. The price is a
    threshold that is never quite still: its rank has a standard deviation of √(gain·L0·(1-L0)/2).

    The memory begins full of the calibrated threshold, which therefore stays as it is until the rank
    has moved or scores have replaced it. The state depends on the scores alone, not on batches.

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
