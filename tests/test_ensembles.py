"""Several networks as one: the mean of what they say, as a tier of a chain."""

import keras
import numpy as np
import pytest
from keras import layers
from toy_networks import image_data, image_model, table_data, table_model

import keras_ddnn
from keras_ddnn.networks.architectures.modern import ModernOptions, build_modern
from keras_ddnn.networks.compose import chain, ensemble, split
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.trainable import start_whitening

TABLE = table_data(40)[0]


def tables(*seeds, softmax=()):
    """Networks of a table; those at some places end with a softmax."""
    made = []
    for place, seed in enumerate(seeds):
        keras.utils.set_random_seed(seed)
        model = table_model()
        if place in softmax:
            model = keras.Model(model.input, layers.Softmax()(model.output))
        made.append(model)
    return made


def said_by(model, data=TABLE):
    return np.asarray(model(data, training=False))


def test_an_ensemble_says_the_mean_of_the_logits_of_its_members():
    first, second = tables(0, 1)
    together = said_by(keras_ddnn.ensemble([first, second]))
    np.testing.assert_allclose(together, (said_by(first) + said_by(second)) / 2, atol=1e-6)
    assert np.abs(together - said_by(first)).max() > 0.01


def test_a_softmax_of_a_member_is_left_out():
    plain, with_softmax = tables(0, 1), tables(0, 1, softmax={1})
    np.testing.assert_allclose(said_by(ensemble(with_softmax)), said_by(ensemble(plain)), atol=1e-6)


def test_an_ensemble_is_a_tier_whose_cost_is_that_of_its_members():
    images, _ = image_data(8)
    members = [image_model(), image_model()]
    network = chain({"local": image_model(8), "cloud": ensemble(members)})
    cloud = network.tiers[1].model
    assert multiply_adds(cloud) == sum(map(multiply_adds, members))
    as_floats = images.astype(np.float32)
    expected = np.mean([said_by(member, as_floats) for member in members], axis=0)
    for model in (cloud, network.folded().tiers[1].model):
        said = np.asarray(model(images, training=False)["outputs"])
        np.testing.assert_allclose(said, expected, atol=1e-4)


@pytest.mark.slow
def test_networks_that_were_trained_alone_become_a_cloud():
    data = image_data(60)
    fitted = [
        fit_ddnn(data, network=chain({"cloud": image_model()}), epochs=1, seed=seed, verbose=0)
        for seed in (0, 1)
    ]
    cloud = ensemble([each.model for each in fitted])
    network = chain({"local": image_model(8), "cloud": cloud})
    bank = capture(network, *data)
    alone = [capture(each.cascade, *data).cloud_logits for each in fitted]
    np.testing.assert_allclose(bank.cloud_logits, np.mean(alone, axis=0), atol=1e-3)


def test_the_layers_of_members_take_their_weights_from_data():
    options = ModernOptions(widths=(4, 6), stride=2)
    members = [build_modern((16, 16, 3), 3, options, "float32") for _ in range(2)]
    together = ensemble(members)
    start_whitening(together, image_data(20)[0])
    for place in range(2):
        assert np.any(together.get_layer(f"member{place}_whitening").get_weights()[0])


def test_numbers_have_means_too():
    first, second = (
        keras.Model(each.input, layers.Dense(1, activation="softplus")(each.output))
        for each in tables(0, 1)
    )
    together = said_by(ensemble([first, second], Regression()))
    assert together.shape == (40, 1)
    np.testing.assert_allclose(together, (said_by(first) + said_by(second)) / 2, atol=1e-6)


@pytest.mark.parametrize("models", [(), (image_model(),), (image_model(), image_model(8))])
def test_what_is_no_ensemble_is_refused(models):
    with pytest.raises(ValueError, match="two or more, of one input and of as many outputs"):
        ensemble(models)


@pytest.mark.parametrize("joined", [layers.Average, layers.Maximum])
def test_a_mean_of_probabilities_is_no_mean_of_logits(joined):
    first, second = tables(0, 1, softmax={0, 1})
    inputs = keras.Input(first.input.shape[1:])
    model = keras.Model(inputs, joined(name="both")([first(inputs), second(inputs)]), name="own")
    with pytest.raises(ValueError, match=r"what 'both' makes of the softmax of .* in .* 'own'"):
        chain({"local": table_model(), "cloud": model})


def test_a_softmax_is_found_behind_what_has_no_weights():
    (model,) = tables(0, softmax={0})
    model = keras.Model(model.input, layers.Identity(name="end")(model.output))
    with pytest.raises(ValueError, match="what 'end' makes of the softmax of"):
        split(model, "hidden")


def test_scores_that_a_softmax_only_weighs_are_logits():
    table = keras.Input((6,))
    weights = layers.Dense(3, activation="softmax")(layers.Dense(4, name="hidden")(table))
    model = keras.Model(table, layers.Multiply()([weights, layers.Dense(3)(table)]))
    assert chain({"local": table_model(), "cloud": model}).tiers
