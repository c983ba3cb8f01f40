"""Every named choice has an implementation, and every implementation a name and a meaning."""

import keras
import numpy as np
import pytest

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.heads.losses import keras_loss
from keras_ddnn.labels.targets import LOSSES, TARGETS
from keras_ddnn.rules.confidence import RULES, untrained_rules
from keras_ddnn.rules.inputs import HEAD_INPUTS, MAP_INPUTS
from keras_ddnn.tasks.classification import COSTS


@pytest.mark.parametrize("name", COSTS)
def test_a_cost_is_one_number_a_sample_and_says_what_it_is(name, four_cases):
    costs = COSTS[name](four_cases.edge.distribution.probabilities, four_cases.labels)
    assert costs.shape == (4,)
    assert np.isfinite(costs).all()
    assert COSTS[name].__doc__


@pytest.mark.parametrize("name", HEAD_INPUTS)
def test_a_head_input_is_a_map_or_a_vector_a_sample_and_says_what_it_is(name, four_cases):
    array = HEAD_INPUTS[name](four_cases.edge)
    assert len(array) == 4
    assert array.ndim == (4 if name in MAP_INPUTS else 2)
    assert str(array.dtype) in HEAD_INPUTS[name].__doc__


def test_logits_plus_adds_entropy_and_margin_to_the_logits():
    edge = TierOutputs(np.zeros((1, 10), np.float32), None, None)
    assert HEAD_INPUTS["logits_plus"](edge).tolist() == [[0.0] * 10 + [1.0, 0.0]]


@pytest.mark.parametrize(("classes", "gaps"), [(2, 1), (3, 2), (4, 3), (10, 3)])
def test_rich_logits_have_the_gaps_that_there_are(classes, gaps):
    logits = np.log(np.arange(1.0, classes + 1.0))[None].astype(np.float32)
    rich = HEAD_INPUTS["logits_rich"](TierOutputs(logits, None, None))
    assert rich.shape == (1, classes + gaps + 3 + 2 * classes)
    expected = -np.diff(logits[:, ::-1])[:, :3]
    np.testing.assert_allclose(rich[:, classes : classes + gaps], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", untrained_rules())
def test_a_rule_can_be_made_by_name_and_says_what_it_is(name, four_cases):
    assert RULES[name]().score(four_cases.edge).shape == (4,)
    assert RULES[name].__doc__
    assert RULES[name].score.__doc__


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_keras_loss_that_a_right_output_makes_small(name):
    loss = keras_loss(name)
    assert isinstance(loss, keras.losses.Loss)
    right, wrong = (9.0, -9.0) if LOSSES[name].from_logits else (1.0, -1.0)
    assert float(loss([[1.0]], [[right]])) < 0.01 < 1.0 < float(loss([[1.0]], [[wrong]]))


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if "quantiles" not in t.needs])
def test_a_target_is_learned_by_losses_that_exist(name, four_cases):
    target = TARGETS[name]
    assert set(target.losses) <= set(LOSSES)
    values = target.values(four_cases, "true_class", 0.5)
    assert values.shape == (4, target.units)
    assert target.score(values).shape == (4,)
