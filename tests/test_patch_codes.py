"""Codes of patches: images of few bytes, between any two networks of images."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from toy_networks import RECIPE, image_data, image_model, table_model

from keras_ddnn.data.quantisation import BOTTLENECK_CODES
from keras_ddnn.deploy.export import edge_graphs
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.deploy.tiers import save_tiers
from keras_ddnn.evaluation.payload import Payload
from keras_ddnn.networks.compose import chain
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.rules.confidence import Gate, Margin
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.trainable import start_whitening


def smooth(n=60, seed=0):
    """Images of four slopes and a colour: ten numbers and some noise."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(0, 40, (n, 2, 2, 3)).repeat(8, 1).repeat(8, 2)
    images = 128 + slopes * np.linspace(-1, 1, 16)[:, None, None] + rng.normal(0, 2, slopes.shape)
    return images.clip(0, 255).astype(np.uint8)


def coded(count, images=None):
    network = chain({"local": image_model(8), "cloud": image_model()}, codes=count)
    start_whitening(network.model, smooth() if images is None else images)
    return network


def decoded(network, images):
    """What the cloud reads of images."""
    sent, seen = (network.model.get_layer(name).output for name in ("rounded_codes", "decoded"))
    sent, seen = keras.Model(network.model.input, [sent, seen])(images)
    return np.asarray(seen), np.asarray(sent)


def test_what_is_sent_are_codes_of_four_bits_of_variance_one():
    network, images = coded(8), smooth()
    seen, sent = decoded(network, images)
    assert sent.shape == (60, 4, 4, 8)
    assert seen.shape == images.shape
    assert network.quantisation == BOTTLENECK_CODES
    codes = BOTTLENECK_CODES.codes(sent)
    assert codes[0].nbytes == 4 * 4 * 8 // 2
    np.testing.assert_array_equal(BOTTLENECK_CODES.values(codes), sent)
    # Noise of less than a hundredth of the largest deviation is not blown up to full size.
    assert sent.std(axis=(0, 1, 2))[:3] == pytest.approx(np.ones(3), abs=0.1)


def test_more_codes_give_the_cloud_an_image_nearer_to_that_of_the_camera():
    images, errors = smooth(seed=1), []
    for count in (2, 6, 48):
        seen, _ = decoded(coded(count), images)
        errors.append(np.sqrt(np.mean((seen - images) ** 2)))
    assert errors[0] > errors[1] > errors[2]
    # A tenth of a deviation is noise of two grey levels, which few components hold.
    assert errors[2] < 0.12 * images.std()


def test_a_sixth_of_the_codes_tell_what_rounding_leaves_of_the_first_components():
    network, images = coded(12), smooth()
    components = keras.Model(network.model.input, network.model.get_layer("components").output)
    exact = np.asarray(components(images))
    _, sent = decoded(network, images)
    assert exact.shape == (60, 4, 4, 10)
    rounded = BOTTLENECK_CODES.values(BOTTLENECK_CODES.codes(exact))
    np.testing.assert_array_equal(sent[..., :10], rounded)
    # Half a step of 0.375 is what one code leaves at most; the second one leaves a sixteenth of it.
    inside = np.abs(exact[..., :2]) < 3.0  # where the last codes end
    assert inside.mean() > 0.98
    both = sent[..., :2] + sent[..., 10:] / 16
    assert np.abs(both - exact[..., :2])[inside].max() <= 0.375 / 2 / 16 + 1e-5


def test_the_device_sees_the_pixels_and_pays_for_the_codes():
    plain, network = chain({"local": image_model(8), "cloud": image_model()}), coded(6)
    assert {*network.tiers[0].model.output} == {"outputs", "features"}
    more = multiply_adds(network.tiers[0].model) - multiply_adds(plain.tiers[0].model)
    assert more == 4 * 4 * (4 * 4 * 3) * 5  # the sixth code is a remainder
    assert not network.tiers[0].sends_inputs


@pytest.mark.slow
def test_a_device_in_int8_sends_the_remainders_of_one_in_float32():
    network, images = coded(12), smooth()
    policy = OffloadPolicy(network, None, Margin(), 0.1, ("a", "b", "c"))
    sent = {}
    for name, graph in edge_graphs(policy, images).items():
        run = Interpreter(model_content=graph).get_signature_runner()
        sent[name] = np.concatenate([run(images=image[None])["features"] for image in images])
    codes = {name: BOTTLENECK_CODES.codes(values) for name, values in sent.items()}
    np.testing.assert_array_equal(codes["int8"], codes["float"])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_leaves_the_codes_and_the_images_made_of_them(optimizer):
    data = image_data(60)
    network = coded(6, data[0])
    fitted = fit_ddnn(data, network=network, **RECIPE | {"optimizer": optimizer})
    for before, after in zip(decoded(network, data[0]), decoded(fitted.cascade, data[0])):
        np.testing.assert_allclose(after, before, atol=1e-3)
    assert fitted.cascade.quantisation == BOTTLENECK_CODES


