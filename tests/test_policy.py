"""Routed inference: the cloud is asked about offloaded samples alone, and answers as ever."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ddnn.config import DDNNConfig
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.rules.confidence import Margin, Random
from keras_ddnn.training.capture import capture

CONFIG = DDNNConfig(
    local_filters=4, cloud_filters=((4,), (8,)), cloud_units=(8,), precision="float32"
)
IMAGES = np.random.default_rng(0).integers(0, 256, (700, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def bank():
    model = build_ddnn((16, 16, 3), 3, CONFIG)
    return model, capture(model, IMAGES, np.zeros(len(IMAGES), np.int64))


def policy_of(bank, local_fraction):
    model, captured = bank
    scores = Margin().score(captured.edge)
    # Between two scores, where rounding that differs with the size of a batch decides nothing.
    low, high = np.quantile(scores, [local_fraction - 0.001, local_fraction + 0.001])
    return OffloadPolicy(model, CONFIG, Margin(), (low + high) / 2, ("a", "b", "c"))


@pytest.mark.parametrize("n", [3, 700])
def test_what_is_captured_may_be_written_to_however_many_samples_it_has(bank, n):
    captured = capture(bank[0], IMAGES[:n], np.zeros(n, np.int64))
    arrays = captured.edge.outputs, captured.cloud_logits
    assert all(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("n", [1, 3, 48, 512, 513, 700])
@pytest.mark.parametrize("local_fraction", [0.3, 0.9])
def test_routing_gives_the_classes_of_both_networks_run_on_everything(bank, n, local_fraction):
    policy, captured = policy_of(bank, local_fraction), bank[1]
    classes, offloaded = policy.predict(IMAGES[:n])
    local, cloud = (
        logits[:n].argmax(axis=1) for logits in (captured.edge.outputs, captured.cloud_logits)
    )
    expected = Margin().score(captured.edge)[:n] >= policy.score_threshold
    assert (offloaded == expected).mean() >= 0.99
    np.testing.assert_array_equal(classes, np.where(offloaded, cloud, local))
    np.testing.assert_array_equal(policy.decide(IMAGES[:n]), offloaded)


def test_a_score_that_is_no_number_offloads(bank):
    class Lost:
        multiply_adds = 0

        def score(self, edge):
            return np.full(len(edge.outputs), np.nan)

    policy = OffloadPolicy(bank[0], CONFIG, Lost(), 0.5, ("a", "b", "c"))
    assert policy.decide(IMAGES[:3]).all()


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (IMAGES[:2, :, :8], r"uint8 of shape \(2, 16, 8, 3\)"),
        (IMAGES[0], r"uint8 of shape \(16, 16, 3\)"),
        (IMAGES[:2] / 255, "float64"),
        (IMAGES[:0], r"uint8 of shape \(0, 16, 16, 3\)"),
    ],
)
def test_other_images_are_refused(bank, images, received):
    policy = policy_of(bank, 0.5)
    for answer in (policy.predict, policy.decide):
        with pytest.raises(ValueError, match=f"expected uint8 images.*received {received}"):
            answer(images)


@pytest.mark.parametrize(("threshold", "asked"), [(-np.inf, 60), (np.inf, 0)])
def test_a_sample_is_answered_by_the_network_that_it_is_sent_to(bank, threshold, asked):
    model, captured = bank
    policy = OffloadPolicy(model, CONFIG, Margin(), threshold, ("a", "b", "c"))
    classes, offloaded = policy.predict(IMAGES[:60])
    assert offloaded.sum() == asked
    logits = captured.cloud_logits if asked else captured.edge.outputs
    np.testing.assert_array_equal(classes, logits[:60].argmax(axis=1))


class Unreachable(keras.layers.Layer):
    """Stands for a cloud that is down: it can be built, and fails when it runs."""

    def call(self, inputs):
        """Return the inputs, or fail."""
        down = tf.debugging.Assert(tf.reduce_any(tf.math.is_nan(inputs)), ["the cloud is down"])
        with tf.control_dependencies([down]):
            return tf.identity(inputs)


def test_the_cloud_is_never_asked_when_nothing_is_offloaded():
    images = keras.Input((16, 16, 3), dtype="uint8")
    pixels = keras.layers.Rescaling(1 / 255)(images)
    features = keras.layers.Conv2D(2, 3, strides=4, name="features")(pixels)
    local = keras.layers.Dense(3, name="local")(keras.layers.Flatten()(features))
    seen = keras.layers.Flatten()(Unreachable()(features))
    cloud = keras.layers.Dense(3, name="cloud")(seen)
    model = keras.Model(images, {"local": local, "cloud": cloud})

    def policy(threshold):
        return OffloadPolicy(model, CONFIG, Margin(), threshold, ("a", "b", "c"))

    for n in (1, 60, 700):
        assert not policy(np.inf).predict(IMAGES[:n])[1].any()
    with pytest.raises(tf.errors.InvalidArgumentError, match="the cloud is down"):
        policy(-np.inf).predict(IMAGES[:1])


def test_a_rule_ranks_all_images_together_however_many_batches_they_make(bank):
    policy = OffloadPolicy(bank[0], CONFIG, Random(), 0.5, ("a", "b", "c"))
    expected = Random().score(bank[1].edge) >= 0.5
    np.testing.assert_array_equal(policy.decide(IMAGES), expected)
    np.testing.assert_array_equal(policy.predict(IMAGES)[1], expected)
