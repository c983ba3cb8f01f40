"""Three exits, trained together, captured, and each with a gate that has learned."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import toy_split
from keras import layers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.labels.gates import fit_gates
from keras_ddnn.networks.compose import chain, split
from keras_ddnn.pipeline import make_report, run
from keras_ddnn.rules.plans import ScoredChain
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.joint import loss_weights

NAMES = ["local", "tier1", "cloud"]
RECIPE = {"epochs": 1, "batch_size": 20, "precision": "float32", "verbose": 0}
TRAIN, VAL, TEST = toy_split(60, 0), toy_split(40, 1), toy_split(30, 2)


def small_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, strides=2, activation="relu", name="first"),
            layers.Conv2D(6, 3, strides=2, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def fitted(log):
    options = {"network": small_network(), "at": ["first", "second"], "tensorboard": log}
    return fit_ddnn(TRAIN, VAL, lambda_local=(0.3, 0.2), **options, **RECIPE)


def test_three_exits_are_trained_together(fitted):
    assert {f"{name}_accuracy" for name in NAMES} < {*fitted.history}
    said = {name: fitted.history[f"val_{name}_loss"][0] for name in NAMES}
    joint = 0.3 * said["local"] + 0.2 * said["tier1"] + 0.5 * said["cloud"]
    assert fitted.history["val_loss"][0] == pytest.approx(joint, rel=1e-4)
    before = [*split(small_network(), ["first", "second"]).model.get_weights()]
    moved = [np.abs(a - b).max() > 0 for a, b in zip(before, fitted.model.get_weights())]
    assert all(moved)


def test_the_bank_has_what_every_exit_said(fitted):
    for bank, data in ((fitted.bank, TRAIN), (fitted.val_bank, VAL), (fitted.capture(TEST), TEST)):
        assert [*bank.tiers] == NAMES
        assert bank.costs().shape == (len(data), 3)
        assert bank.cloud_logits is bank.tiers["cloud"].outputs
        said = fitted.model(data.images, training=False)
        for name in NAMES:  # what travels is float16
            np.testing.assert_allclose(bank.tiers[name].outputs, said[name], atol=2e-3)


def test_the_features_of_each_tier_are_what_it_sends(fitted):
    local, middle, last = fitted.val_bank.tiers.values()
    assert (local.features.shape, middle.features.shape) == ((40, 7, 7, 4), (40, 3, 3, 6))
    assert last.features is middle.inputs is None
    device, behind, _ = (tier.model for tier in fitted.cascade.tiers)
    sent = device(VAL.images[:5])["features"]
    np.testing.assert_allclose(local.features[:5], sent, atol=1e-3)
    sent = behind(np.asarray(sent, np.float16))["features"]
    np.testing.assert_allclose(
        middle.features[np.array([0, 3])], np.asarray(sent)[[0, 3]], atol=1e-3
    )


def test_tensorboard_shows_the_benefit_of_every_gate(fitted, log):
    events = EventAccumulator(str(log / "validation")).Reload()
    seen = {tag.split("/")[0] for tag in events.Tags()["tensors"] if "B_k" in tag}
    assert {"benefit", "benefit_tier1"} <= seen


def scalars_of(folder):
    """Return the last value of each scalar of a folder, by its name."""
    events = EventAccumulator(str(folder)).Reload()
    plain = (tag for tag in events.Tags()["tensors"] if "B_k" not in tag and "keras" not in tag)
    return {tag: tf.make_ndarray(events.Tensors(tag)[-1].tensor_proto).item() for tag in plain}


def test_tensorboard_shows_accuracy_and_loss_of_every_exit(fitted, log):
    for part, bank in {"train": fitted.bank, "validation": fitted.val_bank}.items():
        told, prefix = scalars_of(log / part), "val_" * (part == "validation")
        for name, costs in zip(NAMES, bank.costs().T):
            for what in ("accuracy", "loss"):
                seen = fitted.history[f"{prefix}{name}_{what}"][-1]
                assert told[f"epoch_{name}_{what}"] == pytest.approx(seen, rel=1e-5)
            assert told[f"exit/{name}_accuracy"] == pytest.approx(1 - costs.mean())
            probabilities = bank.tiers[name].distribution.probabilities
            true = probabilities[np.arange(len(bank)), bank.labels]
            assert told[f"exit/{name}_loss"] == pytest.approx(-np.log(true).mean(), rel=1e-4)


@pytest.mark.slow
def test_heads_of_all_gates_learn_and_a_policy_runs_them(fitted):
    config = HeadConfig(epochs=1, input="logits_features")
    prices, budget = [1, 1, 1], 2
    gates = fit_gates(lambda gate: fit_head(gate, config), fitted, prices, budget)
    policy = OffloadPolicy(
        fitted.cascade, None, *vars(gates[0]).values(), tuple("abc"), later=gates[1:]
    )
    bank = fitted.val_bank
    expected = ScoredChain.of(bank, [gate.rule for gate in gates], prices)
    plan = expected.plan([gate.score_threshold for gate in gates])
    assert plan.price <= budget
    answers, places = policy.route(VAL.images)
    assert np.mean(places != expected.ends(plan.thresholds)) <= 0.05  # a score at its threshold
    assert answers.shape == (40,)


def test_exits_share_lambda_or_have_a_weight_each():
    assert loss_weights(NAMES, 0.5) == {"local": 0.25, "tier1": 0.25, "cloud": 0.5}
    assert loss_weights(NAMES, (0.3, 0.2)) == {"local": 0.3, "tier1": 0.2, "cloud": 0.5}
    assert loss_weights(NAMES[::2], (0.3,)) == loss_weights(NAMES[::2], 0.3)
    assert DDNNConfig(lambda_local=[0.5, 0.5]).lambda_local == (0.5, 0.5)
    assert DDNNConfig(lambda_local=(0.3,)) == DDNNConfig(lambda_local=0.3)
    with pytest.raises(ValueError, match=r"of each exit and in sum, must lie in .* received 1\.2"):
        DDNNConfig(lambda_local=(0.5, 0.7))


def test_weights_that_are_not_those_of_the_exits_are_refused_before_training():
    with pytest.raises(ValueError, match="one for each of local, tier1, received 3 numbers"):
        fit_ddnn(
            TRAIN,
            network=small_network(),
            at=["first", "second"],
            lambda_local=(0.1,) * 3,
            **RECIPE,
        )


def test_independent_networks_of_a_chain_may_be_three():
    def tiny():
        flat = [keras.Input((16, 16, 3)), layers.Flatten(), layers.Dense(3)]
        return keras.Sequential(flat)

    network = chain({"local": tiny(), "fog": tiny(), "cloud": tiny()})
    fitted = fit_ddnn(TRAIN, network=network, **RECIPE)
    assert [*fitted.bank.tiers] == ["local", "fog", "cloud"]


def test_a_run_of_three_tiers_is_refused_before_training(toy_splits):
    with pytest.raises(ValueError, match="received local, tier1, cloud: use fit_ddnn, fit_gates"):
        run(toy_splits, network=small_network(), at=["first", "second"])


def test_a_report_tells_of_every_exit(fitted):
    bank = fitted.capture(TEST)
    report = make_report("toy", fitted.cascade, fitted.config, {}, fitted.val_bank, bank, 0.5)
    exits = report.facts["exits"]
    for name in NAMES:
        right = np.mean(bank.tiers[name].outputs.argmax(axis=1) == TEST.labels)
        assert exits[name]["accuracy"] == pytest.approx(right)
    # 7×7 places, 3×3×3 weights, 4 filters; behind, of 4 maps, an exit of 3 classes.
    assert exits["local"]["multiply_adds"] == 7 * 7 * 27 * 4 + 4 * 3
    assert exits["tier1"]["multiply_adds"] == 3 * 3 * 36 * 6 + 6 * 3
    assert report.facts["cloud_multiply_adds"] == 3 * 3 * 36 * 6 + 6 * 3 + 6 * 3


def test_two_halves_of_three_tiers_are_refused(fitted):
    with pytest.raises(ValueError, match=r"two tiers .*, received .*'local', 'tier1', 'cloud'"):
        fitted.local_model  # noqa: B018
