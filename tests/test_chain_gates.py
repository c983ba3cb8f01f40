"""Gates of a chain: patience, and rules that are learned from the last gate to the first."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.chains import compare_plans, untrained_chain_rules
from keras_ddnn.labels.exit_score import ExitScore
from keras_ddnn.labels.gates import GateOfNetwork, choose_gates, fit_gates
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.labels.sources import LABEL_SOURCES, Banks
from keras_ddnn.rules.confidence import Entropy, Gate, MaxProb, OffloadRule, Patience
from keras_ddnn.rules.plans import ScoredChain


def chain_of_answers(answers, labels, surely=4.0):
    """Return a bank whose tiers give these answers (n, tiers), of four classes."""
    logits = surely * np.eye(4, dtype=np.float32)[np.asarray(answers)]
    names = ["local", *(f"tier{k}" for k in range(1, logits.shape[1] - 1)), "cloud"]
    tiers = {name: TierOutputs(logits[:, k]) for k, name in enumerate(names)}
    return Bank(tiers, np.asarray(labels))


def test_patience_counts_the_tiers_right_before_that_said_the_same():
    """Zhou et al. 2020: the counter grows where an exit repeats the one before, else it is 0."""
    bank = chain_of_answers([[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [2, 2, 1, 1]], [1] * 4)
    scores = {name: Patience().score(bank.at(name)).tolist() for name in bank.tiers}
    assert scores["local"] == [0, 0, 0, 0]
    assert scores["tier1"] == [-1, 0, 0, -1]
    assert scores["tier2"] == [-2, -1, 0, 0]


@pytest.mark.parametrize(
    ("patience", "ends"), [(0, [0, 0, 0, 0]), (1, [1, 2, 3, 1]), (2, [2, 3, 3, 3])]
)
def test_a_patience_is_one_threshold_for_all_gates(patience, ends):
    bank = chain_of_answers([[0, 0, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [2, 2, 1, 1]], [1] * 4)
    chain = ScoredChain.of(bank, [Patience()] * 3, [1, 1, 1, 1])
    assert chain.ends([0.5 - patience] * 3).tolist() == ends


# Two exits and a last tier, two classes. Exit 1 says ½ ½, and 0; exit 2 says ¼ ¾, and 1.
HALVES = Bank(
    {
        name: TierOutputs(np.log(np.array([p], np.float32)))
        for name, p in {"local": (0.5, 0.5), "tier1": (0.25, 0.75), "cloud": (0.1, 0.9)}.items()
    },
    np.array([1]),
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_eenet_scores_an_exit_by_confidence_agreement_and_earlier_scores():
    """Weights: two classes, max-prob, 1 - entropy, agreement, earlier scores; then the bias.

    Exit 1: max-prob 1/2, entropy 1 bit of 1, agreement 1. Exit 2: max-prob 3/4, entropy
    ¼·2 + ¾·log₂(4/3) bits, and one of two exits for the most frequent answer.
    """
    first, entropy = [0, 0, 2, 5, 1, -1.5], 0.5 + 0.75 * np.log2(4 / 3)
    (score,) = ExitScore([first]).score(HALVES.at("local"))
    q = sigmoid(2 * 1 / 2 + 5 * 0 + 1 * 1 - 1.5)
    assert score == pytest.approx(1 - q)
    second = [1, 0, 1, 2, 4, 3, -1]
    (score,) = ExitScore([first, second]).score(HALVES.at("tier1"))
    logit = 1 / 4 + 3 / 4 + 2 * (1 - entropy) + 4 * 1 / 2 + 3 * q - 1
    assert score == pytest.approx(1 - sigmoid(logit))


def test_eenet_learns_which_answers_are_right_and_goes_into_plans():
    teach, test = random_chain(600, 0), random_chain(4000, 2)
    rules = ExitScore.fit(teach)
    again = [ExitScore.from_config(json.loads(json.dumps(rule.get_config()))) for rule in rules]
    prices, budget = [1, 2, 7], 4.5
    plans = {}
    for name, gates in {"eenet": again, "entropy": [Entropy()] * 2}.items():
        thresholds = ScoredChain.of(teach, gates, prices).for_budget(budget).thresholds
        plans[name] = ScoredChain.of(test, gates, prices).plan(thresholds)
        assert plans[name].price == pytest.approx(budget, abs=0.4)
    assert plans["eenet"].accuracy > plans["entropy"].accuracy - 0.01
    for rule, tier in zip(rules, ("local", "tier1")):  # q is how often it is right
        wrong = test.tiers[tier].outputs.argmax(axis=1) != test.labels
        assert rule.score(test.at(tier)).mean() == pytest.approx(wrong.mean(), abs=0.05)


def test_eenet_learns_of_exits_that_are_always_right():
    bank = chain_of_answers(np.ones((20, 3), int), [1] * 20)
    for rule, tier in zip(ExitScore.fit(bank), ("local", "tier1")):
        assert np.all(rule.score(bank.at(tier)) < 0.1)


def test_a_rule_of_eenet_at_another_gate_is_refused():
    first, second = ExitScore.fit(random_chain(50, 0))
    with pytest.raises(ValueError, match="that of exit 2 for 4 classes; received exit 1 with 4"):
        second.score(GROUPS.at("local"))
    with pytest.raises(ValueError, match="for 4 classes; received exit 1 with 2"):
        first.score(HALVES.at("local"))
    with pytest.raises(ValueError, match=r"one more of each behind it; received shapes \[\(5,\)"):
        ExitScore([np.zeros(5), np.zeros(5)])


# Right at all three tiers, and surely; from the second on; at the last alone: the first answer
# tells which.
GROUPS = chain_of_answers(
    np.repeat([[0, 0, 0], [1, 3, 3], [2, 2, 3]], 10, axis=0),
    np.repeat([0, 3, 3], 10),
    np.repeat([5.0, 4.0, 4.0], 10)[:, None, None],
)


class GainOfAnswer(OffloadRule):
    """Scores by what going on has gained the samples that got this answer."""

    def __init__(self, bank):
        answers, gains = bank.edge.outputs.argmax(axis=1), bank.stay - bank.go
        self.gains = [gains[answers == k].mean() if k in answers else 0.0 for k in range(4)]

    def score(self, edge):
        return np.array(self.gains)[edge.outputs.argmax(axis=1)]


def learned(prices, budget):
    return fit_gates(lambda gate: GainOfAnswer(gate.bank), Banks(GROUPS, GROUPS), prices, budget)


def test_gates_are_learned_so_that_each_sample_ends_where_it_is_first_right():
    """Of 30 samples 20 go on and 10 to the end: 1 + 20/30 + 10/30 = 2, and nothing is wrong."""
    gates = learned([1, 1, 1], 2)
    chain = ScoredChain.of(GROUPS, [gate.rule for gate in gates], [1, 1, 1])
    plan = chain.plan([gate.score_threshold for gate in gates])
    assert (plan.cost, plan.price, plan.shares) == (0, 2, (1 / 3, 1 / 3, 1 / 3))
    assert gates[1].rule.gains == [0, 0, 1, 0]
    assert gates[0].rule.gains == [0, 1, 1, 0]


def test_a_first_gate_learns_what_the_fixed_gates_behind_it_make_of_a_sample():
    """The last tier is too dear. The third group ends at the second, wrong: it gains nothing."""
    first, second = learned([1, 1, 100], 2)
    assert not second.sends_on(GROUPS.at("tier1")).any()
    assert first.rule.gains == [0, 1, 0, 0]


class ThreeGroups(Banks):
    """What a network in memory can say besides: of copies, and of parts of its samples."""

    def augmented_bank(self, views):
        return self.bank.rows(np.tile(np.arange(len(self.bank)), views))

    def fold(self, fold):
        rows = np.arange(len(self.bank))[::-1][fold::3]  # in any order
        return Predictions.of(rows, self.bank.rows(rows))


@pytest.mark.parametrize("source", LABEL_SOURCES)
def test_a_gate_learns_from_labels_of_every_source(source):
    """The second gate sends on the third group alone; seen from the first, all end rightly."""
    stages = Predictions.of(np.arange(30), GROUPS)
    network = ThreeGroups(GROUPS, GROUPS, stages)
    sends_third = Gate(GainOfAnswer(GROUPS.gate("tier1")), 0.5)
    gate = GateOfNetwork(network, "local", {"tier1": sends_third})
    data = LABEL_SOURCES[source].training_data(gate)
    assert [*data.labels_bank.tiers] == ["local", "cloud"]
    assert len(data.labels_bank) == {"augmented": 60, "held_out": 3}.get(source, 30)
    np.testing.assert_array_equal(data.labels_bank.go, 0)
    np.testing.assert_array_equal(data.labels_bank.stay, data.labels_bank.labels == 3)
    np.testing.assert_array_equal(data.bank.index, data.labels_bank.index)


def random_chain(n, seed):
    """Return three tiers of which later ones are right more often, and surer where they are."""
    rng = np.random.default_rng(seed)
    labels, ease = rng.integers(4, size=n), rng.normal(size=n)
    tiers = {}
    for name, skill in {"local": 0.5, "tier1": 1.2, "cloud": 2.5}.items():
        logits = rng.normal(size=(n, 4))
        logits[np.arange(n), labels] += skill + ease
        tiers[name] = TierOutputs(logits.astype(np.float32))
    return Bank(tiers, labels)


def test_logit_heads_of_a_chain_are_as_good_as_confidence():
    halves, test = Banks(random_chain(600, 0), random_chain(600, 1)), random_chain(4000, 2)
    prices, budget = [1, 2, 7], 4.5
    heads = fit_gates(lambda gate: LogitHead.fit(gate.bank), halves, prices, budget)
    entropy = choose_gates(halves.val_bank, [Entropy()] * 2, prices, budget)
    found = {}
    for name, gates in {"head": heads, "entropy": entropy}.items():
        assert all(isinstance(gate, Gate) for gate in gates)
        chain = ScoredChain.of(test, [gate.rule for gate in gates], prices)
        found[name] = chain.plan([gate.score_threshold for gate in gates])
        assert found[name].price == pytest.approx(budget, abs=0.3)
    assert found["head"].accuracy > found["entropy"].accuracy - 0.01
    first, _, last = chain.anytime()
    assert first.accuracy + 0.1 < found["head"].accuracy < last.accuracy


def test_of_two_tiers_the_gate_is_that_of_the_rule_and_a_budget():
    bank = random_chain(200, 3)
    bank = Bank({name: bank.tiers[name] for name in ("local", "cloud")}, bank.labels)
    (gate,) = fit_gates(lambda gate: MaxProb(), Banks(bank, bank), [0, 1], 0.3)
    chain = ScoredChain.of(bank, [MaxProb()], [0, 1])
    assert gate.score_threshold == chain.for_budget(0.3).thresholds[0]


def test_what_cannot_be_chosen_is_refused_before_anything_is_learned():
    def fit(banks):
        raise AssertionError("learned")

    with pytest.raises(ValueError, match="received no val_bank: give Banks"):
        fit_gates(fit, Banks(GROUPS, None), [1, 1, 1], 2)
    with pytest.raises(ValueError, match="budget must be at least 1"):
        fit_gates(fit, Banks(GROUPS, GROUPS), [1, 1, 1], 0)
    with pytest.raises(ValueError, match="unknown tier 'fog'; known: local, tier1, cloud"):
        GROUPS.at("fog")


def test_rules_of_a_chain_are_compared_within_the_same_budgets():
    bank = random_chain(300, 4)
    table = compare_plans(untrained_chain_rules(3), bank, bank, [1, 2, 7], [2, 5])
    assert table["rule"][:3].tolist() == ["exit local", "exit tier1", "exit cloud"]
    assert table["price"][:3].tolist() == [1, 3, 10]
    np.testing.assert_allclose(table["accuracy"][:3], 1 - bank.costs().mean(axis=0))
    told = table[3:]
    assert {*told["rule"]} == {"random", "entropy", "max_prob", "margin", "patience"}
    # Thresholds were chosen on these very samples.
    assert (told["price"] <= told["budget"]).all()
    for budget, rows in told.groupby("budget"):
        assert rows["accuracy"].is_monotonic_decreasing
        best = ScoredChain.of(bank, [MaxProb()] * 2, [1, 2, 7]).for_budget(budget)
        row = rows.set_index("rule").loc["max_prob"]
        assert (row["accuracy"], row["price"]) == (best.accuracy, best.price)
        assert row["share_local"] + row["share_tier1"] + row["share_cloud"] == pytest.approx(1)
        assert row["threshold_local"] == best.thresholds[0]


def test_plans_are_told_of_other_samples_than_those_that_chose_them():
    first, second = random_chain(300, 5), random_chain(300, 6)
    (row,) = compare_plans({"m": [MaxProb()] * 2}, first, second, [1, 2, 7], [4]).to_dict(
        "records"
    )[3:]
    chosen = ScoredChain.of(first, [MaxProb()] * 2, [1, 2, 7]).for_budget(4).thresholds
    assert (row["threshold_local"], row["threshold_tier1"]) == chosen
    assert (
        row["accuracy"] == ScoredChain.of(second, [MaxProb()] * 2, [1, 2, 7]).plan(chosen).accuracy
    )


def test_the_example_of_three_classifiers_promises_what_it_keeps(capsys):
    example = Path(__file__).parent.parent / "examples" / "three_exits.py"
    runpy.run_path(str(example))["main"]()
    *table, promise, told = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + 3 + 3 * 6  # exits alone; three budgets of six rules
    assert promise.startswith("promised: with probability 90.0% or more")
    below, price = map(float, re.search(r"data: (.*) points .* price (.*) instead", told).groups())
    assert below <= 5
    assert price < 12
