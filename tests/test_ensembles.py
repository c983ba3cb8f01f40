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


@pytest.mark.parametrize("first_rescales", [True, False])
def test_each_member_gets_images_as_it_reads_them(first_rescales):
    def member(rescales):
        images = keras.Input((4, 4, 3))
        x = layers.Rescaling(1 / 255)(images) if rescales else layers.Add()([images, images])
        return keras.Model(images, layers.Dense(3)(layers.Flatten()(x)))

    keras.utils.set_random_seed(0)
    members = [member(first_rescales), member(not first_rescales)]
    images = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3) + np.uint8(150)  # doubled: over 255
    network = chain({"local": member(True), "cloud": ensemble(members)})
    expected = np.mean([said_by(each, images.astype(np.float32)) for each in members], axis=0)
    said = np.asarray(network.tiers[1].model(images, training=False)["outputs"])
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-3)


def test_a_chain_may_have_two_ensembles_of_one_size():
    models = {name: ensemble([image_model(), image_model()]) for name in ("local", "cloud")}
    assert len(chain(models).tiers) == 2


@pytest.mark.parametrize(
    "models", [(), (image_model(),), (image_model(), image_model(8)), image_model()]
)
def test_what_is_no_ensemble_is_refused(models):
    with pytest.raises(ValueError, match="a list of two or more, of one input and of as many out"):
        ensemble(models)


def two(end, second=None):
    """Two ends on one table, one after the other or the same one twice."""
    table = keras.Input((6,))
    x = layers.Dense(4, activation="relu", name="hidden")(table)
    ends = end(x), (second or end)(layers.Dense(4)(x))
    return table, ends


def own(table, output):
    return keras.Model(table, output, name="own")


def mean_of(activation):
    def build():
        first, second = (
            layers.Dense(3, activation=activation),
            layers.Dense(3, activation="softmax"),
        )
        table, ends = two(first, second)
        return own(table, layers.Average()(ends))

    return build


def called_twice():
    table, ends = two(layers.Dense(3, activation="softmax"))
    return own(table, layers.Average()(ends))


def within_another():
    inner = mean_of("softmax")()
    table = keras.Input((6,))
    return own(table, layers.Identity()(inner(table)))


def by_operations():
    table, (first, second) = two(*(layers.Dense(3, activation="softmax") for _ in range(2)))
    return own(table, (first + second) / 2.0)


@pytest.mark.parametrize(
    "model",
    [mean_of("softmax"), mean_of("sigmoid"), called_twice, within_another, by_operations],
)
def test_what_is_made_of_probabilities_alone_is_refused(model):
    with pytest.raises(ValueError, match=r"makes of the probabilities of .* in the model 'own'"):
        chain({"local": table_model(), "cloud": model()})


def test_a_softmax_is_found_behind_what_has_no_weights():
    (model,) = tables(0, softmax={0})
    model = keras.Model(model.input, layers.Identity(name="end")(model.output))
    with pytest.raises(ValueError, match="what 'end' makes of the probabilities of"):
        split(model, "hidden")


def test_a_softmax_that_is_called_twice_cannot_be_left_out():
    table, end = keras.Input((3,)), layers.Dense(3, activation="softmax")
    models = {"local": own(table, layers.Dense(3)(table)), "cloud": own(table, end(end(table)))}
    with pytest.raises(ValueError, match="must be logits"):
        chain(models)


def weighed():
    table, (weights, scores) = two(layers.Dense(3, activation="softmax"), layers.Dense(3))
    return own(table, layers.Multiply()([weights, scores]))


def halved():
    table, (scores, _) = two(layers.Dense(3))
    return own(table, scores / 2.0)


def log_of_probabilities():
    table, (probabilities, _) = two(layers.Dense(3, activation="softmax"))
    return own(table, keras.ops.log(probabilities + 1e-6))


@pytest.mark.parametrize("model", [weighed, halved, log_of_probabilities])
def test_logits_are_taken_however_they_are_made(model):
    assert chain({"local": table_model(), "cloud": model()}).tiers
