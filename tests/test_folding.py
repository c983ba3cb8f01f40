"""Normalisations of any kind are folded where they can be; the function stays the same."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ddnn.networks.compose import split
from keras_ddnn.networks.folding import fold

rng = np.random.default_rng(0)


def with_random_weights(model):
    """Give a model weights of all signs, and variances above 0."""
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel, *rest = layer.get_weights()
            layer.set_weights([draw.normal(0, 0.3, kernel.shape), *rest])
    return model


def chain_of(shape, *parts):
    inputs = x = keras.Input(shape)
    for part in parts:
        x = part(x)
    return with_random_weights(keras.Model(inputs, x))


NORM = {"name": "norm"}


@pytest.mark.parametrize(
    ("model", "is_folded"),
    [
        (lambda: chain_of((8, 8, 2), layers.Conv2D(3, 3), layers.BatchNormalization(**NORM)), True),
        (
            lambda: chain_of(
                (8, 8, 2),
                layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
                layers.BatchNormalization(scale=False, **NORM),
            ),
            True,
        ),
        (
            lambda: chain_of(
                (9, 2), layers.Conv1D(3, 2), layers.BatchNormalization(center=False, **NORM)
            ),
            True,
        ),
        (lambda: chain_of((5,), layers.Dense(4), layers.BatchNormalization(**NORM)), True),
        # The activation lies between, the scale may be negative under a maximum, another reads too.
        (
            lambda: chain_of(
                (8, 8, 2), layers.Conv2D(3, 3, activation="relu"), layers.BatchNormalization(**NORM)
            ),
            False,
        ),
        (
            lambda: chain_of(
                (8, 8, 2),
                layers.Conv2D(3, 3),
                layers.MaxPooling2D(),
                layers.BatchNormalization(**NORM),
            ),
            False,
        ),
        (lambda: chain_of((8, 8, 2), layers.BatchNormalization(**NORM)), False),
    ],
    ids=["convolution", "depthwise", "1-D", "dense", "activation", "pooling", "input"],
)
def test_a_normalisation_is_folded_where_it_can_be(model, is_folded):
    model = model()
    folded = fold(model)
    assert isinstance(folded.get_layer("norm"), layers.Identity) is is_folded
    x = rng.normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_what_another_layer_reads_too_is_left_alone():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3)(inputs)
    both = layers.Add()([x, layers.BatchNormalization(**NORM)(x)])
    model = with_random_weights(keras.Model(inputs, both))
    folded = fold(model)
    assert isinstance(folded.get_layer("norm"), layers.BatchNormalization)
    x = rng.normal(size=(4, 8, 8, 2)).astype(np.float32)
    np.testing.assert_array_equal(folded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.slow
def test_mobilenet_folds_all_of_its_normalisations():
    model = keras.applications.MobileNetV2(input_shape=(32, 32, 3), weights=None, classes=4)
    cascade = split(model, "block_6_project_BN").folded()
    left = [x for x in cascade.model.layers if isinstance(x, layers.BatchNormalization)]
    assert not left


def test_a_fold_is_made_once_and_anew_when_the_weights_change():
    images = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, name="conv")(images))
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    cascade = split(model, "conv")
    first = cascade.folded()
    assert cascade.folded() is first
    cascade.model.set_weights([2 * weight + 1 for weight in cascade.model.get_weights()])
    x = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    now, expected = (m.predict(x, verbose=0) for m in (cascade.folded().model, cascade.model))
    np.testing.assert_allclose(now["cloud"], expected["cloud"], rtol=1e-4)
