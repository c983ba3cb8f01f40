"""Training batches: shuffled indices, gathered and augmented inside the TensorFlow graph."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, assert_never

import numpy as np
import tensorflow as tf

from keras_ddnn.config.training import Augmentation
from keras_ddnn.data.rows.computed import Computed
from keras_ddnn.data.rows.view import Array, Rows

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # images and a seed (2,) → images
PAD = 4
LITTLE_PAD = 2  # of few epochs, in which there is less to learn by heart
CUT = 8  # side of the square that is cut out
GREY = 127  # of what is cut out
VIEW_BATCH = 1000
TOGETHER_BYTES, MOST_TOGETHER = 2**18, 32  # of batches that are read at once


def training_batches(
    arrays: Any,
    batch_size: int,
    seed: int,
    transform: Callable[[Any, tf.Tensor], Any] | None = None,
    *,
    first: int = 0,
    period: int | None = None,
) -> tf.data.Dataset:
    """Yield endless shuffled batches, the same ones for the same seed.

    The arrays stay where they are and as they are (uint8 images, float16 features), in memory or in
    a file; the rows of each batch are read in the background. An epoch has `steps_per_epoch`
    batches: the odd samples at its end wait for the next shuffle, so that every batch has one
    shape.

    Args:
        arrays: Any nest of arrays with the same first axis n; see `keras_ddnn.data.rows.view`.
        batch_size: Samples a batch; the whole set when n is smaller.
        seed: Seed of the shuffling and of `transform`.
        transform: `(batch, seed) -> batch` in the graph, with `seed` an int64 tensor of shape (2,)
            that is new in every step.
        first: Number of the first batch, for a training that goes on; those before it are not made.
        period: Batches after which the same ones come again, numbered from 0; None for never.
    """
    flat = tf.nest.flatten(arrays)
    n = len(flat[0])
    size = min(batch_size, n)
    together = _batches_together(flat, size)

    def finish(step: tf.Tensor, batch: Any) -> Any:
        step = step % period if period else step
        return transform(batch, tf.stack([tf.cast(seed, tf.int64), step])) if transform else batch

    def shuffled(_: tf.Tensor) -> tf.data.Dataset:
        indices = tf.data.Dataset.range(n).shuffle(n, seed=seed, reshuffle_each_iteration=True)
        return indices.batch(size, drop_remainder=True).repeat()

    # Made anew by each iterator: a shuffle counts its passes, and on several devices Keras begins
    # a first one only to look at a batch.
    indices = tf.data.Dataset.from_tensors(0).flat_map(shuffled)
    if period:
        indices, first = indices.take(period).repeat(), first % period
    indices = indices.skip(first)
    if together > 1:
        indices = indices.batch(together, drop_remainder=True)
    batches = indices.map(lambda rows: (rows_at(arrays, rows),), num_parallel_calls=1).prefetch(1)
    batches = batches.unbatch() if together > 1 else batches
    return batches.enumerate(first).map(lambda step, batch: finish(step, batch[0])).prefetch(2)


def _batches_together(flat: list[Array], size: int) -> int:
    """Return how many batches are read at once: of small rows a batch takes less than the call."""
    row = sum(max(1, np.prod(array.shape[1:])) * np.dtype(array.dtype).itemsize for array in flat)
    return int(np.clip(TOGETHER_BYTES // (size * row), 1, MOST_TOGETHER))


def batches_in_order(arrays: Any, batch_size: int) -> tf.data.Dataset:
    """Yield the rows of a nest of arrays once, in order; see `training_batches`."""
    n = len(tf.nest.flatten(arrays)[0])
    indices = tf.data.Dataset.range(n).batch(batch_size)
    return indices.map(lambda rows: rows_at(arrays, rows), num_parallel_calls=1).prefetch(2)


def rows_at(arrays: Any, indices: tf.Tensor) -> Any:
    """Return rows of a nest of arrays as tensors, in the graph: NumPy reads them when they come."""
    # A mapped file is read in its order, like any other file.
    flat = [Rows(a) if isinstance(a, np.memmap) else a for a in tf.nest.flatten(arrays)]
    rows = tf.numpy_function(
        lambda wanted: [
            np.asarray(array[wanted.ravel()]).reshape(*wanted.shape, *array.shape[1:])
            for array in flat
        ],
        [indices],
        [tf.as_dtype(array.dtype) for array in flat],
        stateful=False,
    )
    for array, tensor in zip(flat, rows):
        tensor.set_shape((*indices.shape, *array.shape[1:]))
    return tf.nest.pack_sequence_as(arrays, rows)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of batches in one pass over n samples."""
    return max(1, n // batch_size)


def augmentation(name: Augmentation, steps: int = 1) -> Augment:
    """Return what augments images in the graph, each frame (h, w, c) of theirs on its own.

    It is given images (n, h, w, c), or frames of cameras (n, D, h, w, c), and a seed (2,), which
    ends in the number of the batch.

    Args:
        name: The augmentation.
        steps: Batches of an epoch, for what alternates by epoch.
    """
    match name:
        case "none":
            return lambda images, seed: images
        case "crop":
            return crop
        case "flip":
            return flip
        case "crop_flip":
            return crop_flip
        case "crop_flip_cutout":
            return lambda images, seed: cutout(crop_flip(images, seed), seed + 3)
        case "shift_alternate":
            return lambda images, seed: shift_alternate(images, seed, steps)
        case _:
            assert_never(name)


def _of_each_frame(augment: Augment) -> Augment:
    """Return what does the same to (n, D, h, w, c), where frames of zeros stay what they are."""

    @wraps(augment)
    def augmented(images: tf.Tensor, *given: Any) -> tf.Tensor:
        if len(images.shape) == 4:
            return augment(images, *given)
        frames = tf.reshape(images, (-1, *images.shape[2:]))
        there = tf.reduce_any(frames != 0, axis=(1, 2, 3), keepdims=True)
        frames = tf.where(there, augment(frames, *given), frames)
        return tf.ensure_shape(tf.reshape(frames, tf.shape(images)), images.shape)

    return augmented


@_of_each_frame
def crop(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shift each image of (n, h, w, c) by up to 4 pixels, filling the border by reflection."""
    down, right = _shifts(images, seed)
    return _take(images, down + tf.range(images.shape[1]), right + tf.range(images.shape[2]))


@_of_each_frame
def flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror half of the images of (n, h, w, c) left to right."""
    rows = tf.broadcast_to(tf.range(images.shape[1]), (tf.shape(images)[0], images.shape[1]))
    return _take(images, rows, _columns(images, _drawn(images, seed)))


@_of_each_frame
def crop_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shift each image as `crop` does and mirror half of them."""
    down, right = _shifts(images, seed)
    columns = _columns(images, _drawn(images, seed))
    return _take(images, down + tf.range(images.shape[1]), right + columns)


@_of_each_frame
def shift_alternate(images: tf.Tensor, seed: tf.Tensor, steps: int) -> tf.Tensor:
    """Shift each image by up to 2 pixels, and mirror it in every other epoch.

    Whether it is mirrored in the odd epochs or in the even ones, the sum of its bytes says. So
    each image is seen both ways in every two epochs, where chance shows half of them one way.

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.

    Args:
        images: Of (n, h, w, c).
        seed: Of the shifts; it ends in the number of the batch.
        steps: Batches of an epoch.
    """
    down, right = _shifts(images, seed, LITTLE_PAD)
    epoch = tf.cast(seed[1] // steps, tf.int32)
    turn = tf.reduce_sum(tf.cast(images, tf.int32), axis=(1, 2, 3)) + epoch
    columns = _columns(images, turn[:, None] % 2 == 0)
    return _take(images, down + tf.range(images.shape[1]), right + columns)


@_of_each_frame
def cutout(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Fill a square of 8 by 8 pixels in each image of (n, h, w, c) with grey.

    Its middle is anywhere, so that some of it may lie outside.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", 2017.
    """
    hidden = []
    for axis in (1, 2):
        places = tf.range(images.shape[axis])
        middle = tf.random.stateless_uniform(
            (tf.shape(images)[0], 1), seed + axis, maxval=images.shape[axis], dtype=tf.int32
        )
        hidden.append((places >= middle - CUT // 2) & (places < middle + CUT // 2))
    square = hidden[0][:, :, None] & hidden[1][:, None, :]
    return tf.where(square[..., None], tf.cast(GREY, images.dtype), images)


def _shifts(images: tf.Tensor, seed: tf.Tensor, most: int = PAD) -> list[tf.Tensor]:
    """Return how far each image moves down and right, int32 of (n, 1) each."""
    shape = (2, tf.shape(images)[0], 1)
    return tf.unstack(
        tf.random.stateless_uniform(shape, seed, maxval=2 * most + 1, dtype=tf.int32) - most
    )


def _drawn(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return which images are mirrored, bool (n, 1): half of them, by chance."""
    return tf.random.stateless_uniform((tf.shape(images)[0], 1), seed + 1) < 0.5


def _columns(images: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Return which column of the image comes where, int32 (n, w)."""
    columns = tf.range(images.shape[2])
    return tf.where(mirrored, columns[::-1], columns)


def _take(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Take rows (n, h) and columns (n, w) of each image, mirrored where they lie outside.

    One gather of whole pixels: padding, cropping and mirroring one after another took ten times as
    long, a tenth of the training.
    """
    n, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    rows, columns = _reflect(rows, height), _reflect(columns, width)
    first = tf.range(n)[:, None] * height + rows
    pixels = first[:, :, None] * width + columns[:, None, :]
    return tf.gather(tf.reshape(images, (-1, channels)), pixels)


def _reflect(places: tf.Tensor, size: int) -> tf.Tensor:
    """Bring places from -size + 1 to 2·size - 2 back inside by reflection at the outermost ones."""
    last = size - 1
    return last - tf.abs(last - tf.abs(places))


def augmented_views(images: Array, name: Augmentation, views: int, seed: int) -> Rows:
    """Return `views` augmented copies of uint8 images, see `augmentation`, one after another.

    A copy is made when it is asked for, together with those beside it.

    Args:
        images: What to augment.
        name: The augmentation.
        views: Copies of each image.
        seed: Seed of the augmentation.
    """
    n = len(images)
    augment = tf.function(augmentation(name, steps=n), reduce_retracing=True)

    @lru_cache(1)  # of a pass in order, each is made once
    def block(view: int, start: int) -> np.ndarray:
        step = tf.constant([seed, view * n + start], tf.int64)
        return augment(tf.constant(np.asarray(images[start : start + VIEW_BATCH])), step).numpy()

    def make(rows: slice | np.ndarray) -> np.ndarray:
        places = np.arange(views * n)[rows] if isinstance(rows, slice) else rows
        copies = np.empty((len(places), *images.shape[1:]), images.dtype)
        # Of each copy: its view, the block of that view, and its place in the block.
        of_view, row = np.divmod(places, n)
        number, place = np.divmod(row, VIEW_BATCH)
        keys = np.stack([of_view, number], axis=1)
        for view, part in np.unique(keys, axis=0):
            here = (of_view == view) & (number == part)
            copies[here] = block(int(view), int(part) * VIEW_BATCH)[place[here]]
        return copies

    return Rows(Computed((views * n, *images.shape[1:]), images.dtype, make))
