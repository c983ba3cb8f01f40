"""Content addresses: equal for equal content, different for any difference."""

import errno
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path

import pytest
from conftest import flip_a_bit, truncate

from keras_ddnn.config import DDNNConfig, HeadConfig, as_json
from keras_ddnn.files.checksums import SEAL, sealed_folder
from tune import cache
from tune.cache import Records, backbone_key, set_damaged_aside, trained, trial_key
from tune.space import SearchConfig
from tune.specs import NetworkSpec, Trial
from tune.workspace import Workspace

DATA = "f00d"
DDNN = DDNNConfig()
HEAD = HeadConfig(input="logits", target="hard", anchored=False)
OTHER_DDNN = {
    "local_filters": 16,
    "local_pool": False,
    "local_units": 32,
    "local_dropout": 0.2,
    "cloud_filters": ((32,), (64,)),
    "cloud_units": (64,),
    "dropout": 0.5,
    "bottleneck": 4,
    "lambda_local": "random",
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.01,
    "schedule": "one_cycle",
    "augmentation": "crop",
    "precision": "float32",
    "stages": 2,
    "class_weight": (("cat", 2.0),),
    "optimizer": "muon",
    "label_smoothing": 0.1,
    "seed": 1,
}
OTHER_HEAD = {
    "input": "logits_plus",
    "architecture": "paper_mlp",
    "depth": 2,
    "target": "correctness",
    "loss": "focal",
    "cost": "zero_one",
    "labels": "cross_fitted",
    "anchored": True,
    "local_fraction": 0.3,
    "oversample": True,
    "dropout": 0.1,
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.01,
    "patience": 5,
    "precision": "float32",
    "seed": 1,
}


def key(ddnn=DDNN, head=HEAD, data=DATA):
    return trial_key(data, Trial((NetworkSpec(ddnn),), head))


def network(ddnn=DDNN, fold=None, data=DATA):
    return backbone_key(data, NetworkSpec(ddnn, fold))


def test_equal_content_has_equal_keys():
    assert network() == network(DDNNConfig())
    assert key() == key(DDNNConfig(), replace(HEAD))


def test_an_address_stays_that_of_its_version():
    assert cache.VERSION == 4
    assert network() == "2d35fe99dab80643"
    assert network(DDNNConfig(bottleneck=4, cloud_units=(8,)), fold=1) == "00c5b6205c43a3dc"
    # Its target was the default.
    assert key(head=HeadConfig(target="distilled")) == "50f73f08cd2245b8" != key(head=HeadConfig())


# An address leaves out what has its default. Who changes one of these, or adds a field, changes it
# here; who changes one raises VERSION too, or what was kept by the old default is taken for new.
DEFAULTS_OF_VERSION_4 = {
    DDNNConfig: {
        "local_filters": 32,
        "local_pool": True,
        "local_units": 64,
        "local_dropout": 0.0,
        "cloud_filters": [[32, 32], [64, 64, 128]],
        "cloud_units": [256, 64],
        "dropout": 0.25,
        "bottleneck": None,
        "lambda_local": 0.5,
        "epochs": 20,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "schedule": "plateau",
        "augmentation": "none",
        "precision": "auto",
        "stages": 0,
        "class_weight": None,
        "seed": 0,
        "optimizer": "adam",
        "label_smoothing": 0.0,
    },
    HeadConfig: {
        "input": "logits_rich",
        "architecture": "mlp",
        "depth": 1,
        "target": "distilled",
        "loss": "bce",
        "cost": "true_class",
        "labels": "final_epoch",
        "anchored": True,
        "local_fraction": 0.5,
        "oversample": False,
        "dropout": 0.3,
        "epochs": 10,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "patience": 3,
        "precision": "auto",
        "seed": 0,
    },
}


@pytest.mark.parametrize("kind", DEFAULTS_OF_VERSION_4)
def test_no_default_changes_without_a_new_version(kind):
    assert cache.VERSION == 4
    assert as_json(kind()) | cache.FORMER.get(kind, {}) == DEFAULTS_OF_VERSION_4[kind]


def test_a_younger_field_changes_no_address_as_long_as_it_has_its_default():
    @dataclass(frozen=True, kw_only=True)
    class Younger(DDNNConfig):
        dilation: int = 1

    assert network(Younger(epochs=3)) == network(DDNNConfig(epochs=3))
    assert network(Younger(dilation=2)) != network()


def test_a_twin_that_a_head_is_trained_along_has_a_key_of_its_own_for_each_head():
    plain, other = HeadConfig(), HeadConfig(depth=2)
    twins = [backbone_key(DATA, NetworkSpec(DDNN, along=head)) for head in (None, plain, other)]
    assert len(set(twins)) == 3
    assert twins[0] == network()


def test_keys_do_not_depend_on_the_order_of_fields():
    given = {"epochs": 3, "seed": 1, "lambda_local": 0.3}
    backwards = dict(reversed(given.items()))
    assert network(DDNNConfig(**given)) == network(DDNNConfig(**backwards))


@pytest.mark.parametrize("field", [field.name for field in fields(DDNNConfig)])
def test_every_field_of_a_backbone_is_in_its_key_and_in_those_of_its_trials(field):
    other = replace(DDNN, **{field: OTHER_DDNN[field]})
    assert network(other) != network()
    assert key(ddnn=other) != key()


