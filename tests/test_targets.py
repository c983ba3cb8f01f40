import numpy as np
import pytest

from keras_ddnn.labels.targets import TARGETS


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


@pytest.mark.parametrize("name", TARGETS)
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
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "distilled"])
def test_learning_its_values_perfectly_orders_by_benefit(four_cases, name):
    """Whoever predicts a target without error offloads the sample that only the cloud knows."""
    target = TARGETS[name]
    values = target.values(four_cases, "true_class", 0.5)
    outputs = values if target.losses[0] == "mse" else 20.0 * (values - 0.5)
    scores = target.score(outputs)
    assert scores[0] >= scores.max()
    assert scores[1] <= scores.min()
