"""Training batches: shuffled indices, gathered and augmented inside the TensorFlow graph."""

import numpy as np
import tensorflow as tf

PAD = 4
VIEW_BATCH = 1000


def training_batches(arrays, batch_size: int, seed: int, transform=None) -> tf.data.Dataset:
    """Yield endless shuffled batches, the same ones for the same seed.

    The arrays stay as they are in memory (uint8 images, float16 features); each batch is gathered
    from them by index. An epoch has `steps_per_epoch` batches: the odd samples at its end wait for
    the next shuffle, so that every batch has one shape.

    Args:
        arrays: Any nest of arrays with the same first axis n.
        batch_size: Samples a batch; the whole set when n is smaller.
        seed: Of the shuffle and of `transform`.
        transform: `(batch, seed) -> batch` in the graph, with `seed` an int64 tensor of shape (2,)
            that is new in every step.
    """
    arrays = tf.nest.map_structure(tf.convert_to_tensor, arrays)
    n = tf.nest.flatten(arrays)[0].shape[0]

    def gather(step, indices):
        batch = tf.nest.map_structure(lambda array: tf.gather(array, indices), arrays)
        return transform(batch, tf.stack([tf.cast(seed, tf.int64), step])) if transform else batch

    indices = tf.data.Dataset.range(n).shuffle(n, seed=seed, reshuffle_each_iteration=True)
    indices = indices.batch(min(batch_size, n), drop_remainder=True).repeat()
    return indices.enumerate().map(gather, num_parallel_calls=1).prefetch(2)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of batches in one pass over n samples."""
    return max(1, n // batch_size)


def crop(images, seed):
    """Shift each image of (n, h, w, c) by up to 4 pixels, filling the border by reflection."""
    n, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    padded = tf.pad(images, [[0, 0], [PAD, PAD], [PAD, PAD], [0, 0]], mode="REFLECT")
    offsets = tf.random.stateless_uniform([2, n, 1], seed, maxval=2 * PAD + 1, dtype=tf.int32)
    rows = tf.gather(padded, offsets[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, offsets[1] + tf.range(width), axis=2, batch_dims=1)


def flip(images, seed):
    """Mirror half of the images of (n, h, w, c) left to right."""
    mirror = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed + 1) < 0.5
    return tf.where(mirror, tf.reverse(images, axis=[2]), images)


def crop_flip(images, seed):
    """Shift each image as `crop` does and mirror half of them."""
    return flip(crop(images, seed), seed)


def augmented_views(images, name: str, views: int, seed: int) -> np.ndarray:
    """Return `views` augmented copies of uint8 images (n, h, w, c), one after another, as uint8.

    Args:
        images: What to augment.
        name: A key of `AUGMENTATIONS`.
        views: Copies of each image.
        seed: Of the augmentation.
    """
    augment = tf.function(AUGMENTATIONS[name], reduce_retracing=True)
    copies = np.empty((views, *images.shape), images.dtype)
    for view in range(views):
        for start in range(0, len(images), VIEW_BATCH):
            rows = slice(start, start + VIEW_BATCH)
            step = tf.constant([seed, view * len(images) + start], tf.int64)
            copies[view, rows] = augment(tf.constant(images[rows]), step).numpy()
    return copies.reshape(-1, *images.shape[1:])


AUGMENTATIONS = {
    "none": lambda images, seed: images,
    "crop": crop,
    "flip": flip,
    "crop_flip": crop_flip,
}
