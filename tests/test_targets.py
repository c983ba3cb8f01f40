import numpy as np
import pytest

from keras_ddnn.targets import TARGETS


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
    np.testing.assert_allclose(TARGETS["correctness"].score(logits), [0.0, 0.75 - 0.25])


@pytest.mark.parametrize("name", TARGETS)
def test_learning_its_values_perfectly_orders_by_benefit(four_cases, name):
    """Whoever predicts a target without error offloads the sample that only the cloud knows."""
    target = TARGETS[name]
    values = target.values(four_cases, "true_class", 0.5)
    outputs = values if target.losses[0] == "mse" else 20.0 * (values - 0.5)
    scores = target.score(outputs)
    assert scores[0] >= scores.max()
    assert scores[1] <= scores.min()
