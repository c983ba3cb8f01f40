"""What an offload head looks at, taken from what a device knows."""

import numpy as np

from keras_ddnn.bank import EdgeOutputs


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


# EdgeOutputs -> array (n, ...), a map of rank 4 or a vector of rank 2
HEAD_INPUTS = {"features": features, "image": image, "logits": logits, "logits_plus": logits_plus}

# Those a convolution can read; the others are vectors.
MAP_INPUTS = ("features", "image")
