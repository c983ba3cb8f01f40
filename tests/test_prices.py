"""Prices of mistakes and of sending: the cheapest answer and threshold, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_split

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.gate_costs import GateCosts, benefit
from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.networks.cascade import as_cascade
from keras_ddnn.rules.confidence import untrained_rules
from keras_ddnn.rules.prices import for_price
from keras_ddnn.tasks.prices import PricedClasses

# A missed alarm (true 1, answer 0) costs 9, a false one 1.
ALARMS = PricedClasses([[0, 1], [9, 0]])


def logits(*of_alarm):
    p = np.array(of_alarm)
    return np.log(np.stack([1 - p, p], axis=1)).astype(np.float32)


def alarms() -> Bank:
    """Answer 0 costs 9·p, answer 1 costs 1 - p: an alarm is cheaper from p = 0.1 on.

    | sample | truth | local p | answer, price | cloud p | answer, price | B_k |
    |--------|-------|---------|---------------|---------|---------------|-----|
    | 0      | 1     | 0.05    | 0, 9          | 0.2     | 1, 0          | 9   |
    | 1      | 0     | 0.3     | 1, 1          | 0.01    | 0, 0          | 1   |
    | 2      | 1     | 0.4     | 1, 0          | 0.05    | 0, 9          | -9  |
    | 3      | 0     | 0.02    | 0, 0          | 0.01    | 0, 0          | 0   |
    """
    outputs = {"local": logits(0.05, 0.3, 0.4, 0.02), "cloud": logits(0.2, 0.01, 0.05, 0.01)}
    return Bank.from_outputs(outputs, np.array([1, 0, 1, 0]), task=ALARMS)


def test_the_answer_is_the_one_of_the_least_expected_price():
    bank = alarms()
    assert ALARMS.answers(bank.edge.outputs).tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(bank.costs(), [[9, 0], [1, 0], [0, 9], [0, 0]])
    np.testing.assert_array_equal(bank.costs("zero_one"), [[1, 0], [1, 0], [0, 1], [0, 0]])
    assert benefit(bank).tolist() == [9, 1, -9, 0]


def test_what_two_answers_differ_by_needs_no_truth():
    # Other answers differ by 9 where 1 is true, and by 1 where 0 is.
    assert alarms().differ.tolist() == [9, 9, 9, 0]


class TestRefusals:
    """No answer costs 0.3, a wrong one 1: a class is answered from a probability of 0.7 on.

    | sample | truth | local p of 1 | answer, price | cloud p of 1 | answer, price | B_k  |
    |--------|-------|--------------|---------------|--------------|---------------|------|
    | 0      | 1     | 0.6          | none, 0.3     | 0.9          | 1, 0          | 0.3  |
    | 1      | 0     | 0.2          | 0, 0          | 0.5          | none, 0.3     | -0.3 |
    | 2      | 1     | 0.2          | 0, 1          | 0.4          | none, 0.3     | 0.7  |
    | 3      | 0     | 0.5          | none, 0.3     | 0.6          | none, 0.3     | 0    |
    """

    task = PricedClasses.with_refusal([[0, 1], [1, 0]], 0.3)

    def bank(self) -> Bank:
        outputs = {"local": logits(0.6, 0.2, 0.2, 0.5), "cloud": logits(0.9, 0.5, 0.4, 0.6)}
        return Bank.from_outputs(outputs, np.array([1, 0, 1, 0]), task=self.task)

    def test_no_answer_is_given_where_none_is_cheap_enough(self):
        bank = self.bank()
        assert self.task.refusal == 2
        assert self.task.answers(bank.edge.outputs).tolist() == [2, 0, 0, 2]
        np.testing.assert_allclose(bank.costs(), [[0.3, 0], [0, 0.3], [1, 0.3], [0.3, 0.3]])
        np.testing.assert_allclose(benefit(bank), [0.3, -0.3, 0.7, 0])

    def test_three_decisions_come_of_one_price_a_send_and_one_a_refusal(self):
        bank = self.bank()
        threshold = for_price(benefit(bank), bank, 0.1).score_threshold
        sent = benefit(bank) >= threshold
        assert sent.tolist() == [True, False, True, False]  # what gains less than 0.1 stays
        answers = np.where(
            sent,
            self.task.answers(bank.tiers["cloud"].outputs),
            self.task.answers(bank.edge.outputs),
        )
        assert answers.tolist() == [1, 0, 2, 2]  # sent, local, refused behind, refused here

    def test_a_policy_answers_none_where_it_refuses(self, toy_policy):
        task = PricedClasses.with_refusal(1 - np.eye(3), 0.5)
        cascade = replace(as_cascade(toy_policy.model), task=task)
        images = toy_split(20, 3).images
        policy = replace(toy_policy, model=cascade, classes=Classes(("a", "b", "c")))
        answers, sent = policy.predict(images)
        numbers, tiers = policy.route(images)
        assert (sent == (tiers > 0)).all()
        assert [*answers] == [{0: "a", 1: "b", 2: "c", 3: None}[k] for k in numbers]
        plain = replace(toy_policy, classes=policy.classes).predict(images)[0]
        assert 0 < sum(a is None for a in answers) < 20
        assert all(a is None or a == b for a, b in zip(answers, plain))

    def test_the_table_tells_the_share_without_an_answer(self):
        bank = self.bank()
        table, curves = compare_rules(untrained_rules(bank.task), bank, bank, 0.5)
        # The oracle sends the samples 0 and 2: no answer to 2, from behind, and to 3, from here.
        oracle = table.set_index("rule").loc["oracle"]
        assert oracle["refused"] == 0.5
        assert oracle["cost"] == pytest.approx((0 + 0 + 0.3 + 0.3) / 4)
        np.testing.assert_allclose(curves["oracle"].values[[0, -1]], [0.9 / 4, 1.6 / 4])

    def test_a_bank_of_refusals_is_kept(self, tmp_path):
        self.bank().save(tmp_path / "bank.npz")
        assert Bank.load(tmp_path / "bank.npz").task == self.task

    def test_without_a_price_for_it_there_is_no_refusal(self):
        assert ALARMS.refusal is None


def test_limits_of_a_class_narrow_the_choice():
    # B_k is 9, 1, -9, 0: without limits the samples 2 and 3 stay, a half of either class.
    bank = alarms()
    free = for_price(benefit(bank), bank, 0.5)
    chosen = for_price(
        benefit(bank), bank, 0.5, classes=bank.targets, limits={0: (1.0, 1.0), 1: (0.0, 0.5)}
    )
    assert (benefit(bank) >= free.score_threshold).tolist() == [True, True, False, False]
    assert (benefit(bank) >= chosen.score_threshold).tolist() == [True, False, False, False]
    assert "100% to 100% of class 0, 0% to 50% of class 1" in chosen.promise
    with pytest.raises(ValueError, match="no threshold does; widen one of them"):
        for_price(benefit(bank), bank, 0.5, classes=bank.targets, limits={0: (0.9, 1), 1: (0, 0)})
    with pytest.raises(ValueError, match="the class of each of 4 samples, for limits"):
        for_price(benefit(bank), bank, 0.5, limits={0: (0.9, 1)})


def test_equal_prices_are_those_of_plain_classes(four_cases):
    outputs = {name: tier.outputs for name, tier in four_cases.tiers.items()}
    bank = Bank.from_outputs(outputs, four_cases.labels, task=PricedClasses([[0, 1], [1, 0]]))
    np.testing.assert_array_equal(bank.costs(), four_cases.costs())


def test_rules_of_classes_rank_priced_answers_and_the_table_tells_mean_costs(tmp_path):
    bank = alarms()
    table, _ = compare_rules(untrained_rules(bank.task), bank, bank, 0.5)
    assert table["rule"][0] == "oracle"
    assert {"cost", "mean_cost"} < set(table)
    assert table["mean_cost"].is_monotonic_increasing
    bank.save(tmp_path / "bank.npz")
    assert Bank.load(tmp_path / "bank.npz").task == ALARMS


@pytest.mark.parametrize(
    ("price", "sent"),
    [
        # B_k is 9, 1, -9, 0: what gains no more than a send costs stays.
        (0.0, [True, True, False, False]),
        (0.5, [True, True, False, False]),
        (2.0, [True, False, False, False]),
        (10.0, [False, False, False, False]),
    ],
)
def test_the_benefit_is_worth_its_price_or_stays(price, sent):
    bank = alarms()
    calibration = for_price(benefit(bank), bank, price)
    assert (benefit(bank) >= calibration.score_threshold).tolist() == sent
    realised = calibration.realised(benefit(bank), bank)
    assert realised["price"] == price * np.mean(sent)
    assert realised["cost"] == np.where(sent, bank.go, bank.stay).mean()


def test_no_threshold_costs_less_than_the_one_for_a_price():
    rng = np.random.default_rng(0)
    stay, go, scores = rng.random((3, 200))
    samples, scores = GateCosts(stay, go), scores.round(1)  # with ties
    for price in (0.0, 0.05, 0.3):
        best = for_price(scores, samples, price).score_threshold

        def total(threshold, price=price):
            sent = scores >= threshold
            return np.where(sent, go + price, stay).mean()

        assert total(best) <= min(map(total, [*np.unique(scores), np.inf])) + 1e-12


def test_with_the_truth_in_hand_the_price_itself_is_the_threshold():
    bank = alarms()
    for price in (0.5, 2.0):
        sent = benefit(bank) >= price
        chosen = for_price(oracle_scores(bank), bank, price).score_threshold
        np.testing.assert_array_equal(oracle_scores(bank) >= chosen, sent)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ([[0, 1]], r"two or more classes.* received shape \(1, 2\)"),
        ([[0, 1, 1, 1], [1, 0, 1, 1]], r"prices: expected shape \(n, 2\).*received \(2, 4\)"),
        ([[0]], "two or more classes"),
        ([[0, -1], [1, 0]], "numbers from 0 on; .* from -1 on"),
        ([[0, np.nan], [1, 0]], "prices: expected finite numbers"),
    ],
)
def test_prices_that_are_no_square_of_costs_are_refused(prices, message):
    with pytest.raises(ValueError, match=message):
        PricedClasses(prices)


def test_other_classes_and_a_negative_price_are_refused(four_cases):
    with pytest.raises(ValueError, match="prices of 3 classes need as many logits; received 2"):
        PricedClasses(np.ones((3, 3))).answers(four_cases.edge.outputs)
    with pytest.raises(ValueError, match="price must be positive; received -1"):
        for_price(np.arange(4.0), four_cases, -1)
