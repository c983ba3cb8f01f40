"""A chain of more than two tiers: each gate sees two costs, and the code of two tiers does all."""

import keras
import numpy as np
import pytest

import keras_ddnn
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.artifact import save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.networks.compose import split
from keras_ddnn.rules.confidence import Gate, Margin, Patience, Random
from keras_ddnn.training.capture import capture

NAMES = ("local", "tier1", "cloud")
# Probability of the true class 0 at each tier; a sample is answered rightly above 0.5.
P_TRUE = np.array(
    [
        [0.9, 0.9, 0.9],
        [0.4, 0.8, 0.9],
        [0.2, 0.3, 0.7],
        [0.6, 0.1, 0.2],
    ]
)


def logits(p):
    return np.log(np.stack([p, 1 - p], axis=1)).astype(np.float32)


@pytest.fixture
def three():
    tiers = {name: TierOutputs(logits(p)) for name, p in zip(NAMES, P_TRUE.T)}
    return Bank(tiers, np.zeros(4, int))


def test_each_tier_has_a_cost(three):
    np.testing.assert_array_equal(three.costs(), [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1]])
    np.testing.assert_allclose(three.costs("true_class"), 1 - P_TRUE, atol=1e-6)


def test_a_gate_weighs_its_own_answer_against_the_one_that_a_sample_ends_with(three):
    """The gate of tier1 sends on samples 2 and 3, so these alone are answered by the cloud."""
    first = three.gate("local", [np.array([False, False, True, True])])
    np.testing.assert_array_equal(first.stay, [0, 1, 1, 0])
    np.testing.assert_array_equal(first.go, [0, 0, 0, 1])
    ends = [0.9, 0.8, 0.7, 0.2]
    np.testing.assert_allclose(benefit(first), np.array(ends) - P_TRUE[:, 0], atol=1e-6)
    last = three.gate("tier1")
    np.testing.assert_array_equal(last.stay, [0, 0, 1, 1])
    np.testing.assert_array_equal(last.go, [0, 0, 0, 1])
    np.testing.assert_array_equal(last.differ, [0, 0, 1, 0])
    assert [*last.tiers] == ["tier1", "cloud"]


def test_a_gate_asks_for_the_decisions_of_those_behind_it(three):
    with pytest.raises(ValueError, match="1 gates behind it; received the decisions of 0"):
        three.gate("local")
    with pytest.raises(ValueError, match="unknown gate 'cloud'; known: local, tier1"):
        three.gate("cloud")


def test_of_two_tiers_the_gate_is_the_bank(four_cases):
    gate = four_cases.gate("local")
    np.testing.assert_array_equal(gate.costs("true_class"), four_cases.costs("true_class"))
    assert gate.edge is four_cases.edge


def test_a_bank_of_three_tiers_is_read_back_in_order(three, tmp_path):
    three.save(tmp_path / "bank.npz")
    read = Bank.load(tmp_path / "bank.npz")
    assert [*read.tiers] == [*NAMES]
    for name in NAMES:
        np.testing.assert_array_equal(read.tiers[name].outputs, three.tiers[name].outputs)


def test_a_bank_written_before_there_were_tiers_is_read(four_cases, tmp_path):
    old = {
        "local_logits": four_cases.edge.outputs,
        "features": four_cases.edge.features,
        "cloud_logits": four_cases.cloud_logits,
        "labels": four_cases.labels,
        "index": four_cases.index,
    }
    np.savez(tmp_path / "bank.npz", **old)
    read = Bank.load(tmp_path / "bank.npz", four_cases.edge.inputs)
    assert [*read.tiers] == ["local", "cloud"]
    np.testing.assert_array_equal(read.edge.features, four_cases.edge.features)
    np.testing.assert_array_equal(read.costs("true_class"), four_cases.costs("true_class"))


def test_former_names_are_told_and_work(four_cases):
    edge = four_cases.edge
    with pytest.warns(DeprecationWarning, match=r"local_logits is now TierOutputs\.outputs"):
        assert edge.local_logits is edge.outputs
    with pytest.warns(DeprecationWarning, match="local_margin is now"):
        np.testing.assert_array_equal(edge.local_margin, edge.distribution.margin)
    with pytest.warns(DeprecationWarning, match="EdgeOutputs is now"):
        assert keras_ddnn.EdgeOutputs is TierOutputs
    with pytest.raises(AttributeError, match="no attribute 'logits'"):
        _ = edge.logits


