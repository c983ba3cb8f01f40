"""What is known at a tier of a cascade before it decides: all that a rule may see."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from types import ModuleType
from typing import Any

import numpy as np

from keras_ddnn.data.rows.view import Array, taken
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task

ARRAYS = ("features", "inputs", "mirrored")  # that may be there beside the outputs
LOGITS, FEATURES, MIRRORED = "_logits", "_features", "_mirrored"  # behind a name, in a file
# Former name -> name, both attributes.
_RENAMED = {
    "local_logits": "outputs",
    "images": "inputs",
    "local_probabilities": "distribution.probabilities",
    "local_entropy": "distribution.entropy",
    "local_order": "distribution.order",
    "local_ranked": "distribution.ranked",
    "local_rest": "distribution.rest",
    "local_closeness": "distribution.closeness",
    "local_margin": "distribution.margin",
}


@dataclass(frozen=True, eq=False)
class TierOutputs:
    """All that a tier knows of n samples before it sends them on.

    Rules and heads read it in NumPy, in float64, and in a TensorFlow graph, in float32, by the same
    lines.

    Attributes:
        outputs: What the tier answers, float32: for classes logits (n, num_classes), for numbers
            their quantiles (n, q).
        features: What it would send, the feature map or what a bottleneck leaves of it, float16 of
            shape (n, h, w, f); None where nobody can make it, or the tier sends nothing. Those of a
            captured bank are made when rows of them are asked for; see `whole`.
        inputs: What the first tier reads, images of uint8 (n, height, width, channels) or others;
            None likewise. They may lie in a file; see `Array`.
        mirrored: What the first tier answers to the mirrored images, where its cascade takes a
            second look: float32, of the shape of `outputs`, made when it is asked for. Else None.
        xp: The functions of the arrays: NumPy, or `tensorflow.experimental.numpy` in a graph.
        precision: Type in which probabilities are computed.
        earlier: Outputs of the tiers that the samples have passed before, in order; see `Bank.at`.
        task: What the outputs are. A `Bank` gives its tiers its own.
    """

    outputs: np.ndarray
    features: Array | None = None
    inputs: Array | None = None
    mirrored: Array | None = None
    xp: ModuleType = np
    precision: str = "float64"
    earlier: tuple[np.ndarray, ...] = ()
    task: Task = CLASSIFICATION

    def __len__(self) -> int:
        return len(self.outputs)

    def __getattr__(self, name: str) -> Any:
        if name not in _RENAMED:
            raise AttributeError(f"TierOutputs has no attribute {name!r}")
        warnings.warn(
            f"TierOutputs.{name} is now TierOutputs.{_RENAMED[name]}; the old name will go",
            DeprecationWarning,
            stacklevel=2,
        )
        return attrgetter(_RENAMED[name])(self)

    def require(self, name: str, reader: str) -> Any:
        """Return what a reader needs beside the outputs; here alone is refused what is not there.

        Args:
            name: One of `ARRAYS`; or what a task may give, see `Task.gives`.
            reader: Who reads them, for the message.

        Returns:
            The array, or the distribution that has what the task gives.

        Raises:
            ValueError: If they are not there.
        """
        if name in self.task.gives:
            return self.distribution
        if name not in ARRAYS:
            given = ", ".join(sorted(self.task.gives))
            raise ValueError(
                f"{reader} needs {name}; received outputs of the task {self.task.name!r}, which "
                f"give {given}: take one that needs no {name}, of heads HeadConfig.of_task(task)"
            )
        array = getattr(self, name)
        if array is None:
            raise ValueError(
                f"{reader} expects {name} beside the logits; received logits alone; give "
                f"Bank.from_outputs(..., {name}=...), or take one that reads logits"
            )
        return array

    def kept(self) -> dict[str, np.ndarray]:
        """Return the arrays that the file of a bank keeps, by the ending of their names."""
        features = self.features if isinstance(self.features, np.ndarray) else None
        mirrored = None if self.mirrored is None else np.asarray(self.mirrored)
        arrays = {LOGITS: self.outputs, FEATURES: features, MIRRORED: mirrored}
        return {name: array for name, array in arrays.items() if array is not None}

    @property
    def gives(self) -> frozenset[str]:
        """What a rule may need, beside features and inputs, and finds here; see `require`."""
        return self.task.gives | {name for name in ARRAYS[2:] if getattr(self, name) is not None}

    @cached_property
    def distribution(self) -> Any:
        """What the outputs say of how sure they are, as the task reads them; see `require`."""
        return self.task.distribution(self.outputs, self.xp, self.precision)

    def rows(self, rows: np.ndarray | slice) -> "TierOutputs":
        """Return some of the samples, int (m,) or a slice, in that order."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays = {
            name: array if array is None else taken(array, rows) for name, array in arrays.items()
        }
        earlier = tuple(outputs[rows] for outputs in self.earlier)
        return replace(self, outputs=self.outputs[rows], earlier=earlier, **arrays)
