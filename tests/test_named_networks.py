"""A search over networks that are named: cut at layers, found by what they are, never by a name."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_networks import importable, small_splits

from keras_ddnn.config import DDNNConfig, HeadConfig
from keras_ddnn.deploy import artifact
from keras_ddnn.files.checksums import sealed_folder
from keras_ddnn.networks.architectures.named_models import address_of, named_network
from tune import networks, summary
from tune.cache import backbone_key, trained
from tune.driver import run_search
from tune.plan import make_plan
from tune.space import SearchConfig
from tune.specs import Cut, NetworkSpec, Trial
from tune.stored import StoredNetwork
from tune.workspace import Workspace

CODE = """
import keras
from keras import layers

def small():
    inputs = keras.Input((16, 16, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="scores")(x))

also_small = small

def bare():
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3)])
"""
SEARCH = SearchConfig(network="nets_of_a_user:small", at=("first", "second"), epochs=1)


def address_of_code(folder, code, name="small", seed=0):
    """Return the address of a network that a file with such code makes."""
    (folder / "edited_networks.py").write_text(code)
    importlib.invalidate_caches()
    sys.modules.pop("edited_networks", None)
    return address_of(named_network(f"edited_networks:{name}", (16, 16, 3), 3, seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the user's code, from which it can be imported."""
    with importable(tmp_path_factory.mktemp("code"), "nets_of_a_user", CODE) as folder:
        yield folder


@pytest.fixture(scope="module")
def splits():
    return small_splits()


def test_an_address_is_that_of_the_code_and_not_of_its_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    small = address_of_code(tmp_path, CODE)
    assert address_of_code(tmp_path, f"{CODE}\n# only said", "also_small") == small
    edited = [
        address_of_code(tmp_path, CODE, seed=1),
        address_of_code(tmp_path, CODE.replace("Conv2D(8,", "Conv2D(9,")),
        # No weight and no shape differs.
        address_of_code(tmp_path, CODE.replace("Dropout(0.5)", "Dropout(0.4)")),
    ]
    assert len({small, *edited}) == 4


def test_an_edited_function_does_not_find_the_network_of_the_older_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (spec, _) = SEARCH.backbones()

    def folder_of(code):
        address = address_of_code(tmp_path, code)
        return Workspace(
            "f00d", tmp_path / "backbones", networks={(spec.cut.network, 0): address}
        ).backbone(spec)

    with sealed_folder(folder_of(CODE)) as new:
        (new / "train.npz").write_bytes(b"logits and features")
    assert not trained(folder_of(CODE.replace("Dense(3,", "Dense(3, use_bias=False,")))
    assert trained(folder_of(CODE))


def test_the_address_of_a_network_is_in_the_key_of_all_that_is_made_with_it():
    config, cut = DDNNConfig(), Cut("package.module:function", "layer")
    spec = NetworkSpec(config, cut=cut)

    def keys(address, **fields):
        other = replace(spec, **fields)
        workspace = Workspace("f00d", Path(), Path(), {(other.cut.network, 0): address})
        return workspace.backbone(other), workspace.key(Trial((other,), HeadConfig()))

    before = keys("a")
    assert not {*keys("b")} & {*before}
    assert not {*keys("a", cut=Cut(cut.network, "other"))} & {*before}
    assert keys("a", cut=Cut("elsewhere:name", "layer")) == before
    assert keys("a", ddnn=replace(config, epochs=3))[0] != before[0]
    # Of another network the options of the paper's say nothing.
    assert keys("a", ddnn=replace(config, local_filters=8, dropout=0.1))[0] == before[0]
    assert backbone_key("f00d", NetworkSpec(config)) not in {path.name for path in before[:1]}


def test_a_search_has_a_network_for_each_layer_and_trials_on_it():
    search = replace(SEARCH, lambda_local=(0.3, 0.7), depth=(1, 2), labels=("held_out",))
    deployed = [spec for spec in search.backbones() if spec.deployed]
    assert [(s.cut.at, s.ddnn.lambda_local) for s in deployed] == [
        (at, weight) for at in ("first", "second") for weight in (0.3, 0.7)
    ]
    assert all(spec.of_fold(0).cut == spec.cut for spec in deployed)
    assert len(search.grid()) == len(set(search.grid())) == 2 * 2 * 2
    assert {trial.members for trial in search.grid()} == {(spec,) for spec in deployed}
    for trial in search.grid():
        assert search.trial(json.loads(json.dumps(trial.choices()))) == trial
    assert len({each.name() for each in search.backbones()}) == len(search.backbones())
    assert all(len({trial.members for trial in stack}) == 1 for stack in search.stacks())
    assert SearchConfig(network="paper") == SearchConfig()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"at": ("first",)}, "the network of the paper is cut at its layer 'features'"),
        ({"network": "a:b"}, "the network 'a:b' needs layers to be cut at; received none"),
        ({"network": "a:b", "at": ("c,,d",)}, "expected LAYER, or LAYER,LAYER .* received 'c,,d'"),
        ({"network": "a:b", "at": ("c,c",)}, "each once; received 'c,c'"),
        ({"network": "a:b+c:d", "at": ("e",)}, "each network of a chain is cut nowhere"),
        ({"network": "a:b+"}, "expected NAME, or DEVICE.CLOUD of two or more; received 'a:b.'"),
        ({"network": "paper+a:b"}, "the network of the paper has two tiers already"),
        ({"network": "paper@fast"}, "the network of the paper takes the recipe of the search"),
        ({"network": "a:b@fsat+c:d"}, "preset behind @ in 'a:b@fsat'.*fast"),
        ({"network": "a:b+c:d", "lambda_local": (0.3, 0.7)}, "λ is no dimension of a chain"),
        ({"network": "a:b+c:d", "bottleneck": (4,)}, "bottleneck is put into .* paper"),
        ({"network": "a:b", "at": ("c",), "bottleneck": (4,)}, "bottleneck is put into .* paper"),
        ({"network": "a:b", "at": ("c",), "local_dropout": 0.5}, "local_dropout is put into"),
    ],
)
def test_what_cannot_be_cut_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"at": ("frist",)}, "no layer 'frist' .* near names: first"),
        ({"network": "nets_of_a_user:absent"}, "expected package.module:function"),
        ({"network": "nets_of_a_user:bare", "at": ("flatten",)}, "takes inputs of shape .8, 8, 3."),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_trained(
    folder, splits, fields, message
):
    with pytest.raises(ValueError, match=message):
        networks._addresses(replace(SEARCH, **fields), splits.train.take([0]))


