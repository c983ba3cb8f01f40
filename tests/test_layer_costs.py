"""The multiply-adds of each kind of layer, by hand; what is not known is None and never 0."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ddnn.networks.costs.model_costs import describe_layers, multiply_adds
from keras_ddnn.networks.layers import (
    Bias,
    ByteDropout,
    FusedBatchNormalization,
    SimulatedQuantisation,
)

MAP, SERIES, VIDEO = (8, 8, 6), (10, 6), (5, 8, 8, 6)
SMALL = {"filters": 4, "kernel_size": 3}


def count(layer, shape, input_shape=None):
    inputs = keras.Input(shape)
    return multiply_adds(keras.Model(inputs, layer(inputs)), input_shape)


@pytest.mark.parametrize(
    ("layer", "shape", "by_hand"),
    [
        (layers.Conv1D(4, 3), SERIES, 8 * (3 * 6) * 4),
        (layers.Conv1D(4, 3, dilation_rate=2), SERIES, 6 * (3 * 6) * 4),
        (layers.Conv1D(4, 3, padding="causal"), SERIES, 10 * (3 * 6) * 4),
        (layers.Conv2D(4, 3, strides=2, padding="same"), MAP, 4 * 4 * (3 * 3 * 6) * 4),
        (layers.Conv2D(4, 3, groups=2), MAP, 6 * 6 * (3 * 3 * 3) * 4),
        (layers.Conv2D(4, 3, data_format="channels_first"), (6, 8, 8), 6 * 6 * (3 * 3 * 6) * 4),
        (layers.Conv3D(4, (1, 3, 3)), VIDEO, 5 * 6 * 6 * (3 * 3 * 6) * 4),
        (layers.DepthwiseConv1D(3, depth_multiplier=2), SERIES, 8 * 3 * 6 * 2),
        (layers.DepthwiseConv2D(3, strides=2, padding="same"), MAP, 4 * 4 * (3 * 3) * 6),
        (layers.SeparableConv1D(4, 3), SERIES, 8 * (3 * 6 + 6 * 4)),
        (layers.SeparableConv2D(4, 3), MAP, 6 * 6 * (3 * 3 * 6 + 6 * 4)),
        (layers.Conv1DTranspose(4, 3, strides=2), SERIES, 10 * (3 * 6) * 4),
        (layers.Conv2DTranspose(4, 3, strides=2), MAP, 8 * 8 * (3 * 3 * 6) * 4),
        (layers.Conv3DTranspose(4, 3), VIDEO, 5 * 8 * 8 * (3 * 3 * 3 * 6) * 4),
        (layers.Dense(7), (6,), 6 * 7),
        (layers.Dense(7), VIDEO, 5 * 8 * 8 * 6 * 7),
        (layers.EinsumDense("abc,cd->abd", (None, 7)), SERIES, 10 * 6 * 7),
        (layers.EinsumDense("...x,xy->...y", 7), MAP, 8 * 8 * 6 * 7),
        (layers.EinsumDense("abc,bcd->ad", 7), SERIES, 10 * 6 * 7),
        (layers.Embedding(100, 16), (10,), 0),
        (layers.SimpleRNN(4), SERIES, 10 * (6 * 4 + 4 * 4)),
        (layers.LSTM(4), SERIES, 10 * 4 * (6 * 4 + 4 * 4)),
        (layers.GRU(4, return_sequences=True), SERIES, 10 * 3 * (6 * 4 + 4 * 4)),
        (layers.Bidirectional(layers.LSTM(4)), SERIES, 2 * 10 * 4 * (6 * 4 + 4 * 4)),
        (
            layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)]),
            SERIES,
            10 * (4 * (6 * 4 + 4 * 4) + 3 * (4 * 5 + 5 * 5)),
        ),
        (layers.TimeDistributed(layers.Conv2D(4, 3)), VIDEO, 5 * 6 * 6 * (3 * 3 * 6) * 4),
        # Each step: the input and the state of 4 channels, to 4 gates of 4 channels.
        (layers.ConvLSTM1D(4, 3), (5, 8, 6), 5 * 6 * (3 * (6 + 4) * 4 * 4)),
        (
            layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True),
            VIDEO,
            5 * 8 * 8 * (3 * 3 * (6 + 4) * 4 * 4),
        ),
        (layers.SpectralNormalization(layers.Dense(7)), (6,), 6 * 7),
        (layers.BatchNormalization(), MAP, 0),
        (layers.LayerNormalization(), SERIES, 0),
        (layers.GroupNormalization(2), MAP, 0),
        (layers.PReLU(), MAP, 0),
        (layers.Dropout(0.5), MAP, 0),
        (layers.MaxPooling2D(), MAP, 0),
        (layers.Resizing(4, 4), MAP, 0),
    ],
    ids=lambda value: value.name if isinstance(value, layers.Layer) else "",
)
def test_a_layer_costs_what_it_does_by_hand(layer, shape, by_hand):
    assert count(layer, shape) == by_hand


def attended(layer, query, value):
    inputs = [keras.Input(query), keras.Input(value)]
    return multiply_adds(keras.Model(inputs, layer(*inputs)))


def test_attention_costs_projections_scores_and_sums():
    # 10 queries of 6 values and 4 keys of 5, two heads of 3 values.
    projections = 10 * 6 * 6 + 4 * 5 * 6 + 4 * 5 * 6 + 10 * 6 * 6
    pairs = 2 * 10 * 4 * (3 + 3)
    layer = layers.MultiHeadAttention(num_heads=2, key_dim=3)
    assert attended(layer, (10, 6), (4, 5)) == projections + pairs


def test_attention_along_one_axis_asks_along_that_axis_only():
    layer = layers.MultiHeadAttention(num_heads=1, key_dim=3, attention_axes=2)
    inputs = keras.Input((7, 10, 6))
    model = keras.Model(inputs, layer(query=inputs, value=inputs))
    assert multiply_adds(model) == 4 * (7 * 10 * 6 * 3) + 7 * 10 * 10 * (3 + 3)


def test_grouped_queries_share_their_keys():
    # Four heads of queries and two of keys and values, of 3 values each.
    projections = 2 * 10 * 6 * (4 * 3) + 2 * 10 * 6 * (2 * 3)
    pairs = 4 * 10 * 10 * (3 + 3)
    layer = layers.GroupQueryAttention(3, num_query_heads=4, num_key_value_heads=2)
    assert attended(layer, (10, 6), (10, 6)) == projections + pairs


@pytest.mark.parametrize("kind", [layers.Attention, layers.AdditiveAttention])
def test_attention_without_projections_costs_its_pairs(kind):
    inputs = [keras.Input((10, 6)), keras.Input((4, 6))]
    assert multiply_adds(keras.Model(inputs, kind()(inputs))) == 10 * 4 * (6 + 6)


def test_products_of_two_tensors_are_counted():
    one, other = keras.Input((10, 6)), keras.Input((6, 4))
    by_hand = 10 * 6 * 4
    for product in (
        layers.Dot(axes=(2, 1))([one, other]),
        ops.matmul(one, other),
        one @ other,
        ops.einsum("nij,njk->nik", one, other),
    ):
        assert multiply_adds(keras.Model([one, other], product)) == by_hand
    assert multiply_adds(keras.Model(one, one / 255.0 + 1.0)) == 0
    assert multiply_adds(keras.Model(one, ops.fft((one, one))[0])) is None


def test_a_classifier_over_embeddings_may_run_backwards():
    layer = layers.ReversibleEmbedding(100, 16)
    inputs = keras.Input((10,), dtype="int32")
    assert multiply_adds(keras.Model(inputs, layer(layer(inputs), reverse=True))) == 10 * 16 * 100


def block(shape=(None, None, 6)):
    """Return a model of any size: a convolution, and its mean."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(**SMALL, name="conv")(inputs)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="block")


