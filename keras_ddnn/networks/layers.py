"""Layers of our own, registered so that a saved model finds them."""

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.data.quantisation import Quantisation

BYTE_VALUES = 256
WHITENING_FLOOR = 5e-5  # of the largest variance
NO_VARIANCE = 1e-7  # of the largest: less is rounding
TINY = 1e-12  # keeps the scale of an image of one colour finite


def settle(layer: keras.layers.Layer) -> None:
    """Let a layer or model compute with weights that it has just been given.

    `Normalization`, wherever it is nested, computes with copies of its weights.
    """
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()
    inner = [*getattr(layer, "layers", ()), getattr(layer, "layer", None)]
    for each in inner:
        if isinstance(each, keras.layers.Layer):
            settle(each)


@keras.saving.register_keras_serializable(package="keras_ddnn")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the channels of (n, h, w, c) maps by TensorFlow's fused kernel.

    Keras 3 composes the operation from a dozen elementwise ones; a single kernel makes
    the training of a DDNN on a CPU up to twice as fast. The weights stay float32 and
    exchangeable with those of `keras.layers.BatchNormalization`.

    Source: Ioffe & Szegedy, "Batch Normalization", 2015.
    """

    def __init__(self, momentum=0.9, **kwargs):
        super().__init__(momentum=momentum, autocast=False, **kwargs)

    def get_config(self):
        """Return the arguments that rebuild the layer; `autocast` is ours, not the caller's."""
        return {key: value for key, value in super().get_config().items() if key != "autocast"}

    def call(self, inputs, training=None, mask=None):
        """Normalise maps of shape (n, h, w, c) by the batch (training) or the moving statistics."""
        training = bool(training) and self.trainable
        empty = tf.zeros([0])
        mean = self.moving_mean  # a layer may have no scale or no offset of its own
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones_like(mean) if self.gamma is None else self.gamma,
            offset=tf.zeros_like(mean) if self.beta is None else self.beta,
            mean=empty if training else self.moving_mean,
            variance=empty if training else self.moving_variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            for moving, batch in (
                (self.moving_mean, outputs.batch_mean),
                (self.moving_variance, outputs.batch_variance),
            ):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs.y

    def multiply_adds(self) -> int:
        """Return none: the layer folds into the convolution before it."""
        return 0


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Bias(keras.layers.Layer):
    """Adds one trained number a channel to (n, h, w, c) maps, as the bias of a convolution does.

    On its own it can follow max-pooling, which it does not change: the gradient then sums a quarter
    of the values.
    """

    def build(self, input_shape):
        """Make the bias, zeros of shape (c,)."""
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs):
        """Add the bias to maps of shape (n, h, w, c)."""
        return tf.nn.bias_add(inputs, self.bias)

    def multiply_adds(self) -> int:
        """Return none: a bias only adds."""
        return 0


