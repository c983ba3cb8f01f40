"""Several networks asked about one number: unsure is where they differ."""

import keras
import numpy as np
import pytest

from keras_ddnn.data.splits import Split
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.artifact import load_policy, save_policy
from keras_ddnn.deploy.export import export_edge
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.heads.ensemble import MEASURES, Ensemble, measures_of
from keras_ddnn.heads.mc_dropout import MCDropout
from keras_ddnn.networks.architectures.series import SeriesOptions, build_series
from keras_ddnn.networks.compose import chain
from keras_ddnn.rules.confidence import Width
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.training.capture import CaptureBank, capture

NUMBER = Regression("absolute")
QUANTILES = Regression("absolute", quantiles=(0.1, 0.5, 0.9))
INPUTS = np.float32([[1], [4]])


def times(*factors: float, dropout: float = 0.0) -> keras.Model:
    """A network of one number x that answers x times each factor."""
    x = read = keras.Input((1,), name="windows")
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    answers = keras.layers.Dense(len(factors), use_bias=False)
    network = keras.Model(read, answers(x))
    answers.set_weights([np.float32([factors])])
    return network


def device(outputs, task=NUMBER) -> TierOutputs:
    return TierOutputs(np.float32(outputs), INPUTS, INPUTS, task=task)


def test_the_deviation_of_two_members_is_half_their_distance():
    said = np.array([[[1.0], [3.0]], [[2.0], [2.0]]])
    np.testing.assert_allclose(MEASURES["deviation"].of(said), [1.0, 0.0])
    assert measures_of(NUMBER) == measures_of(QUANTILES) == ("deviation",)
    assert measures_of(CLASSIFICATION) == ("entropy", "mutual_information")


def test_an_ensemble_of_two_is_unsure_where_the_other_answers_otherwise():
    # The device says 1 of both samples; the other says 1 and 4.
    rule = Ensemble([times(1.0)], "deviation")
    np.testing.assert_allclose(rule.score(device([[1], [1]])), [0.0, 1.5])
    assert rule.multiply_adds == 1


def test_of_quantiles_the_one_that_answers_is_compared():
    # The other says 0, x and 9x: its outer quantiles do not count.
    rule = Ensemble([times(0.0, 1.0, 9.0)], "deviation")
    outputs = [[-5, 1, 5], [-5, 1, 5]]
    np.testing.assert_allclose(rule.score(device(outputs, QUANTILES)), [0.0, 1.5])


@pytest.mark.parametrize(
    ("measure", "task", "message"),
    [
        ("entropy", NUMBER, "measure 'entropy' needs probabilities; .* give numbers: take one"),
        ("deviation", CLASSIFICATION, "'deviation' needs numbers; .* give probabilities: take one"),
    ],
)
def test_a_measure_that_a_task_cannot_give_is_refused_in_one_line(measure, task, message):
    edge = device([[1, 2], [3, 4]], task)
    network = chain({"local": times(1.0, dropout=0.5), "cloud": times(1.0)}, task=NUMBER)
    for rule in (Ensemble([times(1.0)], measure), MCDropout(network, measure=measure)):
        with pytest.raises(ValueError, match=message) as error:
            rule.score(edge)
        assert "\n" not in str(error.value)


def test_an_ensemble_refuses_to_be_alone_or_of_networks_of_other_outputs():
    with pytest.raises(ValueError, match="one network or more"):
        Ensemble([], "deviation")
    with pytest.raises(ValueError, match="one network or more"):
        Ensemble("second")
    both = chain({"local": times(1.0), "cloud": times(1.0)}, task=NUMBER)
    with pytest.raises(ValueError, match="received Cascade"):
        Ensemble(both)
    with pytest.raises(ValueError, match="one output; received 1 and 2"):
        Ensemble(both.model)
    with pytest.raises(ValueError, match="outputs of one shape"):
        Ensemble([times(1.0, 2.0)], "deviation").score(device([[1], [1]]))


def test_of_classes_one_other_network_is_enough_and_entropy_is_the_measure():
    # The other says scores of x and 0: sure of 4, less of 1, as the device is of neither.
    rule = Ensemble(times(1.0, 0.0))
    assert rule.measure == "entropy"
    scores = rule.score(device([[0, 0], [0, 0]], CLASSIFICATION))
    assert 1 > scores[0] > scores[1] > 0


