"""Answers that are numbers: their costs, B_k, b*, curves, rules and losses, worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from figures.offload_curve import draw
from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit, hard_labels, threshold_for_fraction
from keras_ddnn.evaluation.curves import OffloadCurve, compare_rules
from keras_ddnn.evaluation.diagnostics import BankFacts, judge_rules
from keras_ddnn.evaluation.oracle_gap import disagreement, oracle_scores
from keras_ddnn.evaluation.per_class import by_class
from keras_ddnn.evaluation.report import Report
from keras_ddnn.evaluation.statistics import audc_gain
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.labels.sources import Banks, fold_rows
from keras_ddnn.labels.targets import TARGETS
from keras_ddnn.networks.cascade import Cascade
from keras_ddnn.rules.calibration import for_accuracy_drop, for_budget, for_local_fraction
from keras_ddnn.rules.confidence import RULES, Random, Width, confidence_rules, untrained_rules
from keras_ddnn.rules.inputs import HEAD_INPUTS
from keras_ddnn.tasks.regression import COSTS, Regression
from keras_ddnn.tasks.task import Task
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.recipe.losses import loss_of
from keras_ddnn.training.saved_state import address_of_training

# A unit that nobody uses costs 1; a demand that is not met 5, and 2 more for each unit.
SLICES = Regression(over=1.0, under=2.0, penalty=5.0)

# | sample | demand | local | its cost     | cloud | its cost    | B_k |
# |--------|--------|-------|--------------|-------|-------------|-----|
# | 0      | 10     | 13    | 3            | 11    | 1           | 2   |
# | 1      | 10     | 8     | 5 + 2·2 = 9  | 10    | 0           | 9   |
# | 2      | 20     | 20    | 0            | 24    | 4           | -4  |
# | 3      | 20     | 21    | 1            | 19.5  | 5 + 1 = 6   | -5  |
DEMAND = np.array([10.0, 10.0, 20.0, 20.0])
LOCAL, CLOUD = np.array([13.0, 8.0, 20.0, 21.0]), np.array([11.0, 10.0, 24.0, 19.5])


def four_slices(task: Task = SLICES) -> Bank:
    return Bank.from_outputs({"local": LOCAL, "cloud": CLOUD}, DEMAND, task=task)


def quantile_bank(n=400, seed=0, task=None) -> Bank:
    """Return a bank of demands whose spread the local quantiles know, and the cloud's halve."""
    task = task or Regression(quantiles=(0.1, 0.5, 0.9))
    rng = np.random.default_rng(seed)
    spread, middle = rng.uniform(0.1, 5.0, n), rng.uniform(10, 20, n)
    demand = middle + spread * rng.normal(size=n)
    steps = np.array([-1.28, 0.0, 1.28])
    local = middle[:, None] + spread[:, None] * steps
    better = 0.8 * demand + 0.2 * middle
    cloud = better[:, None] + 0.2 * spread[:, None] * steps
    return Bank.from_outputs({"local": local, "cloud": cloud}, demand, task=task)


