"""What version 3 has kept is found under its new address, without a command before."""

import json
from dataclasses import replace

import pytest

from keras_ddnn.config import DDNNConfig, HeadConfig, as_json
from keras_ddnn.files.checksums import sealed_folder
from tune import cache
from tune.cache import trained
from tune.output import check_output, prepare_output
from tune.rekeying import rekey
from tune.space import SearchConfig
from tune.specs import NetworkSpec
from tune.workspace import Workspace

DATA = "f00d"
PLAIN = DDNNConfig()
OTHER = DDNNConfig(bottleneck=4, lambda_local="random", cloud_units=(8,))
# The addresses that version 3 gave, and what to.
NETWORKS = {
    "55c475d718f7c9e1": NetworkSpec(PLAIN),
    "816eb5cd03eec0dc": NetworkSpec(OTHER),
    "6e939522f6c1cfda": NetworkSpec(PLAIN).of_fold(1),
    "b60fdefc8960102e": NetworkSpec(PLAIN, along=HeadConfig(depth=2, target="distilled")),
}
SEARCH = SearchConfig(bottleneck=(None, 4), depth=(1, 2))
# Those of its trials, in the order of its grid.
TRIALS = ("44d06f50fd3ea69c", "599f0d6f1949bf75", "8730ed826ae4adda", "ddf4213f3d3460bc")


def keep_network(folder, spec):
    """Write what version 3 has written of a network, without weights."""
    record = {"ddnn": as_json(spec.ddnn), "fold": spec.fold}
    if spec.ddnn.bottleneck is None:
        del record["ddnn"]["bottleneck"]  # which it did not name
    if spec.along:
        record["head"] = {"config": as_json(spec.along), "input_shape": [12], "anchor": None}
    with sealed_folder(folder) as new:
        (new / "backbone.json").write_text(json.dumps(record))


def keep_trial(records, key, trial):
    with sealed_folder(records.weights(key)) as new:
        (new / "head.weights.h5").write_bytes(b"weights")
    records.write(key, {"choices": trial.choices(), "metrics": {"val_audc": 0.5}})


@pytest.fixture
def workspace(tmp_path):
    """A finished search of version 3, and networks that other searches share."""
    workspace = Workspace(DATA, tmp_path / "backbones", tmp_path / "out")
    for key, spec in NETWORKS.items():
        keep_network(workspace.backbones / key, spec)
    for key, trial in zip(TRIALS, SEARCH.grid(), strict=True):
        keep_trial(workspace.records, key, trial)
    return workspace


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_older_networks_and_trials_are_found_and_nothing_is_copied(workspace):
    assert not any(trained(workspace.backbone(spec)) for spec in NETWORKS.values())
    assert not workspace.trials(SEARCH)
    rekey(workspace, SEARCH)
    assert all(trained(workspace.backbone(spec)) for spec in NETWORKS.values())
    assert set(workspace.trials(SEARCH)) == set(SEARCH.grid())
    assert len(names(workspace.backbones)) == len(NETWORKS)
    assert len(names(workspace.records.folder)) == 2 * len(TRIALS)
    before = names(workspace.backbones), names(workspace.records.folder)
    rekey(workspace, SEARCH)
    assert (names(workspace.backbones), names(workspace.records.folder)) == before


def test_a_workspace_without_a_search_has_its_networks_renamed(workspace):
    rekey(replace(workspace, output=None))
    assert all(trained(workspace.backbone(spec)) for spec in NETWORKS.values())
    assert not workspace.trials(SEARCH)


def test_results_of_other_data_or_of_another_search_keep_their_names(workspace):
    rekey(replace(workspace, fingerprint="beef"), SEARCH)
    assert set(names(workspace.backbones)) == set(NETWORKS)
    assert set(TRIALS) < set(names(workspace.records.folder))


def test_a_renaming_that_was_interrupted_is_finished(workspace):
    first, trial = TRIALS[0], SEARCH.grid()[0]
    records = workspace.records
    records.weights(first).rename(records.weights(workspace.key(trial)))
    rekey(workspace, SEARCH)
    assert set(workspace.trials(SEARCH)) == set(SEARCH.grid())


def test_what_is_there_under_its_new_address_stays(workspace):
    spec = NETWORKS["55c475d718f7c9e1"]
    with sealed_folder(workspace.backbone(spec)) as new:
        (new / "train.npz").write_bytes(b"made by this version")
    rekey(workspace)
    assert (workspace.backbone(spec) / "train.npz").read_bytes() == b"made by this version"
    assert "55c475d718f7c9e1" in names(workspace.backbones)


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"ddnn": {"layers": 3}, "fold": null}'])
def test_what_cannot_be_read_is_left_alone(workspace, record):
    folder = workspace.backbones / ("0" * 16)
    folder.mkdir()
    (folder / "backbone.json").write_text(record)
    (workspace.records.folder / ("0" * 16 + ".json")).write_text(record)
    rekey(workspace, SEARCH)
    assert folder.exists()
    assert len(workspace.trials(SEARCH)) == len(TRIALS)


def test_the_search_file_of_version_3_is_that_of_the_same_search(tmp_path):
    prepare_output(SEARCH, tmp_path / "new", overwrite=False)
    plain = SearchConfig()
    older = as_json(plain)
    del older["bottleneck"]
    (tmp_path / "old").mkdir()
    content = older | {"sha256": cache.sha256_of_json(older)}
    (tmp_path / "old" / "search.json").write_text(json.dumps(content))
    check_output(plain, tmp_path / "old", resume=True, overwrite=False)
    with pytest.raises(ValueError, match="holds another search"):
        check_output(SEARCH, tmp_path / "old", resume=True, overwrite=False)
    with pytest.raises(ValueError, match="holds another search"):
        check_output(plain, tmp_path / "new", resume=True, overwrite=False)
