"""What runs in the end: a DDNN, a rule and a threshold."""

from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.bank import EdgeOutputs
from keras_ddnn.capture import as_sent, filled_up, in_batches, joined, views
from keras_ddnn.checks import expect, require_images
from keras_ddnn.classes import Classes
from keras_ddnn.config import DDNNConfig
from keras_ddnn.models import fold_normalisation, split_ddnn
from keras_ddnn.rules import OffloadRule

# The sizes to which a batch is filled up: the kernels prepare themselves anew for each they meet.
BUCKETS = (1, 2, 4, *range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 64))
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
        classes: The user's labels, in which it answers; the numbers 0..k-1 by default.

    Raises:
        ValueError: If there is not one name a label.
    """

    model: keras.Model
    config: DDNNConfig
    rule: OffloadRule
    score_threshold: float
    class_names: tuple[str, ...]
    classes: Classes = field(default=None, kw_only=True)

    def __post_init__(self):
        if self.classes is None:
            object.__setattr__(self, "classes", Classes.numbered(len(self.class_names)))
        count = len(self.classes)
        expect(count == len(self.class_names), "class_names", f"{count} names", self.class_names)

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

        Only the local network and the rule are run. n is at least 1, or ValueError is raised.
        """
        return self._decide(_edge(self._ask_device(images), images))

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classify uint8 images (n, h, w, c); the cloud network sees the offloaded ones alone.

        Returns:
            The user's labels, integers or strings of shape (n,), and whether each came from the
            cloud, bool (n,).

        Raises:
            ValueError: If the images are of another shape or type than the model's, or none.
        """
        batches = list(self._ask_device(images))
        edge = _edge(batches, images)
        offloaded = self._decide(edge)
        classes = edge.local_logits.argmax(axis=1)
        for rows, (_, features) in batches:
            (sent,) = np.nonzero(offloaded[rows])
            if len(sent):
                classes[rows][sent] = self._ask_cloud(features, sent).argmax(axis=1)
        return self.classes.decode(classes), offloaded

    def _decide(self, edge):
        # A score that is NaN says nothing for the local answer.
        return ~(self.rule.score(edge) < self.score_threshold)

    def _ask_device(self, images):
        """Yield the rows of each batch, and its logits and features as tensors, filled up."""
        require_images(images, self.local_model.input_shape[1:])

        def step(batch):
            many = len(batch) >= MANY
            return (self._local_step_in_parts if many else self._local_step)(batch)

        return in_batches(step, images, BUCKETS)

    def _ask_cloud(self, features, rows):
        chosen = filled_up(rows, BUCKETS)
        if len(chosen) == len(features):
            return self._cloud_step(features).numpy()[rows]
        return self._cloud_step(tf.gather(features, chosen)).numpy()[: len(rows)]

    # They are made once, for batches of any size: tracing takes longer than many a batch.

    @cached_property
    def _local_step(self):
        return _traced(self._run_device, self.local_model.input_shape, tf.uint8)

    @cached_property
    def _local_step_in_parts(self):
        return _traced(_in_parts(self._run_device), self.local_model.input_shape, tf.uint8)

    @cached_property
    def _run_device(self):
        call = _frozen(self.local_model)
        return lambda images: as_sent(call(images))

    @cached_property
    def _cloud_step(self):
        return _traced(_frozen(self.cloud_model), self.cloud_model.input_shape, tf.float16)


def _edge(batches, images):
    if len(images) > BUCKETS[-1]:
        return EdgeOutputs(*joined(batches, len(images)), images)
    # To copy the features of a single batch takes as long as a tenth of the cloud's half.
    ((rows, outputs),) = batches
    return EdgeOutputs(*views(rows, outputs), images)


def _frozen(model):
    """Return a model's call in inference for a trace, with its present weights as constants.

    Kernels bring a constant into the order they want once, a variable at every call.
    """
    variables = model.trainable_variables, model.non_trainable_variables
    weights = tf.nest.map_structure(np.asarray, variables)

    def call(inputs):
        constants = tf.nest.map_structure(tf.constant, weights)
        return model.stateless_call(*constants, inputs, training=False)[0]

    return call


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
