"""What a task has to say of the outputs of a network; evaluation asks nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import numpy as np

# (outputs (n, ...), targets (n, ...)) → cost, float64 of shape (n,)
Cost: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Measure:
    """How a mean cost is told: under which names, and whether higher or lower is better.

    Attributes:
        name: Of the mean over samples, a column of tables: "accuracy" or "cost".
        area: Of the mean of that over local fractions 0 to 1: "audc" or "mean_cost".
        loss: Of what is lost on average against sending everything: "accuracy_drop" or
            "cost_increase".
        least: Of what an oracle would reach, that takes the better answer of each sample:
            "either_correct" or "least_cost".
        title: What an axis is labelled with, its unit and its better end included.
        higher_is_better: Whether 1 - cost is told, and not the cost.
    """

    name: str
    area: str
    loss: str
    least: str
    title: str
    higher_is_better: bool

    @property
    def better(self) -> str:
        """ "higher" or "lower"."""
        return "higher" if self.higher_is_better else "lower"

    def of(self, total_cost: np.ndarray, n: int) -> np.ndarray:
        """Return what is told of the sum of the costs of n samples."""
        return (n - total_cost if self.higher_is_better else total_cost) / n

    def of_audc(self, audc: float) -> float:
        """Return what is told of an AUDC, which is 1 - the mean cost over local fractions."""
        return audc if self.higher_is_better else 1.0 - audc


ACCURACY = Measure(
    "accuracy", "audc", "accuracy_drop", "either_correct", "accuracy (higher is better)", True
)
COST = Measure(
    "cost", "mean_cost", "cost_increase", "least_cost", "mean cost (lower is better)", False
)


class Task(Protocol):
    """What an output is: how it is trained, what it costs given the truth, what its answer is."""

    @property
    def name(self) -> str:
        """Its key of `tasks.known.TASKS`."""

    @property
    def output_name(self) -> str:
        """What its outputs are called in messages."""

    @property
    def costs(self) -> Mapping[str, Cost]:
        """The costs by their names. Lower is better."""

    @property
    def reported(self) -> str:
        """Key of the cost that reports use."""

    @property
    def benefit_cost(self) -> str:
        """Key of the cost whose difference is B_k, unless another is named."""

    @property
    def measure(self) -> Measure:
        """How the mean of the reported cost is told."""

    @property
    def bound(self) -> float | None:
        """The most that the reported cost of a sample can be, the least being 0.

        None if there is no bound. A certificate needs one.
        """

    @property
    def gives(self) -> frozenset[str]:
        """What its outputs say of how sure they are, which a rule may need.

        "probabilities" of classes, "quantiles" of a number, "numbers" themselves. Each is an
        attribute of `distribution`, of n rows, but quantiles, which are the outputs.
        """

    @property
    def refusal(self) -> int | None:
        """The answer, a number (n,), that stands for none; None where each sample gets one."""

    @property
    def target_reader(self) -> Any:
        """What makes targets of what a user has, as `Classes` does of labels.

        None where classes are made of the labels themselves.
        """

    @property
    def keras_loss(self) -> Mapping[str, Any]:
        """The training loss as `keras.losses.deserialize` reads it."""

    @property
    def keras_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that are logged in training."""

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Return what the outputs (n, ...) answer, of shape (n,)."""

    def bounded_cost(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the reported cost, of which what exceeds the bound counts as the bound, (n,).

        For data in use, which may be worse than any that the bound was chosen for.
        """

    def differ(self, stay: np.ndarray, go: np.ndarray) -> np.ndarray | None:
        """Return a bound of |difference of the reported costs| of two outputs, float64 (n,).

        It needs no truth: a device can compute it in use. None if there is no such bound.
        """

    def distribution(self, outputs: np.ndarray, xp: ModuleType, precision: str) -> Any:
        """Return what outputs say of how sure they are, for rules and heads; see `gives`.

        Args:
            outputs: Of shape (n, ...).
            xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
            precision: Type in which it is computed.
        """

    def checked(
        self, outputs: Mapping[str, Any], targets: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return outputs by tier, the local ones first, and targets, as arrays of this task.

        Raises:
            ValueError: In one line, if they are none, or do not fit each other.
        """

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the group of each target (n,), int (n,), which folds share out evenly."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain JSON."""
