"""Networks and recipes of today: whitened patches, orthogonal steps, smoothed labels."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_ddnn
from keras_ddnn.config import DDNNConfig, resolve_config
from keras_ddnn.data.datasets import read_training_data
from keras_ddnn.networks.architectures.modern import ModernOptions, build_modern, modern_exit
from keras_ddnn.networks.architectures.named_models import NETWORKS, named_network
from keras_ddnn.networks.compose import split
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.layers import Whitening
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.training.capture import capture
from keras_ddnn.training.recipe.losses import SmoothedCrossentropy, loss_of
from keras_ddnn.training.recipe.muon import (
    MATRIX_SHARE,
    MOMENTUM,
    VECTOR_SHARE,
    ConvolutionalMuon,
    unnormalised,
)
from keras_ddnn.training.recipe.schedules import learning_rate_of
from keras_ddnn.training.trainable import require_network, start_whitening

LIMITS = {"tiny": 1.5e6, "small": 12.5e6, "medium": 50e6}
SMALL = ModernOptions(widths=(4, 6), stride=2)


def images(n=40, seed=0):
    """Images whose neighbouring pixels are alike, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (n, 4, 4, 3))
    return (coarse.repeat(4, 1).repeat(4, 2) + rng.integers(0, 50, (n, 16, 16, 3))).astype("uint8")


def model(options=SMALL, seed=0):
    keras.utils.set_random_seed(seed)
    return build_modern((16, 16, 3), 3, options, "float32")


@pytest.mark.parametrize("size", LIMITS)
def test_a_network_for_a_device_keeps_to_its_multiply_adds(size):
    network = named_network(f"modern_{size}", (32, 32, 3), 10)
    assert 0.75 * LIMITS[size] < multiply_adds(network) <= LIMITS[size]


def test_multiply_adds_agree_with_hand_arithmetic():
    whitening = 8 * 8 * (2 * 2 * 3) * 24
    first = 8 * 8 * 9 * 24 * 4 + 4 * 4 * 9 * 4 * 4
    second = 4 * 4 * 9 * 4 * 6 + 2 * 2 * 9 * 6 * 6
    assert multiply_adds(model()) == whitening + first + second + 6 * 3


def test_a_group_that_halves_by_its_stride_pays_a_quarter_there():
    pooled, strided = (
        model(ModernOptions(widths=(4, 6), stride=2, strided=strided)) for strided in (False, True)
    )
    saved = 3 / 4 * (8 * 8 * 9 * 24 * 4 + 4 * 4 * 9 * 4 * 6)
    assert multiply_adds(pooled) - multiply_adds(strided) == saved
    assert pooled.count_params() == strided.count_params()


def test_a_residual_group_adds_its_first_map_to_its_last():
    network = model(ModernOptions(widths=(4, 6), depth=3, residual=True, activation="relu"))
    start_whitening(network, images())
    for group in (0, 1):  # the last convolution of each group says nothing
        layer = network.get_layer(f"conv_{group}_2")
        layer.set_weights([np.zeros(layer.kernel.shape)])
    shallow = model(ModernOptions(widths=(4, 6), depth=1, activation="relu"))
    for layer in shallow.layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    said = np.asarray(network(images(), training=False))
    np.testing.assert_allclose(said, np.asarray(shallow(images(), training=False)), atol=1e-6)
    assert np.ptp(said) > 0


def test_whitened_patches_are_uncorrelated_and_come_with_their_opposites():
    layer = Whitening()
    maps = images().astype("float32") / 255
    layer.build(maps.shape)
    layer.start(maps)
    seen = np.asarray(layer(maps)).reshape(-1, 24)
    half = seen[:, :12]
    np.testing.assert_allclose(seen[:, 12:], -half, atol=1e-4)
    np.testing.assert_allclose(half.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(half, rowvar=False), np.eye(12), atol=0.05)


def test_whitening_does_not_depend_on_how_images_are_scaled():
    maps = images().astype("float32")
    seen = []
    for scaled in (maps / 255, 3 * maps - 7):
        layer = Whitening()
        layer.build(maps.shape)
        layer.start(scaled)
        seen.append(np.asarray(layer(scaled)))
    np.testing.assert_allclose(np.abs(seen[0]), np.abs(seen[1]), atol=2e-2)


