"""A device that runs the graph alone ranks and decides as the rule in Python does."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_ddnn.config import DDNNConfig, HeadConfig
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.export import IN_GRAPH, edge_graphs, export_cloud, export_edge
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.heads.fit import HeadRule, initial_head
from keras_ddnn.labels.targets import TARGETS
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, RULES, Random
from keras_ddnn.rules.inputs import HEAD_INPUTS
from keras_ddnn.training.capture import capture

CONFIG = DDNNConfig(
    local_filters=4, cloud_filters=((4,), (8,)), cloud_units=(8,), precision="float32"
)
CLASSES = ("a", "b", "c", "d", "e")
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (200, 20, 20, 3)) * rng.random((200, 1, 1, 3))
IMAGES = IMAGES.astype(np.uint8)  # of all brightnesses and colours
# Logits of all sizes, with certain samples and ties.
EDGE = TierOutputs(
    np.concatenate([rng.normal(0, s, (50, 5)) for s in (0.1, 1, 5, 30)]).astype(np.float32),
    rng.normal(size=(200, 10, 10, 4)).astype(np.float16),
    IMAGES,
)
# The same samples as a graph sees them.
GRAPH_EDGE = TierOutputs(
    tf.constant(EDGE.local_logits),
    tf.constant(EDGE.features.astype(np.float32)),
    tf.constant(IMAGES),
    **IN_GRAPH,
)


@pytest.fixture(scope="module")
def model():
    return build_ddnn((20, 20, 3), 5, CONFIG)


def head_rule(name, edge, anchor=None, **choices):
    config = HeadConfig(input=name, anchored=anchor is not None, precision="float32", **choices)
    return HeadRule(initial_head(HEAD_INPUTS[name](edge), config), config, anchor=anchor)


def run(path, images):
    return Interpreter(str(path), num_threads=1).get_signature_runner()(images=images)


@pytest.mark.parametrize("name", CONFIDENCE_RULES)
def test_a_confidence_rule_in_a_graph_is_the_rule(name):
    scores = RULES[name]().for_graph().score(GRAPH_EDGE)
    assert scores.dtype == tf.float32
    np.testing.assert_allclose(scores, RULES[name]().score(EDGE), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", HEAD_INPUTS)
def test_an_input_in_a_graph_is_the_input_of_few_classes_too(name, classes):
    few, in_graph = (
        replace(edge, outputs=edge.outputs[:, :classes]) for edge in (EDGE, GRAPH_EDGE)
    )
    inputs, expected = HEAD_INPUTS[name](in_graph), HEAD_INPUTS[name](few)
    np.testing.assert_allclose(inputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_in_a_graph_is_the_target(name):
    outputs = rng.normal(0, 3, (50, TARGETS[name].units)).astype(np.float32)
    scores = TARGETS[name].score(tf.constant(outputs), IN_GRAPH["xp"])
    np.testing.assert_allclose(scores, TARGETS[name].score(outputs, np), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("name", HEAD_INPUTS)
def test_an_anchored_head_in_a_graph_is_the_head(name, weight):
    rule = head_rule(name, EDGE, Anchor("entropy", weight, ((0.3, 0.1), (-0.2, 1.7))))
    scores = rule.for_graph().score(GRAPH_EDGE)
    np.testing.assert_allclose(scores, rule.score(EDGE), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        # And logits_rich, which it begins with.
        pytest.param("logits_features", {}, marks=pytest.mark.slow),
        pytest.param("features", {"architecture": "conv"}, marks=pytest.mark.slow),
        ("image", {"architecture": "conv"}),
        pytest.param(None, {}, marks=pytest.mark.slow),
    ],
    ids=["logits_features", "features", "image", "margin"],
)
def test_a_device_decides_as_the_policy(model, tmp_path, name, choices):
    bank = capture(model, IMAGES, np.zeros(len(IMAGES), np.int64))
    rule = head_rule(name, bank.edge, **choices) if name else RULES["margin"]()
    policy = OffloadPolicy(model, CONFIG, rule, 0.0, CLASSES)
    expected = rule.score(bank.edge)

    export_edge(policy, tmp_path / "edge.tflite")
    device = run(tmp_path / "edge.tflite", IMAGES)
    assert {k: v.dtype for k, v in device.items()} == dict.fromkeys(device, np.float32)
    np.testing.assert_allclose(device["local_logits"], bank.edge.outputs, atol=1e-4)
    np.testing.assert_allclose(device["features"], bank.edge.features, atol=2e-3)
    np.testing.assert_allclose(device["score"], expected, rtol=1e-3, atol=0.01 * expected.std())

    export_edge(policy, tmp_path / "int8.tflite", IMAGES[:30])
    device = run(tmp_path / "int8.tflite", IMAGES)
    assert np.corrcoef(device["score"], expected)[0, 1] > 0.9
    assert len(np.unique(device["score"])) > 100  # no coarse steps


def test_the_int8_graph_is_smaller_and_computes_in_int8():
    policy = OffloadPolicy(
        build_ddnn((32, 32, 3), 5, DDNNConfig()), DDNNConfig(), RULES["margin"](), 0.5, CLASSES
    )
    images = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    graphs = edge_graphs(policy, images)
    assert len(graphs["int8"]) < 0.3 * len(graphs["float"])


def test_a_rule_that_draws_random_numbers_fits_no_graph(model, tmp_path):
    policy = OffloadPolicy(model, CONFIG, Random(), 0.5, CLASSES)
    with pytest.raises(
        ValueError, match=r"such as entropy, max_prob, margin or a HeadRule; received Random"
    ):
        export_edge(policy, tmp_path / "edge.tflite")
    assert not (tmp_path / "edge.tflite").exists()


def test_the_cloud_answers_what_the_policy_would(model, tmp_path):
    policy = OffloadPolicy(model, CONFIG, RULES["margin"](), -1.0, CLASSES)
    export_cloud(policy, tmp_path / "cloud")
    features = capture(model, IMAGES, np.zeros(len(IMAGES), np.int64)).edge.features
    serve = tf.saved_model.load(str(tmp_path / "cloud")).signatures["serving_default"]
    logits = serve(features=tf.constant(features))["logits"].numpy()
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits.argmax(axis=1), policy.predict(IMAGES)[0])