def test_a_device_is_put_before_a_cloud_that_was_trained_with_codes():
    alone, images = chain({"cloud": image_model()}, codes=8), smooth()
    start_whitening(alone.model, images)
    network = chain({"local": image_model(8), "cloud": alone.model})
    bank = capture(network, images, np.arange(len(images)) % 3)
    assert Payload.of(bank.edge, network.quantisation).sent == 4 * 4 * 8 // 2
    np.testing.assert_allclose(bank.cloud_logits, alone.model(images)["cloud"], atol=1e-6)
    np.testing.assert_array_equal(decoded(network, images)[0], decoded(alone, images)[0])
    with pytest.raises(ValueError, match="codes=8, too: leave it out"):
        chain({"local": image_model(8), "cloud": alone.model}, codes=8)


def test_codes_that_have_no_weights_yet_are_refused():
    network = chain({"local": image_model(8), "cloud": image_model()}, codes=4)
    message = "components, patches take their weights from training data; received none yet"
    with pytest.raises(ValueError, match=message):
        capture(network, smooth(), np.zeros(60, int))
    with pytest.raises(ValueError, match=message):
        OffloadPolicy(network, None, Margin(), 0.1, ("a", "b", "c"))


def test_a_network_without_codes_has_none():
    assert chain({"local": image_model(8), "cloud": image_model()}).quantisation is None
    assert chain({"cloud": image_model()}).quantisation is None


def test_three_tiers_hand_the_same_codes_on():
    models = {"local": image_model(8), "tier1": image_model(8), "cloud": image_model()}
    network = chain(models, codes=4)
    assert network.sent == ("rounded_codes", "rounded_codes")
    assert [tier.sends_inputs for tier in network.tiers] == [False, True, False]
    start_whitening(network.model, smooth())
    hops = [network.hop(place) for place in (0, 1)]
    assert [hop.quantisation for hop in hops] == [BOTTLENECK_CODES] * 2
    assert [hop.tiers[0].sent_dtype for hop in hops] == ["float16"] * 2
    _, sent = decoded(network, smooth())
    first, second = (hop.tiers[0].model(x) for hop, x in zip(hops, (smooth(), sent)))
    np.testing.assert_array_equal(first["features"], sent)
    np.testing.assert_array_equal(second["features"], sent)
    np.testing.assert_allclose(
        second["outputs"], network.tiers[1].model(sent)["outputs"], atol=1e-6
    )
    behind = hops[1].tiers[1].model(sent)["outputs"]
    np.testing.assert_allclose(behind, network.tiers[2].model(sent)["outputs"], atol=1e-6)


@pytest.mark.slow
def test_every_hop_of_a_saved_chain_sends_codes(tmp_path):
    models = {"local": image_model(8), "tier1": image_model(8), "cloud": image_model()}
    network, images = chain(models, codes=4), smooth()
    start_whitening(network.model, images)
    gate = Gate(Margin(), -1.0)  # all is sent on
    policy = OffloadPolicy(network, None, gate.rule, -1.0, ("a", "b", "c"), later=(gate,))
    bank = capture(network, images, np.arange(len(images)) % 3)
    save_tiers(policy, tmp_path / "tiers", val_bank=bank)
    for place in "01":
        with EdgeRuntime(tmp_path / "tiers" / place) as device:
            assert device.requests.sample_bytes == 4 * 4 * 4 // 2


@pytest.mark.parametrize(
    ("models", "shape", "count", "message"),
    [
        (image_model, None, 5, "an even number of 2 to 48, received 5"),
        (image_model, None, 50, "an even number of 2 to 48, received 50"),
        (image_model, (18, 16, 3), 4, "multiples of 4 pixels, received uint8 of shape"),
        (table_model, None, 4, "uint8 images"),
    ],
)
def test_what_cannot_be_coded_is_refused(models, shape, count, message):
    with pytest.raises(ValueError, match=message):
        chain({"local": models(), "cloud": models()}, input_shape=shape, codes=count)
