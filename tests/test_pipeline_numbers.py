"""One call from a series to a report and a policy, whose answers are numbers."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

import keras_ddnn
from figures import offload_curve
from keras_ddnn import DDNNConfig, HeadConfig, Regression, chain, load_series, pipeline
from keras_ddnn.data.series.series import Series
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.networks.architectures.named_models import as_network
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.prices import PricedClasses
from tune.plan import load_data
from tune.space import SearchConfig

LENGTH = 4
TASK = Regression(quantiles=(0.1, 0.5, 0.9), level=0.9, under=2)
SHORT = DDNNConfig(epochs=1, batch_size=32)


def series():
    """Two series of 100 steps without a clock, so that a window is (4, 1)."""
    values = np.random.default_rng(0).gamma(4.0, size=(100, 2))
    return load_series(Series(values, ("a", "b")), length=LENGTH)


def network(task=TASK):
    keras.utils.set_random_seed(0)
    models = {}
    for tier, units in (("local", 2), ("cloud", 8)):
        windows = keras.Input((LENGTH, 1))
        x = layers.Dense(units, activation="relu")(layers.Flatten()(windows))
        models[tier] = keras.Model(windows, layers.Dense(3)(x))
    return chain(models, task=task)


@pytest.mark.slow
def test_one_call_leads_from_a_series_to_a_report_of_costs_and_a_policy(tmp_path):
    report, policy = keras_ddnn.run(
        splits := series(), SHORT, network=network(), artifact=tmp_path / "artifact", verbose=0
    )
    assert {*report.table["rule"]} == {"random", "width", "oracle", "head"}
    assert report.table["rule"].iloc[0] == "oracle"
    assert report.table["mean_cost"].is_monotonic_increasing  # the best first
    assert not {"audc", "accuracy"} & {*report.table}
    assert report.facts["better"]["mean_cost"] == report.facts["better"]["cost"] == "lower"
    assert report.facts["better"]["apgr"] == "higher"
    for end, tier in ((0, "cloud"), (-1, "local")):
        cost = report.facts[f"{tier}_cost"]
        np.testing.assert_allclose(report.curves.iloc[end], cost)
        assert report.facts["exits"][tier]["cost"] == pytest.approx(cost)
    least = report.facts["least_cost"]  # the oracle takes the better answer of each sample
    assert least <= report.curves["oracle"].min() + 1e-9
    assert report.facts["heads"]["head"]["cost"] == "provisioning"
    report.save(tmp_path / "report")
    axes, *_ = offload_curve.draw(Report.load(tmp_path / "report")).axes
    assert axes.get_ylabel() == "mean cost (lower is better)"
    numbers, offloaded = policy.predict(np.asarray(splits.test.images))
    assert numbers.dtype == np.float64
    assert 0 < offloaded.mean() < 1
    manifest = read_manifest(tmp_path / "artifact")
    assert manifest["class_names"] == ["quantile 0.1", "quantile 0.5", "quantile 0.9"]
    assert {"val_mean_cost", "val_cost"} <= {*manifest["metrics"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": network}, "are of numbers, the task 'classification' is of classes"),
        ({"task": TASK}, "the network of the paper learns plain classes; received the task 'reg"),
        ({"head": HeadConfig()}, "the target 'distilled' needs probabilities"),
        (
            {"head": HeadConfig(target="benefit")},
            "unknown cost of a head 'true_class'; known: squared, absolute",
        ),
        (
            {"head": HeadConfig(cost="absolute")},
            "the target 'distilled' needs probabilities; received outputs of the task 'regression'",
        ),
        (
            {"head": replace(HeadConfig.of_task(TASK), labels="augmented")},
            "the labels 'augmented' expect images",
        ),
        (
            {"head": HeadConfig(cost="absolute", target="benefit")},
            "the head input 'logits_rich' needs probabilities; received outputs of the task 'reg",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_training(monkeypatch, options, message):
    monkeypatch.setattr(pipeline, "fit_ddnn", lambda *_, **__: pytest.fail("it was trained"))
    options = dict(options)
    if head := options.pop("head", None):
        options |= {"heads": {"own": head}, "network": network()}
    if options.get("network") is network:
        options["network"] = network(CLASSIFICATION)
    with pytest.raises(ValueError, match=message) as refused:
        keras_ddnn.run(series(), SHORT, **options)
    assert "\n" not in str(refused.value)


def test_classes_are_no_numbers(toy_splits):
    with pytest.raises(ValueError, match="are of classes, the task 'regression' is of numbers"):
        keras_ddnn.run(toy_splits, SHORT, task=TASK)


def test_the_default_head_of_classes_is_that_of_no_arguments():
    assert HeadConfig.of_task(CLASSIFICATION) == HeadConfig()
    assert HeadConfig.of_task(PricedClasses([[0, 1], [5, 0]])).cost == "price"


def test_a_network_by_its_name_is_cut_for_the_task_that_is_given():
    cut = as_network("tcn_small", "block_0", shape=(LENGTH, 1), classes=3, task=TASK)
    assert cut.task is TASK
    assert cut.model.output["local"].shape == (None, 3)


def test_a_search_of_a_series_says_what_to_use_before_anything_is_read():
    with pytest.raises(ValueError, match="series 'cell_traffic': pass --task regression"):
        load_data(SearchConfig(dataset="cell_traffic"))
