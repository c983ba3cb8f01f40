"""Rules: one finite score a sample, higher where the device is unsure, from the device's view."""

from dataclasses import fields

import numpy as np
import pytest
from conftest import bank_of

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, RULES, OffloadRule, untrained_rules

CONFIDENT, UNSURE = [0.98, 0.01, 0.01], [0.36, 0.34, 0.30]


def edge_of(*probabilities) -> TierOutputs:
    return bank_of(probabilities, probabilities, np.zeros(len(probabilities), int)).edge


@pytest.mark.parametrize("name", untrained_rules())
def test_a_rule_gives_one_finite_score_a_sample_even_for_certain_logits(name):
    edge = TierOutputs(np.diag([0.0, 100.0, 1e4]).astype(np.float32), None, None)
    scores = RULES[name]().score(edge)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("name", CONFIDENCE_RULES)
def test_an_unsure_sample_scores_higher_than_a_confident_one(name):
    confident, unsure = RULES[name]().score(edge_of(CONFIDENT, UNSURE))
    assert confident < unsure


@pytest.mark.parametrize(
    ("name", "score"),
    [
        # p_local = 0.5, 0.25, 0.25
        ("entropy", 1.5 * np.log(2) / np.log(3)),
        ("max_prob", 1 - 0.5),
        ("margin", 1 - (0.5 - 0.25)),
    ],
)
def test_scores_follow_their_formula(name, score):
    scores = RULES[name]().score(edge_of([0.5, 0.25, 0.25]))
    np.testing.assert_allclose(scores, [score], atol=1e-6)


@pytest.mark.parametrize("name", untrained_rules())
def test_a_rule_scores_the_same_samples_alike_in_every_call(name):
    rule, edge = RULES[name](), edge_of(*[UNSURE] * 20)
    np.testing.assert_array_equal(rule.score(edge), rule.score(edge))


def test_random_ranks_differ_by_seed():
    edge = edge_of(*[UNSURE] * 20)
    assert (RULES["random"](seed=0).score(edge) != RULES["random"](seed=1).score(edge)).all()


def test_the_device_knows_neither_the_label_nor_the_cloud():
    for name in {*dir(TierOutputs), *(field.name for field in fields(TierOutputs))}:
        assert not any(word in name for word in ("cloud", "label", "correct"))


def test_a_rule_without_a_score_cannot_be_made():
    with pytest.raises(TypeError, match="score"):
        type("Unfinished", (OffloadRule,), {})()
