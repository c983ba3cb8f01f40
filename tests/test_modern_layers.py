"""The layers of the networks of today."""

from statistics import NormalDist

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ddnn.networks.architectures import modern_layers
from keras_ddnn.networks.architectures.modern import ModernOptions, build_modern
from keras_ddnn.networks.architectures.modern_layers import Conv2D, Gelu, kernel_gradient

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


def test_weights_saved_when_the_convolutions_were_keras_own_are_read(tmp_path):
    options = ModernOptions(widths=(4,))
    now = build_modern((5, 5, 3), 2, options, "float32")

    def of_keras(layer):
        same = type(layer) is not Conv2D
        return layer if same else keras.layers.Conv2D.from_config(layer.get_config())

    before = keras.models.clone_model(now, clone_function=of_keras)
    before.set_weights([weight + 1.0 for weight in now.get_weights()])
    before.save_weights(tmp_path / "before.weights.h5")
    now.load_weights(tmp_path / "before.weights.h5")
    for new, old in zip(now.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("size", [(3, 3), (1, 5)])
def test_the_gradient_of_a_kernel_is_that_of_tensorflow(size):
    rng = np.random.default_rng(0)
    maps = tf.constant(rng.normal(size=(4, 7, 5, 3)), tf.float32)
    slope = tf.constant(rng.normal(size=(4, 7, 5, 2)), tf.float32)
    kernel = tf.zeros((*size, 3, 2))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        convolved = tf.nn.conv2d(maps, kernel, 1, "SAME")
    known = tape.gradient(convolved, kernel, output_gradients=slope)
    np.testing.assert_allclose(kernel_gradient(maps, slope, kernel.shape), known, atol=1e-4)


@pytest.mark.parametrize(("side", "units"), [(7, True), (9, True), (7, False)])
def test_a_convolution_of_small_maps_learns_as_that_of_keras(monkeypatch, side, units):
    monkeypatch.setattr(modern_layers, "has_amx", lambda: units)
    calls = []
    monkeypatch.setattr(
        modern_layers,
        "kernel_gradient",
        lambda *given: calls.append(given) or kernel_gradient(*given),
    )
    rng = np.random.default_rng(0)
    maps = tf.constant(rng.normal(size=(4, side, side, 3)), tf.bfloat16)
    given = {"padding": "same", "use_bias": False, "dtype": "mixed_bfloat16"}
    layers = Conv2D(2, 3, **given), keras.layers.Conv2D(2, 3, **given)
    gradients = []
    for layer in layers:
        layer.build(maps.shape)
        layer.set_weights(layers[0].get_weights())
        model = keras.Sequential([keras.Input(maps.shape[1:], dtype=maps.dtype), layer])
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(model(maps, training=True) ** 2)
        found = tape.gradient(total, [maps, layer.kernel.value])
        gradients.append([tf.cast(each, tf.float32) for each in found])
    for ours, known in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, known, rtol=0.02, atol=0.02 * np.abs(known).max())
    assert bool(calls) == (side == 7 and units)


def test_a_convolution_of_maps_of_open_sides_is_that_of_keras(monkeypatch):
    monkeypatch.setattr(modern_layers, "has_amx", lambda: True)
    layer = Conv2D(3, 3, padding="same", use_bias=False, dtype="bfloat16")
    layer.build((None, None, None, 2))
    open_sides = tf.TensorSpec((None, None, None, 2), tf.bfloat16)
    run = tf.function(layer.call, input_signature=[open_sides])
    assert run(tf.ones((1, 4, 6, 2), tf.bfloat16)).shape == (1, 4, 6, 3)
