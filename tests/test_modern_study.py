"""The study of networks of today: what is trained once, and the tables made of its outputs."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from keras_ddnn.data.datasets import Splits, as_split
from keras_ddnn.networks.layers import Whitening
from tune import ceiling, exits, modern, modern_networks, modern_scores, modern_tables
from tune.modern_cases import CASES
from tune.modern_networks import Job
from tune.modern_outputs import Pair, networks, seeds_of

CLASSES, COUNTS = 4, {"train": 240, "val": 160, "test": 200}


def logits(labels, right, rng):
    """Logits of a network that is right where `right` says so, and unsure elsewhere."""
    answers = np.where(right, labels, (labels + 1) % CLASSES)
    sure = np.where(right, 3.0, 1.0)[:, None]
    return (sure * np.eye(CLASSES)[answers] + rng.normal(0, 0.1, (len(labels), CLASSES))).astype(
        np.float16
    )


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Outputs of a device and of a cloud, two seeds: the device is right in three of four."""
    monkeypatch.setattr(modern_scores, "RESAMPLES", 49)
    monkeypatch.setattr(modern_scores, "TREES", 20)
    folder = tmp_path / "outputs"
    folder.mkdir()
    labels = {part: (np.arange(n) % CLASSES).astype(np.uint16) for part, n in COUNTS.items()}
    np.savez(folder / "labels.npz", **labels)
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        for name, wrong_of, cost in (("modern_small", 4, 100), ("modern_deep", 20, 1000)):
            said = {
                part: logits(y.astype(int), np.arange(len(y)) // CLASSES % wrong_of > 0, rng)
                for part, y in [*labels.items(), ("train_augmented", labels["train"])]
            }
            np.savez(folder / f"{name}-seed{seed}.npz", **said)
            facts = {"multiply_adds": cost, "minutes": 1.0, "png_bytes": 2000.0}
            (folder / f"{name}-seed{seed}.json").write_text(json.dumps(facts))
    return tmp_path


def test_an_ensemble_says_the_mean_of_its_members_and_costs_their_sum(outputs):
    folder = outputs / "outputs"
    pair = Pair.read(folder, "modern_small", "modern_ensemble", 0)
    members = [Pair.read(folder, "modern_small", "modern_deep", seed) for seed in (0, 1)]
    expected = np.mean([each.test_bank.cloud_logits for each in members], axis=0)
    np.testing.assert_allclose(pair.test_bank.cloud_logits, expected, atol=1e-6)
    device = pair.test_bank.edge.outputs
    np.testing.assert_array_equal(device, members[0].test_bank.edge.outputs)
    assert pair.cloud["multiply_adds"] == 2 * 1000
    assert pair.cloud["minutes"] == 2.0
    assert members[0].augmented
    assert pair.augmented is None  # of each seed it is another view
    assert seeds_of(folder, "modern_small", "modern_ensemble") == [0]  # seed 1 needs 2 and 3
    rows = networks(folder).set_index(["network", "seed"])
    right = pair.val_bank.cloud_correct.mean()
    assert rows.loc[("modern_ensemble", 0), "val_accuracy"] == pytest.approx(100 * right)
    assert 0.5 < right < 1.0
    assert rows.loc[("modern_deep", 0), "test_accuracy"] == 94.0  # 3 of 50 groups of 4 are wrong


def test_multiply_adds_are_compared_at_one_local_fraction_and_bytes_at_all():
    def pair(accuracy, cost):  # the cloud alone has 90%
        at = SimpleNamespace(at=lambda fraction: accuracy if fraction else 0.9)
        said = SimpleNamespace(cloud={"png_bytes": 1000.0}, sending_multiply_adds=0)
        return [SimpleNamespace(pair=said, curve=lambda _: at, multiply_adds=lambda _: cost)]

    pairs = {"cheap": pair(0.7, 1), "good": pair(0.8, 2), "bad": pair(0.6, 2)}
    table = modern_tables.pareto(pairs).set_index(["pair", "local_fraction"])
    half = table.xs(0.5, level="local_fraction")
    assert dict(half["of_multiply_adds"]) == {"cheap": True, "good": True, "bad": False}
    best = table[table["of_bytes"]].index.tolist()
    assert best == [("cheap", 0.0), ("good", 0.0), ("good", 1.0), ("bad", 0.0)]


@pytest.mark.slow
def test_tables_come_from_the_outputs_alone(outputs):
    code = modern.main(
        ["--output", str(outputs), "--networks", "modern_small", "modern_deep", "--seeds", "0"]
    )
    assert code == 0
    read = {name: pd.read_csv(outputs / f"{name}.csv") for name in ("table", "points", "pareto")}
    behind = {"modern_small+modern_deep": {2}, "modern_small+modern_ensemble": {1}}
    assert read["table"].groupby("pair")["seeds"].agg(set).to_dict() == behind
    of_one = {name: each[each["pair"] == next(iter(behind))] for name, each in read.items()}
    table, points = (of_one[name].set_index("rule") for name in ("table", "points"))
    assert {"default", "default/augmented"} < {*table.index}
    assert (table["local"] == 74.0).all()  # 13 of 50 groups of 4 samples are wrong
    assert table.loc["oracle", "audc"] == table["audc"].max()
    assert table.loc["random", "audc"] < table.loc["margin", "audc"]
    pareto = of_one["pareto"].set_index("local_fraction")
    assert pareto.loc[0.5, "bytes"] == 1000.0
    assert pareto.loc[0.0, "device_multiply_adds"] == 0
    alone = pd.read_csv(outputs / "networks.csv").set_index(["network", "seed"])
    assert alone["multiply_adds"].to_dict() == {
        ("modern_deep", 0): 1000,
        ("modern_deep", 1): 1000,
        ("modern_ensemble", 0): 2000,
        ("modern_small", 0): 100,
        ("modern_small", 1): 100,
    }
    # Up to 70% the device loses nothing, so that fewer bytes give as much.
    # At 90% the ensemble has more.
    assert list(pareto["of_bytes"]) == [False] * 4 + [True] * 2 + [False, True]
    assert points.loc["margin", "at_70"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("case", ["usual", "relu", "deep", "unwhitened"])
def test_a_recipe_differs_by_what_its_case_names(case):
    train = as_split(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4))
    splits = SimpleNamespace(train=train, num_classes=4)
    model = modern_networks.network_of(Job("modern_tiny", 0, case=case), splits, None).model
    layers = [layer for layer in model._flatten_layers() if not hasattr(layer, "layers")]
    convolutions = [layer for layer in layers if "conv_" in layer.name]
    activated = [layer for layer in layers if "activation" in layer.name]
    kinds = {type(layer).__name__ for layer in activated}
    (whitening,) = (layer for layer in layers if isinstance(layer, Whitening))
    assert len(convolutions) == (9 if case == "deep" else 6)
    assert kinds == ({"Activation"} if case == "relu" else {"Gelu"})
    if case == "relu":
        assert {layer.activation.__name__ for layer in activated} == {"relu"}
    assert whitening.trainable == (case == "unwhitened")
    assert np.any(whitening.get_weights()[0]) == (case == "unwhitened")  # else they wait for data


@pytest.mark.slow
def test_a_device_that_looks_twice_pays_twice(outputs):
    folder = outputs / "outputs"
    path = folder / "modern_small-seed0.npz"
    said = dict(np.load(path))
    # The mirrored image betrays every mistake.
    for part in [*COUNTS, "train_augmented"]:
        labels = np.load(folder / "labels.npz")[part.removesuffix("_augmented")].astype(int)
        wrong = said[part].argmax(axis=1) != labels
        said[f"{part}_mirrored"] = np.where(wrong[:, None], 0, said[part]).astype(np.float16)
    np.savez(path, **said)
    scored = modern_scores.Scored.of(Pair.read(folder, "modern_small", "modern_deep", 0), 0)
    table = modern_tables.table("pair", [scored]).set_index("rule")
    assert table.loc["second_look", "audc"] >= table.loc["margin", "audc"]
    assert table.loc["second_look", "device_multiply_adds"] == 2 * 100
    assert table.loc["margin", "device_multiply_adds"] == 100


@pytest.mark.parametrize(("seen", "share"), [(0.5, 50.0), (0.12, np.nan)])
def test_a_share_is_told_of_a_gap_that_is_surely_there(seen, share):
    noise = np.linspace(-0.2, 0.2, 41)  # of the trees: the gap is 0.4, or 0.02, give or take 0.2
    audc = {name: np.full(42, 0.1) for name in ("margin", "max_prob", "entropy")}
    audc |= {"default": np.full(42, 0.3), "sees_both": np.r_[seen, seen + noise]}
    gaps = modern_tables.gaps("pair", [SimpleNamespace(audc=audc, scores=audc)]).set_index("rule")
    assert gaps.loc["default", "gain"] == pytest.approx(20.0)
    assert gaps.loc["default", "share"] == pytest.approx(share, nan_ok=True)
    assert gaps.loc["default", ["share_low", "share_high"]].isna().all() == np.isnan(share)


@pytest.mark.slow
def test_a_rule_alike_to_its_baseline_closes_nothing_of_the_gap(outputs):
    pair = Pair.read(outputs / "outputs", "modern_small", "modern_deep", 0)
    scored = modern_scores.Scored.of(pair, 0)
    gaps = modern_tables.gaps("pair", [scored, scored]).set_index("rule")
    assert gaps.loc["margin", "gain"] == 0.0
    assert gaps.loc["sees_both", "share"] == pytest.approx(100.0)


def test_exits_save_what_the_networks_behind_them_would_cost(outputs, monkeypatch):
    monkeypatch.setattr(exits, "CHAINS", (("modern_small", "modern_deep"),))
    monkeypatch.setattr(exits, "BUDGETS", 4)
    monkeypatch.setattr(exits, "DROP", 0.05)  # 160 samples certify no less
    arguments = ["--modern", str(outputs), "--output", str(outputs / "exits")]
    assert exits.main(arguments) == 0
    savings = pd.read_csv(outputs / "exits" / "savings.csv").set_index("rule")
    # The device is right in 74% and sure of it: 26% cost 100 + 1,000, the others 100.
    assert savings.loc["margin", "seeds"] == 2
    assert savings.loc["margin", "times_fewer"] == pytest.approx(1000 / (100 + 260), rel=0.1)
    assert abs(savings.loc["margin", "drop"]) <= 2.0
    plans = pd.read_csv(outputs / "exits" / "plans.csv")
    assert {"entropy", "max_prob", "patience", "eenet", "logit_head"} < {*plans["rule"]}
    alone = plans[plans["rule"] == "exit local"]
    assert (alone["price"] == 100).all()
    assert (alone["accuracy"] == 0.74).all()
    assert exits.main(["--modern", str(outputs / "none"), "--output", str(outputs)]) == 2


def test_the_ceiling_is_where_more_images_would_lead():
    # A head closes 30 - 40·10/√n percent of a gap of 2 points: 10% of 400 images, 20% of 1,600.
    def of(offset):
        known = {("margin", 0): 0.90, (modern_scores.DEFAULT, 0): 0.901, ("sees_both", 0): 0.92}
        known |= {("logits", n): 0.90 + 0.02 * (0.3 - 4 / n**0.5) for n in (400, 1600)}
        return {key: value + offset + np.zeros(50) for key, value in known.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceiling, "HEADS", {"logits": None})
        table = ceiling.ceiling({0: of(0.0), 1: of(0.01)})
    shares = table.set_index("images")["share"]
    assert shares[400] == pytest.approx(10)
    assert shares[1600] == pytest.approx(20)
    assert shares[np.inf] == pytest.approx(30)
    assert table["share"][0] == pytest.approx(5)  # the default
    assert set(table["seeds"]) == {2}
    unsure = of(0.0) | {("sees_both", 0): 0.9002 + np.linspace(-0.001, 0.001, 50)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceiling, "HEADS", {})
        assert ceiling.ceiling({0: unsure})[["share", "share_low"]].isna().all(axis=None)


def test_without_folds_there_are_no_honest_labels(outputs, capsys):
    assert ceiling.main(["--output", str(outputs)]) == 2
    assert (
        "--networks modern_tiny modern_deep --seeds 0 --fold-seeds 0 first"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_folds_give_the_labels_of_a_cross_fitted_head(outputs):
    folder = outputs / "outputs"
    rng = np.random.default_rng(0)
    for fold in range(3):
        rows = np.arange(fold, COUNTS["train"], 3).astype(np.int32)
        for name in ("modern_small", "modern_deep"):
            said = logits(rows % CLASSES, rows % 5 > 0, rng)
            np.savez(folder / f"{name}-seed0-fold{fold}.npz", rows=rows, train=said)
    pair = Pair.read(folder, "modern_small", "modern_deep", 0)
    assert len(pair.folds) == 3
    assert "default/cross_fitted" in modern_scores.scores_of(pair, 0)[0]


@pytest.mark.slow
def test_a_network_leaves_its_logits_and_its_cost_and_is_not_trained_again(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = [
        as_split(rng.integers(0, 255, (n, 32, 32, 3), "uint8"), np.arange(n) % 3)
        for n in (40, 9, 9)
    ]
    splits = Splits("noise", *data, ("a", "b", "c"))
    monkeypatch.setattr(modern, "load", lambda *_: splits)
    arguments = ["--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    arguments += ["--networks", "modern_tiny", "--seeds", "0", "--no-tables"]
    assert modern.main([*arguments, "--epochs", "1"]) == 0
    file = tmp_path / "out" / "outputs" / "modern_tiny-seed0.npz"
    with np.load(file) as said:
        parts = {*COUNTS, "train_augmented"}
        mirrored = {f"{part}_mirrored" for part in parts}
        assert {*said.files} == parts | mirrored | {"val_augmented", "test_augmented"}
        assert said["test"].dtype == np.float16
        assert said["test_mirrored"].shape == said["test"].shape
    facts = json.loads(file.with_suffix(".json").read_text())
    assert facts["recipe"]["optimizer"] == "muon"
    assert facts["minutes"] >= 0
    before = file.stat().st_mtime_ns
    # The broken cameras are met by the network that was trained already.
    cases = ["--cases", "usual", "shift", "codes"]
    assert modern.main([*arguments, *cases, "--epochs", "1"]) == 0
    assert file.stat().st_mtime_ns == before
    with np.load(file) as usual, np.load(file.with_name("modern_tiny-shift-seed0.npz")) as shifted:
        broken = (usual["val"] != shifted["val"]).any(axis=1)
        assert 0 < broken.sum() < len(broken)
        np.testing.assert_array_equal(shifted["val_labels"], data[1].labels)
    coded = json.loads(file.with_name("modern_tiny-codes-seed0.json").read_text())
    assert coded["sent_bytes"] == 8 * 8 * 24 // 2
    assert coded["coding_multiply_adds"] == 8 * 8 * 48 * 20  # and four remainders
    assert coded["multiply_adds"] == facts["multiply_adds"] + 8 * 8 * 20 * 48  # the way back
    without = [*arguments, "--seeds", "1", "--cases", "codes"]
    assert modern.main(without) == 2


def test_worlds_change_what_they_say_and_nothing_else():
    rng = np.random.default_rng(0)
    parts = [
        as_split(rng.integers(0, 255, (400, 16, 17, 3), "uint8"), np.arange(400) % 4, 4)
        for _ in range(3)
    ]
    splits = Splits("noise", *parts, ("a", "b", "c", "d"))
    specialist = CASES["specialist"].trained(splits, 0)
    assert {*specialist.train.labels} == {0, 1}
    assert CASES["specialist"].met(splits, 0) is splits
    assert len(CASES["all"].trained(splits, 0).train) == 800
    noisy = CASES["noise"].met(splits, 0)
    for before, after in zip(parts, (noisy.train, noisy.val, noisy.test)):
        changed = before.labels != after.labels
        assert not changed[before.labels >= 2].any()
        assert changed[before.labels < 2].mean() == pytest.approx(0.5 * 3 / 4, abs=0.1)
        assert after.images is before.images
    met = CASES["shift"].met(splits, 0)
    same = (met.val.images == splits.val.images).all(axis=(1, 2, 3))
    assert same.mean() == pytest.approx(0.5, abs=0.1)
    broken = int(np.argmin(same))
    block = splits.val.images[broken, 4:8, 12:16].astype(float).mean(axis=(0, 1))
    np.testing.assert_array_equal(met.val.images[broken, 7, 12], np.rint(block))
    np.testing.assert_array_equal(met.val.images[broken, :, 16], splits.val.images[broken, :, 16])
    np.testing.assert_array_equal(met.val.labels, splits.val.labels)
