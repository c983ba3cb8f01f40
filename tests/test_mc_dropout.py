"""Monte-Carlo dropout: repeatable, and unsure where thinned networks contradict each other."""

import random

import keras
import numpy as np
import pytest

from keras_ddnn.config import DDNNConfig
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.heads.ensemble import MEASURES, measures_of
from keras_ddnn.heads.mc_dropout import MCDropout
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.rules.confidence import Entropy
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.training.capture import capture

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
UNITS = 4


def ddnn(local_dropout=0.5, precision="float32", num_classes=3, bottleneck=None):
    keras.utils.set_random_seed(0)
    config = DDNNConfig(
        local_filters=2,
        local_units=UNITS,
        local_dropout=local_dropout,
        cloud_filters=((2,),),
        cloud_units=(2,),
        precision=precision,
        bottleneck=bottleneck,
    )
    return build_ddnn((16, 16, 3), num_classes, config)


def edge_of(model) -> TierOutputs:
    return capture(model, IMAGES, np.zeros(len(IMAGES), int)).edge


@pytest.fixture(scope="module")
def model():
    return ddnn()


@pytest.fixture(scope="module")
def edge(model):
    return edge_of(model)


@pytest.mark.parametrize(
    ("passes", "entropy", "mutual_information"),
    [
        # Sure each time, but of the other class: all the doubt is in the network.
        ([[1, 0], [0, 1]], 1.0, 1.0),
        # Undecided each time: all the doubt is in the image.
        ([[0.5, 0.5], [0.5, 0.5]], 1.0, 0.0),
        ([[1, 0], [1, 0]], 0.0, 0.0),
        # Sure once in four passes, of class 0: the mean is 5/8, and 3/4 of the passes have 1 bit.
        (
            [[1, 0]] + 3 * [[0.5, 0.5]],
            -(5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(3 / 8)),
            -(5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(3 / 8)) - 3 / 4,
        ),
    ],
)
def test_measures_follow_their_formulas(passes, entropy, mutual_information):
    probabilities = np.array([passes, passes], float)
    np.testing.assert_allclose(MEASURES["entropy"].of(probabilities), [entropy] * 2)
    np.testing.assert_allclose(
        MEASURES["mutual_information"].of(probabilities), [mutual_information] * 2
    )


@pytest.mark.parametrize("measure", measures_of(CLASSIFICATION))
def test_unsure_is_where_the_passes_disagree(measure):
    model = ddnn(local_dropout=0.5, num_classes=2)
    # The first value of the map, if neither dropout takes it, speaks for class 0 through unit 0:
    # that is so in a quarter of the passes. The others leave both classes at 1/2.
    kernel = np.zeros((8 * 8 * 2, UNITS))
    kernel[0, 0] = 1
    model.get_layer("local_dense").set_weights([kernel, np.zeros(UNITS)])
    kernel = np.zeros((UNITS, 2))
    kernel[0, 0] = 1
    model.get_layer("local").set_weights([kernel, np.zeros(2)])
    features = np.zeros((2, 8, 8, 2), np.float16)
    features[1, 0, 0, 0] = 50  # a logit of 200 where it survives: each dropout doubles
    scores = MCDropout(model, passes=1000, measure=measure).score(TierOutputs(None, features, None))
    entropy = -(5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(3 / 8))
    expected = {"entropy": [1.0, entropy], "mutual_information": [0.0, entropy - 3 / 4]}
    np.testing.assert_allclose(scores, expected[measure], atol=0.02)


def test_without_noise_it_is_the_entropy_of_the_local_network():
    model = ddnn(local_dropout=1e-6)
    edge = edge_of(model)
    # The bank rounds features to float16, the local network did not.
    np.testing.assert_allclose(MCDropout(model).score(edge), Entropy().score(edge), atol=1e-3)
    scores = MCDropout(model, measure="mutual_information").score(edge)
    np.testing.assert_allclose(scores, 0.0, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("measure", measures_of(CLASSIFICATION))
def test_one_finite_score_a_sample_whatever_the_precision(measure, precision):
    model = ddnn(precision=precision)
    scores = MCDropout(model, passes=3, measure=measure).score(edge_of(model))
    assert scores.shape == (len(IMAGES),)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores > 0).any()


def test_scores_repeat_and_differ_by_seed(model, edge):
    rule = MCDropout(model, passes=3)
    np.testing.assert_array_equal(rule.score(edge), rule.score(edge))
    np.testing.assert_array_equal(rule.score(edge), MCDropout(model, passes=3).score(edge))
    assert (rule.score(edge) != MCDropout(model, passes=3, seed=2**32 - 1).score(edge)).all()


def test_a_sample_scores_alike_alone_and_among_others(model, edge):
    rule = MCDropout(model, passes=3)
    alone = [
        rule.score(TierOutputs(edge.outputs[[i]], edge.features[[i]], edge.inputs[[i]]))[0]
        for i in range(3)
    ]
    np.testing.assert_allclose(alone, rule.score(edge)[:3], rtol=1e-5)


def test_no_other_random_state_is_read_or_moved(model, edge):
    def state():
        layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
        seeds = [layer.seed_generator.state.numpy() for layer in layers]
        return np.array([keras.random.uniform(()), random.random(), *np.ravel(seeds)])

    keras.utils.set_random_seed(1)
    undisturbed = state()
    keras.utils.set_random_seed(1)
    first = MCDropout(model, passes=3).score(edge)
    np.testing.assert_array_equal(state(), undisturbed)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(MCDropout(model, passes=3).score(edge), first)


def test_the_cost_is_the_classifier_once_a_pass_without_the_convolution(model):
    assert MCDropout(model, passes=7).multiply_adds == 7 * ((8 * 8 * 2) * UNITS + UNITS * 3)


@pytest.mark.parametrize(("rate", "received"), [(0.0, r"\[\]"), (1.0, r"\[1.0, 1.0\]")])
def test_a_local_network_without_dropout_is_refused_though_the_cloud_has_some(rate, received):
    with pytest.raises(ValueError, match=f"0 < local_dropout < 1; received .* {received}"):
        MCDropout(ddnn(local_dropout=rate))


def test_a_local_network_that_reads_past_a_bottleneck_is_refused():
    with pytest.raises(ValueError, match="bottleneck=None; received one whose features are a bo"):
        MCDropout(ddnn(bottleneck=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"passes": 0}, "passes must be a positive integer; received 0"),
        (
            {"measure": "variance"},
            "unknown measure 'variance'; known: entropy, mutual_information, deviation",
        ),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_arguments_out_of_range_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        MCDropout(model, **arguments)