@pytest.fixture(scope="module")
def chain_of_three():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(6, "relu", name="first"),
            keras.layers.Dense(5, "relu", name="second"),
            keras.layers.Dense(3, name="last"),
        ]
    )
    inputs = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
    network = split(model, ["first", "second"])
    return network, inputs, capture(network, inputs, np.zeros(len(inputs), int))


def between(scores):
    """Return a threshold between two scores that lie apart."""
    ranked = np.sort(scores)
    middle = len(ranked) // 3
    place = middle + np.argmax(np.diff(ranked[middle : middle + 50]))
    return float(ranked[place : place + 2].mean())


def test_a_sample_ends_at_the_first_tier_whose_gate_keeps_it(chain_of_three):
    network, inputs, bank = chain_of_three
    gates = [Gate(Margin(), between(Margin().score(bank.tiers[name]))) for name in NAMES[:2]]
    policy = OffloadPolicy(
        network, None, gates[0].rule, gates[0].score_threshold, ("a", "b", "c"), later=gates[1:]
    )
    sent = [gate.sends_on(bank.tiers[name]) for gate, name in zip(gates, NAMES)]
    ends = np.where(sent[0], np.where(sent[1], 2, 1), 0)
    assert set(ends) == {0, 1, 2}
    said = np.stack([tier.outputs.argmax(axis=1) for tier in bank.tiers.values()])
    for n in (1, 60, 700):
        answers, places = policy.route(inputs[:n])
        np.testing.assert_array_equal(places, ends[:n])
        np.testing.assert_array_equal(answers, said[ends[:n], np.arange(n)])
        np.testing.assert_array_equal(policy.predict(inputs[:n])[1], sent[0][:n])


def test_what_a_middle_tier_knows_is_what_was_sent_to_it(chain_of_three):
    """Its rule scores all samples that reach it together, however many batches they make."""
    network, inputs, bank = chain_of_three
    policy = OffloadPolicy(
        network, None, Margin(), -1.0, ("a", "b", "c"), later=[Gate(Random(), 0.5)]
    )
    expected = np.where(Random().score(bank.tiers["tier1"]) < 0.5, 1, 2)
    np.testing.assert_array_equal(policy.route(inputs)[1], expected)


def test_a_rule_of_a_middle_tier_knows_what_the_tiers_before_it_said(chain_of_three):
    network, inputs, bank = chain_of_three
    first = Gate(Margin(), between(Margin().score(bank.tiers["local"])))
    patient = Gate(Patience(), -0.5)
    policy = OffloadPolicy(network, None, *vars(first).values(), ("a", "b", "c"), later=[patient])
    said = [tier.outputs.argmax(axis=1) for tier in bank.tiers.values()]
    expected = np.where(first.sends_on(bank.at("local")), np.where(said[0] == said[1], 1, 2), 0)
    assert {*expected} == {0, 1, 2}
    np.testing.assert_array_equal(policy.route(inputs)[1], expected)


def test_a_policy_needs_a_gate_for_each_tier_but_the_last(chain_of_three):
    with pytest.raises(ValueError, match="later: expected a gate for each tier but the last of "):
        OffloadPolicy(chain_of_three[0], None, Margin(), 0.5, ("a", "b", "c"))


def test_an_artefact_says_that_it_has_two_tiers(chain_of_three, tmp_path):
    gates = [Gate(Margin(), 0.5)]
    policy = OffloadPolicy(chain_of_three[0], None, Margin(), 0.5, ("a", "b", "c"), later=gates)
    with pytest.raises(ValueError, match="two tiers, a device and a cloud; received 3"):
        save_policy(policy, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize("later", [[Gate], [0.5]])
def test_a_threshold_alone_is_no_gate(chain_of_three, later):
    with pytest.raises(ValueError, match="later: expected a Gate for each of these tiers"):
        OffloadPolicy(chain_of_three[0], None, Margin(), 0.5, ("a", "b", "c"), later=later)


def test_a_threshold_that_is_no_number_is_refused(chain_of_three):
    with pytest.raises(ValueError, match="received NaN"):
        OffloadPolicy(
            chain_of_three[0], None, Margin(), np.nan, ("a",) * 3, later=[Gate(Margin(), 0)]
        )
