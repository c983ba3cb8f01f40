"""What runs in the end: a DDNN, a rule and a threshold."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.bank import EdgeOutputs
from keras_ddnn.capture import as_sent, run_in_batches
from keras_ddnn.config import DDNNConfig
from keras_ddnn.models import fold_normalisation, split_ddnn
from keras_ddnn.rules import OffloadRule

# The sizes to which a batch is filled up: the kernels prepare themselves anew for each they meet.
BUCKETS = (1, 2, 4, *range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 64))


@dataclass(frozen=True, eq=False)
class OffloadPolicy:
    """A DDNN that decides, sample by sample, which of its two networks answers.

    Attributes:
        model: The DDNN; see `build_ddnn`.
        config: What it was built from.
        rule: Scores samples from what the device knows.
        score_threshold: Samples with a score at or above it are offloaded.
        class_names: One name a class.
    """

    model: keras.Model
    config: DDNNConfig
    rule: OffloadRule
    score_threshold: float
    class_names: tuple[str, ...]

    @property
    def local_model(self) -> keras.Model:
        """The device's half, normalisation folded; see `split_ddnn`."""
        return self._halves[0]

    @property
    def cloud_model(self) -> keras.Model:
        """The cloud's half, normalisation folded; see `split_ddnn`."""
        return self._halves[1]

    @cached_property
    def _halves(self):
        return split_ddnn(fold_normalisation(self.model))

    def decide(self, images: np.ndarray) -> np.ndarray:
        """Return whether to offload each of the uint8 images (n, h, w, c), bool of shape (n,).

        Only the local network and the rule are run.
        """
        return self._decide(self._ask_device(images))

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classify uint8 images (n, h, w, c); the cloud network sees the offloaded ones alone.

        Returns:
            Class numbers, int64 of shape (n,), and whether each came from the cloud, bool (n,).
        """
        edge = self._ask_device(images)
        offloaded = self._decide(edge)
        classes = edge.local_logits.argmax(axis=1)
        if offloaded.any():
            (logits,) = run_in_batches(self._cloud_step, edge.features[offloaded], BUCKETS)
            classes[offloaded] = logits.argmax(axis=1)
        return classes, offloaded

    def _decide(self, edge):
        return self.rule.score(edge) >= self.score_threshold

    def _ask_device(self, images):
        logits, features = run_in_batches(self._local_step, images, BUCKETS)
        return EdgeOutputs(logits, features, images)

    # Both are made once, for batches of any size: tracing takes longer than many a batch.

    @cached_property
    def _local_step(self):
        def step(images):
            return as_sent(self.local_model(images, training=False))

        return _traced(step, self.local_model.input_shape, tf.uint8)

    @cached_property
    def _cloud_step(self):
        def step(features):
            return (self.cloud_model(features, training=False),)

        return _traced(step, self.cloud_model.input_shape, tf.float16)


def _traced(step, shape, dtype):
    return tf.function(step, input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)
