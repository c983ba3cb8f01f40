"""A second look: the local network is also asked about the mirrored image."""

import numpy as np
import pytest
from toy_networks import CODES, RECIPE, image_data, image_model, table_model

from keras_ddnn.data.bank import Bank
from keras_ddnn.deploy.artifact import load_policy, save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.labels.sources import Banks
from keras_ddnn.networks.compose import chain
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.rules.confidence import SecondLook, confidence_rules, untrained_rules
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn


def logits(*probabilities):
    return np.log(np.array(probabilities, np.float32))


# | sample | first look    | second look   | mean of both     | score: 1 - (answer - best other) |
# |--------|---------------|---------------|------------------|----------------------------------|
# | 0      | .8  .1  .1    | .6  .3  .1    | .7   .2   .1     | 1 - (.7 - .2)   = 0.5            |
# | 1      | .5  .4  .1    | .2  .7  .1    | .35  .55  .1     | 1 - (.35 - .55) = 1.2            |
# | 2      | .4  .35 .25   | .8  .1  .1    | .6   .225 .175   | 1 - (.6 - .225) = 0.625          |
FIRST = logits([0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [0.4, 0.35, 0.25])
SECOND = logits([0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1])


def three(mirrored=SECOND):
    outputs = {"local": FIRST, "cloud": FIRST[::-1]}
    return Bank.from_outputs(outputs, [0, 1, 0], mirrored=mirrored)


def test_the_score_is_the_doubt_that_both_looks_leave_of_the_answer():
    scores = SecondLook().score(three().edge)
    np.testing.assert_allclose(scores, [0.5, 1.2, 0.625], rtol=1e-6)


def test_the_rule_is_there_where_a_device_looks_twice():
    assert "second_look" not in untrained_rules()
    assert confidence_rules(three().edge)[-1] == "second_look"
    assert "second_look" not in confidence_rules(three(None).edge)
    with pytest.raises(ValueError, match="SecondLook expects mirrored"):
        SecondLook().score(three(None).edge)


def test_rows_and_files_of_a_bank_keep_the_second_look(tmp_path):
    bank = three()
    bank.save(tmp_path / "bank.npz")
    for again in (Bank.load(tmp_path / "bank.npz"), bank.rows(np.array([0, 1, 2]))):
        np.testing.assert_array_equal(again.edge.mirrored, SECOND)
    np.testing.assert_array_equal(bank.rows(np.array([2, 0])).edge.mirrored, SECOND[[2, 0]])


@pytest.fixture(scope="module")
def network():
    return chain({"local": image_model(8), "cloud": image_model()}, second_look=True)


def test_a_capture_asks_about_the_mirrored_images(network):
    images, labels = image_data(30)
    bank = capture(network, images, labels)
    mirrored = capture(network, np.ascontiguousarray(images[:, :, ::-1]), labels)
    np.testing.assert_allclose(bank.edge.mirrored, mirrored.edge.outputs, atol=1e-6)
    rows = np.array([3, 7])
    np.testing.assert_allclose(
        bank.rows(rows).edge.mirrored, mirrored.edge.outputs[rows], atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("codes", [None, CODES])
def test_a_device_looks_twice_as_the_policy_does(codes, tmp_path):
    models = {"local": image_model(8), "cloud": image_model()}
    fitted = fit_ddnn(
        image_data(60),
        image_data(30, 1),
        network=chain(models, codes=codes, second_look=True),
        **RECIPE,
    )
    images, _ = image_data(40, 2)
    bank = fitted.capture(image_data(40, 2))
    scores = SecondLook().score(bank.edge)
    policy = OffloadPolicy(
        fitted.cascade, None, SecondLook(), float(np.median(scores)), tuple("abc")
    )
    save_policy(policy, tmp_path / "artifact", val_bank=fitted.val_bank)
    loaded = load_policy(tmp_path / "artifact")
    assert loaded.cascade.second_look
    np.testing.assert_array_equal(loaded.decide(images), policy.decide(images))
    np.testing.assert_array_equal(policy.decide(images), scores >= policy.score_threshold)
    with EdgeRuntime(tmp_path / "artifact") as device:
        np.testing.assert_allclose(device.predict(images).scores, scores, atol=1e-4)
    local = multiply_adds(fitted.cascade.tiers[0].model)
    assert read_manifest(tmp_path / "artifact")["metrics"]["device_multiply_adds"] == 2 * local


def doubtful(n, seed):
    """A bank whose second look knows better than the first which answers are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    right = rng.random(n) < 0.7
    answers = np.where(right, labels, (labels + 1) % 3)
    first = 2.0 * np.eye(3)[answers] + rng.normal(0, 0.3, (n, 3))
    second = np.where(right, 2.0, 0.5)[:, None] * np.eye(3)[answers] + rng.normal(0, 0.3, (n, 3))
    outputs = {"local": first, "cloud": 4.0 * np.eye(3)[labels]}
    return Bank.from_outputs(outputs, labels, mirrored=second)


def test_a_head_starts_from_the_second_look_where_it_is_the_best():
    train, val = doubtful(400, 0), doubtful(300, 1)
    head = fit_head(Banks(train, val))
    assert head.anchor.rule == "second_look"
    blind = Banks(
        *(
            Bank.from_outputs(
                {name: tier.outputs for name, tier in bank.tiers.items()}, bank.labels
            )
            for bank in (train, val)
        )
    )
    assert fit_head(blind).anchor.rule in untrained_rules()
    again = Anchor.from_json(head.anchor.as_json())
    assert again == head.anchor


def test_only_images_are_looked_at_twice():
    with pytest.raises(ValueError, match="second_look: expected a network of images"):
        chain({"local": table_model(2), "cloud": table_model()}, second_look=True)
