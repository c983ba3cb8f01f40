"""Cases of the study of networks of today: who teaches whom."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keras_ddnn.data.datasets import Splits, as_split
from keras_ddnn.training.capture import capture
from keras_ddnn.training.trainable import start_whitening
from tune import modern, modern_tables
from tune.modern_networks import Job, network_of, teacher_of, weights_file
from tune.modern_outputs import networks
from tune.modern_training import _costs


def test_a_case_learns_from_the_network_it_names(tmp_path):
    train = as_split(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4))
    splits, given = SimpleNamespace(train=train, num_classes=4), SimpleNamespace(work=tmp_path)
    with pytest.raises(ValueError, match="--networks modern_large --seeds 0 --cases teacher"):
        teacher_of(Job("modern_tiny", 3, case="distilled"), splits, given)
    assert teacher_of(Job("modern_tiny", 3), splits, given) is None
    before = Job("modern_tiny", 3)
    kept = network_of(before, splits, given).model
    kept.get_layer("cloud_whitening").start(np.random.default_rng(0).random((2, 8, 8, 3)))
    kept.save_weights(weights_file(before, given))
    teacher = teacher_of(replace(before, case="codes"), splits, given)
    for ours, theirs in zip(teacher.network.model.get_weights(), kept.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_split_goes_on_with_codes_of_its_map(tmp_path):
    train = as_split(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4))
    splits, given = SimpleNamespace(train=train, num_classes=4), SimpleNamespace(work=tmp_path)
    wide = network_of(Job("modern_split", 3), splits, given)
    whitening = wide.model.get_layer("whitening")
    whitening.start(np.random.default_rng(0).random((2, 8, 8, 3)))
    wide.model.save_weights(weights_file(Job("modern_split", 3), given))
    coded = network_of(Job("modern_split", 3, case="codes"), splits, given)
    for layer in wide.model.layers:
        for ours, theirs in zip(
            coded.model.get_layer(layer.name).get_weights(), layer.get_weights()
        ):
            np.testing.assert_array_equal(ours, theirs)
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    start_whitening(coded.model, images)
    world = SimpleNamespace(val=as_split(images, np.arange(20) % 4))
    costs = [_costs(c, capture(c, images, np.arange(20) % 4), world) for c in (wide, coded)]
    assert [cost["sent_bytes"] for cost in costs] == [2 * 16 * 16 * 32, 8 * 8 * 24 // 2]
    assert [cost["coding_multiply_adds"] for cost in costs] == [0, 0]
    # 20 components of each of 64 blocks of 2×2 places and 32 channels; 4 codes are remainders.
    more = costs[1]["multiply_adds"] - costs[0]["multiply_adds"]
    assert more == 8 * 8 * (2 * 2 * 32) * 20
    assert costs[1]["multiply_adds"] <= 12.5e6


def test_what_sends_less_is_compared_seed_by_seed_at_one_local_fraction():
    def pair(cloud, local=0.8):  # accuracy falls evenly from the cloud's to the device's
        curve = SimpleNamespace(at=lambda share: cloud + (local - cloud) * np.asarray(share))
        return SimpleNamespace(scores={"margin": None}, curve=lambda rule: curve)

    images, codes = {0: pair(0.95), 1: pair(0.93), 2: pair(0.5)}, {0: pair(0.94), 1: pair(0.91)}
    row = modern_tables.beside("codes", codes, images).set_index("rule").loc["margin"]
    assert row["seeds"] == 2  # nobody has tried codes with seed 2
    assert row["at_0"] == pytest.approx(-1.5)
    assert row["at_50"] == pytest.approx(-0.75)
    assert row["at_0_low"] < -2 < -1 < row["at_0_high"]
    assert row["least"] == pytest.approx(-1.5)
    alone = modern_tables.beside("codes", {0: codes[0]}, images).iloc[0]
    assert alone["at_0"] == pytest.approx(-1.0)
    assert np.isnan(alone["at_0_low"])


def test_a_network_of_a_world_is_right_where_its_labels_say_so(tmp_path):
    said = np.eye(4, dtype=np.float16)[np.arange(40) % 4]
    np.savez(tmp_path / "labels.npz", val=np.zeros(40, int), test=np.arange(40) % 4)
    for name, more in (("usual", {}), ("noise", {"test_labels": np.zeros(40, int)})):
        np.savez(tmp_path / f"{name}-seed0.npz", val=said, test=said, test_augmented=said, **more)
        (tmp_path / f"{name}-seed0.json").write_text("{}")
    rows = networks(tmp_path).set_index("network")
    assert rows.loc["usual", ["val_accuracy", "test_accuracy"]].tolist() == [25.0, 100.0]
    assert rows.loc["noise", ["val_accuracy", "test_augmented_accuracy"]].tolist() == [25.0, 25.0]
    assert "val_augmented_accuracy" not in rows.columns  # nobody has looked six times


def test_outputs_of_other_data_or_of_another_recipe_are_not_gone_on_with(
    tmp_path, monkeypatch, capsys
):
    parts = [as_split(np.zeros((n, 32, 32, 3), np.uint8), np.arange(n) % 3) for n in (9, 6, 6)]
    monkeypatch.setattr(modern, "load", lambda *_: Splits("mine", *parts, ("a", "b", "c")))
    (folder := tmp_path / "outputs").mkdir()
    labels = {"train": np.arange(9) % 3, "val": np.arange(6) % 3, "test": np.zeros(6, int)}
    np.savez(folder / "labels.npz", **labels)
    before = (folder / "labels.npz").read_bytes()
    (folder / "modern_tiny-seed0.json").write_text('{"recipe": {"epochs": 1, "batch_size": 500}}')
    arguments = ["--output", str(tmp_path), "--work", str(tmp_path / "work"), "--no-tables"]
    arguments += ["--networks", "modern_tiny", "--seeds"]
    assert modern.main([*arguments, "0"]) == 2
    assert "trained with epochs=1; received epochs=64" in capsys.readouterr().err
    assert modern.main([*arguments, "1"]) == 2
    assert "has outputs of other data" in capsys.readouterr().err
    assert (folder / "labels.npz").read_bytes() == before
