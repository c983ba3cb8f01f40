"""A search over networks in a chain: each is trained on its own, once, whoever it stands with."""

import json
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from toy_networks import importable, small_splits

from keras_ddnn.config import DDNNConfig
from keras_ddnn.deploy.artifact import load_policy
from keras_ddnn.evaluation.cut_latency import Machines
from keras_ddnn.files.atomic import write_json
from keras_ddnn.files.checksums import sha256_of_json
from keras_ddnn.labels.sources import FOLDS
from keras_ddnn.networks.cascade import CLOUD
from keras_ddnn.networks.compose import chain
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.joint import loss_weights
from tune import backbones, networks, report
from tune.cache import backbone_key
from tune.driver import run_search
from tune.output import CONFIG, check_output, prepare_output
from tune.search import _parser, _search_config
from tune.space import SearchConfig
from tune.specs import Cut, NetworkSpec
from tune.stored import StoredNetwork
from tune.workspace import Workspace

CODE = """
import keras
from keras import layers

def net(side, width):
    inputs = keras.Input((side, side, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(width, 3, strides=2, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="scores")(x))

def small():
    return net(8, 4)

def smaller():
    return net(8, 3)

def large():
    return net(24, 16)

def larger():
    return net(16, 24)
"""
NAMES = ("small", "smaller", "large", "larger")
SMALL, SMALLER, LARGE, LARGER = (f"chained_nets:{name}" for name in NAMES)
FOUR = tuple(f"{a}+{b}" for a in (SMALL, SMALLER) for b in (LARGE, LARGER))
SEARCH = SearchConfig(network=FOUR, epochs=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the user's code, from which it can be imported."""
    with importable(tmp_path_factory.mktemp("code"), "chained_nets", CODE) as folder:
        yield folder


@pytest.fixture(scope="module")
def splits():
    return small_splits()


def test_two_devices_and_two_clouds_are_four_trainings_for_four_chains():
    assert len(SEARCH.networks()) == 4
    trained = SEARCH.backbones()
    assert sorted(spec.cut.network for spec in trained) == sorted([SMALL, SMALLER, LARGE, LARGER])
    # λ of the other networks of a search is none of theirs.
    mixed = replace(SEARCH, network=(*FOUR, "paper"), lambda_local=(0.3, 0.7))
    assert len(mixed.networks()) == 4 + 2
    assert len(mixed.backbones()) == 4 + 2
    judged = replace(SEARCH, labels=("cross_fitted",), seed=(0, 1))
    assert len(judged.backbones()) == 2 * 4 * (1 + FOLDS)
    (trial, *_) = judged.grid()
    assert len(trial.backbones()) == 2 * (1 + FOLDS)


def test_choices_and_names_tell_chains_apart():
    search = replace(SEARCH, network=(*FOUR, f"{SMALL}@fast+{LARGE}", LARGE), at=("conv",))
    assert len(search.grid()) == 6
    for trial in search.grid():
        assert search.trial(json.loads(json.dumps(trial.choices()))) == trial
    assert len({each.name() for each in search.backbones()}) == len(search.backbones())


def test_each_network_of_a_chain_has_a_recipe_of_its_own():
    (search,) = (replace(SEARCH, network=(f"{SMALL}@fast+{LARGE}",), epochs=None),)
    small, large = search.backbones()
    assert (small.ddnn.augmentation, large.ddnn.augmentation) == ("flip", "crop")
    assert search.grid()[0].choices()["network"] == f"{SMALL}@fast+{LARGE}"
    # What a recipe says makes an address, not what it is called.
    plain = NetworkSpec(large.ddnn, cut=Cut(LARGE, None))
    named = NetworkSpec(large.ddnn, cut=Cut(LARGE, None, "quickstart"))
    assert backbone_key("f00d", plain, "a") == backbone_key("f00d", named, "a")
    assert backbone_key("f00d", plain, "a") != backbone_key("f00d", small, "a")


def test_the_weights_of_a_preset_are_not_those_of_a_chain():
    def searched(*arguments):
        return _search_config(_parser().parse_args([*arguments]))

    assert searched("--network", f"{SMALL}+{LARGE}").lambda_local == (0.5,)
    assert searched("--network", f"{SMALL}+{LARGE}", "paper").lambda_local == (0.3, 0.7)
    with pytest.raises(ValueError, match="λ is no dimension of a chain"):
        searched("--network", f"{SMALL}+{LARGE}", "--lambda-local", "0.3", "0.7")


def test_losses_are_weighed_by_the_outputs_that_there_are():
    assert loss_weights(["local", "cloud"], 0.3) == {"local": 0.3, "cloud": 0.7}
    assert loss_weights(["cloud"], 0.3) == {"cloud": 1.0}
    assert loss_weights(["local", "tier1", "cloud"], 0.5) == pytest.approx(
        {"local": 0.25, "tier1": 0.25, "cloud": 0.5}
    )


def test_a_network_alone_is_trained_on_data_of_another_size(splits, tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, -1)(image))
    alone = chain({CLOUD: keras.Model(image, keras.layers.Dense(3)(x))}, input_shape=(16, 16, 3))
    fitted = fit_ddnn(
        splits.train,
        splits.val,
        DDNNConfig(epochs=3, batch_size=8, learning_rate=0.005, lambda_local="random"),
        network=alone,
        tensorboard=tmp_path,
        verbose=0,
    )
    assert list(fitted.bank.tiers) == [CLOUD]
    assert fitted.bank.edge.features is None
    assert fitted.history["val_accuracy"][-1] > 0.5  # bright and dark noise, by chance 0.33
    assert fitted.bank.edge.outputs.shape == (96, 3)


