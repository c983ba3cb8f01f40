"""The quantiles of a number that outputs stand for, and how far they lie apart."""

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np


@dataclass(frozen=True, eq=False)
class QuantileDistribution:
    """The quantiles of a number that outputs stand for, and how far they lie apart.

    Rules and heads read it in NumPy and in a TensorFlow graph by the same lines.

    Attributes:
        outputs: Predicted quantiles, of shape (n, q); q = 1 for a number alone.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
        precision: Type in which widths are computed.
        place: Column of the number that answers.
    """

    outputs: np.ndarray
    xp: ModuleType = np
    precision: str = "float64"
    place: int = 0

    @property
    def numbers(self) -> np.ndarray:
        """The numbers that answer, of shape (n, 1)."""
        return self.xp.asarray(self.outputs[:, self.place : self.place + 1], self.precision)

    @cached_property
    def width(self) -> np.ndarray:
        """Distance of the outermost quantiles, of shape (n,), at least 0, in units of the answer.

        Quantiles that cross count by size: sorted, they are no worse (Chernozhukov et al.,
        "Quantile and Probability Curves Without Crossing", 2010).
        """
        quantiles = self.xp.asarray(self.outputs, self.precision)
        return self.xp.max(quantiles, axis=1) - self.xp.min(quantiles, axis=1)
