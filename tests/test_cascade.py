"""Any functional model is cut where it can be, and computes what it did; models are chained."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.networks.compose import chain, split
from keras_ddnn.networks.wiring import CutPoints
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.training.fit import fit_ddnn

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def residual(ending="softmax"):
    """Return conv → [conv → add] → pool → dense: `b` lies inside the residual block."""
    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255, name="scale")(images)
    x = a = layers.Conv2D(4, 3, strides=2, name="a")(x)
    x = layers.Conv2D(4, 3, padding="same", name="b")(x)
    x = layers.Add(name="sum")([a, x])
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(3, activation=ending, name="scores")(x))


def test_cuts_are_the_layers_that_carry_all_that_the_rest_reads():
    assert CutPoints.of(residual()).inner == ("scale", "a", "sum", "norm", "pool")


def test_mobilenet_can_be_cut_between_its_blocks():
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None, classes=4)
    assert len(CutPoints.of(model).inner) == 74
    with pytest.raises(
        ValueError,
        match=r"cross it also: block_1_project_BN; nearest cuts: block_1_project_BN, block_2_add",
    ):
        split(model, "block_2_expand")


def test_a_cut_inside_a_residual_block_names_what_crosses_and_the_nearest_cuts():
    with pytest.raises(ValueError, match="at 'b' there cross it also: a; nearest cuts: a, sum"):
        split(residual(), "b")


def test_a_misspelt_layer_is_answered_with_near_names():
    with pytest.raises(ValueError, match=r"no layer 'nrm' .* near names: norm"):
        split(residual(), "nrm")


def test_a_layer_that_is_called_twice_is_no_cut_but_what_lies_between_is():
    inputs, twice = keras.Input((6,)), layers.Dense(6, name="twice")
    x = twice(layers.ReLU(name="between")(twice(inputs)))
    model = keras.Model(inputs, layers.Dense(2, name="scores")(x))
    assert CutPoints.of(model).inner == ("between",)
    x = np.ones((2, 6), np.float32)
    local, cloud = (tier.model for tier in split(model, "between").tiers)
    logits = cloud.predict(local.predict(x, verbose=0)["features"], verbose=0)["outputs"]
    np.testing.assert_allclose(logits, model.predict(x, verbose=0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"'twice' is called several times.*cuts: between"):
        split(model, "twice")


def test_two_calls_side_by_side_are_no_cut():
    inputs, shared = keras.Input((6,)), layers.Dense(6, name="shared")
    x = layers.Add(name="sum")([shared(layers.ReLU()(inputs)), shared(inputs)])
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert CutPoints.of(model).inner == ("sum",)


def test_a_model_may_begin_with_arithmetic():
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, name="conv")(images / 255.0)
    model = keras.Model(images, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)))
    logits = split(model, "conv").model.predict(IMAGES, verbose=0)["cloud"]
    np.testing.assert_allclose(logits, model.predict(IMAGES, verbose=0), atol=1e-5)


def test_the_parts_compute_what_the_model_did(caplog):
    model = residual()
    cascade = split(model, "sum")
    assert "softmax of 'scores' is left out" in caplog.text
    local, cloud = (tier.model for tier in cascade.tiers)
    said = local.predict(IMAGES, verbose=0)
    logits = cloud.predict(said["features"], verbose=0)["outputs"]
    together = cascade.model.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(logits, together["cloud"])
    np.testing.assert_array_equal(said["outputs"], together["local"])
    expected = model.predict(IMAGES.astype(np.float32), verbose=0)
    np.testing.assert_allclose(keras.ops.softmax(logits), expected, rtol=1e-5)
    assert cascade.model.input.dtype == "uint8"


def test_the_model_that_was_given_is_not_changed():
    model = residual()
    before = model.get_weights()
    cascade = split(model, "sum")
    cascade.model.set_weights([0 * weight for weight in cascade.model.get_weights()])
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_several_cuts_make_a_tier_each():
    cascade = split(residual("linear"), ["a", "norm"])
    assert [tier.name for tier in cascade.tiers] == ["local", "tier1", "cloud"]
    x = IMAGES
    together = cascade.model.predict(IMAGES, verbose=0)
    for tier in cascade.tiers:
        said = tier.model.predict(x, verbose=0)
        np.testing.assert_array_equal(said["outputs"], together[tier.name])
        x = said.get("features")
    with pytest.raises(ValueError, match="order of the model"):
        split(residual(), ["norm", "a"])


def test_an_exit_may_have_a_hidden_layer_or_be_a_function():
    hidden = split(residual(), "a", exit=7).tiers[0].model
    assert hidden.get_layer("local_dense").units == 7
    own = split(residual(), "a", exit=lambda x: layers.Dense(3)(layers.Flatten()(x)))
    assert own.tiers[0].model.output["outputs"].shape == (None, 3)
    with pytest.raises(ValueError, match=r"logits of shape \(n, 3\); received \(None, 2\)"):
        split(residual(), "a", exit=lambda x: layers.Dense(2)(layers.Flatten()(x)))


def test_a_model_that_does_not_rescale_is_reported(caplog):
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, name="conv")(images)
    model = keras.Model(images, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)), name="raw")
    split(model, "conv")
    assert "'raw' does not rescale its images" in caplog.text
    caplog.clear()
    cascade = split(model, "conv", preprocess=layers.Rescaling(1 / 127.5, -1.0))
    assert not caplog.text
    scaled = IMAGES.astype(np.float32) / 127.5 - 1.0
    np.testing.assert_allclose(
        cascade.model.predict(IMAGES, verbose=0)["cloud"],
        model.predict(scaled, verbose=0),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: residual("sigmoid"), "outputs must be logits.*'sigmoid' in 'scores'"),
        (lambda: keras.Sequential([layers.Dense(2)]), "received Sequential"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(1)]), r"received \(None, 1\)"),
    ],
)
def test_what_cannot_be_a_classifier_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        split(model(), "a")


def small(side, classes=3):
    keras.utils.set_random_seed(side)
    images = keras.Input((side, side, 3))
    x = layers.Conv2D(4, 3, name="conv")(layers.Rescaling(1 / 255)(images))
    return keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def test_a_chain_hands_on_the_image_and_each_model_sees_its_own_size():
    cascade = chain({"local": small(16), "cloud": small(32)})
    said = cascade.tiers[0].model.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(said["features"], IMAGES)
    assert said["features"].dtype == np.uint8
    logits = cascade.tiers[1].model.predict(said["features"], verbose=0)["outputs"]
    np.testing.assert_allclose(logits, small(32).predict(IMAGES, verbose=0), atol=1e-5)


def test_models_of_other_classes_are_no_chain():
    with pytest.raises(ValueError, match=r"share their classes; received .*3.*4"):
        chain({"local": small(16), "cloud": small(32, 4)})


def test_tables_and_tokens_keep_their_type():
    table = keras.Sequential([keras.Input((30,)), layers.Dense(8, name="d"), layers.Dense(2)])
    assert split(table, "d").model.input.dtype == "float32"
    tokens = keras.Input((12,), dtype="int32")
    x = layers.Conv1D(6, 3, name="conv")(layers.Embedding(50, 4)(tokens))
    model = keras.Model(tokens, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
    cascade = split(model, "conv")
    assert cascade.model.input.dtype == "int32"
    assert cascade.tiers[0].model.output["features"].shape == (None, 10, 6)


# --- training ------------------------------------------------------------------------------------

RECIPE = {"epochs": 1, "batch_size": 32, "verbose": 0}


def two_networks():
    return {
        "split": split(small(16), "conv"),
        "chain": chain({"local": small(8), "cloud": small(16)}),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["split", "chain"])
def test_another_network_is_trained_captured_and_decides_as_its_bank_says(toy_splits, kind):
    network = two_networks()[kind]
    before = network.model.get_weights()
    fitted = fit_ddnn(toy_splits.train, toy_splits.val, "fast", network=network, **RECIPE)
    for ours, theirs in zip(network.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # a copy is trained

    bank = fitted.capture(toy_splits.test)
    threshold = float(np.median(Margin().score(bank.edge)))
    policy = OffloadPolicy(fitted.cascade, None, Margin(), threshold, toy_splits.class_names)
    classes, offloaded = policy.predict(toy_splits.test.images)
    np.testing.assert_array_equal(offloaded, Margin().score(bank.edge) >= threshold)
    logits = np.where(offloaded[:, None], bank.cloud_logits, bank.edge.outputs)
    np.testing.assert_array_equal(classes, logits.argmax(axis=1))
    # What travels: numbers as float16, images as they are.
    assert bank.edge.features.dtype == {"split": np.float16, "chain": np.uint8}[kind]


def test_a_network_that_does_not_suit_the_data_is_refused_before_training(toy_splits):
    for network, message in [
        (split(small(32), "conv"), r"takes inputs of shape \(32, 32, 3\); .* \(16, 16, 3\)"),
        (split(small(16, 5), "conv"), "has 5 classes; the data have 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_ddnn(toy_splits.train, toy_splits.val, network=network, **RECIPE)
    with pytest.raises(ValueError, match="paper alone; received bottleneck=4"):
        fit_ddnn(
            toy_splits.train,
            toy_splits.val,
            network=two_networks()["split"],
            bottleneck=4,
            **RECIPE,
        )


def test_a_softmax_layer_at_the_end_is_left_out_too():
    inputs = keras.Input((8,), name="numbers")
    hidden = keras.layers.Dense(6, "relu", name="hidden")(inputs)
    scores = keras.layers.Dense(3, name="scores")(hidden)
    model = keras.Model(inputs, keras.layers.Softmax(name="last")(scores))
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    said = split(model, "hidden").model(x)["cloud"]
    np.testing.assert_allclose(keras.ops.softmax(said), model(x), rtol=1e-5)
