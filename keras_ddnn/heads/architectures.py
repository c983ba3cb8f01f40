"""Keras models of offload heads."""

from collections.abc import Sequence
from typing import assert_never

import keras
from keras import layers

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.labels.targets import TARGETS
from keras_ddnn.networks.layers import FusedBatchNormalization
from keras_ddnn.networks.paper import compute_policy

VECTOR_WIDTHS = (256, 128, 64, 32)
MAP_WIDTH = 128
CONV_FILTERS = (16, 32, 32, 64)
CONV_DROPOUT = 0.3
CONV_WEIGHT_DECAY = 1e-5


def build_head(input_shape: Sequence[int], config: HeadConfig) -> keras.Model:
    """Build an offload head. Maps of several cameras are read as one, of the channels of all.

    Args:
        input_shape: Shape of one sample of `HEAD_INPUTS[config.input]`, without n.
        config: Its architecture, depth and target.

    Returns:
        Keras model, (n, *input_shape) → float32 (n, units): logits, or B_k for the target
        "benefit". The first layer of a head on vectors normalises them and must be adapted to
        training data.
    """
    policy = compute_policy(config.precision) if len(input_shape) >= 3 else "float32"
    inputs = keras.Input(input_shape, dtype="uint8" if config.input == "image" else None)
    if len(input_shape) == 1:
        x = layers.Normalization(name="normalization")(inputs)
    elif config.input == "image":
        x = layers.Rescaling(1 / 127.5, -1.0, dtype=policy, name="rescaling")(inputs)
    else:
        x = inputs
    if len(input_shape) == 4:
        cameras, height, width, channels = input_shape
        x = layers.Permute((2, 3, 1, 4), dtype=policy, name="cameras_last")(x)
        x = layers.Reshape((height, width, cameras * channels), dtype=policy, name="together")(x)
    match config.architecture:
        case "mlp":
            x = _dense_layers(x, config.depth, config.dropout, policy)
        case "paper_mlp":
            x = _dense_layers(x, config.depth, 0.0, policy)
        case "conv":
            x = _convolutions(x, config.depth, policy)
        case _:
            assert_never(config.architecture)
    x = layers.Dense(TARGETS[config.first_target].units, dtype="float32", name="outputs")(x)
    if config.architecture == "paper_mlp":
        # (1 + tanh z)/2 = sigmoid(2z): the paper's ending, as the logit of a probability.
        x = layers.Rescaling(2.0, dtype="float32", name="doubled")(x)
    return keras.Model(inputs, x, name="head")


def _dense_layers(
    x: keras.KerasTensor, depth: int, dropout: float, policy: str
) -> keras.KerasTensor:
    widths = VECTOR_WIDTHS[:depth]
    if len(x.shape) > 2:
        widths = (MAP_WIDTH,) * depth
        x = layers.Flatten(dtype=policy)(x)
    for width in widths:
        x = layers.Dense(width, activation="relu", dtype=policy)(x)
        if dropout:
            x = layers.Dropout(dropout, dtype=policy)(x)
    return x


def _convolutions(x: keras.KerasTensor, depth: int, policy: str) -> keras.KerasTensor:
    for filters in CONV_FILTERS:
        for _ in range(depth):
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                kernel_regularizer=keras.regularizers.L2(CONV_WEIGHT_DECAY),
                dtype=policy,
            )(x)
            x = FusedBatchNormalization(dtype=policy)(x)
            x = layers.ReLU(dtype=policy)(x)
        x = layers.MaxPooling2D(2, padding="same", dtype=policy)(x)
        x = layers.Dropout(CONV_DROPOUT, dtype=policy)(x)
    return layers.GlobalAveragePooling2D(dtype="float32")(x)
