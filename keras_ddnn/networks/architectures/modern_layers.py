"""Layers of the networks of today: those of Keras, made faster to train."""

from collections.abc import Callable, Sequence
from math import pi, sqrt

import keras
import tensorflow as tf

from keras_ddnn.networks.architectures.processor import has_amx

SMALL_SIDE = 7  # pixels; from 8 on the kernel of TensorFlow is as fast with few channels


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Gelu(keras.layers.Layer):
    """The activation x·Φ(x), whose value and gradient are a kernel each while it is trained.

    TensorFlow composes both from a dozen elementwise operations, each of which rounds to the
    compute type: two fifths of a training step in bfloat16 on a CPU. XLA makes one kernel of them,
    in float32 inside. Without training the operations stay apart, as converters read them.

    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016.

    Attributes:
        always_kernel: Whether it is a kernel without training, too; no converter reads it then.
    """

    always_kernel = False

    def call(self, inputs, training=False):
        """Return the activated values, of the shape and type of `inputs`."""
        return _gelu(inputs) if training or self.always_kernel else tf.nn.gelu(inputs)


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Conv2D(keras.layers.Conv2D):
    """A convolution whose weights learn faster from maps of few pixels.

    The kernel of the gradient that TensorFlow calls on Intel's matrix units (AMX) reduces 32
    pixels of a row at a time, so that of a row of 7 it wastes three quarters. Here a product of
    matrices for each place of the kernel reduces the pixels of all rows and images at once.
    Wherever that does not pay it is Keras' layer, whose name it has: files of weights find their
    layers by the names of classes.
    """

    def convolution_op(self, inputs, kernel):
        """Return the convolution of (n, h, w, c) maps, without bias or activation."""
        if not self._pays(inputs):
            return super().convolution_op(inputs, kernel)
        return _same_convolution(inputs, tf.cast(kernel, inputs.dtype))

    def _pays(self, inputs):
        return (
            self.strides == self.dilation_rate == (1, 1)
            and self.groups == 1
            and self.padding == "same"
            and not self.use_bias  # where normalisation is folded in, nothing is trained
            and self.data_format == "channels_last"
            and all(side % 2 for side in self.kernel_size)
            and inputs.dtype == tf.bfloat16
            and all(side and side <= SMALL_SIDE for side in inputs.shape[1:3])
            and has_amx()
        )


@tf.custom_gradient
def _same_convolution(
    maps: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    def gradients(slope: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_maps = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(maps),
            filter=kernel,
            out_backprop=slope,
            strides=[1] * 4,
            padding="SAME",
        )
        return of_maps, kernel_gradient(maps, slope, kernel.shape)

    return tf.nn.conv2d(maps, kernel, 1, "SAME"), gradients


def kernel_gradient(maps: tf.Tensor, slope: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Return the gradient of the kernel of a convolution of stride 1 that keeps the sides.

    Args:
        maps: What was convolved, (n, h, w, c).
        slope: Gradient of what came out, (n, h, w, f).
        shape: Of the kernel, (i, j, c, f) with odd i and j.
    """
    high, wide = (side // 2 for side in shape[:2])
    width = maps.shape[2] + wide

    def rows(values: tf.Tensor) -> tf.Tensor:  # zeros behind each row and image part them
        values = tf.pad(values, [[0, 0], [0, high], [0, wide], [0, 0]])
        return tf.reshape(values, [-1, values.shape[-1]])

    maps, slope = rows(maps), rows(slope)
    count, products = tf.shape(maps)[0], []
    for down in range(-high, high + 1):
        for right in range(-wide, wide + 1):
            ahead = down * width + right
            read = maps[max(ahead, 0) : count + min(ahead, 0)]
            met = slope[max(-ahead, 0) : count + min(-ahead, 0)]
            products.append(tf.matmul(read, met, transpose_a=True))
    return tf.reshape(tf.stack(products), shape)


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
MODERN_LAYERS = frozenset(map(keras.saving.get_registered_name, (Gelu, Conv2D)))
