"""What runs in the end: a DDNN, a rule and a threshold."""

from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config import DDNNConfig
from keras_ddnn.data.bank import EdgeOutputs
from keras_ddnn.data.classes import Classes
from keras_ddnn.files.checks import expect, require_inputs
from keras_ddnn.networks.batched import (
    BUCKETS,
    FEWEST_IN_PARTS,
    as_sent,
    filled_up,
    frozen,
    in_batches,
    in_parts,
    joined,
    traced,
    views,
)
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.rules.confidence import OffloadRule, offloads


@dataclass(frozen=True, eq=False)
class OffloadPolicy:
    """A DDNN that decides, sample by sample, which of its two networks answers.

    Attributes:
        model: The DDNN: a `Cascade` of two tiers, or a model of `build_ddnn`.
        config: What a model of `build_ddnn` was built from; None for others.
        rule: Scores samples from what the device knows.
        score_threshold: Samples with a score at or above it are offloaded.
        class_names: One name a class.
        classes: The user's labels, in which it answers; the numbers 0..k-1 by default.

    Raises:
        ValueError: If there is not one name a label.
    """

    model: keras.Model | Cascade
    config: DDNNConfig | None
    rule: OffloadRule
    score_threshold: float
    class_names: tuple[str, ...]
    classes: Classes = field(default=None, kw_only=True)

    def __post_init__(self):
        if self.classes is None:
            object.__setattr__(self, "classes", Classes.numbered(len(self.class_names)))
        count = len(self.classes)
        expect(count == len(self.class_names), "class_names", f"{count} names", self.class_names)

    @cached_property
    def cascade(self) -> Cascade:
        """The DDNN as a cascade, normalisation folded."""
        return as_cascade(self.model).folded()

    @cached_property
    def _halves(self) -> tuple[keras.Model, keras.Model]:
        return self.cascade.halves()

    @property
    def local_model(self) -> keras.Model:
        """The device's half, normalisation folded; see `split_ddnn`."""
        return self._halves[0]

    @property
    def cloud_model(self) -> keras.Model:
        """The cloud's half, normalisation folded; see `split_ddnn`."""
        return self._halves[1]

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
        return offloads(self.rule.score(edge), self.score_threshold)

    def _ask_device(self, images):
        """Yield the rows of each batch, and its logits and features as tensors, filled up."""
        read = self.cascade.tiers[0].model.input
        require_inputs(images, read.shape[1:], read.dtype)

        def step(batch):
            many = len(batch) >= FEWEST_IN_PARTS
            return (self._local_step_in_parts if many else self._local_step)(batch)

        return in_batches(step, images, BUCKETS)

    def _ask_cloud(self, features, rows):
        chosen = filled_up(rows, BUCKETS)
        if len(chosen) == len(features):
            return self._cloud_step(features).numpy()[rows]
        return self._cloud_step(tf.gather(features, chosen)).numpy()[: len(rows)]

    # Trace once per shape; tracing is slower than most batches.

    @cached_property
    def _local_step(self):
        return traced(self._run_device, self.cascade.tiers[0].model.input)

    @cached_property
    def _local_step_in_parts(self):
        types = tf.float32, self.cascade.sent_dtype
        return traced(in_parts(self._run_device, types), self.cascade.tiers[0].model.input)

    @cached_property
    def _run_device(self):
        call = frozen(self.cascade.tiers[0].model)
        dtype = self.cascade.sent_dtype
        return lambda images: as_sent(call(images), dtype)

    @cached_property
    def _cloud_step(self):
        cloud = self.cascade.tiers[1].model
        call = frozen(cloud)
        return traced(lambda sent: call(sent)["outputs"], cloud.input, self.cascade.sent_dtype)


def _edge(batches, images):
    if len(images) > BUCKETS[-1]:
        return EdgeOutputs(*joined(batches, len(images)), images)
    # To copy the features of a single batch takes as long as a tenth of the cloud's half.
    ((rows, outputs),) = batches
    return EdgeOutputs(*views(rows, outputs), images)
