"""The study of local decisions about resources: tables by hand, and a small seed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from figures import traffic as figure
from figures.paper.table import fill
from keras_ddnn.data.bank import Bank
from tune import traffic, traffic_networks

RULES = ("learned", "head_of_quantiles", "random", "oracle")


def seed(saved, number=0):
    """A cloud of cost 2 and a device of 3; the learned rule saves `saved` of the mean of 2.5."""
    line = 2.0 + traffic.FRACTIONS

    def rule(curve):
        told = {"mean_cost": float(np.trapezoid(curve, traffic.FRACTIONS)), "curve": curve.tolist()}
        shares = {f"share_{p}": 0.5 for p in (1, 2, 5)} | {f"penalty_{p}": 0.01 for p in (1, 2, 5)}
        return told | shares

    bump = 6 * traffic.FRACTIONS * (1 - traffic.FRACTIONS)  # of mean 1
    curves = {
        "learned": line - saved * bump,
        "head_of_quantiles": line - 0.01 * bump,
        "random": line,
        "oracle": line - 0.5 * bump,
    }
    rules = {name: rule(curves[name]) for name in RULES}
    return traffic.settings(number) | {"multiply_adds": {"random": 0}, "rules": rules}


def full(share):
    told = seed(0.1)
    told["rules"]["learned"]["share_2"] = share
    return told


def test_the_saving_is_paired_by_seed_and_in_percent_of_the_cloud_s_cost():
    table = traffic.table_of([seed(0.10), seed(0.14)]).set_index("rule")
    assert table.loc["random", "saved"] == pytest.approx(100 * 0.12 / 2, rel=1e-3)
    assert table.loc["learned", "saved"] == 0
    assert table.loc["random", "cheap_saved"] == pytest.approx(100 * 0.01 / 2, rel=1e-2)
    # A t interval of two seeds, 5% and 7%: 6 ± 12.706 · 1.
    assert table.loc["random", "saved_low"] == pytest.approx(6 - 12.706, rel=1e-3)
    assert table.loc["random", "mean_cost"] == pytest.approx(2.5)
    # No share is beyond all.
    shares = traffic.table_of([full(0.9), full(1.0)]).set_index("rule").loc["learned"]
    assert (shares["share_2"], shares["share_2_high"]) == (pytest.approx(95), 100)
    assert 0 <= shares["share_2_low"] < 95
    # Half of the decisions local: 2.5 - 0.12 · 1.5 = 2.32, 16% above the cloud.
    assert table.loc["learned", "at_50"] == pytest.approx(16)
    assert table.loc["learned", "share_2"] == 50
    curves = traffic.curves_of([seed(0.1), seed(0.1)])
    assert curves["random"].iloc[-1] == pytest.approx(1.5)
    figure.draw(curves, table.reset_index())


def test_what_is_there_is_not_run_again(tmp_path, monkeypatch):
    ran = []
    run = lambda s, epochs, work: ran.append(s) or seed(0.1, s)  # noqa: E731
    monkeypatch.setattr(traffic, "run_seed", run)
    for _ in range(2):
        assert traffic.main(["--seeds", "0", "1", "--output", str(tmp_path)]) == 0
    assert ran == [0, 1]
    assert set(pd.read_csv(tmp_path / "table.csv")["seeds"]) == {2}


@pytest.mark.parametrize(("change", "named"), [({"told": ["width"]}, "told"), ({}, "training")])
def test_seeds_of_other_settings_are_not_mixed(tmp_path, monkeypatch, change, named):
    (tmp_path / "seed3.json").write_text(json.dumps(seed(0.1, 3) | change))
    monkeypatch.setattr(traffic, "run_seed", lambda *_: pytest.fail("trained before it was said"))
    epochs = [] if change else ["--epochs", "1"]
    with pytest.raises(ValueError, match=f"seed3.json: .* another {named}: give another --output"):
        traffic._run(traffic._parser().parse_args(["--output", str(tmp_path), *epochs]))


@pytest.mark.parametrize("of_truth", [False, True])
def test_trees_find_what_windows_and_quantiles_say(of_truth):
    # The device is wrong by 1 where its window ends with traffic, the cloud never.
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 2, (600, 2, 2)).astype(np.float32)
    truth = windows[:, -1, 0]
    local = np.zeros((600, 3), np.float32)
    cloud = np.repeat(truth[:, None], 3, axis=1)
    outputs = {"local": local, "cloud": cloud}
    bank = Bank.from_outputs(outputs, truth, inputs=windows, features=windows, task=traffic.TASK)
    (scores,) = traffic.trees_on([bank], [bank], traffic.seen, of_truth=of_truth)
    assert scores[truth == 1].min() > scores[truth == 0].max() + 1


def test_what_the_table_says_is_laid_into_the_claims(tmp_path):
    row = {"saved": 6.0, "saved_low": 5.0, "saved_high": 7.0}
    row |= {f"cheap_{name}": 0.5 * value for name, value in row.items()}
    for p in (1, 2, 5):
        row |= {f"share_{p}": 40.0, f"share_{p}_low": 38.0, f"share_{p}_high": 42.0}
        row |= {f"penalty_{p}": p + 0.1}
    table = pd.DataFrame([{"rule": name, **row} for name in traffic.RULES])
    table.to_csv(tmp_path / "table.csv")
    said = figure.say(tmp_path)
    assert said["learned over random"] == "+6.00% (5.00 … 7.00)"
    assert said["head of quantiles over ensemble"] == "+3.00% (2.50 … 3.50)"
    assert said["oracle over learned"] == "-6.00% (-7.00 … -5.00)"
    assert said["local share"].startswith("40% (38 … 42) for 1%, which is 1.1% on test data; 40%")
    claims = Path(__file__).parent.parent / "docs" / "traffic.md"
    filled = fill(claims.read_text(), said)  # raises where the table lacks a claim
    assert filled.count("+6.00% (5.00 … 7.00)") == 5
    assert figure.say(tmp_path / "elsewhere") == {}


def test_an_ensemble_is_unsure_where_its_answers_lie_apart():
    outputs = {"local": [[0, 1, 2]] * 2, "second": [[0, 1, 5], [0, 1, 2]], "cloud": [[0, 1, 2]] * 2}
    outputs = {tier: np.array(rows, np.float32) for tier, rows in outputs.items()}
    bank = Bank.from_outputs(outputs, [1.0, 1.0], inputs=np.zeros((2, 2, 2)), task=traffic.TASK)
    assert traffic.distance(bank).tolist() == [3, 0]
    assert traffic.seen_by_two(bank).shape == (2, 2 + 1 + 3 + 3)


def test_networks_of_other_settings_are_not_mixed(tmp_path):
    folder = tmp_path / "seed0"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(traffic_networks.settings(0, epochs=3)))
    with pytest.raises(ValueError, match="received others: remove it, or give another --work"):
        traffic_networks.said_by_networks(0, folder)


@pytest.mark.slow
def test_a_seed_is_trained_and_told(tmp_path):
    told = traffic.run_seed(0, 1, tmp_path)
    assert told == traffic.run_seed(0, 1, tmp_path)  # of the networks that are kept
    assert {*told["rules"]} == {*traffic.RULES}
    assert json.loads(json.dumps(traffic.settings(0, 1))).items() <= told.items()
    costs = [told["rules"][name]["mean_cost"] for name in ("oracle", "learned", "random")]
    assert costs[0] < min(costs[1:])
    assert told["best_head"] in traffic.HEADS
