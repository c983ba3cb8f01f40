"""What an offload head looks at, taken from what a device knows."""

import numpy as np

from keras_ddnn.bank import EdgeOutputs

PLACES = 4  # a side, to which a feature map is pooled
EPSILON = 1e-7  # keeps the logarithm of a probability finite


def features(edge: EdgeOutputs) -> np.ndarray:
    """Return the feature map that would be sent, float16 (n, h, w, f)."""
    return edge.features


def image(edge: EdgeOutputs) -> np.ndarray:
    """Return the image, uint8 (n, height, width, channels)."""
    return edge.images


def logits(edge: EdgeOutputs) -> np.ndarray:
    """Return the local logits, float32 (n, num_classes)."""
    return edge.local_logits


def logits_plus(edge: EdgeOutputs) -> np.ndarray:
    """Return logits, normalised entropy and top-2 gap, float32 (n, num_classes + 2)."""
    extra = np.stack([edge.local_entropy, edge.local_margin], axis=1)
    return np.concatenate([edge.local_logits, extra], axis=1, dtype=np.float32)


def logits_rich(edge: EdgeOutputs) -> np.ndarray:
    """Return all that the logits tell of confidence and class, float32 (n, d).

    Sorted log-probabilities (num_classes), the gaps between the first four of them, the log-odds of
    the first class against the rest, normalised entropy and top-2 gap, and the first and the second
    class as one-hot (num_classes each).
    """
    probabilities, rows = edge.local_probabilities, np.arange(len(edge))
    order = np.argsort(-probabilities, axis=1)
    ranked = np.log(probabilities[rows[:, None], order] + EPSILON)
    first = probabilities.max(axis=1)
    log_odds = np.log(first + EPSILON) - np.log(1.0 - first + EPSILON)
    classes = np.eye(probabilities.shape[1])
    return np.concatenate(
        [
            ranked,
            -np.diff(ranked[:, :4]),
            log_odds[:, None],
            edge.local_entropy[:, None],
            edge.local_margin[:, None],
            classes[order[:, 0]],
            classes[order[:, 1]],
        ],
        axis=1,
        dtype=np.float32,
    )


def logits_features(edge: EdgeOutputs) -> np.ndarray:
    """Return `logits_rich` and the feature map pooled to 4×4 places, float32 (n, d).

    A map smaller than that is kept as it is.
    """
    pooled = edge.features
    for axis in (1, 2):
        size = pooled.shape[axis]
        edges = np.unique(np.arange(PLACES) * size // PLACES)
        sizes = np.diff(np.append(edges, size))
        sums = np.add.reduceat(pooled, edges, axis=axis, dtype=np.float32)
        pooled = sums / np.expand_dims(sizes, tuple(a for a in range(4) if a != axis))
    flat = pooled.reshape(len(pooled), -1)
    return np.concatenate([logits_rich(edge), flat], axis=1, dtype=np.float32)


# EdgeOutputs -> array (n, ...), a map of rank 4 or a vector of rank 2
HEAD_INPUTS = {
    "features": features,
    "image": image,
    "logits": logits,
    "logits_plus": logits_plus,
    "logits_rich": logits_rich,
    "logits_features": logits_features,
}

# Those a convolution can read; the others are vectors.
MAP_INPUTS = ("features", "image")
