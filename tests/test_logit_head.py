"""A learned rule on logits alone, and the small file that keeps a rule."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import bank_of, outcomes

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.evaluation.statistics import audc_gain
from keras_ddnn.labels.logit_head import LogitHead, choose_target
from keras_ddnn.labels.rule_file import LOGIT_RULES, SavedRule, load_rule
from keras_ddnn.rules.calibration import for_accuracy_drop, for_local_fraction
from keras_ddnn.rules.confidence import RULES, OffloadRule, Random, untrained_rules
from keras_ddnn.tasks.prices import PricedClasses

UNSURE = [0.4, 0.3, 0.3]


def misleading(n, seed=0):
    """Return n samples whose confidence misleads, of three classes.

    The local network answers class 0 or 1. Its answer 0 is always right although it is unsure; its
    answer 1 is sure and wrong in half of the cases. The cloud is always right.
    """
    rng = np.random.default_rng(seed)
    answers, lucky = rng.integers(2, size=n), rng.integers(2, size=n)
    local = np.where(answers[:, None] == 0, UNSURE, [0.1, 0.8, 0.1]) + 0.05 * rng.random((n, 3))
    labels = np.where(answers == 0, 0, np.where(lucky, 1, 2))
    cloud = 0.02 + 0.94 * np.eye(3)[labels]
    return bank_of(local / local.sum(axis=1, keepdims=True), cloud, labels)


def sure_and_wrong(n, seed=0):
    """Return n samples of classes 0 and 2, of which a cloud knows class 0 and is sure of both."""
    rng = np.random.default_rng(seed)
    labels = np.resize([0, 2], n)
    local = np.eye(3)[np.where(labels == 0, 1, 2)] * 0.4 + 0.2 + 0.05 * rng.random((n, 3))
    cloud = np.full((n, 3), 0.01) + 0.97 * np.eye(3)[0]
    return bank_of(local / local.sum(axis=1, keepdims=True), cloud, labels)


@pytest.fixture(scope="module")
def head():
    return LogitHead.fit(misleading(600))


class TestALogitHead:
    @pytest.mark.parametrize("target", ["distilled", "correctness"])
    @pytest.mark.parametrize("head_input", ["logits", "logits_plus", "logits_rich"])
    def test_learns_where_confidence_misleads(self, head_input, target):
        fitted = LogitHead.fit(misleading(300), input=head_input, target=target, anchored=False)
        test = misleading(300, seed=1)
        margin = RULES["margin"]().score(test.edge)
        # Best: sends the 50% whose answer is 1 first; by confidence they come last.
        assert audc_gain(fitted.score(test.edge), margin, test, 50).low > 0.1

    def test_scores_by_the_difference_of_two_probabilities(self):
        logits = np.array([[0.0, 0.0], [2.0, -1.0]], np.float32)
        weights = np.array([[1.0, 0.5], [0.0, -2.0]])
        by_hand = LogitHead(weights, np.array([0.1, 0.2]), input="logits")

        def sigmoid(z):
            return 1 / (1 + np.exp(-z))

        expected = [sigmoid(0.2) - sigmoid(0.1), sigmoid(0.2 + 1 + 2) - sigmoid(0.1 + 2)]
        np.testing.assert_allclose(
            by_hand.score(TierOutputs(logits, None, None)), expected, atol=1e-6
        )
        assert by_hand.multiply_adds == 4

    def test_is_anchored_by_scores_of_heads_that_have_not_seen_the_samples(self, head):
        bank = misleading(600)
        assert head.anchor.weight > 0
        seen = head.score(bank.edge)
        assert head.held_out_scores.shape == (600,)
        assert (seen != head.held_out_scores).mean() > 0.9
        assert np.corrcoef(seen, head.held_out_scores)[0, 1] > 0.9

    def test_is_its_confidence_rule_where_nothing_is_to_be_learned(self):
        # All local answers are alike in confidence and class: every score is noise.
        rng = np.random.default_rng(0)
        bank = outcomes(np.ones(200, bool), rng.random(200) < 0.5)
        fitted = LogitHead.fit(bank)
        scores = RULES[fitted.anchor.rule]().score(bank.edge)
        order = np.argsort(scores, kind="stable")
        np.testing.assert_array_equal(np.argsort(fitted.score(bank.edge), kind="stable"), order)

    @pytest.mark.parametrize("target", ["distilled", "correctness"])
    def test_learns_from_networks_that_are_always_right(self, target):
        bank = outcomes(np.ones(40, bool), np.ones(40, bool))
        fitted = LogitHead.fit(bank, target=target, anchored=False)
        assert np.isfinite(fitted.score(bank.edge)).all()

    def test_learns_the_truth_where_the_cloud_is_sure_and_wrong(self):
        # Of class 2 the cloud is sure and always wrong, and the local network right; else the other
        # way round. Its probabilities say that it is always right.
        bank = sure_and_wrong(300)
        assert LogitHead.fit(bank).target == "correctness"
        test = sure_and_wrong(300, seed=1)
        sent = np.argsort(-LogitHead.fit(bank).score(test.edge))[:150]
        assert (test.labels[sent] == 0).mean() > 0.95
        assert choose_target(bank) == "correctness"

    def test_learns_from_the_cloud_where_the_truth_is_not_surely_better(self):
        rng = np.random.default_rng(0)
        bank = outcomes(rng.random(200) < 0.6, rng.random(200) < 0.8)
        assert LogitHead.fit(bank).target == "distilled"
        assert choose_target(bank) == "distilled"
        assert choose_target(sure_and_wrong(9)) == "distilled"  # too few to be told

    def test_the_task_says_whether_answers_are_right_and_not_the_samples_at_hand(self):
        bank = sure_and_wrong(300)
        # A mistake of class 1, which is not here, would cost 10.
        priced = replace(bank, task=PricedClasses([[0, 1, 1], [10, 0, 10], [1, 1, 0]]))
        assert {*np.unique(priced.costs())} == {0.0, 1.0}
        assert LogitHead.fit(priced).target == choose_target(priced) == "distilled"

    def test_refused_samples_are_no_class_to_learn_from(self):
        refusing = PricedClasses.with_refusal(1 - np.eye(3), 0.3)
        with pytest.raises(ValueError, match=r"refused: take HeadConfig.of_task"):
            LogitHead.fit(replace(misleading(60), task=refusing))

    def test_comes_out_the_same_twice(self, head):
        assert LogitHead.fit(misleading(600)).get_config() == head.get_config()

    def test_is_described_by_plain_json_from_which_it_scores_to_the_last_bit(self, head):
        text = json.dumps(head.get_config(), allow_nan=False)
        again = LogitHead.from_config(json.loads(text))
        edge = misleading(50, seed=2).edge
        np.testing.assert_array_equal(again.score(edge), head.score(edge))
        assert again.held_out_scores is None
        assert again.get_config() == head.get_config()

    @pytest.mark.parametrize("weight", [None, 0.0, 0.5])
    def test_scores_alike_in_the_graph_of_a_device(self, head, weight):
        import tensorflow as tf

        from keras_ddnn.deploy.export import IN_GRAPH

        anchor = weight if weight is None else Anchor("entropy", weight, ((0.5, 0.2), (0.1, 0.3)))
        rule = LogitHead(head.weights, head.bias, anchor=anchor).for_graph()
        edge = misleading(50, seed=2).edge

        @tf.function
        def graph(logits):
            return rule.score(TierOutputs(logits, None, None, **IN_GRAPH))

        # Standardising by 0.2 makes an error five times as large.
        np.testing.assert_allclose(graph(edge.outputs), rule.score(edge), atol=5e-6)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"weights": np.zeros((3, 1))}, r"weights \(d, 2\).*received \(3, 1\).*fit it again"),
            ({"bias": np.zeros(3)}, r"bias \(2,\)"),
            ({"weights": np.full((3, 2), np.nan)}, "finite"),
            ({"input": "features"}, "input of a LogitHead 'features'; known: logits, "),
            ({"target": "benefit"}, "target of a LogitHead 'benefit'; known: distilled, "),
        ],
    )
    def test_refuses_numbers_and_names_that_make_no_head(self, arguments, message):
        weights, bias = np.zeros((3, 2)), np.zeros(2)
        with pytest.raises(ValueError, match=message):
            LogitHead(**{"weights": weights, "bias": bias} | arguments)

    def test_refuses_logits_of_another_number_of_classes(self, head):
        four = TierOutputs(np.zeros((5, 4), np.float32), None, None)
        with pytest.raises(ValueError, match="of 4 classes; fit it for these"):
            head.score(four)

    def test_refuses_to_learn_from_a_handful_of_samples(self):
        with pytest.raises(ValueError, match="expects 10 samples or more; received 9"):
            LogitHead.fit(misleading(9))


class TestARuleDescribesItself:
    @pytest.mark.parametrize("name", untrained_rules())
    def test_by_json_that_makes_it_again(self, name):
        rule = RULES[name](seed=3) if name == "random" else RULES[name]()
        again = type(rule).from_config(json.loads(json.dumps(rule.get_config())))
        edge = misleading(20).edge
        np.testing.assert_array_equal(again.score(edge), rule.score(edge))

    def test_or_says_that_it_cannot(self):
        class Scaled(OffloadRule):
            def __init__(self, scale=2.0):
                self.scale = scale

            def score(self, edge):
                return self.scale * edge.distribution.entropy

        with pytest.raises(ValueError, match="Scaled takes scale: expected a get_config"):
            Scaled().get_config()


def saved(rule, local_fraction=0.5):
    bank = misleading(100)
    calibration = for_local_fraction(rule.score(bank.edge), bank, local_fraction)
    return SavedRule(rule, calibration, 3)


class TestASavedRule:
    @pytest.mark.parametrize("name", LOGIT_RULES)
    def test_scores_and_decides_as_it_did_before_it_was_saved(self, head, tmp_path, name):
        rule = saved(head if name == "logit_head" else LOGIT_RULES[name]())
        rule.save(tmp_path / "new" / "rule.json")
        again = load_rule(tmp_path / "new" / "rule.json")
        logits = misleading(50, seed=4).edge.outputs
        np.testing.assert_array_equal(again.score(logits), rule.score(logits))
        np.testing.assert_array_equal(again.offload(logits), rule.offload(logits))
        assert again.name == name
        assert again.calibration == rule.calibration

    @pytest.mark.parametrize(("local_fraction", "offloaded"), [(0.0, 1.0), (1.0, 0.0)])
    def test_keeps_a_threshold_without_end_in_a_file_that_every_json_reader_reads(
        self, tmp_path, local_fraction, offloaded
    ):
        path = tmp_path / "rule.json"
        saved(RULES["margin"](), local_fraction).save(path)
        assert "Infinity" not in path.read_text()
        logits = misleading(50, seed=4).edge.outputs
        assert load_rule(path).offload(logits).mean() == offloaded

    def test_keeps_a_certificate(self, head, tmp_path):
        bank = misleading(100)
        certificate = for_accuracy_drop(head.score(bank.edge), bank, 0.2)
        SavedRule(head, certificate, 3).save(tmp_path / "rule.json")
        assert load_rule(tmp_path / "rule.json").calibration == certificate

    def test_reads_half_precision_and_lists(self, head):
        rule, logits = saved(head), np.array([[1.0, 2.0, 0.5], [0.0, 0.25, 4.0]])
        expected = rule.score(logits.astype(np.float32))
        for again in (logits.astype(np.float16), logits.tolist()):
            np.testing.assert_array_equal(rule.score(again), expected)

    @pytest.mark.parametrize(
        ("logits", "message"),
        [
            (np.zeros((2, 4)), r"of shape \(1 or more, 3\); received \(2, 4\)"),
            (np.zeros(3), r"received \(3,\)"),
            (np.full((2, 3), np.nan), "NaN or infinity in 2 of 2 rows"),
            (np.full((20, 3), 1 / 3), r"received probabilities.*np\.log\(p\)"),
        ],
    )
    def test_refuses_what_are_no_logits_of_its_classes(self, logits, message):
        with pytest.raises(ValueError, match=message):
            saved(RULES["margin"]()).score(logits)

    def test_scores_single_samples_whose_logits_happen_to_sum_to_one(self):
        assert saved(RULES["margin"]()).score(np.array([[0.5, 0.3, 0.2]])).shape == (1,)

    def test_is_made_of_rules_that_read_logits_alone(self, head):
        class Own(OffloadRule):
            def score(self, edge):
                return edge.distribution.entropy

        with pytest.raises(ValueError, match=r"one of random.*logit_head; received Own"):
            SavedRule(Own(), saved(head).calibration, 3)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "is damaged: FileNotFoundError"),
            (b"{", "is damaged"),
            (b"[]", "is damaged"),
            (b'{"content": {}, "sha256": ""}', "is damaged: expected SHA-256"),
        ],
    )
    def test_is_not_read_from_what_is_none(self, tmp_path, content, message):
        path = tmp_path / "rule.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_rule(path)

    def test_is_not_read_once_its_threshold_was_edited(self, head, tmp_path):
        path = tmp_path / "rule.json"
        rule = saved(head)
        rule.save(path)
        path.write_text(path.read_text().replace(repr(rule.score_threshold), "0.125"))
        with pytest.raises(ValueError, match="is damaged: expected SHA-256"):
            load_rule(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": 2}, "expected schema 1; received 2"),
            ({"rule": {"name": "magic", "config": {}}}, "unknown rule 'magic'; known: random"),
            ({"rule": {"name": "margin", "config": {"tilt": 1}}}, "TypeError"),
            ({"num_classes": 0}, "num_classes must be a positive integer"),
            ({"calibration": {}}, "holds no rule: KeyError"),
        ],
    )
    def test_is_not_read_from_content_of_another_kind(self, tmp_path, change, message):
        from keras_ddnn.files.checksums import read_sealed_json, write_sealed_json

        path = tmp_path / "rule.json"
        saved(Random()).save(path)
        write_sealed_json(path, read_sealed_json(path) | change)
        with pytest.raises(ValueError, match=message):
            load_rule(path)
