"""Copies of a network: one alike, and one for inference, into whose layers scales and shifts are
folded."""

from collections.abc import Collection

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_ddnn.networks.layers import Bias, settle
from keras_ddnn.networks.wiring import readers_of, wiring

# What a normalisation is folded into. The last axis of the result are the channels.
MAKES_MAPS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv2D, layers.Dense)


def fold(model: keras.Model, float32: Collection[str] = ()) -> keras.Model:
    """Copy a functional model for inference, with normalisations folded into the layers before.

    Each batch normalisation behind a convolution or a dense layer that nothing else reads is
    folded, and each `Bias`, behind max-pooling too. Others are left as they are.

    Args:
        model: Functional.
        float32: Names of layers that shall compute in float32 whatever they were trained in, as a
            device does, so that a score is the same on both sides of an export.

    Returns:
        keras.Model: The same function in inference mode, to rounding, with weights of its own and
            layers of the same names.
    """
    source_of = _foldable(model)
    sources = set(source_of.values())

    def clone(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config() | ({"dtype": "float32"} if layer.name in float32 else {})
        if layer.name in source_of:
            return layers.Identity(name=layer.name, dtype=config["dtype"])
        if layer.name in sources:
            config = config | {"use_bias": True}
        return type(layer).from_config(config)

    # An Identity knows no `mask`, which was passed to the normalisation in its place.
    folded = keras.models.clone_model(
        model,
        clone_function=clone,
        call_function=lambda layer, *inputs, **options: layer(
            *inputs, **({} if layer.name in source_of else options)
        ),
    )
    for layer in model.layers:
        if layer.weights and layer.name not in sources and layer.name not in source_of:
            folded.get_layer(layer.name).set_weights(layer.get_weights())
            settle(folded.get_layer(layer.name))
    for name, source in source_of.items():
        weights = _folded_weights(model.get_layer(name), model.get_layer(source))
        folded.get_layer(source).set_weights([np.asarray(weight) for weight in weights])
    return folded


def twin(model: keras.Model, inputs: keras.KerasTensor | None = None) -> keras.Model:
    """Return a model of the same weights and of layers of its own, on other inputs if given."""
    twin = keras.models.clone_model(model, input_tensors=inputs)
    twin.set_weights(model.get_weights())
    settle(twin)
    for ours, theirs in zip(twin.layers, model.layers, strict=True):
        ours.trainable = theirs.trainable
    return twin


def _foldable(model: keras.Model) -> dict[str, str]:
    """Return what can be folded: name of a layer → name of the layer before that takes it up."""
    feeds = wiring(model)
    readers = readers_of(feeds)
    found = {}
    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization | Bias):
            continue
        source = _only(feeds[layer.name])
        # The largest of several values stays the largest when the same is added to all.
        while isinstance(layer, Bias) and isinstance(_layer(model, source), layers.MaxPooling2D):
            source = _only(feeds[source]) if len(readers[source]) == 1 else None
        maker = _layer(model, source)
        if (
            isinstance(maker, MAKES_MAPS)
            and len(readers[source]) == 1
            and maker.activation is keras.activations.linear
            and _is_last(layer, maker)
        ):
            found[layer.name] = source
    return found


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _layer(model: keras.Model, name: str | None) -> layers.Layer | None:
    return next((layer for layer in model.layers if layer.name == name), None)


def _is_last(layer: layers.Layer, maker: layers.Layer) -> bool:
    """Return whether a layer scales the last axis, and the maker has its channels there."""
    rank = len(maker.output.shape)
    axis = getattr(layer, "axis", -1)
    channels_last = getattr(maker, "data_format", "channels_last") == "channels_last"
    return channels_last and axis in (-1, rank - 1)


def _folded_weights(layer: layers.Layer, maker: layers.Layer) -> list:
    kernel = maker.kernel
    bias = maker.bias if maker.use_bias else None
    if isinstance(layer, Bias):
        return [kernel, layer.bias if bias is None else bias + layer.bias]
    scale = (layer.gamma if layer.scale else 1.0) / tf.sqrt(layer.moving_variance + layer.epsilon)
    mean = layer.moving_mean if bias is None else layer.moving_mean - bias
    shift = (layer.beta if layer.center else 0.0) - mean * scale
    if isinstance(maker, layers.DepthwiseConv2D):
        return [kernel * tf.reshape(scale, kernel.shape[-2:]), shift]
    return [kernel * scale, shift]
