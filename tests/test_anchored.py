import json

import numpy as np
import pytest
from conftest import bank_of

from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, RULES


@pytest.fixture
def bank():
    """Samples of which the local network has as many right as it says, the cloud 85%."""
    rng, n = np.random.default_rng(0), 2000
    confidence = rng.uniform(0.5, 1.0, n)
    local = np.where(rng.random(n) < confidence, confidence, 1.0 - confidence)
    cloud = np.where(rng.random(n) < 0.85, 0.9, 0.1)
    return bank_of(*(np.stack([p, 1.0 - p], axis=1) for p in (local, cloud)), np.zeros(n, int))


def audc(scores, bank):
    return OffloadCurve.from_scores(scores, bank).audc


def test_scores_are_standardised_before_they_are_weighed(four_cases):
    # 1 - margin is 0.4 0.4 0.8 0.8, in units of 0.4 above 0.4: 0 0 1 1; the head: 0 1 0 1.
    anchor = Anchor("margin", 0.25, ((0.4, 0.4), (10.0, 5.0)))
    scores = anchor.correct(np.array([10.0, 15.0, 10.0, 15.0]), four_cases.edge)
    np.testing.assert_allclose(scores, [0.0, 0.25, 0.75, 1.0], atol=1e-6)


def test_the_anchor_is_the_confidence_rule_that_is_best_on_validation_data():
    rng = np.random.default_rng(0)
    local, cloud = rng.dirichlet(np.ones(5), (2, 300))
    bank = bank_of(local, cloud, rng.integers(0, 5, 300))
    audcs = {name: audc(RULES[name]().score(bank.edge), bank) for name in CONFIDENCE_RULES}
    assert len(set(audcs.values())) == len(CONFIDENCE_RULES)
    assert Anchor.fit(rng.normal(size=300), bank).rule == max(audcs, key=audcs.get)


def test_a_head_that_knows_nothing_leaves_the_confidence_rule_alone(bank):
    noise = np.random.default_rng(1).normal(size=len(bank))
    anchor = Anchor.fit(noise, bank)
    assert anchor.weight == 0.0
    confidence = RULES[anchor.rule]().score(bank.edge)
    assert audc(anchor.correct(noise, bank.edge), bank) == audc(confidence, bank)


def test_a_head_that_knows_who_is_right_takes_over(bank):
    gain = bank.cloud_correct.astype(float) - bank.local_correct
    knowing = gain + np.random.default_rng(1).normal(0, 0.3, len(bank))
    anchor = Anchor.fit(knowing, bank)
    corrected = audc(anchor.correct(knowing, bank.edge), bank)
    assert anchor.weight > 0.0
    assert corrected >= audc(knowing, bank)
    assert corrected > audc(RULES[anchor.rule]().score(bank.edge), bank) + 0.05


def test_a_constant_head_is_no_error(bank):
    assert Anchor.fit(np.zeros(len(bank)), bank).weight == 0.0


def test_an_anchor_survives_json(bank):
    anchor = Anchor.fit(bank.cloud_correct.astype(float), bank)
    assert anchor.weight > 0.0
    assert Anchor.from_json(json.loads(json.dumps(anchor.as_json()))) == anchor
    assert Anchor.from_json(None) is None
