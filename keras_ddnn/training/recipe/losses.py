"""The loss of one output: that of its task, or with smoothed labels."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ddnn.tasks.task import Task


@keras.saving.register_keras_serializable(package="keras_ddnn")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class numbers (n,) and logits (n, k), with a share of each target spread.

    Source: Szegedy et al., "Rethinking the Inception Architecture", 2016. Keras has it for one-hot
    labels alone.

    Args:
        label_smoothing: The share that is spread evenly over all classes, the true one included.
        **options: Of `keras.losses.Loss`.
    """

    def __init__(self, label_smoothing: float, **options: Any):
        super().__init__(**options)
        self.label_smoothing = label_smoothing

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return super().get_config() | {"label_smoothing": self.label_smoothing}

    def call(self, labels: Any, logits: Any) -> Any:
        """Return the loss of each sample, in nats, of shape (n,)."""
        labels = ops.reshape(labels, (-1,))
        true = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        even = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        return (1.0 - self.label_smoothing) * true + self.label_smoothing * even


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Pinball(keras.losses.Loss):
    """Sum of the pinball losses of predicted quantiles (n, q) of numbers (n,).

    Source: Koenker and Bassett, "Regression Quantiles", 1978.

    Args:
        levels: Level of each column, in (0, 1).
        **options: Of `keras.losses.Loss`.
    """

    def __init__(self, levels: Sequence[float], **options: Any):
        super().__init__(**options)
        self.levels = [*levels]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return super().get_config() | {"levels": self.levels}

    def call(self, targets: Any, quantiles: Any) -> Any:
        """Return the loss of each sample, in units of the target, of shape (n,)."""
        missing = ops.reshape(targets, (-1, 1)) - quantiles
        levels = ops.convert_to_tensor(self.levels, quantiles.dtype)
        return ops.sum(ops.maximum(levels * missing, (levels - 1.0) * missing), axis=-1)


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Provisioning(keras.losses.Loss):
    """The provisioning cost of numbers (n, 1), whose penalty rises with what is missing.

    Where d = target - number is above 0 it is penalty·min(d / ramp, 1) + under·d, else -over·d: the
    cost of `Regression`, but for the first `ramp` units missing. There the gradient tells of the
    penalty; that of the step itself is 0.

    Args:
        over, under: Cost of a unit too much, and of a unit missing.
        penalty: Cost of a sample that misses `ramp` units or more.
        ramp: In units of the target, above 0.
        **options: Of `keras.losses.Loss`.
    """

    def __init__(self, over: float, under: float, penalty: float, ramp: float, **options: Any):
        super().__init__(**options)
        self.over, self.under, self.penalty, self.ramp = over, under, penalty, ramp

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        names = ("over", "under", "penalty", "ramp")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def call(self, targets: Any, numbers: Any) -> Any:
        """Return the loss of each sample, in units of cost, of shape (n,)."""
        missing = ops.reshape(targets, (-1,)) - ops.reshape(numbers, (-1,))
        risen = self.penalty * ops.minimum(missing / self.ramp, 1.0)
        return ops.where(missing > 0, risen + self.under * missing, -self.over * missing)


def loss_of(task: Task, label_smoothing: float, *, soft: bool = False) -> keras.losses.Loss:
    """Return the loss that an output is trained with.

    Args:
        task: What the outputs are.
        label_smoothing: Share of each target that is spread over the classes.
        soft: Whether targets are probabilities (n, num_classes) in place of class numbers.

    Raises:
        ValueError: If labels are to be smoothed that are no classes.
    """
    if soft:
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=label_smoothing
        )
    if not label_smoothing:
        return keras.losses.deserialize(dict(task.keras_loss))
    if "probabilities" not in task.gives:
        raise ValueError(
            f"label_smoothing spreads labels over classes; received {label_smoothing} for a task "
            "without classes: leave it 0"
        )
    return SmoothedCrossentropy(label_smoothing)
