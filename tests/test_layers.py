import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.networks.layers import (
    Bias,
    ByteDropout,
    DepthToSpace,
    FusedBatchNormalization,
    SimulatedQuantisation,
)


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(3.0, 2.0, (8, 5, 5, 4)).astype(np.float32)


def test_it_normalises_and_updates_its_statistics_as_keras_does(maps):
    ours, keras_own = FusedBatchNormalization(), keras.layers.BatchNormalization(momentum=0.9)
    for layer in (ours, keras_own):
        layer.build(maps.shape)
    np.testing.assert_allclose(
        ours(maps, training=True), keras_own(maps, training=True), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(ours.moving_mean, keras_own.moving_mean, rtol=1e-5)
    # The fused kernel estimates the variance with n - 1: 200 values a channel here.
    np.testing.assert_allclose(ours.moving_variance, keras_own.moving_variance, rtol=0.01)
    np.testing.assert_allclose(
        ours(maps, training=False), keras_own(maps, training=False), rtol=0, atol=0.02
    )


def test_a_frozen_layer_keeps_its_statistics(maps):
    layer = FusedBatchNormalization(trainable=False)
    layer(maps, training=True)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(4))


def test_weights_stay_float32_while_maps_are_bfloat16(maps):
    layer = FusedBatchNormalization(dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(layer(maps.astype("bfloat16")).dtype) == "bfloat16"
    assert {weight.dtype for weight in layer.weights} == {"float32"}


def test_a_saved_model_finds_the_layer(maps, tmp_path):
    model = keras.Sequential([keras.Input(maps.shape[1:]), FusedBatchNormalization(momentum=0.8)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].momentum == 0.8
    np.testing.assert_array_equal(loaded(maps), model(maps))


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_leaves_out_its_rate_and_keeps_the_mean(rate):
    units = np.asarray(ByteDropout(rate, seed=0)(np.ones((1000, 333)), training=True))
    left_out = (units == 0).mean()
    assert left_out == pytest.approx(rate, abs=0.004)  # a 512th, and chance
    np.testing.assert_allclose(units[units > 0], 1 / (1 - rate), rtol=0.005)
    assert units.mean() == pytest.approx(1.0, abs=0.005)


def test_dropout_draws_anew_each_time_and_alike_from_a_seed():
    ones = np.ones((4, 50))
    first, second = ByteDropout(0.5, seed=3), ByteDropout(0.5, seed=3)
    drawn = [np.asarray(layer(ones, training=True)) for layer in (first, first, second)]
    assert (drawn[0] != drawn[1]).any()
    np.testing.assert_array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_dropout_leaves_all_in_when_not_asked_to(rate, training, maps):
    np.testing.assert_array_equal(ByteDropout(rate)(maps, training=training), maps)


def test_dropout_of_everything_leaves_nothing(maps):
    assert not np.any(ByteDropout(1.0)(maps, training=True))


def test_a_bias_after_pooling_is_that_of_the_convolution_before(maps):
    conv = keras.layers.Conv2D(3, 3, bias_initializer="normal")
    expected = keras.layers.MaxPooling2D()(conv(maps))
    alone, bias = keras.layers.Conv2D(3, 3, use_bias=False), Bias()
    alone.build(maps.shape)
    bias.build((8, 3, 3, 3))
    alone.kernel.assign(conv.kernel)
    bias.bias.assign(conv.bias)
    pooled = keras.layers.MaxPooling2D()(alone(maps))
    np.testing.assert_allclose(bias(pooled), expected, rtol=0, atol=1e-5)


# steps that no float holds exactly
@pytest.mark.parametrize(("bits", "step"), [(8, 0.01), (4, 0.1)])
def test_quantised_maps_are_the_values_of_their_codes_in_training_too(maps, bits, step):
    quantisation = Quantisation(-0.7, step, bits)
    layer = SimulatedQuantisation(-0.7, step, bits)
    expected = quantisation.values(quantisation.codes(maps - 3.0))
    for training in (False, True):
        rounded = layer(maps - 3.0, training=training)
        np.testing.assert_allclose(rounded, expected, rtol=0, atol=1e-6)
        assert len(np.unique(rounded)) <= 2**bits
    np.testing.assert_array_equal(rounded, layer(maps - 3.0, training=False))


def test_the_gradient_passes_where_nothing_is_clipped():
    values = tf.constant([-1.1, -1.0, -0.003, 0.5, 0.99, 1.1])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(3.0 * SimulatedQuantisation(-1.0, 1 / 128)(values, training=True))
    assert tape.gradient(total, values).numpy().tolist() == [0.0, 3.0, 3.0, 3.0, 3.0, 0.0]


def test_a_saved_model_finds_the_quantisation(maps, tmp_path):
    model = keras.Sequential([keras.Input(maps.shape[1:]), SimulatedQuantisation(-1.0, 0.25)])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras")(maps), model(maps)
    )


def test_the_channels_of_a_place_become_a_block():
    channels = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
    places = np.asarray(DepthToSpace(2)(channels))
    np.testing.assert_array_equal(places, [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]])
    assert DepthToSpace(2).compute_output_shape((None, 3, 5, 8)) == (None, 6, 10, 2)
