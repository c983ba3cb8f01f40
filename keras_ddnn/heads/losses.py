"""Keras losses of offload heads, and what is logged beside them."""

from typing import Any

import keras

from keras_ddnn.labels.targets import LOSSES


def keras_loss(name: str, **options: Any) -> keras.losses.Loss:
    """Return the Keras loss of a key of `LOSSES`, with further options of its own."""
    loss = LOSSES[name]
    options |= {"from_logits": True} if loss.from_logits else {}
    return getattr(keras.losses, loss.keras_class)(**options)


def metric_of(loss: str) -> keras.metrics.Metric:
    """Return what is logged beside a loss: the accuracy of labels, or the mean absolute error."""
    if LOSSES[loss].from_logits:
        return keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    return keras.metrics.MeanAbsoluteError(name="mae")
