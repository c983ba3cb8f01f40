"""The layers of the networks of today."""

from statistics import NormalDist

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.networks.architectures.modern_layers import Gelu

X = np.linspace(-6.0, 6.0, 241, dtype=np.float32)


def value_and_slope(activate, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = activate(x)
    return y, tape.gradient(y, x)


def test_gelu_in_training_has_the_value_and_the_gradient_of_the_definition():
    fused, slope = value_and_slope(lambda x: Gelu()(x, training=True), tf.constant(X))
    density = np.exp(-(X**2) / 2) / np.sqrt(2 * np.pi)
    below = np.array([NormalDist().cdf(x) for x in X.astype(float)])
    np.testing.assert_allclose(fused, X * below, atol=1e-6)
    np.testing.assert_allclose(slope, below + X * density, atol=1e-6)
    np.testing.assert_allclose(Gelu()(X), X * below, atol=1e-6)  # without training


def test_gelu_in_bfloat16_is_rounded_once():
    x = tf.cast(X, tf.bfloat16)
    fused, slope = value_and_slope(lambda x: Gelu(dtype="bfloat16")(x, training=True), x)
    exact, exact_slope = value_and_slope(lambda x: Gelu()(x, training=True), tf.cast(x, tf.float32))
    assert fused.dtype == slope.dtype == tf.bfloat16
    half_a_bit = 2.0**-8  # of 8 bits, relative
    np.testing.assert_allclose(tf.cast(fused, tf.float32), exact, half_a_bit, 1e-6)
    np.testing.assert_allclose(tf.cast(slope, tf.float32), exact_slope, half_a_bit, 1e-6)


def test_a_model_with_gelu_is_read_again(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Gelu()(keras.layers.Dense(3)(inputs)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(again(x), model(x))
