"""States of trainings that were killed: which are kept beside the backbones, and how long."""

import os
import time
from types import SimpleNamespace

import pytest
from conftest import toy_split

from keras_ddnn.config import DDNNConfig
from keras_ddnn.data.datasets import Splits
from keras_ddnn.training import fit
from tune import backbones
from tune.backbones import STATE, train_backbone
from tune.output import prepare_output, tidied
from tune.space import SearchConfig
from tune.specs import NetworkSpec
from tune.workspace import Workspace

DAY = 24 * 3600


def left(folder, name, days):
    """Leave a state of a training that was last saved so many days ago."""
    then = time.time() - days * DAY
    (folder / name).touch()
    os.utime(folder / name, (then, then))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_states_are_kept_for_a_month_or_until_the_training_ends(tmp_path, caplog):
    left(tmp_path, f"young{STATE}", days=29)
    left(tmp_path, f"young{STATE}.damaged", days=29)
    left(tmp_path, f"old{STATE}", days=31)
    left(tmp_path, f"old{STATE}.damaged2", days=31)
    left(tmp_path, f"finished{STATE}", days=0)
    (tmp_path / "finished").mkdir()
    with tidied(None, tmp_path):
        assert names(tmp_path) == ["finished", f"young{STATE}", f"young{STATE}.damaged"]
    said = " ".join(caplog.messages)
    assert said.count("not gone on with for 30 days: removed") == 2
    assert "finished" not in said


def test_a_search_that_starts_anew_goes_on_with_its_networks(tmp_path):
    """They are found by their content, as finished ones are: of another recipe by another name."""
    workspace = Workspace("f00d", tmp_path / "backbones")
    mine, other = (NetworkSpec(DDNNConfig(epochs=epochs)) for epochs in (3, 4))
    assert workspace.backbone(mine) != workspace.backbone(other)
    workspace.backbones.mkdir()
    left(workspace.backbones, "mine" + STATE, days=0)
    (tmp_path / "out").mkdir()
    prepare_output(SearchConfig(), tmp_path / "out", overwrite=True)
    assert names(workspace.backbones) == ["mine" + STATE]


@pytest.mark.parametrize(
    ("loss", "error", "kept"),
    [(float("nan"), ValueError, False), (1.0, OSError, True)],
    ids=["diverged", "full disk"],
)
def test_a_diverged_training_leaves_no_state(tmp_path, monkeypatch, loss, error, kept):
    def fit_ddnn(*_, checkpoint, **__):
        checkpoint.path.touch()
        return SimpleNamespace(history={"loss": [2.0, loss]}, model=None)

    def save_weights(*_):
        raise OSError

    monkeypatch.setattr(fit, "fit_ddnn", fit_ddnn)
    monkeypatch.setattr("keras_ddnn.networks.paper.save_weights", save_weights)
    monkeypatch.setattr(backbones, "untrained", lambda *_: None)
    told = SimpleNamespace(actor=SimpleNamespace(put_nowait=SimpleNamespace(remote=id)))
    splits = Splits("toy", *(toy_split(6, seed) for seed in range(3)), ("a", "b", "c"))
    workspace, spec = Workspace("f00d", tmp_path), NetworkSpec(DDNNConfig())
    with pytest.raises(error):
        train_backbone(splits, spec, workspace, told, 300.0)
    state = workspace.backbone(spec).with_suffix(STATE)
    assert names(tmp_path) == ([state.name] if kept else [])