def test_whitening_of_grey_images_leaves_no_value_without_variance():
    layer = Whitening()
    maps = np.repeat(images().astype("float32")[..., :1] / 255, 3, axis=-1)
    layer.build(maps.shape)
    layer.start(maps)
    seen = np.asarray(layer(maps)).reshape(-1, 24)
    np.testing.assert_allclose(seen.var(axis=0), 1.0, atol=0.05)
    uncorrelated = seen[:, :4]  # a grey patch of 2×2 pixels varies in four directions
    np.testing.assert_allclose(np.cov(uncorrelated, rowvar=False), np.eye(4), atol=0.05)
    np.testing.assert_allclose(seen[:, 4:8], uncorrelated, atol=1e-4)


def test_images_of_one_colour_are_whitened_to_finite_numbers():
    layer = Whitening()
    maps = np.full((4, 8, 8, 3), 0.5, "float32")
    layer.build(maps.shape)
    layer.start(maps)
    assert np.isfinite(np.asarray(layer(maps))).all()


def test_whitening_comes_from_the_training_data_once():
    network = model()
    start_whitening(network, images())
    first = network.get_layer("whitening").get_weights()
    assert np.any(first[0])
    start_whitening(network, 255 - images(seed=1))
    again = network.get_layer("whitening").get_weights()
    np.testing.assert_array_equal(first[0], again[0])
    assert not network.get_layer("whitening").trainable_variables


def test_the_first_filters_pass_a_channel_each():
    kernel = np.asarray(model().get_layer("conv_1_1").kernel)  # 6 channels, 6 filters
    expected = np.zeros((3, 3, 6, 6))
    expected[1, 1] = np.eye(6)
    np.testing.assert_array_equal(kernel, expected)


def test_the_same_seed_gives_the_same_network():
    one, same, other = model(seed=1), model(seed=1), model(seed=2)
    for a, b in zip(one.get_weights(), same.get_weights()):
        np.testing.assert_array_equal(a, b)
    name = "conv_1_0"
    ours, theirs = (net.get_layer(name).get_weights()[0] for net in (one, other))
    assert np.abs(ours - theirs).max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (4, 0)}, "width"),
        ({"activation": "tanh"}, "activation"),
        ({"stride": 0}, "stride"),
        ({"depth": True}, "depth must be a positive integer"),
        ({"residual": "yes"}, "residual must be True or False; received 'yes'"),
        ({"strided": "no"}, "strided must be True or False; received 'no'"),
        ({"residual": True, "depth": 1}, "at least 2 convolutions; received depth=1"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ModernOptions(**options)


def test_images_too_small_for_the_groups_are_refused():
    with pytest.raises(ValueError, match="at least 17 pixels for 3 groups"):
        build_modern((16, 16, 3), 3, ModernOptions(widths=(4, 4, 4), stride=2))


def test_muon_turns_a_kernel_by_its_rate_and_keeps_its_norm():
    rng = np.random.default_rng(0)
    kernel = keras.Variable(rng.normal(size=(3, 3, 8, 5)).astype("float32"))
    optimizer = ConvolutionalMuon(0.1)
    before = np.asarray(kernel)
    optimizer.apply([rng.normal(size=kernel.shape).astype("float32")], [kernel])
    unit = before * (np.sqrt(5) / np.linalg.norm(before))
    change = (np.asarray(kernel) - unit).reshape(-1, 5)
    turned = np.linalg.svd(change / 0.1, compute_uv=False)
    assert ((turned > 0.5) & (turned < 1.3)).all()  # an orthogonal matrix has 1 alone
    optimizer.learning_rate = 0.0
    optimizer.apply([np.ones(kernel.shape, "float32")], [kernel])
    assert np.linalg.norm(np.asarray(kernel)) == pytest.approx(np.sqrt(5), rel=1e-5)


def test_the_step_of_a_kernel_does_not_depend_on_the_size_of_its_gradient():
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=(3, 3, 4, 4)).astype("float32")
    ends = []
    for scale in (1.0, 1000.0):
        kernel = keras.Variable(np.ones((3, 3, 4, 4), "float32"))
        ConvolutionalMuon(0.1).apply([scale * gradient], [kernel])
        ends.append(np.asarray(kernel))
    np.testing.assert_allclose(*ends, atol=1e-5)


