import numpy as np
import pytest
from conftest import random_outcomes

from keras_ddnn.anchored import anchor_rule
from keras_ddnn.evaluation import OffloadCurve
from keras_ddnn.rules import OffloadRule


class Fixed(OffloadRule):
    """Scores given beforehand, in the order of the samples."""

    multiply_adds = 7

    def __init__(self, scores):
        self.scores = scores

    def score(self, edge):
        return self.scores


@pytest.fixture
def bank():
    return random_outcomes(2000)


def audc(rule, bank):
    return OffloadCurve.from_scores(rule.score(bank.edge), bank).audc


def test_a_head_that_knows_nothing_leaves_the_confidence_rule_alone(bank):
    noise = Fixed(np.random.default_rng(1).normal(size=len(bank)))
    rule = anchor_rule(noise, bank)
    assert rule.weight == 0.0
    assert rule.multiply_adds == 0
    np.testing.assert_array_equal(rule.score(bank.edge), rule.anchor.score(bank.edge))


def test_a_head_that_knows_who_is_right_takes_over(bank):
    gain = bank.cloud_correct.astype(float) - bank.local_correct
    knowing = Fixed(gain + np.random.default_rng(1).normal(0, 0.3, len(bank)))
    rule = anchor_rule(knowing, bank)
    assert rule.weight > 0.0
    assert rule.multiply_adds == 7
    assert audc(rule, bank) >= audc(knowing, bank)
    assert audc(rule, bank) > audc(rule.anchor, bank) + 0.05


def test_a_constant_head_is_no_error(bank):
    assert anchor_rule(Fixed(np.zeros(len(bank))), bank).weight == 0.0
