"""What runs in the end: a DDNN, a rule and a threshold."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.bank import EdgeOutputs
from keras_ddnn.capture import as_sent, filled_up
from keras_ddnn.config import DDNNConfig
from keras_ddnn.models import fold_normalisation, split_ddnn
from keras_ddnn.rules import OffloadRule

# The sizes to which a batch is filled up: the kernels prepare themselves anew for each they meet.
BUCKETS = (1, 2, 4, *range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 64))
LARGEST = BUCKETS[-1]
# The device's maps of so many images fit the cache of a core, where pooling finds them.
PART = 32
MANY = 4 * PART  # images, from which on it is worth the loop


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
        return self._decide(self._ask_device(images)[0])

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classify uint8 images (n, h, w, c); the cloud network sees the offloaded ones alone.

        Returns:
            Class numbers, int64 of shape (n,), and whether each came from the cloud, bool (n,).
        """
        edge, features = self._ask_device(images)
        offloaded = self._decide(edge)
        classes = edge.local_logits.argmax(axis=1)
        for batch, sent in zip(_batches(len(images)), features):
            (rows,) = np.nonzero(offloaded[batch])
            if not len(rows):
                continue
            if len(rows) < len(offloaded[batch]):
                sent = tf.gather(sent, filled_up(rows, BUCKETS))
            logits = self._cloud_step(sent).numpy()
            classes[batch][rows] = logits[: len(rows)].argmax(axis=1)
        return classes, offloaded

    def _decide(self, edge):
        return self.rule.score(edge) >= self.score_threshold

    def _ask_device(self, images):
        """Return what the device knows, and the features of each filled-up batch as a tensor."""
        outputs, views = [], []
        for batch in _batches(len(images)):
            part = images[batch]
            step = self._local_step if len(part) < MANY else self._local_step_in_parts
            outputs.append(step(tf.constant(filled_up(part, BUCKETS))))
            # Views: to copy the maps of a batch takes as long as a tenth of the cloud's half.
            views.append([np.asarray(memoryview(each))[: len(part)] for each in outputs[-1]])
        logits, features = (
            parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*views)
        )
        return EdgeOutputs(logits, features, images), [features for _, features in outputs]

    # They are made once, for batches of any size: tracing takes longer than many a batch.

    @cached_property
    def _local_step(self):
        return _traced(self._run_device, self.local_model.input_shape, tf.uint8)

    @cached_property
    def _local_step_in_parts(self):
        return _traced(_in_parts(self._run_device), self.local_model.input_shape, tf.uint8)

    def _run_device(self, images):
        return as_sent(self.local_model(images, training=False))

    @cached_property
    def _cloud_step(self):
        def step(features):
            return self.cloud_model(features, training=False)

        return _traced(step, self.cloud_model.input_shape, tf.float16)


def _batches(n: int) -> list[slice]:
    return [slice(start, start + LARGEST) for start in range(0, n, LARGEST)]


def _traced(step, shape, dtype):
    return tf.function(step, input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)


def _in_parts(step):
    """Make a step of images take a batch that is a multiple of `PART` in parts of that size."""

    def in_parts(images):
        n = tf.shape(images)[0]
        size = tf.where(n % PART == 0, PART, n)
        parts = tf.reshape(images, (-1, size, *images.shape[1:]))
        outputs = tf.map_fn(step, parts, fn_output_signature=(tf.float32, tf.float16))
        return [tf.reshape(output, (n, *output.shape[2:])) for output in outputs]

    return in_parts
