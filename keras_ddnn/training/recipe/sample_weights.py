"""How much each training sample counts in the loss: by its class, and one by one."""

from typing import Any

import numpy as np

from keras_ddnn.data.splits import Split
from keras_ddnn.files.checks import ClassWeight, expect


def sample_weights(
    train: Split, class_weight: ClassWeight, sample_weight: Any = None
) -> np.ndarray | None:
    """Return the weight of each training sample, float32 of shape (n,); None if all weigh the same.

    Keras refuses `class_weight` for models of several outputs, so weights of classes become weights
    of samples; both are multiplied. Validation samples count alike.

    Args:
        train: Training data, their labels read.
        class_weight: As of `TrainingConfig`.
        sample_weight: Numbers from 0 on, of shape (n,); None for 1.

    Raises:
        ValueError: A class is unknown, targets are numbers and have none, or weights have another
            shape, are negative, not finite or all 0.
    """
    if class_weight is None and sample_weight is None:
        return None
    wanted = "classes, as numbers have none; pass sample_weight, or leave it out"
    numbers = class_weight is not None and train.labels.dtype.kind == "f"
    expect(not numbers, "class_weight", wanted, "targets that are numbers")
    from sklearn.utils.class_weight import compute_sample_weight

    if class_weight is not None and class_weight != "balanced":
        given, weights = zip(*class_weight)
        numbers = train.classes.encode(np.array(given), "class_weight").tolist()
        class_weight = dict.fromkeys(np.unique(train.labels).tolist(), 1.0)
        class_weight |= {k: w for k, w in zip(numbers, weights) if k in class_weight}
    weights = compute_sample_weight(class_weight, train.labels)
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight)
        shape, wanted = sample_weight.shape, train.labels.shape
        expect(shape == wanted, "sample_weight", f"shape {wanted}", f"shape {shape}")
        kind = sample_weight.dtype
        expect(kind.kind in "iuf", "sample_weight", "numbers", f"dtype {kind}")
        low, high = sample_weight.min(), sample_weight.max()
        usable = low >= 0 and np.isfinite(high)  # NaN is neither
        expect(usable, "sample_weight", "finite numbers from 0 on", f"{low:g} to {high:g}")
        weights = weights * sample_weight
    expect(weights.any(), "weights", "a sample that counts", "0 for all")
    return weights.astype(np.float32)
