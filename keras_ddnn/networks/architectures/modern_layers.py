"""Layers of the networks of today."""

from collections.abc import Callable
from math import pi, sqrt

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Gelu(keras.layers.Layer):
    """The activation x·Φ(x), whose value and gradient are a kernel each while it is trained.

    TensorFlow composes both from a dozen elementwise operations, each of which rounds to the
    compute type: half of a training step in bfloat16 on a CPU. XLA makes one kernel of them, in
    float32 inside. Without training the operations stay apart, as converters read them.

    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016.
    """

    def call(self, inputs, training=False):
        """Return the activated values, of the shape and type of `inputs`."""
        return _gelu(inputs) if training else tf.nn.gelu(inputs)

    def compute_output_shape(self, input_shape):
        """Return the same shape."""
        return input_shape

    def multiply_adds(self) -> int:
        """Return none, as for all activations."""
        return 0


def _compiled(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Return a function of tensors of one type, which is computed in float32 as one kernel."""

    @tf.function(jit_compile=True)
    def run(*values: tf.Tensor) -> tf.Tensor:
        computed = function(*(tf.cast(value, tf.float32) for value in values))
        return tf.cast(computed, values[0].dtype)

    return run


def _normal_cdf(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * (1.0 + tf.math.erf(x / sqrt(2)))


def _normal_pdf(x: tf.Tensor) -> tf.Tensor:
    return tf.exp(-0.5 * x * x) / sqrt(2 * pi)


_value = _compiled(lambda x: x * _normal_cdf(x))
_slope = _compiled(lambda gradient, x: gradient * (_normal_cdf(x) + x * _normal_pdf(x)))


@tf.custom_gradient
def _gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    return _value(x), lambda gradient: _slope(gradient, x)


# Registered names of the layers above.
MODERN_LAYERS = frozenset({keras.saving.get_registered_name(Gelu)})