def test_an_ensemble_is_not_saved_and_says_what_can_be(tmp_path):
    network = chain({"local": times(1.0), "cloud": times(1.0)}, task=NUMBER)
    rule = Ensemble(times(1.0), "deviation")
    policy = OffloadPolicy(network, None, rule, 0.5, ("number",))
    for save in (rule.get_config, lambda: rule.save(tmp_path)):
        with pytest.raises(ValueError, match=r"cannot be saved or deployed, .*MCDropout or a head"):
            save()
    with pytest.raises(ValueError, match=r"one of .*mc_dropout; received Ensemble: take one of"):
        save_policy(policy, tmp_path / "artifact")
    with pytest.raises(ValueError, match=r"a device runs rules .*; received Ensemble: take one of"):
        export_edge(policy, tmp_path / "device.tflite")
    assert not [*tmp_path.iterdir()]


def test_the_model_of_a_chain_alone_is_refused_with_the_remedy():
    network = chain({"local": times(1.0, dropout=0.5), "cloud": times(1.0)}, task=NUMBER)
    labels = np.float32([1, 4])
    for use in (
        lambda model: capture(model, INPUTS, labels),
        lambda model: MCDropout(model, measure="deviation"),
        lambda model: OffloadPolicy(model, None, Width(), 0.5, ("number",)),
    ):
        with pytest.raises(ValueError, match="without that layer: pass the cascade") as error:
            use(network.model)
        assert "\n" not in str(error.value)
        use(network)
    network.model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="pass the cascade"):  # before anything is trained
        network.model.fit(
            INPUTS,
            {"local": labels, "cloud": labels},
            callbacks=[CaptureBank(val=Split(INPUTS, labels))],
            verbose=0,
        )


def test_an_ensemble_of_classes_is_asked_for_logits():
    inputs = keras.Input((2,))
    softmax = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(3)(inputs)))
    with pytest.raises(ValueError, match="softmax"):
        Ensemble([softmax], "entropy")


def test_dropout_of_a_number_deviates_by_what_the_dropped_units_say():
    # Half of the passes leave x out and say 0, the others say 2x: the deviation is x.
    network = chain({"local": times(1.0, dropout=0.5), "cloud": times(1.0)}, task=NUMBER)
    rule = MCDropout(network, passes=1000, measure="deviation")
    edge = device([[1], [4]])
    scores = rule.score(edge)
    np.testing.assert_allclose(scores, [1.0, 4.0], rtol=0.01)
    assert scores[1] == pytest.approx(4 * scores[0])  # one mask a pass, whatever the sample
    assert rule.multiply_adds == 1000
    # The weights are those of today.
    network.model.set_weights([3 * weight for weight in network.model.get_weights()])
    np.testing.assert_allclose(rule.score(edge), 3 * scores, rtol=1e-6)


@pytest.mark.parametrize("kind", ["tcn", "lstm"])
def test_networks_of_series_have_dropout_only_where_it_is_asked_for(kind):
    def dropouts(**options):
        network = build_series((4, 1), 1, SeriesOptions(kind=kind, width=2, blocks=1, **options))
        return [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]

    assert dropouts() == []
    assert dropouts(dropout=0.1) == [0.1, 0.1]
    with pytest.raises(ValueError, match="dropout"):
        SeriesOptions(dropout=1.5)


def test_an_artefact_keeps_the_dropout_of_a_chain(tmp_path):
    network = chain({"local": times(1.0, dropout=0.5), "cloud": times(1.0)}, task=NUMBER)
    rule = MCDropout(network, passes=3, measure="deviation", seed=1)
    threshold = float(rule.score(device([[1], [4]])).mean())
    policy = OffloadPolicy(network, None, rule, threshold, ("number",))
    save_policy(policy, tmp_path / "artifact", graphs=False)
    loaded = load_policy(tmp_path / "artifact")
    assert loaded.rule.get_config() == rule.get_config()
    assert loaded.decide(INPUTS).tolist() == policy.decide(INPUTS).tolist() == [False, True]
