"""Classes: what logits answer, how sure they are, and what they cost given the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from keras_ddnn.tasks.arrays import as_labels, as_logits, refuse_probabilities, require_rows
from keras_ddnn.tasks.task import ACCURACY, Cost

TINY = float(np.finfo(np.float32).tiny)  # keeps the logarithm of a probability of 0 finite


def softmax(logits: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    """Return probabilities of logits (n, num_classes), of the same type.

    Args:
        logits: Finite floats.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
    """
    powers = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return powers / xp.sum(powers, axis=1, keepdims=True)


def normalised_entropy(probabilities: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    """Return the entropy of (n, num_classes) over log num_classes, of shape (n,), in [0, 1].

    Args:
        probabilities: Rows that sum to 1.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
    """
    # A probability of 0 counts as 0, which is the limit of p log p.
    logs = xp.log(xp.maximum(probabilities, xp.full_like(probabilities, TINY)))
    nats = -xp.sum(probabilities * logs, axis=1)
    shares = nats / float(np.log(probabilities.shape[1]))
    # The sum of p log p may exceed log num_classes in its last digit.
    return xp.minimum(shares, xp.ones_like(shares))


@dataclass(frozen=True, eq=False)
class ClassDistribution:
    """The probabilities of classes that logits stand for, and how sure they are.

    Rules and heads read it in NumPy and in a TensorFlow graph by the same lines.

    Attributes:
        logits: Of shape (n, num_classes).
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
        precision: Type in which probabilities are computed.
    """

    logits: np.ndarray
    xp: ModuleType = np
    precision: str = "float64"

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, of shape (n, num_classes)."""
        return softmax(self.xp.asarray(self.logits, self.precision), self.xp)

    @cached_property
    def entropy(self) -> np.ndarray:
        """Entropy of the probabilities over log num_classes, of shape (n,), in [0, 1]."""
        return normalised_entropy(self.probabilities, self.xp)

    @cached_property
    def order(self) -> np.ndarray:
        """The classes by falling probability, lower numbers first in a tie, int (n, C)."""
        return self.xp.argsort(-self.probabilities, axis=1, kind="stable")

    @cached_property
    def ranked(self) -> np.ndarray:
        """The probabilities, falling, of shape (n, num_classes)."""
        return -self.xp.sort(-self.probabilities, axis=1)

    @cached_property
    def rest(self) -> np.ndarray:
        """1 - the highest probability, of shape (n,), in [0, 1].

        It is the sum of the others: where the highest is near 1, 1 - p has few digits.
        """
        return self.xp.sum(self.ranked[:, 1:], axis=1)

    @cached_property
    def closeness(self) -> np.ndarray:
        """1 - the gap between the two highest probabilities, of shape (n,), in [0, 1]."""
        return self.rest + self.ranked[:, 1]

    @property
    def margin(self) -> np.ndarray:
        """Gap between the two highest probabilities, of shape (n,), in [0, 1]."""
        return 1.0 - self.closeness


def true_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 - p[y], the cost of the paper."""
    return 1.0 - _of_true_class(probabilities, labels)


def zero_one(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where the most probable class is wrong, else 0."""
    return (probabilities.argmax(axis=1) != labels).astype(np.float64)


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p[y], in nats."""
    return -np.log(np.maximum(_of_true_class(probabilities, labels), np.finfo(np.float64).tiny))


def margin(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """max p[j ≠ y] - p[y], in [-1, 1]: negative where the answer is right, however surely."""
    others = probabilities.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return others.max(axis=1) - _of_true_class(probabilities, labels)


def entropy_adjusted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 - p[y]·(1 - H(p) / log C), in [0, 1]: an unsure right answer costs more than a sure one.

    Our reading of the refined cost that the paper proposes as future work; C classes.
    """
    certainty = 1.0 - normalised_entropy(probabilities)
    return 1.0 - _of_true_class(probabilities, labels) * certainty


def _of_true_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]


# (probabilities (n, num_classes), labels (n,)) -> cost (n,)
COSTS: dict[str, Cost] = {
    "true_class": true_class,
    "zero_one": zero_one,
    "cross_entropy": cross_entropy,
    "margin": margin,
    "entropy_adjusted": entropy_adjusted,
}


def _of_logits(cost: Cost) -> Cost:
    return lambda outputs, targets: cost(softmax(outputs.astype(np.float64)), targets)


OF_LOGITS: Mapping[str, Cost] = MappingProxyType(
    # Of the logits themselves: rounded probabilities can tie.
    {name: _of_logits(cost) for name, cost in COSTS.items()} | {"zero_one": zero_one}
)


class Classification:
    """Outputs are logits (n, num_classes), targets are class numbers (n,); see `Task`."""

    name = "classification"
    output_name = "logits"
    reported = "zero_one"
    benefit_cost = "true_class"
    measure = ACCURACY
    gives = frozenset({"probabilities"})
    target_reader = None
    keras_loss: Mapping[str, Any] = MappingProxyType(
        {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}}
    )
    keras_metrics = ("accuracy",)

    @property
    def costs(self) -> Mapping[str, Cost]:
        """Those of `COSTS`, of logits."""
        return OF_LOGITS

    @property
    def bound(self) -> float:
        """The cost of a wrong class."""
        return 1.0

    @property
    def refusal(self) -> int | None:
        """None: each sample gets a class."""
        return None

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Return the class of the highest logit, int (n,); the lower number in a tie."""
        return outputs.argmax(axis=1)

    def bounded_cost(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the reported cost, which never exceeds its bound, float64 (n,)."""
        return self.costs[self.reported](outputs, targets)

    def differ(self, stay: np.ndarray, go: np.ndarray) -> np.ndarray:
        """Return 1 where the two answers are other classes and else 0, float64 (n,)."""
        return (self.answers(stay) != self.answers(go)).astype(np.float64)

    def distribution(
        self, outputs: np.ndarray, xp: ModuleType, precision: str
    ) -> ClassDistribution:
        """Return the probabilities of logits (n, num_classes)."""
        return ClassDistribution(outputs, xp, precision)

    def checked(
        self, outputs: Mapping[str, Any], targets: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return logits, float32 (n, num_classes) a tier, and class numbers, int64 (n,).

        Raises:
            ValueError: If an array is no array of logits or of labels, or two do not fit.
        """
        logits = {tier: as_logits(array, f"{tier} logits") for tier, array in outputs.items()}
        for tier, array in logits.items():
            refuse_probabilities(array, f"{tier} logits")
        first, *others = logits
        n, num_classes = logits[first].shape
        for tier in others:
            if logits[tier].shape[1] != num_classes:
                raise ValueError(
                    f"{tier} logits: expected {num_classes} classes as of {first}; received "
                    f"{logits[tier].shape[1]}; give all the same classes in the same order"
                )
        labels = as_labels(targets, num_classes)
        for tier in others:
            require_rows(f"{tier} logits", len(logits[tier]), n)
        require_rows("labels", len(labels), n)
        return logits, labels

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the classes themselves."""
        return targets

    def get_config(self) -> dict[str, Any]:
        """Return nothing: it has no arguments."""
        return {}


CLASSIFICATION = Classification()
