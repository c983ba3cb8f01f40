"""From a model to a bank: run the two halves of a DDNN over a split and keep what they say."""

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.bank import Bank, EdgeOutputs
from keras_ddnn.labels import Judgement
from keras_ddnn.models import fold_normalisation, split_ddnn

BATCH_SIZE = 500
TINY = 1e-9  # keeps the logarithm of a mean probability finite


def capture(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Bank:
    """Run a DDNN over uint8 images (n, h, w, c) and labels (n,), in inference mode.

    The cloud network is fed the float16 features of the bank, those a device would send, and not
    the local network's own, so that deployment repeats these logits.
    """
    local_model, cloud_model = split_ddnn(fold_normalisation(model))

    def step(batch):
        logits, features = as_sent(local_model(batch, training=False))
        return logits, features, cloud_model(features, training=False)

    local_logits, features, cloud_logits = run_in_batches(step, images)
    return Bank(EdgeOutputs(local_logits, features, images), cloud_logits, labels)


class CaptureBank(keras.callbacks.Callback):
    """Captures a `Bank` of every given split when training ends, with the final epoch's weights.

    Args:
        **splits: Name → `Split`.

    Attributes:
        banks: Name → `Bank`, filled at the end of training.
    """

    def __init__(self, **splits):
        super().__init__()
        self.splits = splits
        self.banks = {}

    def on_train_end(self, logs=None):
        """Capture the banks."""
        for name, split in self.splits.items():
            self.banks[name] = capture(self.model, split.images, split.labels)


class CaptureStages(keras.callbacks.Callback):
    """Averages the probabilities of both networks over the last epochs of training.

    Args:
        split: Training data.
        stages: Number of epochs to average.

    Attributes:
        local, cloud: Mean probabilities, float32 of shape (n, num_classes).
    """

    def __init__(self, split, stages: int):
        super().__init__()
        self.split, self.stages = split, stages
        self.local = self.cloud = 0.0

    def on_epoch_end(self, epoch, logs=None):
        """Add the probabilities of one of the last epochs."""
        if epoch < self.params["epochs"] - self.stages:
            return

        def step(batch):
            outputs = self.model(batch, training=False)
            return tf.nn.softmax(outputs["local"]), tf.nn.softmax(outputs["cloud"])

        local, cloud = run_in_batches(step, self.split.images)
        self.local = self.local + local / self.stages
        self.cloud = self.cloud + cloud / self.stages

    def judgement(self) -> Judgement:
        """Return logits whose softmax are the mean probabilities."""
        local, cloud = (np.log(mean + TINY).astype(np.float32) for mean in (self.local, self.cloud))
        return Judgement(np.arange(len(local)), local, cloud)


def as_sent(outputs):
    """Return local logits and features as a device sends them, and a bank keeps them: float16."""
    return outputs["local"], tf.cast(outputs["features"], tf.float16)


def run_in_batches(step, array, buckets=()) -> list[np.ndarray]:
    """Apply `step` to batches of an array; see `in_batches` and `joined`.

    Args:
        step: Batch → outputs, a tensor each with the batch as first axis; a `tf.function`, or what
            one can be made of.
        array: Samples (n, ...), n at least 1.
        buckets: Sizes of a batch, rising.
    """
    if not isinstance(step, tf.types.experimental.GenericFunction):
        step = tf.function(step, autograph=False, reduce_retracing=True)
    return joined(in_batches(step, array, buckets), len(array))


def in_batches(step, array, buckets=()):
    """Yield the rows of each batch of an array (n, ...), a slice, and what `step` makes of it.

    The last batch is filled up to one of the rising sizes in `buckets`, and its outputs are as long
    as that; by default it is as long as it is.
    """
    size = buckets[-1] if buckets else BATCH_SIZE
    for start in range(0, len(array), size):
        batch = array[start : start + size]
        yield slice(start, start + len(batch)), step(tf.constant(filled_up(batch, buckets)))


def joined(batches, n: int) -> list[np.ndarray]:
    """Write the outputs of all batches of `n` samples into whole arrays (n, ...) as they come."""
    arrays = []
    for rows, outputs in batches:
        outputs = views(rows, outputs)
        arrays = arrays or [np.empty((n, *out.shape[1:]), out.dtype) for out in outputs]
        for whole, output in zip(arrays, outputs):
            whole[rows] = output
    return arrays


def views(rows: slice, outputs) -> list[np.ndarray]:
    """Return a batch's outputs, less what it was filled up with, as read-only views of tensors."""
    return [np.asarray(memoryview(output))[: rows.stop - rows.start] for output in outputs]


def filled_up(batch: np.ndarray, buckets) -> np.ndarray:
    """Append zeros to a batch (n, ...), up to the first of the rising sizes that holds it."""
    length = next((bucket for bucket in buckets if bucket >= len(batch)), len(batch))
    if length == len(batch):
        return batch
    return np.concatenate([batch, np.zeros((length - len(batch), *batch.shape[1:]), batch.dtype)])