@pytest.mark.parametrize(("shape", "share"), [((2,), VECTOR_SHARE), ((1, 2), MATRIX_SHARE)])
def test_muon_gives_all_else_to_sgd_of_the_summed_loss(shape, share):
    variable = keras.Variable(np.zeros(shape, "float32"))
    optimizer = ConvolutionalMuon(0.1, batch_size=10)
    gradient = np.full(shape, 2.0, "float32")
    optimizer.apply([gradient], [variable])
    # Nesterov's first step: gradient + 0.85 · gradient, of 10 samples.
    np.testing.assert_allclose(np.asarray(variable), -share * 0.1 * 10 * 2.0 * 1.85, rtol=1e-5)


def test_convolutions_that_muon_is_not_made_for_are_told_of_before_training(caplog):
    assert unnormalised(model()) == []  # behind max-pooling, too
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 3, name="normalised")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Conv2D(4, 3, name="bare")(keras.layers.BatchNormalization()(x))
    frozen = keras.layers.Conv2D(4, 3, trainable=False)(keras.layers.ReLU()(x))
    both = keras.layers.Conv2D(4, 3, name="also_read_bare")(frozen)
    x = keras.layers.Add()([both, keras.layers.BatchNormalization()(both)])
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    network = keras_ddnn.chain({"cloud": keras.Model(inputs, logits)})
    assert unnormalised(network.model) == ["cloud_bare", "cloud_also_read_bare"]
    train, _ = read_training_data((images(), np.arange(40) % 3), None, 3, None, None)
    for optimizer, told in (("adam", False), ("muon", True)):
        require_network(network, train, DDNNConfig(optimizer=optimizer))
        assert ("received 2 without, the first 'cloud_bare'" in caplog.text) == told


def test_muon_repeats_its_momentum_by_nesterov():
    gradients = np.random.default_rng(0).normal(size=(2, 1, 1, 3, 3)).astype("float32")
    kernel = keras.Variable(np.eye(3, dtype="float32")[None, None])
    optimizer = ConvolutionalMuon(0.1)
    optimizer.apply([gradients[0]], [kernel])
    middle = np.asarray(kernel)
    optimizer.apply([gradients[1]], [kernel])
    momentum = MOMENTUM * gradients[0] + gradients[1]
    step = (gradients[1] + MOMENTUM * momentum)[0, 0]
    orthogonal = np.asarray(keras.optimizers.Muon().zeropower_via_newtonschulz5(step, 3))
    scaled = middle * (np.sqrt(3) / np.linalg.norm(middle))
    np.testing.assert_allclose(np.asarray(kernel)[0, 0], scaled[0, 0] - 0.1 * orthogonal, atol=1e-5)


def test_smoothed_labels_cost_what_keras_says_of_one_hot_ones():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)).astype("float32"), np.arange(6) % 4
    ours = SmoothedCrossentropy(0.2)(labels, logits)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    assert float(ours) == pytest.approx(float(theirs(np.eye(4)[labels], logits)), rel=1e-6)


def test_labels_that_are_no_classes_are_not_smoothed():
    assert isinstance(loss_of(CLASSIFICATION, 0.0), keras.losses.SparseCategoricalCrossentropy)
    with pytest.raises(ValueError, match="label_smoothing spreads labels over classes"):
        loss_of(Regression(), 0.1)


def test_the_linear_schedule_falls_to_zero():
    rate = learning_rate_of(DDNNConfig(schedule="linear", learning_rate=0.4, epochs=5), 2, "loss")
    assert [round(float(rate.initial(step)), 6) for step in (0, 5, 10)] == [0.4, 0.2, 0.0]


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="optimizer"):
        DDNNConfig(optimizer="lion")


