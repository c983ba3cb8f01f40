"""The study of several cameras: what is trained once, and the tables made of its outputs."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from keras_ddnn.data.datasets import Splits, as_split
from tune import cameras
from tune.cameras_tables import best_first, network_of
from tune.cameras_training import MASKED, Network, output_file, stored_name

CLASSES, N = 4, 40
SURE, UNSURE = 9.0, 1.0  # of the largest logit: entropies of 0.00 and 0.93


def split(n, seed):
    frames = np.random.default_rng(seed).integers(1, 256, (n, 3, 16, 16, 1), "uint8")
    return as_split(frames, np.arange(n) % CLASSES)


SPLITS = Splits("toy", split(80, 0), split(N, 1), split(N, 2), ("a", "b", "c", "d"))


def logits(right, sure):
    """Logits of samples 0, 1, …, of which the first are right, and the first are sure."""
    labels, place = np.arange(N) % CLASSES, np.arange(N)
    answers = np.where(place < right, labels, (labels + 1) % CLASSES)
    size = np.where(place < sure, SURE, UNSURE)
    return (size[:, None] * np.eye(CLASSES)[answers]).astype(np.float16)


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(cameras, "load", lambda *_: SPLITS)
    (tmp_path / "out" / "outputs").mkdir(parents=True)
    return SimpleNamespace(output=tmp_path / "out", work=tmp_path / "work")


def keep(options, network, local, cloud=N, seed=0):
    """Write what a network said: so many right answers, the first half of the samples sure."""
    said = {}
    for part in ("val", "test"):
        for absent in network.absences(3):
            fewer = 4 * len(absent)
            said[stored_name(part, "local", absent)] = logits(local - fewer, N // 2)
            said[stored_name(part, "cloud", absent)] = logits(cloud - fewer, N)
    file = output_file(options, network, seed)
    np.savez(file, **said)
    file.with_suffix(".json").write_text(json.dumps({"sent_bytes": 100, "frame_bytes": 256}))


def tell(options, *seeds):
    """Write the tables of what is there; nothing is trained."""
    arguments = ["--output", str(options.output), "--work", str(options.work)]
    network = Network(absent=MASKED).name
    assert cameras.main([*arguments, "--networks", network, "--seeds", *map(str, seeds)]) == 0
    return lambda name: pd.read_csv(options.output / f"{name}.csv")


def test_tables_come_from_what_the_networks_said(options):
    for network in (Network(), Network(absent=MASKED)):
        keep(options, network, 30)
    for camera, right in enumerate((10, 30, 20)):
        keep(options, Network(cameras=(camera,)), right, right)
    keep(options, Network(cameras=(1, 2)), 32, 38)
    read = tell(options, 0)

    row = (
        read("aggregation").set_index(["local_scheme", "cloud_scheme"]).loc["max", "concatenation"]
    )
    # The half that is sure stays and is right; the cloud knows the rest.
    assert (row["local"], row["cloud"], row["overall"]) == (75.0, 100.0, 100.0)
    assert row["local_percent"] == 50.0
    assert row["bytes"] == 4 * CLASSES + 0.5 * 100

    table = read("thresholds").set_index("threshold")
    assert table.loc[0.9, "local_percent"] == 50.0
    assert table.loc[1.0, "local_percent"] == 100.0
    assert table.loc[1.0, "accuracy"] == 75.0
    assert table.loc[1.0, "bytes"] == 4 * CLASSES

    table = read("added")
    grown = table[table["kind"] == "added"].set_index("count")
    assert list(grown["cameras"].astype(str)) == ["1", "1+2", "1+2+0"]  # the best alone first
    assert list(grown["cloud"]) == [75.0, 95.0, 100.0]

    table = read("failing").set_index(["failed", "network"])
    assert table.loc[(0, "max-concatenation"), "cloud"] == 90.0
    assert table.loc[(0, "trained on the others"), "cloud"] == 95.0
    table = read("missing")
    assert list(table["missing"]) == 2 * [0, 1, 1, 1, 2, 2, 2]
    assert table.loc[table["missing"] == 2, "cloud"].eq(80.0).all()


def test_several_seeds_give_an_interval(options):
    for seed, right in enumerate((28, 32)):
        keep(options, Network(absent=MASKED), right, seed=seed)
        keep(options, Network(), right, seed=seed)
    table = tell(options, 0, 1)("thresholds").set_index("threshold")
    assert table.loc[1.0, "accuracy"] == 75.0  # of 70 and 80
    assert table.loc[1.0, "accuracy_low"] < 70.0 < 80.0 < table.loc[1.0, "accuracy_high"]


def test_which_camera_is_best_is_known_once_all_were_alone(options):
    said = {0: 10, 1: 30}

    def read(network):
        (camera,) = network.cameras
        right = np.arange(N) < said.get(camera, 0)
        bank = SimpleNamespace(cloud_correct=right)
        return [SimpleNamespace(val=bank)] if camera in said else []

    assert best_first(3, read) is None
    assert best_first(2, read) == [1, 0]
    assert network_of((2, 0), 3).name == "max-concatenation-of0+2"
    assert network_of((1, 0, 2), 3) == Network()


@pytest.mark.slow
def test_a_network_is_trained_once_and_leaves_its_logits(options):
    arguments = ["--output", str(options.output), "--work", str(options.work), "--seeds", "0"]
    arguments += ["--networks", "max-concatenation-of0+2", "--epochs", "1"]
    assert cameras.main(arguments) == 0
    file = options.output / "outputs" / "max-concatenation-of0+2-seed0.npz"
    with np.load(file) as said:
        assert {*said.files} == {
            f"{part}_{t}" for part in ("val", "test") for t in ("local", "cloud")
        }
        assert said["test_local"].shape == (N, CLASSES)
    facts = json.loads(file.with_suffix(".json").read_text())
    assert facts["sent_bytes"] == 4 * 4 * 4 // 2  # of one device
    assert facts["frame_bytes"] == 256
    before = file.stat().st_mtime_ns
    assert cameras.main(arguments) == 0
    assert file.stat().st_mtime_ns == before


def test_what_is_no_study_of_cameras_is_refused_in_one_line(options, monkeypatch, capsys):
    arguments = ["--output", str(options.output), "--work", str(options.work)]
    assert cameras.main([*arguments, "--networks", "max-sum"]) == 2
    assert "unknown network 'max-sum'; known: max-max" in capsys.readouterr().err
    parts = [as_split(s.images[:, 0], s.labels) for s in (SPLITS.train, SPLITS.val, SPLITS.test)]
    monkeypatch.setattr(cameras, "load", lambda *_: Splits("one", *parts, SPLITS.class_names))
    assert cameras.main(arguments) == 2
    error = capsys.readouterr().err
    assert "expected images of several cameras" in error
    assert error.count("\n") == 1
