"""Putting a bottleneck into a trained DDNN: from the principal components of what it must pass."""

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config.network import BOTTLENECK_BLOCK
from keras_ddnn.data.rows.view import spread_rows
from keras_ddnn.networks.batched import run_in_batches

SAMPLES = 1000  # images; of each many places are seen


def start_bottleneck(narrow: keras.Model, wide: keras.Model, images: np.ndarray, codes) -> None:
    """Give a DDNN with a bottleneck the weights of a trained one without, to go on from.

    The device sends the first principal components of each block of the local feature map. The
    cloud's side is the linear map from their codes that leads back to the map with the least
    squared error. Learnt from scratch, it costs the cloud network 1.5 points more; see
    EXPERIMENTS.md.

    Args:
        narrow: With a bottleneck; see `build_ddnn`. Its weights are replaced.
        wide: The same without.
        images: Training images, uint8 of shape (n, h, w, c).
        codes: The `Quantisation` of the bottleneck.
    """
    for layer in wide.layers:
        if layer.weights:
            narrow.get_layer(layer.name).set_weights(layer.get_weights())

    before, after = wide.get_layer("local_bias").output, wide.get_layer("features").output
    local = keras.Model(wide.input, [before, after])

    def step(batch):
        return [_blocks(tf.cast(each, tf.float32)) for each in local(batch, training=False)]

    spread = spread_rows(len(images), SAMPLES)
    before, after = (
        blocks.reshape(-1, blocks.shape[-1]) for blocks in run_in_batches(step, images[spread])
    )
    channels = narrow.get_layer("bottleneck").filters
    _, components = np.linalg.eigh(np.cov(after, rowvar=False))  # variances ascend
    components = components[:, ::-1][:, :channels]
    narrow.get_layer("bottleneck").set_weights(
        [components.reshape(BOTTLENECK_BLOCK, BOTTLENECK_BLOCK, -1, channels).astype(np.float32)]
    )
    sent = _normalise(narrow.get_layer("bottleneck_norm"), after @ components)

    # The activation follows the cloud's side, too: what is led back to is the map before it.
    sent = codes.values(codes.codes(sent))
    centre = before.mean(axis=0)
    back, *_ = np.linalg.lstsq(sent - sent.mean(axis=0), before - centre)
    narrow.get_layer("cloud_widen").set_weights([back[None, None].astype(np.float32)])
    _keep(narrow.get_layer("cloud_widen_norm"), sent @ back, centre)


def _blocks(maps: tf.Tensor) -> tf.Tensor:
    """Return the whole blocks of maps (n, h, w, f) as channels, in the order of a kernel."""
    height, width = (side - side % BOTTLENECK_BLOCK for side in maps.shape[1:3])
    return tf.nn.space_to_depth(maps[:, :height, :width], BOTTLENECK_BLOCK)


def _normalise(norm, values: np.ndarray) -> np.ndarray:
    """Let a layer bring such values to mean 0 and variance 1, and return them so."""
    mean, variance = values.mean(axis=0), values.var(axis=0)
    norm.set_weights([np.ones_like(mean), np.zeros_like(mean), mean, variance])
    return (values - mean) / np.sqrt(variance + norm.epsilon)


def _keep(norm, values: np.ndarray, centre: np.ndarray) -> None:
    """Let a layer change nothing of such values but their mean."""
    mean, variance = values.mean(axis=0), values.var(axis=0)
    norm.set_weights([np.sqrt(variance + norm.epsilon), centre, mean, variance])
