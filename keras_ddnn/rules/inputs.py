"""What an offload head looks at, taken from what a device knows."""

from functools import partial
from math import prod
from types import ModuleType

import numpy as np

from keras_ddnn.data.rows.computed import by_blocks, whole
from keras_ddnn.data.tier_outputs import TierOutputs

PLACES = 4  # a side, to which a feature map is pooled
EPSILON = 1e-7  # keeps the logarithm of a probability finite


def features(edge: TierOutputs) -> np.ndarray:
    """Return the feature map that would be sent, float16 (n, h, w, f)."""
    return whole(edge.require("features", "the head input 'features'"))


def image(edge: TierOutputs) -> np.ndarray:
    """Return the image, uint8 (n, height, width, channels)."""
    return whole(edge.require("inputs", "the head input 'image'"))


def logits(edge: TierOutputs) -> np.ndarray:
    """Return the local outputs, float32 (n, d): logits of classes, or quantiles of a number."""
    return edge.outputs


def outputs_inputs(edge: TierOutputs) -> np.ndarray:
    """Return the outputs and all that the device reads, float32 (n, d): of windows, and of tables.

    A dense head takes it; of images it would be large.
    """
    read = edge.xp.asarray(whole(edge.require("inputs", "the head input 'outputs_inputs'")))
    return _columns(edge, edge.outputs, edge.xp.reshape(read, (-1, prod(read.shape[1:]))))


def logits_plus(edge: TierOutputs) -> np.ndarray:
    """Return logits, normalised entropy and top-2 gap, float32 (n, num_classes + 2)."""
    known = edge.require("probabilities", "the head input 'logits_plus'")
    return _columns(edge, edge.outputs, known.entropy, known.margin)


def logits_rich(edge: TierOutputs) -> np.ndarray:
    """Return all that the logits tell of confidence and class, float32 (n, d).

    Sorted log-probabilities (num_classes), the gaps between the first four of them, the log-odds of
    the first class against the rest, normalised entropy and top-2 gap, and the first and the second
    class as one-hot (num_classes each).
    """
    known = edge.require("probabilities", "the head input 'logits_rich'")
    xp, ranked = edge.xp, known.ranked
    logs = xp.log(ranked + EPSILON)
    log_odds = logs[:, 0] - xp.log(known.rest + EPSILON)
    top = logs[:, :4]
    one_hot = xp.eye(ranked.shape[1], dtype=edge.precision)
    first, second = (xp.take(one_hot, known.order[:, place], axis=0) for place in (0, 1))
    gaps = top[:, :-1] - top[:, 1:]
    return _columns(edge, logs, gaps, log_odds, known.entropy, known.margin, first, second)


def logits_features(edge: TierOutputs) -> np.ndarray:
    """Return `logits_rich` and the feature map pooled to 4×4 places, float32 (n, d).

    A map smaller than that is kept as it is, and so is a vector; a sequence is pooled to 4 places.
    """
    pooled = by_blocks(
        edge.require("features", "the head input 'logits_features'"), partial(_pooled, xp=edge.xp)
    )
    return edge.xp.concatenate([logits_rich(edge), pooled], axis=1)


def _pooled(features: np.ndarray, xp: ModuleType) -> np.ndarray:
    """Pool maps (n, h, w, f) to 4×4 places; flat, float32 (n, d)."""
    pooled = xp.asarray(features, "float32")
    for axis in range(1, len(pooled.shape) - 1):
        size = pooled.shape[axis]
        starts = sorted({place * size // PLACES for place in range(PLACES)})
        parts = xp.split(pooled, starts[1:], axis=axis)
        pooled = xp.concatenate([xp.mean(part, axis=axis, keepdims=True) for part in parts], axis)
    return xp.reshape(pooled, (-1, prod(pooled.shape[1:])))


def _columns(edge: TierOutputs, *parts: np.ndarray) -> np.ndarray:
    """Join parts (n,) and (n, d) side by side, float32."""
    xp = edge.xp
    columns = [part if len(part.shape) == 2 else part[:, None] for part in parts]
    return xp.concatenate([xp.asarray(part, "float32") for part in columns], axis=1)


# TierOutputs -> array (n, ...), a map of rank 4 or a vector of rank 2
HEAD_INPUTS = {
    "features": features,
    "image": image,
    "logits": logits,
    "outputs_inputs": outputs_inputs,
    "logits_plus": logits_plus,
    "logits_rich": logits_rich,
    "logits_features": logits_features,
}

# Those a convolution can read; the others are vectors.
MAP_INPUTS = ("features", "image")

# Those that only the device has, and no tier behind it.
DEVICE_INPUTS = ("image", "outputs_inputs")
