"""The loss of one output: that of its task, or with smoothed labels."""

from typing import Any

import keras
from keras import ops

from keras_ddnn.tasks.classification import CLASSIFICATION
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


def loss_of(task: Task, label_smoothing: float) -> keras.losses.Loss:
    """Return the loss that an output is trained with.

    Raises:
        ValueError: If labels are to be smoothed that are no classes.
    """
    if not label_smoothing:
        return keras.losses.deserialize(dict(task.keras_loss))
    if task is not CLASSIFICATION:
        raise ValueError(
            f"label_smoothing spreads labels over classes; received {label_smoothing} for a task "
            "without classes: leave it 0"
        )
    return SmoothedCrossentropy(label_smoothing)
