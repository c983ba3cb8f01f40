"""Lessons: what a teacher says of the batches of a training, as targets in place of labels."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_ddnn.training.batches import rows_at


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a teacher answers to the first batches of a training; later batches repeat these.

    Attributes:
        logits: Of shape (batches, samples of a batch, num_classes), float16, each less the highest
            of its sample.
        temperature: By which they are divided.
    """

    logits: np.ndarray
    temperature: float

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self.logits)

    @property
    def classes(self) -> int:
        """How many classes the teacher knows."""
        return self.logits.shape[-1]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All that a training takes from them."""
        return self.logits, np.array([self.temperature])

    def targets(self, batch: tf.Tensor) -> tf.Tensor:
        """Return the probabilities of a batch by its number, float32 (n, num_classes)."""
        (logits,) = rows_at((self.logits,), batch[None])
        return tf.nn.softmax(tf.cast(logits[0], tf.float32) / self.temperature)
