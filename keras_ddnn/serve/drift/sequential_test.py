"""A test of a mean that may be looked at after every outcome, for ever."""

from collections import deque
from math import log

import numpy as np

BETS = 0.5 ** np.arange(1, 9)  # shares of the largest bet that cannot ruin
LARGEST = 1e12  # evidence beyond it says nothing new, and must not overflow


class ExcessTest:
    """Tests after every outcome whether their mean has risen above a limit, now or at any time.

    Betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    2024): a stake is multiplied by 1 + bet·(outcome - limit) at every outcome. As long as each
    outcome's expectation, given those before it, is at most the limit, nobody can expect to win; by
    Ville's inequality the wealth ever reaches 1/δ with a probability of at most δ.

    A player who has bet through a long good time is poor when the change comes, and old evidence
    hides it. So a unit of capital is spread over players who enter one at each outcome, the t-th
    with ln 2/ln(t+1) - ln 2/ln(t+2), and over eight bets. Their total obeys Ville's inequality as
    one player's does, and one recursion keeps it. Sums of e-processes that start one after another
    are the e-detectors of Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for
    sequential change detection" (2024); theirs, unweighted, promise only a mean time to a false
    alarm, and in the end there is one. The weights buy a probability for a run of any length, at
    the price of a delay that grows with its logarithm: with δ = 0.1 it is that of a mean time of
    0.7 million outcomes at the 1,000th, of 200 million at the 100,000th.

    Attributes:
        limit: Limit of the mean.
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
        return float(self._wealth.sum()) / len(BETS) + _reserve(self.count)

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
