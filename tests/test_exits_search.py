"""A search over networks of three exits: a head at each gate, and accuracy against mean price."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy_networks import importable, small_splits

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import GateCosts, share_paid
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.tiers import load_tiers
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.report import Report
from keras_ddnn.evaluation.statistics import audc_interval
from keras_ddnn.labels.gates import two_ends
from keras_ddnn.rules.confidence import Gate, MaxProb, OffloadRule
from keras_ddnn.rules.plans import ScoredChain
from keras_ddnn.training.capture import capture
from tune import backbones, networks, report, trial
from tune.space import SearchConfig
from tune.stored import StoredNetwork
from tune.summary import _show_networks
from tune.workspace import Workspace

CODE = """
import keras
from keras import layers

def small():
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(x)
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
"""
SMALL = "nets_of_three_exits:small"
SEARCH = SearchConfig(network=SMALL, at=("first,second",), epochs=1, input=("logits_features",))
NAMES = ["local", "tier1", "cloud"]
# Multiply-adds: 7·7 places of 3·3·3 weights and 4 filters, 3·3 of 36 and 6, 1 of 54 and 8; exits.
PRICES = [49 * 27 * 4 + 12, 9 * 36 * 6 + 18, 54 * 8 + 24]


# --- accuracy against the mean price, by hand ---------------------------------------------------


def test_samples_pay_for_the_tiers_that_they_reach():
    """Tiers of prices 1 and 3 behind a gate: two of four samples go on to the second."""
    everything, half = np.ones(4, bool), np.array([True, True, False, False])
    assert share_paid([1, 3], [everything, half]).tolist() == [1, 1, 0.25, 0.25]
    assert share_paid([3], [everything]).tolist() == [1] * 4
    assert share_paid([0, 0], [everything, half]).tolist() == [1] * 4


def test_a_curve_is_accuracy_against_what_is_saved_of_the_price():
    """Sent on, all are right; kept, the last is wrong. The first two pay 1/4, the others all.

    Everything sent on costs (1/4 + 1/4 + 1 + 1) / 4 = 5/8 of the price: saved are 3/8, then 7/16,
    1/2, 3/4 and 1. Accuracy is 1 up to 3/4, and falls to 3/4 over the last quarter.
    """
    scores, paid = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.25, 1, 1])
    costs = GateCosts(np.array([0, 0, 0, 1.0]), np.zeros(4), paid=paid)
    curve = OffloadCurve.from_scores(scores, costs)
    np.testing.assert_allclose(curve.saved, [3 / 8, 7 / 16, 1 / 2, 3 / 4, 1])
    assert curve.at(0.2) == 1  # a part of the price is left over
    assert curve.audc == pytest.approx(1 - 1 / 4 * 1 / 4 / 2)
    assert curve.audc == audc_interval(scores, costs, 9).mean
    with pytest.raises(ValueError, match=r"paid must be shares of a price, .* received"):
        replace(costs, paid=2 * paid.clip(0.125))


def test_where_all_pay_alike_it_is_the_curve_against_the_local_fraction():
    rng = np.random.default_rng(0)
    scores = rng.random(50).round(1)  # with ties
    plain = GateCosts(rng.integers(2, size=50), rng.integers(2, size=50))
    curve = OffloadCurve.from_scores(scores, plain)
    np.testing.assert_array_equal(curve.saved, curve.local_fraction)
    assert curve.area == np.trapezoid(curve.values, curve.local_fraction)


class Given(OffloadRule):
    """Scores samples by their first logit."""

    def score(self, edge):
        return edge.outputs[:, 0]


def test_a_chain_is_seen_from_the_device_as_two_ends_with_prices():
    logits = np.array([[1, 0], [1, 2], [0, 2], [1, 3.0]], np.float32)
    bank = Bank({name: TierOutputs(logits) for name in NAMES}, np.array([0, 1, 1, 1]))
    seen = two_ends(bank, "local", {"tier1": Gate(Given(), 0.5)}, [5, 1, 3])
    assert seen.paid.tolist() == [1, 1, 0.25, 1]
    assert seen.rows(np.array([2, 0])).paid.tolist() == [0.25, 1]
    assert two_ends(bank, "tier1", {}, [5, 1, 3]).paid.tolist() == [1] * 4
    assert two_ends(bank, "local", {"tier1": Gate(Given(), 0.5)}).paid.tolist() == [1] * 4


# --- what is asked for --------------------------------------------------------------------------


def test_layers_with_a_comma_are_exits_of_one_network():
    search = replace(SEARCH, at=("first", "first,second"), lambda_local=(0.3, 0.7))
    assert [spec.cut.layers for spec in search.backbones()[::2]] == [
        ("first",),
        ("first", "second"),
    ]
    for trial_ in search.grid():
        assert search.trial(json.loads(json.dumps(trial_.choices()))) == trial_
    assert len({json.dumps(trial_.choices()) for trial_ in search.grid()}) == 4
    chained = SearchConfig(network=f"{SMALL}+a:b+c:d")
    assert len(chained.networks()[0]) == 3


@pytest.mark.parametrize(
    "fields", [{"network": SMALL, "at": ("first,second",)}, {"network": f"{SMALL}+a:b+c:d"}]
)
def test_a_gate_behind_the_device_cannot_read_its_image(fields):
    with pytest.raises(ValueError, match="gates behind the device have no image; received"):
        SearchConfig(**fields, input=("logits", "image"))


# --- a search without its scheduler -------------------------------------------------------------


class Queue:
    """Stands for the queue that a worker tells of its epochs."""

    def __init__(self):
        self.actor = self.put_nowait = self

    def remote(self, message):
        pass


@pytest.fixture(scope="module")
def splits():
    return small_splits()


@pytest.fixture(scope="module")
def workspace(splits, tmp_path_factory):
    """Train the network and two heads a gate, as workers do, and write what a search leaves."""
    tune = pytest.importorskip("ray.tune")
    root = tmp_path_factory.mktemp("exits")
    with importable(root, "nets_of_three_exits", CODE), pytest.MonkeyPatch.context() as m:
        m.setattr(tune, "report", lambda metrics: None)
        search = replace(SEARCH, depth=(1, 2))
        addresses = networks._addresses(search, splits.train.take([0]))
        workspace = Workspace("f00d", root / "backbones", root / "out", addresses)
        (spec,) = search.backbones()
        backbones.train_backbone(splits, spec, workspace, Queue(), 300.0)
        images = {name: getattr(splits, name).images for name in ("train", "val")}
        stacks = [search.grid()]
        workspace.output.mkdir()
        trial.head_trials({"stack": 0}, stacks, search, workspace, images, splits.num_classes)
        report.write(search, splits, workspace, [])
        yield workspace


@pytest.fixture(scope="module")
def stored(workspace, splits):
    return StoredNetwork.of(workspace, SEARCH.networks()[0], splits)


@pytest.mark.slow
def test_the_stored_bank_has_what_each_exit_says_sends_and_costs(stored, splits):
    joint = capture(stored.cascade(), splits.val.images, splits.val.labels)
    assert [*stored.val_bank.tiers] == NAMES
    for name in NAMES:
        tier, captured = stored.val_bank.tiers[name], joint.tiers[name]
        np.testing.assert_allclose(tier.outputs, captured.outputs, atol=1e-5)
        if name != "cloud":
            np.testing.assert_allclose(
                np.asarray(tier.features), np.asarray(captured.features), atol=1e-3
            )
    assert list(stored.prices) == PRICES


@pytest.mark.slow
def test_a_trial_keeps_a_head_a_gate_and_is_ranked_by_accuracy_against_price(stored, workspace):
    records = workspace.trials(replace(SEARCH, depth=(1, 2)))
    assert len(records) == 2
    for found, record in records.items():
        behind = workspace.behind(found, record)
        assert [*behind] == ["tier1"]
        seen = two_ends(stored.val_bank, "local", behind, PRICES)
        head = workspace.head(found, record)
        audc = OffloadCurve.from_scores(head.score(seen.edge), seen).audc
        assert record["metrics"]["val_audc"] == pytest.approx(audc, abs=1e-6)
        # The plan is that of keeping half of what reaches each gate.
        chain = ScoredChain.of(stored.val_bank, [head, behind["tier1"].rule], PRICES)
        plan = chain.for_budget(PRICES[0] + PRICES[1] / 2 + PRICES[2] / 4)
        assert behind["tier1"].score_threshold == pytest.approx(plan.thresholds[1], abs=1e-5)


@pytest.mark.slow
def test_the_report_and_the_plans_tell_of_every_exit(stored, workspace):
    saved = Report.load(workspace.output / "report")
    right = (stored.test_bank.costs() == 0).mean(axis=0)
    told = [saved.facts["exits"][name]["accuracy"] for name in NAMES]
    assert told == pytest.approx(right)
    plans = pd.read_csv(workspace.output / "plans.csv")
    assert plans["rule"][:3].tolist() == [f"exit {name}" for name in NAMES]
    assert {"logits_features", "margin", "patience"} < {*plans["rule"]}
    chain = ScoredChain.of(stored.test_bank, [MaxProb()] * 2, PRICES)
    for row in plans[plans["rule"] == "max_prob"].to_dict("records"):
        plan = chain.plan((row["threshold_local"], row["threshold_tier1"]))
        assert row["accuracy"] == pytest.approx(plan.accuracy)
        assert row["price"] == pytest.approx(plan.price)
    assert (workspace.output / "plans.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_is_kept_is_an_artefact_a_hop_that_decides_as_the_trial(workspace):
    results = pd.read_csv(workspace.output / "results.csv")
    assert {f"val_{name}_accuracy" for name in NAMES} < {*results}
    first, second = load_tiers(workspace.output / "artifact")
    assert (first.cascade.sent, second.cascade.sent) == (("first",), ("second",))
    records = workspace.trials(replace(SEARCH, depth=(1, 2)))
    best = {workspace.key(found): (found, record) for found, record in records.items()}
    behind = workspace.behind(*best[results["trial"][0]])
    assert second.score_threshold == behind["tier1"].score_threshold
    rules = Report.load(workspace.output / "report").table.set_index("rule")
    told = rules.loc["logits_features", "score_threshold"]
    assert first.score_threshold == pytest.approx(told)


@pytest.mark.slow
def test_networks_of_two_and_three_exits_stand_in_one_table(capsys):
    shared = {"lambda_local": "0.5", "bottleneck": "none", "seed": 0, "val_local_accuracy": 0.7}
    shared |= {f"val_bytes_{name}": 9.0 for name in ("sent", "codes_zlib", "image", "image_png")}
    rows = [
        {"at": "a", "val_cloud_accuracy": 0.8},
        {"at": "a,b", "val_cloud_accuracy": 0.82, "val_tier1_accuracy": 0.75},
    ]
    _show_networks(pd.DataFrame([shared | row for row in rows]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    cells = {line[0]: line[4:7] for line in lines if "70.00%" in line}
    assert cells == {"a": ["70.00%", "–", "80.00%"], "a,b": ["70.00%", "75.00%", "82.00%"]}