@keras.saving.register_keras_serializable(package="keras_ddnn")
class ByteDropout(keras.layers.Dropout):
    """Dropout that draws a byte a unit, where Keras draws four.

    Random numbers took 4% of the training of a DDNN on a CPU. The rate is rounded to a 256th, and
    what is kept is scaled by the rate as rounded, so that the mean stays exact.

    Source: Srivastava et al., "Dropout", 2014.
    """

    def call(self, inputs, training=False):
        """Leave units of (n, …) out at random in training; return `inputs` otherwise."""
        left_out = round(BYTE_VALUES * self.rate)
        if not training or not left_out:
            return inputs
        if left_out == BYTE_VALUES:
            return tf.zeros_like(inputs)
        units = tf.size(inputs)
        seed = tf.cast(self.seed_generator.next() % tf.int32.max, tf.int32)
        words = tf.random.stateless_uniform([-(-units // 4)], seed, None, None, tf.uint32)
        drawn = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:units]
        kept = tf.reshape(drawn, tf.shape(inputs)) >= left_out
        return inputs * (tf.cast(kept, inputs.dtype) * (BYTE_VALUES / (BYTE_VALUES - left_out)))


@keras.saving.register_keras_serializable(package="keras_ddnn")
class SimulatedQuantisation(keras.layers.Layer):
    """Rounds maps of any shape to the values of codes, with a straight-through gradient.

    In the range of the codes the gradient passes as if nothing were rounded; outside, where values
    are clipped, it is zero.

    Sources: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013;
    Jacob et al., "Quantization and Training of Neural Networks", 2018.

    Args:
        low: Value of code 0.
        step: Between two codes.
        bits: Bits of a code; a `Quantisation` has all three.
    """

    def __init__(self, low: float, step: float, bits: int = 8, **kwargs):
        super().__init__(**kwargs)
        self.quantisation = Quantisation(low, step, bits)

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | self.quantisation.as_json()

    def call(self, inputs, training=None):
        """Return the nearest values, in the compute type, which should hold them exactly."""
        low, step = self.quantisation.low, self.quantisation.step
        codes = (tf.cast(inputs, tf.float32) - low) / step
        codes = tf.clip_by_value(codes, 0.0, float(self.quantisation.highest))
        rounded = tf.round(codes)
        if training:
            # The rounded codes, exactly, with the gradient of the others.
            rounded = tf.stop_gradient(rounded) + (codes - tf.stop_gradient(codes))
        return tf.cast(low + step * rounded, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_ddnn")
class DepthToSpace(keras.layers.Layer):
    """Lays the channels of each place of (n, h, w, b·b·f) out as a block: (n, b·h, b·w, f).

    After a 1×1 convolution it is a transposed convolution whose blocks do not overlap (Shi et al.,
    "Real-Time Single Image and Video Super-Resolution", 2016).

    Args:
        block: A side of the block, b.
    """

    def __init__(self, block: int, **kwargs):
        super().__init__(**kwargs)
        self.block = block

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | {"block": self.block}

    def call(self, inputs):
        """Return the blocks."""
        return inputs if self.block == 1 else tf.nn.depth_to_space(inputs, self.block)

    def compute_output_shape(self, input_shape):
        """Return the shape of the blocks."""
        n, h, w, channels = input_shape
        return n, self.block * h, self.block * w, channels // self.block**2


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Whitening(keras.layers.Conv2D):
    """Maps patches of (n, h, w, c) maps to uncorrelated values of variance 1.

    Its weights come from data, see `start`, and are not trained: until then it gives zeros.

    Source: Page, "How to Train Your ResNet", 2018; Jordan, 2024.

    Args:
        kernel_size: Side of a patch, s.
        directions: How many of the s·s·c directions are kept, those of the largest variance; None
            for all.
        opposites: Whether the opposites of all values follow, so that an activation loses nothing.
        **options: Of `keras.layers.Conv2D`, but the number of filters.
    """

    def __init__(self, kernel_size=2, directions=None, opposites=True, **options):
        known = {"kernel_initializer": "zeros", "trainable": False} | options
        super().__init__(known.pop("filters", 1), kernel_size, **known)
        self.directions, self.opposites = directions, opposites

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        kept = {"directions": self.directions, "opposites": self.opposites}
        return super().get_config() | kept

    def build(self, input_shape):
        """Make as many filters as the channels of the input ask for."""
        self._count_filters(input_shape)
        super().build(input_shape)

    def compute_output_shape(self, input_shape):
        """Return the shape of the maps."""
        self._count_filters(input_shape)
        return super().compute_output_shape(input_shape)

    def _count_filters(self, input_shape):
        height, width = self.kernel_size
        self.filters = self.directions or height * width * input_shape[-1]
        self.filters *= 2 if self.opposites else 1

    def start(self, maps):
        """Take the weights from maps of shape (n, h, w, c), as they come to the layer.

        Directions of little variance are not blown up to full size: `WHITENING_FLOOR` of the
        largest variance is added to all. Where maps vary in fewer directions than are kept, as
        those of three equal channels do, the ones they vary in are repeated in turn: a value that
        is always the same has no variance for a later layer to normalise, and training diverges.
        """
        sides = [1, *self.kernel_size, 1]
        patches = tf.image.extract_patches(
            tf.cast(maps, tf.float32), sides, [1, *self.strides, 1], [1, 1, 1, 1], "VALID"
        ).numpy()
        patches = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
        mean = patches.mean(axis=0)
        variances, directions = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
        scales = np.sqrt(variances + max(WHITENING_FLOOR * variances[-1], TINY))
        filters = (directions / scales)[:, ::-1]  # those of the largest variance first
        varying = max(1, np.sum(variances > NO_VARIANCE * variances[-1]))
        filters = filters[:, np.arange(self.directions or len(scales)) % varying]
        if self.opposites:
            filters = np.concatenate([filters, -filters], axis=1)
        kernel = filters.reshape(*self.kernel_size, -1, self.filters)
        self.set_weights([kernel, -mean @ filters])


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Unwhitening(keras.layers.Conv2D):
    """Maps whitened values (n, h, w, d) to the patches (n, h, w, s·s·c) that they come from.

    It is the pseudo-inverse, see `start`, and is not trained, as no normalisation follows it: Muon,
    which keeps the norms of kernels, would change the scale of all that it gives.

    Args:
        whitening: Name of the `Whitening` without opposites, in the same model.
        filters: Of a patch, s·s·c.
        **options: Of `keras.layers.Conv2D`, but the size of the kernel.
    """

    def __init__(self, whitening, filters, **options):
        known = {"kernel_initializer": "zeros", "trainable": False} | options
        super().__init__(filters, known.pop("kernel_size", 1), **known)
        self.whitening = whitening

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | {"whitening": self.whitening}

    def start(self, whitening):
        """Take the weights from the layer whose values it reads."""
        kernel, bias = (weight.astype(np.float64) for weight in whitening.get_weights())
        back = np.linalg.pinv(kernel.reshape(-1, kernel.shape[-1]))
        self.set_weights([back[None, None], -bias @ back])


def waiting_for_data(model: keras.Model) -> list[Whitening | Unwhitening]:
    """Return the layers that take their weights from data and have none yet: they give zeros."""
    kinds = Whitening | Unwhitening
    fitted = (layer for layer in model.layers if isinstance(layer, kinds))
    return [layer for layer in fitted if not np.any(layer.get_weights()[0])]


# Registered names of the layers above.
OWN_LAYERS = frozenset(
    keras.saving.get_registered_name(layer)
    for layer in (
        FusedBatchNormalization,
        Bias,
        ByteDropout,
        SimulatedQuantisation,
        DepthToSpace,
        Whitening,
        Unwhitening,
    )
)