@pytest.mark.slow
def test_another_process_finds_the_same_addresses(folder, splits):
    found = networks.addresses(replace(SEARCH, at=("first",), seed=(0, 1)), splits)
    (name,) = SEARCH.network
    here = {(name, k): address_of(named_network(name, (16, 16, 3), 3, k)) for k in (0, 1)}
    assert found == here
    assert len({*found.values()}) == 2
    assert networks.addresses(SearchConfig(), splits) == {}


def test_a_network_that_has_changed_since_is_not_trained(folder):
    spec = SEARCH.backbones()[0]
    assert networks.untrained(NetworkSpec(spec.ddnn), (16, 16, 3), 3) is None
    with pytest.raises(ValueError, match="another one than when the search began"):
        networks.untrained(spec, (16, 16, 3), 3, {(spec.cut.network, 0): "another address"})


def test_a_plan_of_a_network_with_unknown_multiply_adds_says_so(folder, splits, tmp_path):
    workspace = Workspace(
        "f00d", tmp_path / "a", tmp_path / "b", {("nets_of_a_user:small", 0): "address"}
    )
    plan = make_plan(SEARCH, splits, workspace)
    assert plan.estimated_seconds > 0
    assert plan.backbones_to_train == 2
    assert 4 * (3 * 9 + 1) < plan.parameters < 1000

    def unknown(shape, classes, specs):
        from tune.plan import Network

        return {spec: Network(10, None, 10, 10) for spec in specs}

    assert make_plan(SEARCH, splits, workspace, measure=unknown).estimated_seconds is None


def test_unknown_multiply_adds_are_no_number():
    facts = {"cloud_multiply_adds": None}
    assert summary._multiply_adds(1234, facts) == "1,234"
    assert summary._multiply_adds(float("nan"), {"cloud_multiply_adds": 9}) == "unknown"
    assert summary._multiply_adds(10, {"cloud_multiply_adds": 9}) == "[red]10[/red]"


@pytest.mark.slow
def test_a_search_over_cuts_trains_each_once_and_compares_them(
    folder, splits, tmp_path, monkeypatch
):
    ray = pytest.importorskip("ray")
    arrays = {f"x_{what}": getattr(splits, what).images for what in ("train", "val", "test")}
    arrays |= {f"y_{what}": getattr(splits, what).labels for what in ("train", "val", "test")}
    np.savez(tmp_path / "toy.npz", **arrays)
    search = replace(SEARCH, dataset=str(tmp_path / "toy.npz"), labels=("final_epoch", "held_out"))
    search = replace(search, at=("first", "pool"))
    seen, kept = [], []
    monkeypatch.setattr(artifact, "save_policy", lambda policy, *_, **__: kept.append(policy))

    def look(search, splits, workspace, unfinished):
        seen.append((workspace.trials(search), unfinished))
        for spec in search.backbones():
            if spec.deployed:
                stored = StoredNetwork.of(workspace, (spec,), splits)
                logits = stored.cascade().model.predict(splits.val.images, verbose=0)["cloud"]
                np.testing.assert_allclose(logits, stored.val_bank.cloud_logits, atol=0.05)

    try:
        run_search(search, tmp_path / "out", num_cpus=2, write=look)
        run_search(search, tmp_path / "out", num_cpus=2, resume=True)
    finally:
        ray.shutdown()
    assert set(seen[0][0]) == set(search.grid())
    assert not seen[0][1]
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert results["at"].value_counts().to_dict() == {"first": 2, "pool": 2}
    (policy,) = kept
    assert policy.config is None  # no configuration of the paper's describes the network
    assert policy.cascade.sent == (results["at"][0],)
    records = list((tmp_path / "backbones").glob("*/backbone.json"))
    cuts = [json.loads(path.read_text())["cut"]["at"] for path in records]
    assert sorted(cuts) == ["first", "first", "pool", "pool"]  # and a fold of each


def test_networks_of_several_cuts_are_compared(monkeypatch, capsys):
    rows = [
        {"at": at, "lambda_local": "0.5", "bottleneck": "none", "seed": 0}
        | {"val_local_accuracy": 0.7, "val_cloud_accuracy": 0.8}
        | {f"val_bytes_{name}": 9.0 for name in ("sent", "codes_zlib", "image", "image_png")}
        for at in ("first", "second", "first")
    ]
    summary._show_networks(pd.DataFrame(rows))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines if "70.00%" in line] == ["first", "second"]