class Queue:
    """Stands for the queue that a worker tells of its epochs."""

    def __init__(self):
        self.actor, self.put_nowait, self.told = self, self, []

    def remote(self, message):
        self.told.append(message)


@pytest.fixture(scope="module")
def stored(folder, splits, tmp_path_factory):
    """Train both networks of a chain as workers do; return the chain, and the workspace."""
    search = replace(SEARCH, network=(f"{SMALL}+{LARGE}",), labels=("held_out",), stages=1)
    root = tmp_path_factory.mktemp("chained") / "backbones"
    addresses = networks._addresses(search, splits.train.take([0]))
    workspace = Workspace("f00d", root, networks=addresses)
    for spec in search.backbones():
        backbones.train_backbone(splits, spec, workspace, Queue(), 300.0)
    (members,) = search.networks()
    return StoredNetwork.of(workspace, members, splits)


@pytest.mark.slow
def test_the_bank_of_a_chain_is_that_of_its_members_side_by_side(stored, splits):
    assert list(stored.val_bank.tiers) == ["local", "cloud"]
    joint = capture(stored.cascade(), splits.val.images, splits.val.labels)
    for name, tier in joint.tiers.items():
        np.testing.assert_allclose(stored.val_bank.tiers[name].outputs, tier.outputs, atol=1e-5)
    # What travels is the input.
    np.testing.assert_array_equal(stored.val_bank.edge.features, splits.val.images)
    assert stored.payload.sent == 16 * 16 * 3
    assert stored.payload.image_png > 0


@pytest.mark.slow
def test_folds_stages_and_views_of_a_chain_are_those_of_its_members(stored):
    judged = stored.fold(0)
    assert list(judged.outputs) == list(stored.stages.outputs) == ["local", "cloud"]
    assert judged.outputs["cloud"].shape == (96 // FOLDS, 3)
    views = stored.augmented_bank(2)
    assert list(views.tiers) == ["local", "cloud"]
    again = stored.augmented_bank(2)
    np.testing.assert_array_equal(views.cloud_logits, again.cloud_logits)
    np.testing.assert_array_equal(again.edge.features[:3], again.edge.inputs[:3])


@pytest.mark.slow
def test_a_search_over_chains_trains_each_network_once_and_keeps_the_best(
    folder, splits, tmp_path, capsys
):
    ray = pytest.importorskip("ray")
    arrays = {f"x_{what}": getattr(splits, what).images for what in ("train", "val", "test")}
    arrays |= {f"y_{what}": getattr(splits, what).labels for what in ("train", "val", "test")}
    np.savez(tmp_path / "toy.npz", **arrays)
    search = replace(SEARCH, dataset=str(tmp_path / "toy.npz"))
    write = partial(report.write, machines=Machines(2e9, 1e11, 1.25e6, 0.04))

    def trained():
        return {path.parent.name for path in (tmp_path / "backbones").glob("*/backbone.json")}

    try:
        run_search(search, tmp_path / "out", num_cpus=2)
        first = trained()
        assert len(first) == 2 + 2
        # Another search of the same networks, and one of a network more, take what is there.
        fewer = replace(search, network=(f"{SMALL}+{LARGER}",))
        run_search(fewer, tmp_path / "fewer", num_cpus=2)
        run_search(search, tmp_path / "out", num_cpus=2, resume=True)
        assert trained() == first
        turned = replace(search, network=(f"{LARGE}+{LARGER}", f"{LARGER}"), at=("pool",))
        run_search(turned, tmp_path / "turned", num_cpus=2, write=write)
        assert len(trained() - first) == 1  # that which is cut
    finally:
        ray.shutdown()
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(results["status"]) == {"finished"}
    assert results["network"].value_counts().to_dict() == dict.fromkeys(FOUR, 1)
    assert set(results["val_bytes_sent"]) == {16 * 16 * 3}
    policy = load_policy(tmp_path / "out" / "artifact")
    assert policy.cascade.tiers[0].sends_inputs
    assert len(policy.predict(splits.test.images)[0]) == 30
    said = capsys.readouterr().out
    assert "768 are sent; image 768 raw" in said
    table = pd.read_csv(tmp_path / "turned" / "tradeoff.csv").set_index("network")
    assert set(table.index) == {f"{LARGE}+{LARGER}", f"{LARGER}, cut behind pool"}
    assert table.loc[f"{LARGE}+{LARGER}", "sent_bytes"] == 16 * 16 * 3
    assert table.loc[f"{LARGER}, cut behind pool", "sent_bytes"] == 2 * 24
    assert (tmp_path / "turned" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert "recommended for device 2 and cloud 100 GMAC/s" in said


@pytest.mark.parametrize(
    ("older", "fields"), [(None, {}), (SMALL, {"network": SMALL, "at": ("conv",)})]
)
def test_a_search_that_was_begun_with_one_network_goes_on(older, fields, tmp_path):
    search = SearchConfig(**fields)
    prepare_output(search, tmp_path / "out", overwrite=False)
    config = json.loads((tmp_path / "out" / CONFIG).read_text()) | {"network": older}
    del config["sha256"]
    write_json(tmp_path / "out" / CONFIG, config | {"sha256": sha256_of_json(config)})
    check_output(search, tmp_path / "out", resume=True, overwrite=False)
    (trial,) = search.grid()
    choices = trial.choices()
    del choices["network"]  # as in its records
    assert search.trial(choices) == trial
    with pytest.raises(ValueError, match="holds another search"):
        check_output(SEARCH, tmp_path / "out", resume=True, overwrite=False)