def test_nested_models_count_by_the_size_they_are_called_with():
    by_hand = 6 * 6 * (3 * 3 * 6) * 4
    assert count(block(), MAP) == by_hand
    assert count(keras.Sequential([block(), layers.Dense(5)]), MAP) == by_hand + 4 * 5
    assert count(layers.TimeDistributed(block(MAP)), VIDEO) == 5 * by_hand
    assert multiply_adds(keras.Sequential([keras.Input(MAP), block()])) == by_hand


def test_a_shared_layer_counts_once_a_call():
    inputs, layer = keras.Input((6,)), layers.Dense(6, name="shared")
    model = keras.Model(inputs, layer(layers.ReLU()(layer(inputs))))
    assert multiply_adds(model) == 2 * 6 * 6
    (shared,) = (record for record in describe_layers(model) if record["name"] == "shared")
    assert (shared["multiply_adds"], shared["parameters"]) == (2 * 6 * 6, 6 * 6 + 6)


def test_an_open_length_is_unknown_until_it_is_given():
    open_series = (None, 6)
    for layer in (layers.Conv1D(4, 3), layers.LSTM(4), layers.Dense(7)):
        assert count(layer, open_series) is None
    assert count(layers.Conv1D(4, 3), open_series, SERIES) == 8 * (3 * 6) * 4
    assert count(layers.LSTM(4), open_series, SERIES) == 10 * 4 * (6 * 4 + 4 * 4)
    with pytest.raises(ValueError, match=r"input of shape \(None, 6\); received \(10, 5\)"):
        count(layers.LSTM(4), open_series, (10, 5))


