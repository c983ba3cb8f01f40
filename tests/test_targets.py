import numpy as np
import pytest
from scipy.stats import norm

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.labels.targets import TARGETS
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.regression import Regression

OF_CLASSES = [n for n, target in TARGETS.items() if CLASSIFICATION.gives.issuperset(target.needs)]


def test_hard_labels_are_one_above_the_quantile(four_cases):
    """B_k = 0.7, -0.5, 0.1, -0.3: the median is -0.1."""
    values = TARGETS["hard"].values(four_cases, "true_class", 0.5)
    assert values.tolist() == [[1.0], [0.0], [1.0], [0.0]]


def test_the_benefit_is_learned_as_it_is(four_cases):
    values = TARGETS["benefit"].values(four_cases, "true_class", 0.5)
    np.testing.assert_allclose(values[:, 0], [0.7, -0.5, 0.1, -0.3], atol=1e-6)


def test_correctness_is_a_pair(four_cases):
    values = TARGETS["correctness"].values(four_cases, "true_class", 0.5)
    assert values.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_the_score_of_a_pair_is_the_difference_of_its_probabilities():
    logits = np.array([[0.0, 0.0], [-np.log(3), np.log(3)]])
    np.testing.assert_allclose(TARGETS["correctness"].score(logits, np), [0.0, 0.75 - 0.25])


def test_what_is_distilled_is_how_probable_the_cloud_holds_either_answer(four_cases):
    """The answers are 1 0 0 1 and the cloud's 0 1 0 1; its p(0) is 0.9, 0.3, 0.7 and 0.1."""
    values = TARGETS["distilled"].values(four_cases, "true_class", 0.5)
    expected = [[0.1, 0.9], [0.3, 0.7], [0.7, 0.7], [0.9, 0.9]]
    np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_target_looks_at_what_it_says_and_at_nothing_else(four_cases, name):
    values = TARGETS[name].values
    given = values(four_cases, "true_class", 0.5)
    other = {
        "cost": values(four_cases, "zero_one", 0.5),
        "local_fraction": values(four_cases, "true_class", 0.75),
    }
    looked_at = {what for what, others in other.items() if not np.array_equal(others, given)}
    assert looked_at == set(TARGETS[name].reads)


# Without the truth, as it is distilled, the cloud is thought right wherever the two disagree.
@pytest.mark.parametrize("name", [name for name in OF_CLASSES if name != "distilled"])
def test_learning_its_values_perfectly_orders_by_benefit(four_cases, name):
    """Whoever predicts a target without error offloads the sample that only the cloud knows."""
    target = TARGETS[name]
    values = target.values(four_cases, "true_class", 0.5)
    outputs = values if target.losses[0] == "mse" else 20.0 * (values - 0.5)
    scores = target.score(outputs)
    assert scores[0] >= scores.max()
    assert scores[1] <= scores.min()


def test_the_expected_benefit_is_what_the_cloud_s_quantiles_say_it_is():
    # Twice the cloud is sure that y is 3: its answer costs nothing, the device's |x - 3|. Then it
    # expects a normal distribution about 0, of which 1 is the device's answer and 0 its own.
    task = Regression("absolute", quantiles=(0.1, 0.5, 0.9))
    local = np.array([[0, 1, 9], [0, 5, 9], [-1, 1, 2]], np.float32)
    cloud = np.array([[3, 3, 3], [3, 3, 3], [-2, 0, 2]], np.float32)
    bank = Bank.from_outputs({"local": local, "cloud": cloud}, [100.0, 100.0, 100.0], task=task)
    values = TARGETS["expected_benefit"].values(bank, "absolute", 0.5)
    assert values.shape == (3, 1)
    np.testing.assert_allclose(values[:2, 0], [2, 2], rtol=1e-6)
    # E|1 - y| and E|y| of a normal distribution: the folded one, Leone et al., 1961.
    scale = 2 / norm.ppf(0.9)
    normal = 2 * scale * np.exp(-0.5 / scale**2) / np.sqrt(2 * np.pi)
    normal += 1 - 2 * norm.cdf(-1 / scale)
    assert values[2, 0] == pytest.approx(normal - scale * np.sqrt(2 / np.pi), abs=0.01)


def test_a_cost_that_the_cloud_fears_counts_as_its_bound():
    task = Regression("absolute", quantiles=(0.1, 0.9), level=0.9, bound=1.0)
    outputs = {"local": np.zeros((1, 2), np.float32), "cloud": np.full((1, 2), 7, np.float32)}
    bank = Bank.from_outputs(outputs, [0.5], task=task)
    assert TARGETS["expected_benefit"].values(bank, "absolute", 0.5).item() == 1


def test_a_default_head_of_quantiles_learns_what_the_cloud_expects():
    several = HeadConfig.of_task(Regression("absolute", quantiles=(0.1, 0.5, 0.9)))
    assert (several.target, several.cost) == ("expected_benefit", "absolute")
    assert HeadConfig.of_task(Regression("absolute")).target == "benefit"
