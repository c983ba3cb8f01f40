"""What a task has to say of the outputs of a network; evaluation asks nothing else."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np


class Task(Protocol):
    """What an output is: how it is trained, what it costs given the truth, what its answer is.

    Attributes:
        costs: Name → (outputs (n, ...), targets (n, ...)) → cost, float64 of shape (n,). Lower is
            better.
        reported: Key of the cost that reports use.
        keras_loss: The training loss as `keras.losses.deserialize` reads it.
        keras_metrics: Names of the metrics that are logged in training.
    """

    costs: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]
    reported: str
    keras_loss: Mapping[str, Any]
    keras_metrics: tuple[str, ...]

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Return what the outputs (n, ...) answer, of shape (n,)."""

    def differ(self, stay: np.ndarray, go: np.ndarray) -> np.ndarray:
        """Return a bound of |difference of the reported costs| of two outputs, float64 (n,).

        It needs no truth: a device can compute it in use.
        """
