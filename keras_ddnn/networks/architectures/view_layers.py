"""Layers of networks of several cameras. One convention holds for all: what is zeros is absent."""

import keras
import tensorflow as tf

from keras_ddnn.files.checks import require_choice, require_count, require_fraction

IN_FLOAT = "score"  # scope of what a device computes in float32 at all events; see `export_edge`
AGGREGATIONS = ("max", "mean", "concatenation")  # MP, AP, CC of the source


@keras.saving.register_keras_serializable(package="keras_ddnn")
class AbsentViews(keras.layers.Layer):
    """Makes frames of cameras black at random in training, of every sample but one that is there.

    What it makes is what an absent camera gives, so that a network meets both alike.

    Args:
        rate: Share of the frames that are made black, in [0, 1].
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        require_fraction("rate", rate)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | {"rate": self.rate}

    def call(self, inputs, training=False):
        """Blacken frames of (n, D, h, w, c) in training; return `inputs` otherwise."""
        if not training or not self.rate:
            return inputs
        seed = tf.cast(self.seed_generator.next() % tf.int32.max, tf.int32)
        drawn = tf.random.stateless_uniform(tf.shape(inputs)[:2], seed)
        # Of the cameras that are there, the one that was drawn last always stays.
        there = tf.reduce_any(inputs > 0, axis=(2, 3, 4))
        last = tf.argmax(tf.where(there, drawn, -1.0), axis=1, output_type=tf.int32)
        kept = (drawn >= self.rate) | (tf.range(inputs.shape[1]) == last[:, None])
        return tf.where(kept[:, :, None, None, None], inputs, tf.zeros_like(inputs))


@keras.saving.register_keras_serializable(package="keras_ddnn")
class View(keras.layers.Layer):
    """Gives the frame of one camera.

    Args:
        place: Which, from 0.
    """

    def __init__(self, place: int, **kwargs):
        super().__init__(**kwargs)
        self.place = place

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | {"place": self.place}

    def call(self, inputs):
        """Return frame `place` of (n, D, h, w, c), (n, h, w, c)."""
        return inputs[:, self.place]


@keras.saving.register_keras_serializable(package="keras_ddnn")
class WherePresent(keras.layers.Layer):
    """Sets what a device says to zeros where the frame of its camera is black."""

    def call(self, inputs, frames):
        """Return `inputs` (n, ...) where `frames` (n, h, w, c) hold a pixel above 0, else zeros."""
        # LiteRT aborts where it compares numbers of eight bits.
        with tf.name_scope(IN_FLOAT):
            brightest = tf.reduce_max(tf.cast(frames, inputs.dtype), axis=(1, 2, 3))
            present = tf.cast(brightest > 0, inputs.dtype)
            present = tf.reshape(present, (-1, *(1 for _ in inputs.shape[1:])))
        return inputs * present


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Aggregation(keras.layers.Layer):
    """Combines what D devices say, whose channels lie side by side: (n, ..., D·f) → (n, ..., f).

    A device that says zeros alone is absent. The largest value and the mean are those of the
    others, and zeros where there are none. Concatenation leaves all as it is, (n, ..., D·f).

    Source: Teerapittayanon et al., "Distributed Deep Neural Networks over the Cloud, the Edge and
    End Devices", 2017: max pooling, average pooling, concatenation.

    Args:
        how: One of `AGGREGATIONS`.
        devices: How many there are, D.
    """

    def __init__(self, how: str, devices: int, **kwargs):
        super().__init__(**kwargs)
        require_choice("how", how, AGGREGATIONS)
        require_count(devices=devices)
        self.how, self.devices = how, devices

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | {"how": self.how, "devices": self.devices}

    def call(self, inputs):
        """Return what all devices say together."""
        if self.how == "concatenation":
            return inputs
        *places, channels = inputs.shape[1:]
        said = tf.reshape(inputs, (-1, *places, self.devices, channels // self.devices))
        inner = (*range(1, len(places) + 1), len(places) + 2)
        present = tf.reduce_max(tf.abs(said), axis=inner, keepdims=True) > 0
        count = tf.reduce_sum(tf.cast(present, said.dtype), axis=-2)
        if self.how == "mean":
            return tf.reduce_sum(said, axis=-2) / tf.maximum(count, 1)
        largest = tf.reduce_max(tf.where(present, said, said.dtype.min), axis=-2)
        return tf.where(count > 0, largest, tf.zeros_like(largest))


# Registered names of the layers above.
VIEW_LAYERS = frozenset(
    keras.saving.get_registered_name(layer)
    for layer in (AbsentViews, View, WherePresent, Aggregation)
)
