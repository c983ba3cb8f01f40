"""What an offload head looks at, taken from what a device knows."""

import numpy as np

from keras_ddnn.bank import EdgeOutputs

EPSILON = 1e-7  # keeps the logarithm of a probability finite


def features(edge: EdgeOutputs) -> np.ndarray:
    """Return the local feature map, float16 (n, h, w, f)."""
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
    """Return all that confidence, class and pooled features tell, float32 (n, d).

    Sorted log-probabilities (num_classes), the gaps between the first four of them, the log-odds of
    the first class against the rest, normalised entropy and top-2 gap, the predicted class as
    one-hot (num_classes), and the mean of each feature over the map (f).
    """
    log_probabilities = np.log(edge.local_probabilities + EPSILON)
    ranked = -np.sort(-log_probabilities, axis=1)
    first = edge.local_probabilities.max(axis=1)
    log_odds = np.log(first + EPSILON) - np.log(1.0 - first + EPSILON)
    predicted = np.eye(ranked.shape[1])[edge.local_logits.argmax(axis=1)]
    return np.concatenate(
        [
            ranked,
            ranked[:, :3] - ranked[:, 1:4],
            log_odds[:, None],
            edge.local_entropy[:, None],
            edge.local_margin[:, None],
            predicted,
            edge.features.mean(axis=(1, 2), dtype=np.float32),
        ],
        axis=1,
        dtype=np.float32,
    )


# EdgeOutputs -> array (n, ...), a map of rank 4 or a vector of rank 2
HEAD_INPUTS = {
    "features": features,
    "image": image,
    "logits": logits,
    "logits_plus": logits_plus,
    "logits_rich": logits_rich,
}

# Those a convolution can read; the others are vectors.
MAP_INPUTS = ("features", "image")
