"""Codes of feature maps: splits that send few bytes, of any network of images."""

import keras
import numpy as np
import pytest
from keras import layers
from toy_networks import RECIPE, image_data, image_model, table_model

import keras_ddnn
from keras_ddnn.data.datasets import Splits, as_split
from keras_ddnn.data.quantisation import BOTTLENECK_CODES
from keras_ddnn.evaluation.payload import Payload
from keras_ddnn.networks.compose import chain, split, with_codes
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.trainable import start_whitening

CUT = "block_0_project_BN"  # gives maps of 16×16×4


def images(n=60):
    return image_data(n)[0]


def model_of(side=16):
    keras.utils.set_random_seed(0)
    return image_model(side)


def coded(count, model=None, at=CUT, **options):
    network = with_codes(split(model or model_of(), at, **options), count)
    start_whitening(network.model, images())
    return network


def values(network, name):
    layer = network.model.get_layer(name)
    return np.asarray(keras.Model(network.model.input, layer.output)(images()))


def test_a_split_sends_codes_of_two_by_two_places_and_its_exit_reads_the_map():
    model = model_of()
    plain = split(model, CUT)
    network = with_codes(plain, 6)
    start_whitening(network.model, images())
    sent = values(network, "rounded_codes")
    assert sent.shape == (60, 8, 8, 6)
    assert network.sent == ("rounded_codes",)
    assert network.quantisation == BOTTLENECK_CODES
    bank = capture(network, images(), np.arange(60) % 3)
    assert Payload.of(bank.edge, network.quantisation).sent == 8 * 8 * 6 // 2
    np.testing.assert_allclose(bank.edge.outputs, plain.model(images())["local"], atol=1e-5)


def test_more_codes_leave_the_cloud_nearer_to_what_the_model_answers():
    model, errors = model_of(), []
    said = np.asarray(model(images().astype("float32")))
    for count in (2, 6, 16):
        network = coded(count, model)
        errors.append(np.abs(network.model(images())["cloud"] - said).mean())
        decoded = values(network, "decoded")
        assert decoded.shape == values(network, CUT).shape
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.1 * said.std()


def test_every_cut_has_codes_of_its_own():
    network = coded(4, at=[CUT, "block_1_add"])
    assert network.sent == ("rounded_codes", "rounded_codes_1")
    hops = [network.hop(place) for place in (0, 1)]
    assert [hop.quantisation for hop in hops] == [BOTTLENECK_CODES] * 2
    sent = values(network, "rounded_codes")
    passed = hops[1].tiers[0].model(sent)["features"]
    np.testing.assert_allclose(passed, values(network, "rounded_codes_1"), atol=1e-5)
    np.testing.assert_allclose(
        hops[1].tiers[1].model(passed)["outputs"], network.model(images())["cloud"], atol=1e-5
    )


def test_a_map_of_odd_sides_is_coded_place_by_place():
    network = with_codes(split(image_model(15), CUT), 2)
    seen = images()[:, :15, :15]
    start_whitening(network.model, seen)
    sent, decoded = (network.model.get_layer(n).output for n in ("rounded_codes", "decoded"))
    sent, decoded = keras.Model(network.model.input, [sent, decoded])(seen)
    assert sent.shape == (60, 15, 15, 2)
    assert decoded.shape == (60, 15, 15, 4)


def test_large_maps_are_fitted_to_fewer_inputs(monkeypatch):
    asked = []
    network = with_codes(split(model_of(), CUT), 4)
    layer = network.model.get_layer("components")
    start = layer.start
    monkeypatch.setattr(layer, "start", lambda maps: asked.append(len(maps)) or start(maps))
    monkeypatch.setattr("keras_ddnn.training.trainable.VALUES", 7 * 16 * 16 * 4)
    start_whitening(network.model, images())
    assert asked == [7]


