"""A search over networks of series: answers are numbers, and what is told of them are costs."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from keras_ddnn.deploy.artifact import load_policy
from tune import backbones, networks, report, trial
from tune.driver import plan_search
from tune.plan import load_data
from tune.search import _parser, _search_config, main
from tune.space import SEARCH_PRESETS, SearchConfig
from tune.specs import audc_of
from tune.workspace import Workspace

STEPS = 240  # hours of two cells


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of two cells with a day cycle, by the hour."""
    path, hours = tmp_path_factory.mktemp("data") / "cells.csv", np.arange(STEPS)
    cycle = 2 + np.sin(2 * np.pi * hours / 24)
    noise = np.random.default_rng(0).uniform(0, 0.2, (STEPS, 2))
    cells = {"north": cycle + noise[:, 0], "south": 3 * cycle + noise[:, 1]}
    times = pd.date_range("2024-03-04", periods=STEPS, freq="h")
    pd.DataFrame({"time": times, **cells}).to_csv(path, index=False)
    return path


def searched(table, *options):
    given = ["--preset", "series", "--dataset", str(table), "--epochs", "1", "--depth", "1"]
    given += ["--loss", "mse", *options]
    return _search_config(_parser().parse_args(given))


class Queue:
    """Stands for the queue that a worker tells of its epochs."""

    def __init__(self):
        self.actor = self.put_nowait = self

    def remote(self, message):
        """Forget it."""


@pytest.mark.slow
def test_networks_of_series_are_trained_ranked_by_cost_and_kept(table, tmp_path, monkeypatch):
    tune = pytest.importorskip("ray.tune")
    search = searched(table, "--network", "tcn_small+lstm_small", "--input", "logits")
    splits = load_data(search, reading={"length": 12})
    assert splits.train.images.shape[1:] == (12, 5)
    addresses = networks._addresses(search, splits.train.take([0]))
    roots = tmp_path / "backbones", tmp_path / "out"
    workspace = Workspace(splits.fingerprint(), *roots, addresses)
    for spec in search.backbones():
        backbones.train_backbone(splits, spec, workspace, Queue(), 300.0)
    told = []
    monkeypatch.setattr(tune, "report", told.append)
    images = {"train": splits.train.images, "val": splits.val.images}
    for stack, _ in enumerate(stacks := search.stacks()):
        trial.head_trials({"stack": stack}, stacks, search, workspace, images, len(splits.classes))
    said = report.write(search, splits, workspace, [])

    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(results) == 2  # alone and anchored
    assert results["val_mean_cost"].is_monotonic_increasing
    assert not [name for name in results if "accuracy" in name and "decision" not in name]
    assert max(each["val_audc"] for each in told) == pytest.approx(1 - results["val_mean_cost"][0])
    # A gain is what is saved of the cost.
    gap = results["val_mean_cost"] + results["val_gain_over_width"]
    assert gap.nunique() == 1 or np.ptp(gap) < 1e-6
    assert said.facts["better"]["cost"] == "lower"
    assert {"cost", "mean_cost", "mean_cost_low"} <= {*said.table}
    assert "cost" in pd.read_csv(tmp_path / "out" / "plans.csv")
    policy = load_policy(tmp_path / "out" / "artifact")
    assert policy.cascade.task == search.answers()
    assert len(policy.predict(np.asarray(splits.test.images[:4]))[0]) == 4


def test_each_network_of_several_chains_of_series_is_trained_once(table):
    search = searched(table, "--network", "lstm_small+tcn_large", "tcn_small+tcn_large")
    assert len(search.backbones()) == 3
    assert len(search.grid()) == 2 * 2 * 2


@pytest.mark.slow
def test_a_plan_of_series_needs_no_training(table, tmp_path, capfd):
    search = searched(table, "--network", "lstm_small+tcn_large", "tcn_small+tcn_large")
    plan = plan_search(search, tmp_path / "out")
    assert (plan.backbones, plan.trials) == (3, 2 * 2 * 2)
    assert not capfd.readouterr().err  # of the process that makes the networks


def test_a_task_is_named_in_words_and_makes_another_network(table):
    words = "regression", "under=2", "quantiles=0.25,0.75", "level=0.75"
    search = searched(table, "--task", *words)
    task = search.answers()
    assert (task.under, task.quantiles, task.level) == (2, (0.25, 0.75), 0.75)
    assert json.loads(json.dumps(search.task)) == [*words]
    usual = SEARCH_PRESETS["series"]
    workspace = Workspace(
        "f00d", table.parent, networks={(n, 0): n for n in usual.network[0].split("+")}
    )
    folders = [workspace.backbone(s.backbones()[0]) for s in (usual, replace(usual, task=words))]
    assert folders[0].name != folders[1].name


def test_trials_are_ranked_by_the_audc_which_is_one_less_the_mean_cost():
    assert audc_of({"val_audc": 0.75, "val_apgr": 2.0}) == 0.75
    assert audc_of({"val_mean_cost": 0.25}) == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "logits_rich"], "logits_rich' needs probabilities; received outputs of the"),
        (["--cost", "true_class"], "cost of a head"),
        (["--target", "distilled", "--loss", "bce"], "target 'distilled' needs probabilities"),
    ],
)
def test_a_head_that_cannot_read_numbers_is_refused_before_any_training(table, options, message):
    search = searched(table, "--network", "tcn_small+lstm_small", *options)
    sample = load_data(search).train.take([0])
    with pytest.raises(ValueError, match=message):
        networks._addresses(search, sample)


def test_heads_learn_the_cost_of_the_task_unless_another_is_given(table):
    words = "--task", "regression", "reported=absolute", "quantiles=0.1,0.5"
    assert searched(table).cost == ("provisioning",)
    assert searched(table, *words).cost == ("absolute",)
    assert searched(table, *words, "--cost", "pinball").cost == ("pinball",)
    assert SearchConfig().cost == ("true_class",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "cell_traffic"], "pass --task regression, or --preset series"),
        (["--task", "regression"], "the network of the paper learns plain classes; received"),
        (["--preset", "series", "--task", "regression", "under"], "arguments as FIELD=VALUE"),
        (["--preset", "series", "--task", "regresion"], "regresion"),
        (["--length", "12"], "options of series: expected a task of numbers, received length"),
        (
            ["--preset", "series", "--scale", "1", "--skip-unreadable"],
            "received scale, skip_unreadable: leave",
        ),
        (["--preset", "series", "--data-dir", "d"], "options of images: expected a search of"),
        (["--preset", "series", "--labels", "augmented"], "the labels 'augmented' expect images"),
        (["--preset", "series", "--columns", "a"], "columns: expected a .csv or .parquet table"),
        (
            ["--preset", "series", "--task", "regression", "under=4", "under=9"],
            "task 'regression': expected one under, received 'under=9' as well",
        ),
        (["--preset", "series", "--task", "regression", "unde=4"], "ramp, bound, received 'unde=4"),
    ],
)
def test_what_does_not_fit_numbers_is_refused_in_one_line(options, message, tmp_path, capsys):
    assert main([*options, "--output", str(tmp_path / "out"), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
