"""Will learning help, and from which labels: banks whose diagnosis is plain to see."""

import json

import numpy as np
import pytest
from conftest import bank_of, outcomes

from keras_ddnn.evaluation.diagnostics import BankFacts, diagnose
from keras_ddnn.rules.confidence import RULES, OffloadRule, Random, untrained_rules


class ByDoubt(OffloadRule):
    """Offloads where class 0, which is always the true one, has a low local logit."""

    def score(self, edge):
        return -edge.outputs[:, 0].astype(float)


def ladder(local_share, n=2000):
    """Return n samples that the cloud has right, and the local network up to a share.

    B_k is 0 where both are right and 0.8 where the local network is wrong. The local network is
    equally sure of all, so that every confidence rule ranks at random.
    """
    return outcomes(np.arange(n) < local_share * n, np.ones(n, bool))


def diagnosis_of(train_share, val_share=0.6, n=2000, rules=None):
    return diagnose(ladder(train_share, n), ladder(val_share, n), rules or {}, resamples=50)


@pytest.mark.parametrize(
    ("local_fraction", "noise"),
    [
        # b* is the median, -0.1: hard are 0 and 2. Only the cloud is right on 0, only local on 1.
        (0.5, 0 / 4),
        # All hard, though only the local network is right on sample 1.
        (0.0, 1 / 4),
        # All easy, though only the cloud is right on sample 0.
        (1.0, 1 / 4),
    ],
)
def test_facts_count_the_four_cases_and_labels_that_contradict_a_decisive_oracle(
    four_cases, local_fraction, noise
):
    facts = BankFacts.of(four_cases, "true_class", local_fraction)
    assert facts == BankFacts(4, 2 / 4, 2 / 4, 1 / 4, 1 / 4, 0.0, noise)


def test_the_border_is_where_the_networks_agree_to_a_hundredth():
    # |B_k| = 0.005 and 0.02
    bank = bank_of([[0.6, 0.4]] * 2, [[0.605, 0.395], [0.58, 0.42]], [0, 0])
    assert BankFacts.of(bank, "true_class", 0.5).border == 1 / 2


def test_headroom_and_gains_are_over_the_best_confidence_rule():
    found = diagnosis_of(0.6, rules={"by doubt": ByDoubt(), "no idea": Random(seed=1)})
    # Any order in ties: straight from 1 to 0.6. The oracle: 1 up to 0.6, then straight to 0.6.
    assert found.audc[found.best_confidence].mean == pytest.approx((1 + 0.6) / 2)
    oracle = 1 - 0.4 * 0.4 / 2
    assert found.audc["oracle"].mean == pytest.approx(oracle)
    assert found.headroom.mean == pytest.approx(oracle - 0.8)
    assert found.gains["by doubt"] == found.headroom
    assert found.gains["no idea"].low < 0 < found.gains["no idea"].high
    assert set(found.audc) == {*untrained_rules(), "by doubt", "no idea", "oracle"}


@pytest.mark.parametrize(
    ("val_share", "rules", "recommended", "reason"),
    [
        (0.6, {"by doubt": ByDoubt(), "no idea": Random(seed=1)}, "by doubt", "100% of the head"),
        (0.6, {"no idea": Random(seed=1)}, "entropy", "no learned rule is surely better"),
        (0.6, {}, "entropy", "may help"),
        (1.0, {"by doubt": ByDoubt()}, "entropy", "cannot help"),
    ],
)
def test_a_learned_rule_is_recommended_where_it_surely_gains(val_share, rules, recommended, reason):
    found = diagnosis_of(val_share, val_share, rules=rules)
    assert found.recommended_rule == recommended
    assert reason in found.advice


def test_chance_never_makes_random_ranking_the_best_confidence_rule(monkeypatch):
    monkeypatch.setitem(RULES, "random", ByDoubt)
    found = diagnosis_of(0.6)
    assert found.audc["random"].mean > found.audc["entropy"].mean
    assert found.best_confidence == "entropy"


@pytest.mark.parametrize(
    ("train_share", "n", "labels", "reason"),
    [
        # The distance of B_k is the gap in local accuracy here.
        (0.62, 2000, "final_epoch", "honest: local is 62% right on its training data and 60%"),
        (0.68, 2000, "augmented", "somewhat off: local is 68%"),
        (0.52, 2000, "augmented", "somewhat off: local is 52%"),
        (0.87, 2000, "augmented", "biased: local is 87%"),
        # 100 samples differ by 8 points in one case of four.
        (0.68, 100, "final_epoch", "honest"),
    ],
)
def test_labels_are_taken_from_where_validation_data_agree(train_share, n, labels, reason):
    found = diagnosis_of(train_share, n=n)
    assert found.local_gap == pytest.approx(train_share - 0.6)
    assert found.benefit_distance == pytest.approx(abs(train_share - 0.6))
    assert found.recommended_labels == labels
    assert reason in found.verdict
    assert found.verdict.endswith(f"use {labels}")


def test_memorised_benefits_are_seen_though_accuracies_agree():
    # Local has 60% right on both; of the rest the cloud knows nothing here, and all there.
    val = ladder(0.6)
    train = outcomes(np.arange(2000) < 1200, np.arange(2000) < 1200)
    found = diagnose(train, val, {}, resamples=20)
    assert found.local_gap == 0.0
    assert found.benefit_distance == pytest.approx(0.4)
    assert found.recommended_labels == "augmented"
    assert "biased" in found.verdict


def test_a_diagnosis_is_plain_json_and_counts_every_sample():
    found = diagnosis_of(0.87, rules={"by doubt": ByDoubt()})
    content = found.as_json()
    assert json.loads(json.dumps(content)) == content
    histogram = content["histogram"]
    # B_k is 0 or 0.8: 40 bins from -0.8 to 0.8, whose twenty-first begins at zero.
    np.testing.assert_allclose(histogram["edges"], np.linspace(-0.8, 0.8, 41), atol=1e-7)
    assert (histogram["train"][20], histogram["train"][39]) == (1740, 260)
    assert (histogram["val"][20], histogram["val"][39]) == (1200, 800)
    assert content["headroom"]["mean"] == found.headroom.mean


def test_networks_that_never_differ_still_have_a_histogram():
    histogram = diagnosis_of(1.0, 1.0).histogram
    assert sum(histogram["train"]) == 2000
    assert (histogram["edges"][0], histogram["edges"][-1]) == (-1.0, 1.0)


def test_a_diagnosis_reads_as_a_dozen_plain_lines():
    lines = str(diagnosis_of(0.87, rules={"by doubt": ByDoubt()})).splitlines()
    assert len(lines) <= 12
    assert lines[0] == (
        "training: 2,000 samples, local 87.0% right, cloud 100.0%; only the cloud 13.0%, "
        "only local 0.0%"
    )
    assert any(line.startswith("by doubt: +12.00 (") for line in lines)
    assert lines[-1] == "use: rule by doubt, labels augmented"


@pytest.mark.parametrize("name", ["margin", "oracle"])
def test_a_learned_rule_needs_a_name_of_its_own(four_cases, name):
    with pytest.raises(ValueError, match=f"names of their own; received {name}"):
        diagnose(four_cases, four_cases, {name: ByDoubt()})