@pytest.mark.parametrize(
    ("model", "at", "count", "message"),
    [
        (image_model, CUT, 17, "an even number of 2 to 16, received 17"),
        (image_model, CUT, 18, "an even number of 2 to 16, received 18"),
        (lambda: simple(lambda x: x), "cut", "4", "an even number of 2 to 32, received '4'"),
        (table_model, "hidden", 4, r"feature maps \(n, h, w, c\) of .*, received float32 of shape"),
    ],
)
def test_what_has_no_such_codes_is_refused(model, at, count, message):
    with pytest.raises(ValueError, match=message):
        with_codes(split(model(), at), count)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: chain({"local": image_model(8), "cloud": image_model()}), "pass codes to chain"),
        (lambda: coded(4), "feature maps, received codes already"),
        (lambda: chain({"cloud": image_model()}), "pass codes to chain, received nothing"),
        (image_model, "expected a Cascade"),
        (lambda: "paper", "expected a Cascade, .* received str: pass the cascade"),
    ],
)
def test_what_sends_inputs_or_codes_already_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        with_codes(network(), 4)


def simple(behind):
    """Return a model that is cut at "cut", of 8 channels, and what is behind it."""
    read = keras.Input((16, 16, 3))
    cut = layers.Conv2D(8, 3, padding="same", name="cut")(layers.Rescaling(1 / 255)(read))
    return keras.Model(read, layers.Dense(3)(layers.GlobalAveragePooling2D()(behind(cut))))


@pytest.mark.parametrize(
    "behind",
    [
        keras.ops.relu,
        lambda x: x + layers.Conv2D(8, 3, padding="same")(x),
        lambda x: layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(query=x, value=x),
    ],
    ids=["operation", "residual", "keywords"],
)
def test_whatever_is_behind_the_cut_reads_what_is_made_of_the_codes(behind):
    network = coded(32, simple(behind), at="cut")
    whole, given = network.model, network.tiers[1].model
    sent = values(network, "rounded_codes")
    np.testing.assert_allclose(given(sent)["outputs"], whole(images())["cloud"], atol=1e-4)
    layer = whole.get_layer("patches")
    layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    assert np.ptp(whole(images())["cloud"], axis=0) == pytest.approx(np.zeros(3), abs=1e-6)


def test_an_exit_reads_the_map_itself_though_the_cloud_shares_a_layer_with_it():
    pool, model = layers.GlobalAveragePooling2D(), model_of()
    network = split(model, [CUT, "block_1_add"], lambda sent: layers.Dense(3)(pool(sent)))
    narrow = with_codes(network, 2)
    start_whitening(narrow.model, images())
    before, after = network.model(images()), narrow.model(images())
    np.testing.assert_allclose(after["local"], before["local"], atol=1e-5)
    assert np.abs(after["tier1"] - before["tier1"]).max() > 1e-3
    assert "decoded" not in {layer.name for layer in narrow.tiers[0].model.layers}


def test_layers_of_the_user_keep_their_names():
    model = simple(lambda x: layers.Conv2D(8, 3, name="patches")(x))
    network = coded(4, model, at="cut")
    assert network.sent == ("rounded_codes_1",)
    assert network.quantisation == BOTTLENECK_CODES


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        lambda: with_codes(split(image_model(), CUT), 6),
        lambda: chain({"local": image_model(8), "cloud": image_model()}, codes=6),
    ],
    ids=["maps", "images"],
)
def test_a_run_goes_from_layers_that_wait_for_data_to_the_folder(network, tmp_path):
    parts = (as_split(*image_data(60, seed)) for seed in range(3))
    splits = Splits("toy", *parts, class_names=("a", "b", "c"))
    recipe = keras_ddnn.DDNNConfig(epochs=1, batch_size=16)
    heads = {"head": keras_ddnn.HeadConfig(epochs=1)}
    folder = tmp_path / "folder"
    keras_ddnn.run(splits, recipe, heads, network=network(), artifact=folder, verbose=0)
    policy = keras_ddnn.load_policy(folder)
    assert policy.cascade.quantisation == BOTTLENECK_CODES


@pytest.mark.slow
def test_exits_alone_are_trained_and_the_cloud_answers_of_codes_as_before():
    network, data = coded(6, freeze=True), image_data(60)
    fitted = fit_ddnn(data, network=network, **RECIPE)
    before, after = (np.asarray(each.model(data[0])["cloud"]) for each in (network, fitted.cascade))
    np.testing.assert_allclose(after, before, atol=1e-5)
    local = (each.model.get_layer("local").get_weights()[0] for each in (network, fitted.cascade))
    assert not np.allclose(*local)