class NeverTrained(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise AssertionError("training has begun")


class TestCosts:
    def test_provisioning_is_linear_above_the_demand_and_a_penalty_and_a_slope_below(self):
        costs = four_slices().costs()
        np.testing.assert_allclose(costs, [[3, 1], [9, 0], [0, 4], [1, 6]])

    @pytest.mark.parametrize(
        ("cost", "expected"),
        [
            ("squared", [9, 4, 0, 1]),
            ("absolute", [3, 2, 0, 1]),
            # τ = under / (under + over) = 2/3: 1/3 a unit too much, 2/3 a unit missing.
            ("pinball", [1, 4 / 3, 0, 1 / 3]),
            ("provisioning", [3, 9, 0, 1]),
        ],
    )
    def test_each_cost_follows_its_formula(self, cost, expected):
        assert list(SLICES.costs) == list(COSTS)
        np.testing.assert_allclose(SLICES.costs[cost](LOCAL, DEMAND), expected)

    def test_without_a_penalty_provisioning_is_a_pinball_cost(self):
        task = Regression(over=1.5, under=4.5)
        assert task.level == 0.75
        outputs, targets = np.random.default_rng(0).normal(size=(2, 50))
        provisioning, pinball = (
            task.costs[cost](outputs, targets) for cost in ("provisioning", "pinball")
        )
        np.testing.assert_allclose(provisioning, (1.5 + 4.5) * pinball)

    def test_the_quantile_of_the_level_answers(self):
        task = Regression(quantiles=(0.1, 0.75, 0.9), under=3.0)
        assert task.answers(np.array([[1.0, 5.0, 9.0], [2.0, 6.0, 7.0]])).tolist() == [5.0, 6.0]

    def test_the_optimal_level_has_the_least_mean_cost_of_all_samples(self):
        # Providing 1, 2, 3 or 9 units for demands of 1, 2, 3 and 9, with over = 1, under = 1 and
        # penalty = 4, costs 12 + 1+2+8 = 23, 8 + 1+1+7 = 17, 4 + 2+1+6 = 13, and 0 + 8+7+6 = 21.
        task = Regression(penalty=4.0)
        assert task.optimal_level(np.array([3.0, 9.0, 1.0, 2.0])) == (3 - 0.5) / 4
        # With no penalty it is the median, and with a large one nothing may be missed.
        values = np.random.default_rng(0).gamma(2.0, size=1001)
        assert Regression().optimal_level(values) == 0.5
        assert Regression(penalty=1e6).optimal_level(values) == (1001 - 0.5) / 1001

    def test_a_penalty_raises_the_optimal_level_as_derived(self):
        # Uniform demands on [0, 1] have f = 1: F(x) = (under + penalty) / (under + over).
        values = (np.arange(10_000) + 0.5) / 10_000
        task = Regression(over=4.0, under=1.0, penalty=2.0)
        assert task.optimal_level(values) == pytest.approx(3 / 5, abs=1e-3)

    def test_a_cost_above_the_bound_is_refused(self):
        assert four_slices(Regression(bound=4.0)).costs().max() == 4.0
        with pytest.raises(ValueError, match=r"at most bound=8; received 9: give the most"):
            four_slices(Regression(under=2.0, penalty=5.0, bound=8.0)).costs()


class TestWhatTwoAnswersCanDifferBy:
    @pytest.mark.parametrize(
        "task",
        [
            Regression("absolute"),
            Regression("pinball", level=0.9),
            Regression(over=3.0, under=0.5, penalty=0.2),
            SLICES,
            Regression("squared", bound=100.0),
        ],
    )
    def test_no_truth_makes_the_costs_differ_by_more(self, task):
        stay, go, truth = np.random.default_rng(0).uniform(0, 10, (3, 2000))
        stay[:10] = go[:10]
        costs = task.costs[task.reported]
        differ = task.differ(stay, go)
        assert (np.abs(costs(stay, truth) - costs(go, truth)) <= differ + 1e-12).all()
        assert (differ[:10] == 0).all()

    def test_of_squared_costs_there_is_no_bound_without_the_truth(self):
        task = Regression("squared")
        assert task.differ(LOCAL, CLOUD) is None
        # What a bank tells is then the difference itself.
        np.testing.assert_allclose(four_slices(task).differ, [9 - 1, 4 - 0, 16 - 0, 1 - 0.25])


class TestBenefitAndCurve:
    def test_the_benefit_is_the_reported_cost_saved(self):
        np.testing.assert_allclose(benefit(four_slices()), [2, 9, -4, -5])
        np.testing.assert_allclose(benefit(four_slices(), "absolute"), [2, 2, -4, 0.5])

    def test_b_star_is_its_quantile(self):
        benefits = benefit(four_slices())
        # Of -5, -4, 2, 9 half lie below -1, the mean of the two in the middle.
        assert threshold_for_fraction(benefits, 0.5) == -1.0
        assert hard_labels(benefits, 0.5).tolist() == [1, 1, 0, 0]

    def test_the_curve_is_the_mean_cost_and_says_that_lower_is_better(self):
        curve = OffloadCurve.from_scores(benefit(four_slices()), four_slices())
        # All sent: 1+0+4+6. Kept from the lowest B_k: 1 for 6, 0 for 4, 3 for 1, 9 for 0.
        np.testing.assert_allclose(curve.values, np.array([11, 6, 2, 4, 13]) / 4)
        assert curve.area == pytest.approx((11 / 2 + 6 + 2 + 4 + 13 / 2) / 4 / 4)
        assert curve.at(0.5) == 0.5
        assert curve.measure.title == "mean provisioning cost (lower is better)"
        # From 13/4 to 11/4 it falls by 1/2; the mean, 24/16, is lower than both.
        assert curve.apgr == pytest.approx((13 / 4 - 24 / 16) / (13 / 4 - 11 / 4))

    def test_the_best_threshold_keeps_what_costs_no_more_here(self):
        bank = four_slices()
        scores = oracle_scores(bank)
        np.testing.assert_allclose(scores, [2 + 2, 2 + 9, -4 - 2, -5 - 2])
        curve = OffloadCurve.from_scores(scores, bank)
        best = int(curve.values.argmin())
        assert best == np.sum(scores <= 0) == 2
        assert curve.values[best] == np.minimum(bank.stay, bank.go).mean() == 0.5

    def test_no_ranking_costs_less_than_the_oracle_at_any_local_fraction(self):
        bank = quantile_bank()
        oracle = OffloadCurve.from_scores(oracle_scores(bank), bank).values
        rng = np.random.default_rng(1)
        for scores in (rng.random(400), benefit(bank), -benefit(bank), Width().score(bank.edge)):
            assert (OffloadCurve.from_scores(scores, bank).values >= oracle - 1e-12).all()

    def test_a_threshold_says_what_it_costs(self):
        bank = four_slices()
        calibration = for_local_fraction(benefit(bank), bank, 0.5)
        realised = calibration.realised(benefit(bank), bank)
        # Samples 2 and 3 stay: 1 + 0 + 0 + 1, where sending everything costs 11.
        assert realised["cost"] == 2 / 4
        assert realised["cost_increase"] == (0 - 4 + 1 - 6) / 4
        # Of answers 4 and 1.5 apart: 5 + 2·4 and 5 + 2·1.5.
        assert realised["disagreement"] == (13 + 8) / 4
        assert not {"accuracy", "accuracy_drop"} & set(realised)
        assert "mean cost 0.5, -2.25 against sending everything" in calibration.describe(realised)
        assert (
            for_budget(benefit(bank), bank, max_bytes=50, bytes_sent=100).realised(
                benefit(bank), bank
            )["cost"]
            == 2 / 4
        )


class TestFromTwoArraysToATable:
    def test_of_rules_and_a_threshold(self):
        val, test = quantile_bank(seed=0), quantile_bank(seed=1)
        rules = untrained_rules(test.task)
        assert set(rules) == {"random", "width"}
        table, curves = compare_rules(rules, val, test, 0.5, intervals=True)
        assert table["rule"].tolist() == ["oracle", "width", "random"]
        assert table["mean_cost"].is_monotonic_increasing
        assert (table["mean_cost_low"] < table["mean_cost"]).all()
        assert (table["mean_cost"] < table["mean_cost_high"]).all()
        assert not {"audc", "accuracy"} & set(table)
        row = table.set_index("rule").loc["width"]
        assert row["realised_local_fraction"] == pytest.approx(0.5, abs=0.1)
        kept = Width().score(test.edge) < row["score_threshold"]
        assert row["cost"] == pytest.approx(np.where(kept, test.stay, test.go).mean())
        # What varies most gains most by the cloud, which knows more: the width says so.
        gain = audc_gain(Width().score(test.edge), Random().score(test.edge), test)
        assert gain.low > 0
        assert curves["width"].area == pytest.approx(row["mean_cost"])

    def test_and_to_a_picture_whose_axis_says_that_lower_is_better(self, tmp_path):
        bank = quantile_bank()
        table, curves = compare_rules(untrained_rules(bank.task), bank, bank, 0.5)
        Report({"dataset": "slices", "samples": 400}, table, Report.sample(curves)).save(
            tmp_path / "report"
        )
        (axes,) = draw(Report.load(tmp_path / "report")).axes
        assert axes.get_ylabel() == "mean cost (lower is better)"
        drawn = {line.get_label().split()[0]: line.get_ydata() for line in axes.get_lines()}
        np.testing.assert_allclose(drawn["width"][[0, -1]], [bank.go.mean(), bank.stay.mean()])
        assert f"cloud {bank.go.mean():.4g}, local {bank.stay.mean():.4g}" in axes.get_title()

    def test_the_width_is_between_the_outermost_quantiles_and_crossing_is_no_negative_width(self):
        task = Regression(quantiles=(0.1, 0.5, 0.9))
        outputs = np.array([[1.0, 2.0, 4.0], [5.0, 3.0, 4.0]])
        bank = Bank.from_outputs({"local": outputs, "cloud": outputs}, [2.0, 4.0], task=task)
        assert Width().score(bank.edge).tolist() == [3.0, 2.0]

    def test_a_saved_bank_keeps_its_task(self, tmp_path):
        task = Regression(quantiles=(0.2, 0.5, 0.8), under=1.0, bound=50.0)
        bank = quantile_bank(20, task=task)
        bank.save(tmp_path / "bank.npz")
        loaded = Bank.load(tmp_path / "bank.npz")
        assert loaded.task == loaded.edge.task == task
        np.testing.assert_array_equal(loaded.costs(), bank.costs())
        assert loaded.rows(slice(0, 5)).task == task

    def test_the_gate_of_a_chain_has_the_task_of_the_chain(self):
        bank = four_slices()
        three = Bank({**bank.tiers, "far": bank.tiers["cloud"]}, bank.targets, SLICES)
        gate = three.gate("local", [np.array([True, False, True, False])])
        np.testing.assert_allclose(gate.go, bank.go)


class TestWhatATaskCannotGiveIsRefusedInOneLine:
    @pytest.mark.parametrize("name", ["entropy", "max_prob", "margin"])
    def test_probabilities_by_a_rule(self, name):
        with pytest.raises(ValueError, match=r"needs probabilities; received .*'regression'"):
            RULES[name]().score(four_slices().edge)

    @pytest.mark.parametrize("name", ["logits_plus", "logits_rich"])
    def test_probabilities_by_an_input_of_a_head(self, name):
        with pytest.raises(ValueError, match=f"{name}' needs probabilities"):
            HEAD_INPUTS[name](four_slices().edge)

    def test_quantiles_of_a_number_or_of_classes(self, four_cases):
        assert confidence_rules(SLICES) == ()
        for bank in (four_slices(), four_cases):
            with pytest.raises(ValueError, match="Width needs quantiles"):
                Width().score(bank.edge)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda bank: for_accuracy_drop(benefit(bank), bank),
            lambda bank: bank.local_correct,
            lambda bank: bank.cloud_correct,
            lambda bank: BankFacts.of(bank, "absolute"),
            lambda bank: judge_rules(bank, {}),
            lambda bank: TARGETS["correctness"].values(bank, "absolute", 0.5),
        ],
    )
    def test_right_or_wrong(self, ask):
        with pytest.raises(ValueError, match=r"which cost 0 or 1; received a cost of 3") as error:
            ask(four_slices())
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "ask",
        [
            lambda bank: by_class({}, {}, bank, ("a",)),
            lambda bank: disagreement(np.zeros(4, bool), bank),
            lambda bank: TARGETS["distilled"].values(bank, "absolute", 0.5),
        ],
    )
    def test_classes(self, ask):
        with pytest.raises(ValueError, match="needs probabilities; received"):
            ask(four_slices())

    @pytest.mark.parametrize(
        ("local", "targets", "message"),
        [
            (np.zeros((4, 2)), DEMAND, r"local outputs: expected shape \(n, 1\).*\(4, 2\)"),
            (LOCAL, DEMAND[:3], "targets: expected 4 rows.* received 3"),
            (LOCAL, DEMAND[:, None], r"targets: expected shape \(n,\).*ravel"),
            (np.array([1, 2, np.nan, 4]), DEMAND, "NaN or infinity in 1 of 4 rows, first in row 2"),
            (np.array(["a"] * 4), DEMAND, "local outputs: expected numbers; received <U1"),
        ],
    )
    def test_arrays_that_are_no_numbers(self, local, targets, message):
        with pytest.raises(ValueError, match=message):
            Bank.from_outputs({"local": local, "cloud": CLOUD}, targets, task=SLICES)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"reported": "mse"}, "unknown cost 'mse'; known: squared, absolute"),
            ({"over": 0.0}, "over must be positive; received 0.0"),
            ({"penalty": -1.0}, "penalty must be positive; received -1.0"),
            ({"bound": float("inf")}, "bound must be positive; received inf"),
            ({"quantiles": (0.9, 0.1)}, r"quantiles must rise within \(0, 1\)"),
            ({"quantiles": (0.1, 0.9)}, "hold the level that answers, .* by default 0.5"),
            (
                {"reported": "squared", "quantiles": (0.5,)},
                "for the cost 'squared' by default None",
            ),
        ],
    )
    def test_options_of_the_task(self, options, message):
        with pytest.raises(ValueError, match=message):
            Regression(**options)