class Scale(layers.Layer):
    """A layer of a user's own, with weights."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))

    def call(self, inputs):
        return inputs * self.scale

    def compute_output_shape(self, shape):
        return shape


class CountedScale(Scale):
    def multiply_adds(self):
        return 6


class MoreThanDense(layers.Dense):
    def call(self, inputs):
        return super().call(super().call(inputs))


class NamedDense(layers.Dense):
    """It changes nothing of what is computed."""


class Cell(layers.SimpleRNNCell):
    def multiply_adds(self):
        return 9


def test_a_layer_that_is_not_known_is_unknown_unless_it_tells():
    assert count(Scale(), (6,)) is None
    assert count(CountedScale(), (6,)) == 6
    assert count(MoreThanDense(6), (6,)) is None
    assert count(NamedDense(7), (6,)) == 6 * 7
    assert count(layers.TimeDistributed(Scale()), SERIES) is None
    assert count(keras.Sequential([layers.Dense(5), Scale()]), (6,)) is None
    (record,) = describe_layers(keras.Sequential([keras.Input((6,)), Scale()]))
    assert record["multiply_adds"] is None


def test_our_own_layers_cost_nothing():
    for layer in (Bias(), FusedBatchNormalization(), ByteDropout(0.5)):
        assert count(layer, MAP) == 0
    assert count(SimulatedQuantisation(0.0, 0.1), MAP) == 0


def test_half_precision_changes_no_count():
    scale = CountedScale(dtype="mixed_bfloat16")
    dense = layers.Dense(7, dtype="mixed_bfloat16")
    assert count(keras.Sequential([scale, dense]), (6,)) == 6 + 6 * 7


def test_transforms_without_trained_weights_are_unknown_too():
    assert count(layers.STFTSpectrogram(frame_length=8, frame_step=4), (32, 1)) is None
    assert count(layers.MelSpectrogram(fft_length=8, sequence_stride=4), (32,)) is None


def test_layers_that_applications_bring_along_are_known():
    model = keras.applications.ConvNeXtTiny(weights=None, input_shape=(32, 32, 3))
    assert multiply_adds(model) > 8 * 8 * (4 * 4 * 3) * 96  # its first layer


def test_what_is_counted_is_the_same_however_the_model_is_wrapped():
    inputs = keras.Input(MAP, name="map")
    outputs = {"b": layers.Conv2D(**SMALL)(inputs), "a": layers.Flatten()(inputs)}
    model = keras.Model({"map": inputs}, outputs)
    assert multiply_adds(model) == 6 * 6 * (3 * 3 * 6) * 4
    names = [record["name"] for record in describe_layers(model)]
    assert names == [layer.name for layer in model.layers]
    assert np.all([record["inputs"] == ["map"] for record in describe_layers(model)[1:]])
