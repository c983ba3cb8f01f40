"""The study of several cameras: what is trained once, and the tables made of its outputs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from figures import cameras as figure
from figures import cameras_said
from figures.__main__ import main as draw_figures
from figures.paper.table import cells, fill
from keras_ddnn.data.datasets import Splits, as_split
from tune import cameras
from tune.cameras_tables import best_first
from tune.cameras_training import Network, output_file, stored_name

CLASSES, N = 4, 40
ROOT = Path(__file__).parent.parent
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
def nothing_trained(monkeypatch):
    monkeypatch.setattr(cameras, "train_network", lambda *_: pytest.fail("trained a network"))


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
    arguments = ["--output", str(options.output), "--work", str(options.work), "--tables-only"]
    assert cameras.main([*arguments, "--seeds", *map(str, seeds)]) == 0
    return lambda name: pd.read_csv(options.output / f"{name}.csv")


@pytest.mark.usefixtures("nothing_trained")
def test_tables_come_from_what_the_networks_said(options):
    for network in (Network(), Network(absent=0.1)):
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
    assert table.loc[(0, "max-concatenation, trained on the others"), "cloud"] == 95.0
    table = read("missing")
    assert list(table["missing"]) == 2 * [0, 1, 1, 1, 2, 2, 2]
    assert table.loc[table["missing"] == 2, "cloud"].eq(80.0).all()


def test_several_seeds_give_an_interval(options):
    for seed, right in enumerate((28, 32)):
        keep(options, Network(absent=0.1), right, seed=seed)
        keep(options, Network(), right, seed=seed)
    table = tell(options, 0, 1)("thresholds").set_index("threshold")
    assert table.loc[1.0, "accuracy"] == 75.0  # of 70 and 80
    assert table.loc[1.0, "accuracy_low"] < 70.0 < 80.0 < table.loc[1.0, "accuracy_high"]


def keep_whole_study(options, *seeds):
    """Write a study in which the half that is sure stays and is right; the cloud knows the rest.

    Overall, all cameras are right on 40 of 40, the best alone on 20, and two on 38. A camera that
    fails costs 4. Networks of 40 epochs are compared with a camera that is right on 24 alone.
    """
    for seed in seeds:
        for network in (*cameras.PAIRS, *cameras.FAILING[1:]):
            keep(options, network, 30, seed=seed)
        for camera, right in enumerate((10, 20, 16)):
            keep(options, Network(cameras=(camera,)), right, right, seed)
        keep(options, Network(cameras=(1,), epochs=40), 24, 24, seed)
        for pair in ((0, 1), (0, 2), (1, 2)):
            for like in cameras.FAILING:
                keep(options, like.of(pair, 3), 28, 38, seed)


def test_bars_are_differences_and_shares_of_the_gain_over_the_best_camera_alone(options):
    keep_whole_study(options, 0)
    table = tell(options, 0)("bars").set_index(["bar", "exit", "network", "failed"])["value"]
    for network in ("max-concatenation", "max-concatenation-absent10"):
        assert table["over_best", "local", network, "none"] == 25.0  # 30 and 20 of 40
        assert table["over_best", "system", network, "none"] == 50.0  # 40 and 20 of 40
        assert ("over_best", "overall", network, "none") not in table.index
        for failed in ("0", "1", "2", "mean"):
            less = table["over_trained_on_others"]
            assert less["local", network, failed] == -5.0  # 26 and 28 of 40
            assert less["overall", network, failed] == -5.0  # 36 and 38 of 40
            kept = table["gain_kept"]
            assert kept["local", network, failed] == 60.0  # 6 of 10
            assert kept["system", network, failed] == 80.0  # 16 of 20
            assert kept["overall", network, failed] == 80.0  # 16 of 20
    network = "mean-concatenation-40epochs-absent10"
    assert table["over_best", "local", network, "none"] == 15.0  # 30 and 24 of 40
    assert table["gain_kept", "system", network, "mean"] == 75.0  # 12 of 16
    assert table["over_trained_on_others", "overall", network, "mean"] == -5.0  # 36 and 38 of 40


def test_validation_samples_choose_how_many_frames_are_absent(options):
    for network, right in ((Network(absent=0.1), 30), (Network("mean", absent=0.25), 34)):
        keep(options, network, right)
    table = tell(options, 0)("absences").set_index("network")["val_local"]
    # Of 40 samples, a camera that is absent costs 4; none, or one of three, is.
    assert table["max-concatenation-absent10"] == 100 * (30 + 3 * 26) / 4 / N
    assert table["mean-concatenation-absent25"] == 100 * (34 + 3 * 30) / 4 / N


def test_bars_are_paired_by_seed_and_leave_out_what_is_not_there(options):
    keep_whole_study(options, 0)
    keep(options, Network(), 34, seed=1)
    keep(options, Network(cameras=(1, 2)), 28, 36, seed=1)
    table = tell(options, 0, 1)("bars").set_index(["bar", "exit", "network", "failed"])
    gain = table.loc[("over_best", "local", "max-concatenation", "none")]
    assert (gain["value"], gain["seeds"]) == (25.0, 1)  # the best alone has seed 0 only
    fails = table.loc[("over_trained_on_others", "overall", "max-concatenation", "0")]
    assert (fails["value"], fails["seeds"]) == (-2.5, 2)  # -5 and 0
    assert fails["value_low"] == pytest.approx(-2.5 - 12.706 * 2.5, rel=1e-3)
    mean = table.loc[("over_trained_on_others", "overall", "max-concatenation", "mean")]
    assert mean["seeds"] == 1


def test_what_the_tables_say_is_laid_into_the_claims_and_drawn(options, capsys):
    keep_whole_study(options, 0, 1)
    tell(options, 0, 1)
    text = (ROOT / "docs" / "cameras.md").read_text()
    filled = fill(text, cameras_said.say(options.output))  # raises where a claim has no row
    said = {row[0]: row[3] for row in map(cells, filled.split("\n")) if len(row) > 3}
    assert said["T = 1.0"] == "100.0% (100.0 … 100.0); 75.0% (75.0 … 75.0); 16 B (16 … 16)"
    assert said["best threshold"].startswith("50.0% (50.0 … 50.0); 100.0%")
    assert said["frame against messages"].endswith("; 16.0 times at T = 1")  # 256 and 16 bytes
    assert said["overall, by aggregation"].startswith("max: 100.0 to 100.0%; mean:")
    assert said["each camera alone, local exit"].startswith("camera 0: 25.0% (25.0 … 25.0); camera")
    claim = "over the best camera alone, mean, with absences: local exit"
    assert said[claim] == "+25.0 points (25.0 … 25.0), met"
    claim = "one camera fails, over a network of the others, max, with absences: overall"
    assert said[claim] == (
        "-5.0 points (-5.0 … -5.0), missed; worst, camera 0: -5.0 points (-5.0 … -5.0)"
    )
    claim = "two cameras fail, max, with absences: overall"
    assert said[claim].startswith("mean of 3 pairs 80")
    told = {row[0]: row[3] for row in map(cells, text.split("\n")) if len(row) > 3}
    alone = [claim for claim, ours in said.items() if ours == told[claim] and "---" not in ours]
    assert alone == ["Claim", "memory of a device's network", "filters of a device: 1, 2, 4, 8"]

    panels = figure.draw(options.output).axes
    assert [axes.get_title().partition(" (")[0] for axes in panels] == [
        "How cameras are combined",
        "Thresholds of the entropy",
        "One camera and more",
        "One camera fails",
        "None, one and two cameras absent",
    ]
    x, y = panels[1].lines[0].get_data()
    assert (x[-1], y[-1]) == (100.0, 75.0)
    for name in ("thresholds", "added", "failing", "missing", "bars"):
        (options.output / f"{name}.csv").unlink()
    page = options.output / "page.md"
    claims = ["overall, by aggregation", "local exit, by aggregation"]
    claims += ["best threshold", "accuracy of local exit; of cloud"]
    page.write_text("\n".join(f"| {claim} | – | – | ? | | |" for claim in claims))
    assert draw_figures(["--results", str(options.output), "--table", str(page)]) == 0
    assert "cameras.png" in capsys.readouterr().out
    assert "?" not in page.read_text()
    assert draw_figures(["--results", str(options.output), "--table", "no_such_page.md"]) == 2
    assert "no_such_page.md: expected a page to fill in" in capsys.readouterr().err


def test_one_seed_is_said_once_and_holds_no_bar(tmp_path):
    row = {"bar": "gain_kept", "exit": "local", "network": "max-concatenation", "needed": 60.0}
    rows = [row | {"failed": f, "value": v} for f, v in (("0", 70.0), ("1", 90.0), ("mean", 80.0))]
    table = pd.DataFrame(rows).assign(seeds=1, value_low=np.nan, value_high=np.nan)
    table.to_csv(tmp_path / "bars.csv", index=False)
    claim = "one camera fails, share kept of the gain, max, without absences: local exit"
    assert cameras_said.say(tmp_path) == {
        claim: "80.0%, open; worst, camera 0: 70.0% (1 seed)",
    }
    table.assign(seeds=2, value_low=60.0, value_high=100.0).to_csv(tmp_path / "bars.csv")
    assert "80.0% (60.0 … 100.0), met" in cameras_said.say(tmp_path)[claim]
    assert cameras_said.say(tmp_path / "elsewhere") == {}


def test_the_page_says_what_the_tables_of_the_repository_say():
    text = (ROOT / "docs" / "cameras.md").read_text()
    assert text == fill(text, cameras_said.say(ROOT / "results" / "cameras"))


def test_which_camera_is_best_is_known_once_all_were_alone(options):
    said = {0: 10, 1: 30}

    def read(network):
        (camera,) = network.cameras
        right = np.arange(N) < said.get(camera, 0)
        bank = SimpleNamespace(cloud_correct=right)
        return [SimpleNamespace(val=bank)] if camera in said else []

    assert best_first(3, read) is None
    assert best_first(2, read) == [1, 0]
    assert Network().of((2, 0), 3).name == "max-concatenation-of0+2"
    assert Network("mean", absent=0.1).of((2, 0), 3).name == "mean-concatenation-of0+2"
    assert Network().of((1, 0, 2), 3) == Network()
    long = Network("mean", absent=0.1, epochs=40)
    assert long.name == "mean-concatenation-40epochs-absent10"
    assert long.of((2, 0), 3).name == "mean-concatenation-40epochs-of0+2"
    assert long.of([1], 3).name == "max-concatenation-40epochs-of1"  # nothing is combined


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


def told(options, capsys, *arguments):
    """Return the exit code of a run that trains nothing, and its one line on standard error."""
    arguments = ["--output", str(options.output), "--work", str(options.work), *arguments]
    code = cameras.main([*arguments, "--tables-only"])
    return code, capsys.readouterr().err


def test_seeds_that_are_not_there_are_named_and_no_table_of_others_is_left(options, capsys, caplog):
    code, said = told(options, capsys, "--seeds", "7")
    assert code == 2
    assert "expected outputs of the seeds 7 in" in said
    assert "run python -m tune.cameras --seeds 7 first" in said
    keep(options, Network(), 30)
    keep(options, Network("mean"), 30, seed=1)
    assert told(options, capsys, "--seeds", "0")[0] == 0
    assert "as max-concatenation-absent10 of seed 0: rows have fewer seeds" in caplog.text
    assert (options.output / "thresholds.csv").exists()
    assert told(options, capsys, "--seeds", "1")[0] == 0
    assert not (options.output / "thresholds.csv").exists()  # of the scheme of the source alone


@pytest.mark.parametrize("damage", ["truncated", "no facts", "other rows"])
def test_a_damaged_file_is_named_with_the_remedy(options, capsys, damage):
    keep(options, Network(), 30)
    path = output_file(options, Network(), 0)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "no facts":
        path.with_suffix(".json").write_text("{}")
    else:
        np.savez(path, **{name: array[:5] for name, array in np.load(path).items()})
    code, said = told(options, capsys, "--seeds", "0")
    assert code == 2
    assert f"{path} and its .json cannot be read" in said
    assert "delete them" in said


def test_a_network_without_its_facts_is_trained_again(options, monkeypatch):
    keep(options, Network(), 30)
    output_file(options, Network(), 0).with_suffix(".json").unlink()
    trained = []
    monkeypatch.setattr(cameras, "train_network", lambda network, *_: trained.append(network.name))
    arguments = ["--output", str(options.output), "--work", str(options.work), "--no-tables"]
    arguments += ["--networks", "max-concatenation", "--seeds", "0"]
    assert cameras.main(arguments) == 0
    assert trained == ["max-concatenation"]
