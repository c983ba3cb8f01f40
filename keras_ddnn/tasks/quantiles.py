"""The quantiles of a number that outputs stand for, and how far they lie apart."""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from types import ModuleType

import numpy as np

POINTS = 60  # equally probable numbers that stand for a distribution


@dataclass(frozen=True, eq=False)
class QuantileDistribution:
    """The quantiles of a number that outputs stand for, and how far they lie apart.

    Rules and heads read it in NumPy and in a TensorFlow graph by the same lines.

    Attributes:
        outputs: Predicted quantiles, of shape (n, q); q = 1 for a number alone.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
        precision: Type in which widths are computed.
        place: Column of the number that answers.
        levels: Of the quantiles, rising, in (0, 1); empty for a number alone.
    """

    outputs: np.ndarray
    xp: ModuleType = np
    precision: str = "float64"
    place: int = 0
    levels: tuple[float, ...] = ()

    @property
    def numbers(self) -> np.ndarray:
        """The numbers that answer, of shape (n, 1)."""
        return self.xp.asarray(self.outputs[:, self.place : self.place + 1], self.precision)

    @cached_property
    def points(self) -> np.ndarray:
        """Equally probable numbers, float64 (n, `POINTS`), that have these quantiles; two or more.

        Between quantiles the number is linear in the normal deviate of its level, and beyond them,
        too: quantiles of a normal distribution give that distribution, others one whose two sides
        have scales of their own. It is in NumPy alone.
        """
        deviates = np.array([NormalDist().inv_cdf(level) for level in self.levels])
        middles = (np.arange(POINTS) + 0.5) / POINTS
        wanted = np.array([NormalDist().inv_cdf(level) for level in middles])
        quantiles = np.sort(np.asarray(self.outputs, np.float64), axis=1)
        above = np.clip(np.searchsorted(deviates, wanted), 1, len(deviates) - 1)
        share = (wanted - deviates[above - 1]) / (deviates[above] - deviates[above - 1])
        return quantiles[:, above - 1] * (1.0 - share) + quantiles[:, above] * share

    @cached_property
    def width(self) -> np.ndarray:
        """Distance of the outermost quantiles, of shape (n,), at least 0, in units of the answer.

        Quantiles that cross count by size: sorted, they are no worse (Chernozhukov et al.,
        "Quantile and Probability Curves Without Crossing", 2010).
        """
        quantiles = self.xp.asarray(self.outputs, self.precision)
        return self.xp.max(quantiles, axis=1) - self.xp.min(quantiles, axis=1)
