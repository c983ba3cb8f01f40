"""A bottleneck put into a trained DDNN: what passes it is most of what the map has to say."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_ddnn.config import DDNNConfig, feature_quantisation
from keras_ddnn.networks.layers import FusedBatchNormalization
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.training.bottleneck_start import start_bottleneck

CONFIG = DDNNConfig(
    local_filters=4, cloud_filters=((4,), (8, 8)), cloud_units=(8,), precision="float32"
)
# Smooth, as images are: neighbouring places tell of each other.
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
IMAGES = IMAGES.repeat(5, axis=1).repeat(5, axis=2)


@pytest.fixture(scope="module")
def wide():
    keras.utils.set_random_seed(1)
    model = build_ddnn((20, 20, 3), 3, CONFIG)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, FusedBatchNormalization):  # as if it had been trained
            layer.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in layer.get_weights()])
    return model


def start(wide, channels):
    config = replace(CONFIG, bottleneck=channels)
    narrow = build_ddnn((20, 20, 3), 3, config)
    start_bottleneck(narrow, wide, IMAGES, feature_quantisation(config))
    return narrow


def lost(narrow, wide, training=False):
    """Return the share of the variance of the cloud's logits that is lost in a bottleneck."""
    before, after = (np.asarray(m(IMAGES, training=training)["cloud"]) for m in (wide, narrow))
    return np.square(after - before).sum() / np.square(before - before.mean(axis=0)).sum()


def test_the_local_network_stays_as_it_was(wide):
    np.testing.assert_array_equal(start(wide, 2)(IMAGES)["local"], wide(IMAGES)["local"])


def test_the_cloud_says_nearly_the_same_and_the_nearer_the_more_passes(wide):
    losses = [lost(start(wide, channels), wide) for channels in (2, 6, 16)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.15 < losses[0]


def test_training_goes_on_from_there(wide):
    """The statistics of a batch lead to nearly what the moving ones lead to."""
    narrow = start(wide, 16)
    widened = keras.Model(narrow.input, narrow.get_layer("cloud_places").output)
    inferred, trained = (np.asarray(widened(IMAGES, training=mode)) for mode in (False, True))
    assert np.abs(trained - inferred).mean() < 0.1 * inferred.std()


def test_odd_sides_are_no_obstacle():
    before = build_ddnn((30, 30, 3), 3, CONFIG)
    images = IMAGES.repeat(2, axis=1).repeat(2, axis=2)[:, :30, :30]
    config = replace(CONFIG, bottleneck=16)
    after = build_ddnn((30, 30, 3), 3, config)
    start_bottleneck(after, before, images, feature_quantisation(config))
    assert after.get_layer("features").output.shape[1:] == (8, 8, 16)
    assert after.get_layer("cloud_crop").output.shape[1:] == (15, 15, 4)
    np.testing.assert_array_equal(after(images)["local"], before(images)["local"])