@pytest.mark.parametrize("field", [field.name for field in fields(HeadConfig)])
def test_every_field_of_a_head_is_in_the_key_of_its_trial(field):
    assert key(head=replace(HEAD, **{field: OTHER_HEAD[field]})) != key()


def test_each_fold_of_a_backbone_has_a_key_of_its_own():
    assert len({network(fold=fold) for fold in (None, 0, 1, 2)}) == 4


def test_another_number_of_folds_makes_other_folds_but_the_same_ddnn(monkeypatch):
    before = network(), network(fold=0)
    monkeypatch.setattr("tune.cache.FOLDS", 5)
    assert network() == before[0]
    assert network(fold=0) != before[1]


def test_other_data_have_other_keys():
    assert network(data="beef") != network()
    assert key(data="beef") != key()


def test_a_raised_version_makes_every_older_result_unknown(monkeypatch):
    before = network(), key()
    monkeypatch.setattr("tune.cache.VERSION", cache.VERSION + 1)
    assert not {network(), key()} & set(before)


RECORD = {"choices": {"lambda_local": "random"}, "metrics": {"val_audc": 0.1 + 0.2}}


def write(records, key, record=None):
    """Write a record as a trial does: the weights, sealed, first."""
    with sealed_folder(records.weights(key)) as new:
        (new / "head.weights.h5").write_bytes(b"weights")
    records.write(key, record or RECORD)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *product(["a.json", "a/head.weights.h5", "a/sha256.json"], [flip_a_bit, truncate]),
        *product(["a/head.weights.h5", "a/sha256.json"], [Path.unlink]),
    ],
)
def test_a_damaged_record_counts_as_not_finished_and_can_be_set_aside(tmp_path, file, damage):
    records = Records(tmp_path)
    write(records, "a")
    write(records, "b")
    damage(tmp_path / file)
    assert records.read("a") is None
    assert (tmp_path / "a.json").exists()  # looking changes nothing
    with pytest.warns(UserWarning, match=r"set aside as a\.json\.damaged"):
        records.set_damaged_aside()
    assert {path.name for path in tmp_path.glob("*.json*")} == {"a.json.damaged", "b.json"}
    assert records.read("b") == RECORD
    write(records, "a")  # made again
    assert records.read("a") == RECORD


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
def test_a_damaged_backbone_is_set_aside_whole(tmp_path, damage):
    for _ in range(2):  # and once more, beside the first
        with sealed_folder(tmp_path / "backbone") as new:
            (new / "train.npz").write_bytes(b"logits and features")
        assert trained(tmp_path / "backbone")
        damage(tmp_path / "backbone" / "train.npz")
        assert not trained(tmp_path / "backbone")
        with pytest.warns(UserWarning, match=r"train\.npz is (damaged|missing)"):
            set_damaged_aside(tmp_path / "backbone")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"backbone.damaged", "backbone.damaged1"}


def test_a_record_reads_as_it_was_written(tmp_path):
    records = Records(tmp_path / "trials")
    assert records.read("a") is None
    write(records, "a")
    assert records.read("a")["metrics"]["val_audc"] == 0.1 + 0.2
    assert records.read("b") is None


def test_a_full_disk_leaves_what_was_finished_and_no_litter(tmp_path, monkeypatch):
    records = Records(tmp_path)
    write(records, "a")
    before = sorted(tmp_path.rglob("*"))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        for key in ("a", "b"):
            with pytest.raises(OSError, match="No space left"):
                write(records, key)
    assert sorted(tmp_path.rglob("*")) == before
    assert records.read("a") == RECORD


def test_a_search_has_the_records_of_its_own_data_only(tmp_path):
    search = SearchConfig(depth=(1, 2, 3))
    workspace = Workspace(DATA, tmp_path / "backbones", tmp_path)
    written = {trial: {"choices": trial.choices()} for trial in search.grid()}
    for trial, record in written.items():
        write(workspace.records, workspace.key(trial), record)
    assert workspace.trials(search) == written
    keys = list(map(workspace.key, workspace.trials(search)))
    assert keys == sorted(keys)
    assert replace(workspace, fingerprint="beef").trials(search) == {}


@pytest.mark.parametrize("table", ["{}", "[]", "3", '{"bank.npz": 3}', "[" * 100_000])
def test_a_seal_that_does_not_cover_every_file_verifies_none(tmp_path, table):
    with sealed_folder(tmp_path / "backbone") as new:
        (new / "train.npz").write_bytes(b"logits and features")
    (tmp_path / "backbone" / SEAL).write_text(table)
    assert not trained(tmp_path / "backbone")


def test_what_came_later_in_a_folder_of_its_own_does_no_damage(tmp_path):
    with sealed_folder(tmp_path / "backbone") as new:
        (new / "train.npz").write_bytes(b"logits and features")
    with sealed_folder(tmp_path / "backbone" / "augmented8") as new:
        (new / "bank.npz").write_bytes(b"more of them")
    assert trained(tmp_path / "backbone")
    assert trained(tmp_path / "backbone" / "augmented8")


def test_a_link_in_a_sealed_folder_is_not_followed(tmp_path):
    with sealed_folder(tmp_path / "backbone") as new:
        (new / "train.npz").write_bytes(b"logits and features")
    path = tmp_path / "backbone" / "train.npz"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not trained(tmp_path / "backbone")