class TestTraining:
    @pytest.mark.parametrize(
        "task",
        [
            Regression("squared"),
            Regression("absolute"),
            Regression("pinball", level=0.9),
            Regression(over=1.5, under=4.0),
            Regression(over=1.0, under=2.0, penalty=5.0, ramp=0.5),
            Regression(quantiles=(0.1, 0.5, 0.9)),
        ],
    )
    def test_the_gradient_of_the_loss_is_that_of_finite_differences(self, task):
        rng = np.random.default_rng(0)
        shape, step = (20, max(1, len(task.quantiles))), 1e-2
        outputs, targets = rng.normal(size=shape), rng.normal(size=20)
        missing = targets[:, None] - outputs
        kinks = np.array([0.0, task.ramp])
        near = np.abs(missing[..., None] - kinks).min(axis=-1) < 2 * step
        outputs[near] += 5 * step  # no kink lies within the step
        loss = loss_of(task, 0.0)
        tensor = tf.constant(outputs, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = loss(tf.constant(targets), tensor)
        gradient = tape.gradient(value, tensor).numpy()
        for place in np.ndindex(shape):
            around = [np.array(outputs), np.array(outputs)]
            around[0][place] -= step
            around[1][place] += step
            low, high = (float(loss(targets, one.astype(np.float32))) for one in around)
            assert gradient[place] == pytest.approx((high - low) / (2 * step), abs=2e-3)

    def test_the_loss_is_the_mean_cost_where_there_is_no_ramp(self):
        pinball = Regression("pinball", level=0.9)
        for task in (Regression("squared"), Regression("absolute"), Regression(under=4.0), pinball):
            mean = task.costs[task.reported](LOCAL, DEMAND).mean()
            assert float(loss_of(task, 0.0)(DEMAND, LOCAL[:, None])) == pytest.approx(mean)
        # Behind the ramp too: sample 1 misses 2 units.
        mean = SLICES.costs["provisioning"](LOCAL, DEMAND).mean()
        assert float(loss_of(SLICES, 0.0)(DEMAND, LOCAL[:, None])) == pytest.approx(mean)

    def test_the_penalty_of_the_loss_rises_over_the_ramp(self):
        loss = loss_of(Regression(over=3.0, under=2.0, penalty=5.0, ramp=4.0), 0.0)
        # Of a demand of 10, 2 units too much cost 3 each. 1 missing is a fourth of the ramp and
        # costs 5/4 + 2, and 6 missing are past it: 5 + 6·2.
        value = float(loss(np.full(3, 10.0), np.array([[12.0], [9.0], [4.0]])))
        assert value == pytest.approx((6 + 3.25 + 17) / 3)

    def test_the_loss_of_quantiles_is_the_sum_of_their_pinball_losses(self):
        loss = loss_of(Regression(quantiles=(0.1, 0.5, 0.9)), 0.0)
        # A demand of 10: 2 units over by 0.9 each, 1 missing by 0.5, 5 over by 0.1 each.
        value = float(loss(np.array([10.0]), np.array([[12.0, 9.0, 15.0]])))
        assert value == pytest.approx(2 * 0.9 + 1 * 0.5 + 5 * 0.1)

    def test_a_loss_is_rebuilt_from_its_configuration(self):
        for task in (SLICES, Regression(quantiles=(0.1, 0.5, 0.9))):
            loss = loss_of(task, 0.0)
            again = keras.losses.deserialize(keras.losses.serialize(loss))
            outputs = np.repeat(LOCAL[:, None], max(1, len(task.quantiles)), axis=1)
            assert float(again(DEMAND, outputs)) == float(loss(DEMAND, outputs))

    def test_a_head_learns_which_demands_are_worth_sending(self):
        keras.utils.set_random_seed(0)
        train, val = quantile_bank(600), quantile_bank(300, seed=1)
        config = HeadConfig(
            input="logits", target="benefit", cost="provisioning", epochs=10, batch_size=32
        )
        head = fit_head(Banks(train, val), config)
        assert head.anchor.rule == "width"
        table, _ = compare_rules({"head": head, "random": Random()}, val, val, 0.5)
        assert table["rule"].tolist() == ["oracle", "head", "random"]

    @pytest.mark.parametrize(
        "task",
        [SLICES, Regression(quantiles=(0.1, 0.5, 0.9))],
        ids=["number", "quantiles"],
    )
    def test_two_dense_networks_are_trained_on_a_table_and_captured(self, task):
        # A demand is the sum of three numbers, of which the device's few units see enough.
        rng = np.random.default_rng(0)
        table = rng.uniform(0, 1, (200, 3)).astype(np.float32)
        demand = 10 * table.sum(axis=1)
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,), name="table")
        features = keras.layers.Dense(8, activation="relu", name="features")(inputs)
        columns = max(1, len(task.quantiles))
        outputs = {"local": keras.layers.Dense(columns, name="local")(features)}
        hidden = keras.layers.Dense(16, activation="relu")(features)
        outputs["cloud"] = keras.layers.Dense(columns, name="cloud")(hidden)
        cascade = Cascade(keras.Model(inputs, outputs), ("features",), task)
        before = capture(cascade, table, demand)

        fitted = fit_ddnn(
            (table, demand),
            (table[:50], demand[:50]),
            network=cascade,
            epochs=1,
            batch_size=4,
            learning_rate=0.02,
            precision="float32",
            verbose=0,
        )
        assert fitted.bank.task == task
        np.testing.assert_array_equal(fitted.bank.targets, demand.astype(np.float64))
        assert fitted.bank.edge.outputs.shape == (200, columns)
        assert (fitted.bank.costs().mean(axis=0) < before.costs().mean(axis=0)).all()
        again = fitted.capture((table[:10], demand[:10]))
        np.testing.assert_allclose(again.stay, fitted.bank.stay[:10], rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"stages": 1}, "stages are mean probabilities of classes"),
            ({"label_smoothing": 0.1}, "label_smoothing spreads labels over classes"),
        ],
    )
    def test_recipes_of_classes_are_refused_before_training(self, options, message):
        inputs = keras.Input((3,))
        features = keras.layers.Dense(2, name="features")(inputs)
        outputs = {name: keras.layers.Dense(1, name=name)(features) for name in ("local", "cloud")}
        cascade = Cascade(keras.Model(inputs, outputs), ("features",), SLICES)
        table = np.eye(3, dtype=np.float32)
        with pytest.raises(ValueError, match=message):
            fit_ddnn(
                (table, DEMAND[:3] + table[0]),
                network=cascade,
                callbacks=[NeverTrained()],
                **options,
            )

    def test_folds_of_numbers_are_drawn(self):
        folds = fold_rows(np.linspace(0, 1, 30), 0)
        held = np.concatenate([block for _, block in folds])
        np.testing.assert_array_equal(np.sort(held), np.arange(30))
        assert all(len(rest) == 20 and len(block) == 10 for rest, block in folds)
        assert (np.diff(folds[0][1]) > 1).any()  # independent samples are no blocks

    def test_another_task_is_another_training(self):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile()
        addresses = {
            address_of_training(model, DDNNConfig(), (), (), task)
            for task in (SLICES, Regression(), Regression("squared"))
        }
        assert len(addresses) == 3

    def test_an_anchored_head_of_one_number_is_refused_before_it_is_trained(self):
        bank = four_slices()
        with pytest.raises(ValueError, match="pass anchored=False, or predict several quantiles"):
            fit_head(
                Banks(bank, bank),
                HeadConfig(input="logits", target="benefit", cost="provisioning"),
                callbacks=[NeverTrained()],
            )
        with pytest.raises(ValueError, match="unknown cost 'true_class'; known: squared"):
            fit_head(Banks(bank, bank), HeadConfig(input="logits", target="benefit"))
