"""Networks run over arrays in batches: of what sizes, with which weights, into which arrays."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.data.rows.computed import BLOCK

BATCH_SIZE = BLOCK  # what is made again of some rows is then the same in every bit
# Batches are filled up to one of these sizes, as kernels are prepared for each new size.
BUCKETS = (1, 2, 4, *range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 64))
CACHED_IMAGES = 32  # their feature maps fit in one core's L2 cache
FEWEST_IN_PARTS = 4 * CACHED_IMAGES  # fewer are run at once: the loop would cost more


def as_sent(outputs: Mapping[str, tf.Tensor], dtype: str | None) -> list[tf.Tensor]:
    """Return the outputs of a tier, and what it hands on in the type of `Tier.sent_dtype`."""
    handed_on = [] if dtype is None else [tf.cast(outputs["features"], dtype)]
    return [outputs["outputs"], *handed_on]


def mirror(images: tf.Tensor) -> tf.Tensor:
    """Return images (n, h, w, c) mirrored left to right, by an operation that devices have."""
    return tf.reverse(images, [2])


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


def frozen(model):
    """Return a model's call in inference for a trace, with its present weights as constants.

    Kernels bring a constant into the order they want once, a variable at every call.
    """
    variables = model.trainable_variables, model.non_trainable_variables
    weights = tf.nest.map_structure(np.asarray, variables)

    def call(inputs):
        constants = tf.nest.map_structure(tf.constant, weights)
        return model.stateless_call(*constants, inputs, training=False)[0]

    return call


def traced(step, read: keras.KerasTensor, dtype: str | None = None):
    """Return a step traced once, for batches of any size: tracing is slower than most batches.

    Args:
        step: Tensor → outputs.
        read: What the step reads: its shape, and its type unless `dtype` is given.
        dtype: Type of the tensor.
    """
    spec = tf.TensorSpec(read.shape, dtype or read.dtype)
    return tf.function(step, input_signature=[spec], autograph=False)


def in_parts(step, types: tuple[tf.DType | str, ...]):
    """Make a step of images take a batch of a multiple of `CACHED_IMAGES` in parts of that size.

    Args:
        step: Batch → outputs.
        types: Types of the outputs.
    """

    def step_in_parts(images):
        n = tf.shape(images)[0]
        size = tf.where(n % CACHED_IMAGES == 0, CACHED_IMAGES, n)
        parts = tf.reshape(images, (-1, size, *images.shape[1:]))
        outputs = tf.map_fn(step, parts, fn_output_signature=[*map(tf.as_dtype, types)])
        return [tf.reshape(output, (n, *output.shape[2:])) for output in outputs]

    return step_in_parts