@pytest.mark.slow
def test_two_networks_of_today_train_alone_and_answer_as_a_chain(tmp_path):
    data = images(60), np.arange(60) % 3
    recipe = resolve_config("modern", epochs=1, batch_size=20)
    tiers = {}
    for seed, tier in enumerate(("local", "cloud")):
        alone = keras_ddnn.chain({"cloud": model(seed=seed)})
        fitted = keras_ddnn.fit_ddnn(data, None, recipe, network=alone, verbose=0)
        tiers[tier] = fitted.model
        whitened = fitted.model.get_layer("cloud_whitening")
        assert np.any(whitened.get_weights()[0])
    both = keras_ddnn.chain(tiers)
    plain = {name: np.asarray(out) for name, out in both.model(data[0], training=False).items()}
    folded = both.folded().model(data[0], training=False)
    for name, logits in plain.items():
        np.testing.assert_allclose(np.asarray(folded[name]), logits, atol=1e-4)


def test_a_device_can_have_the_first_group_of_a_network_that_is_split_and_an_exit():
    device = ModernOptions(widths=(4, 6), strided=True)
    whole = model(ModernOptions(widths=(4, 6, 8), depth=3, residual=True, strided=True))
    network = split(whole, "activation_0_2", modern_exit(3, device, "float32"))
    assert not unnormalised(network.model)
    trunk = 15 * 15 * (2 * 2 * 3) * 24 + 8 * 8 * 9 * (24 * 4 + 4 * 4 + 4 * 4)
    exit = 4 * 4 * 9 * (4 * 4 + 4 * 4) + 2 * 2 * 9 * (4 * 6 + 6 * 6) + 6 * 3
    assert multiply_adds(network.tiers[0].model) == trunk + exit
    start_whitening(network.model, images())
    start_whitening(whole, images())
    said = network.model(images())["cloud"]
    np.testing.assert_allclose(said, whole(images()), atol=1e-6)
    assert np.ptp(said) > 0


def test_a_modern_exit_serves_several_cuts_and_names_what_it_cannot_read():
    whole = model(ModernOptions(widths=(4, 6), strided=True))
    exit = modern_exit(3, ModernOptions(widths=(4,), strided=True), "float32")
    network = split(whole, ["activation_0_1", "activation_1_1"], exit)
    assert [*network.model.output] == ["local", "tier1", "cloud"]
    deep = modern_exit(3, ModernOptions(widths=(4,) * 6), "float32")
    with pytest.raises(ValueError, match=r"sides of at least 32 .*, received \(8, 8, 4\)"):
        split(whole, "activation_0_1", deep)
    with pytest.raises(ValueError, match=r"a feature map \(h, w, c\) .*, received \(6,\)"):
        split(whole, "pooled", exit)


def test_data_in_which_nothing_differs_are_told_of(caplog):
    start_whitening(model(), np.zeros((5, 16, 16, 3), np.uint8))
    assert "all that 'whitening' reads of the training data is equal" in caplog.text


def test_every_named_network_says_its_options():
    assert {name for name in NETWORKS if name.startswith("modern_")} == {
        *("modern_tiny", "modern_small", "modern_medium"),
        *("modern_large", "modern_wide", "modern_deep", "modern_strided"),
    }
    assert all(type(row.options).__name__.endswith("Options") for row in NETWORKS.values())


@pytest.mark.slow
def test_a_chain_of_today_goes_from_training_to_the_graph_of_a_device(tmp_path):
    data = images(60), np.arange(60) % 3
    recipe = resolve_config("modern", epochs=1, batch_size=20)
    tiers = {
        tier: keras_ddnn.fit_ddnn(
            data, None, recipe, network=keras_ddnn.chain({"cloud": model(seed=seed)}), verbose=0
        ).model
        for seed, tier in enumerate(("local", "cloud"))
    }
    network = keras_ddnn.chain(tiers)
    bank = capture(network, *data)
    policy = keras_ddnn.OffloadPolicy(network, None, Margin(), 0.5, ("a", "b", "c"))
    keras_ddnn.save_policy(policy, tmp_path / "artefact", val_bank=bank)
    again = keras_ddnn.load_policy(tmp_path / "artefact")
    np.testing.assert_array_equal(again.predict(data[0])[0], policy.predict(data[0])[0])
    graph = Interpreter(str(tmp_path / "artefact" / "edge.tflite"), num_threads=1)
    said = graph.get_signature_runner()(images=data[0])
    np.testing.assert_allclose(said["local_logits"], bank.edge.outputs, atol=1e-4)
