"""What was kept under the addresses of version 3, renamed to those of today.

Version 3 hashed every field of a configuration, but a bottleneck of None; see `tune.cache`.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.files.checksums import read_sealed_json, sha256_of_json
from keras_ddnn.files.records import as_json
from keras_ddnn.labels.sources import FOLDS
from tune.cache import ADDRESS
from tune.space import SearchConfig
from tune.specs import NetworkSpec
from tune.workspace import Workspace

VERSION = 3
RECORD = "backbone.json"
# The fields it knew; others are younger, and have their defaults in what was made by it.
DDNN_FIELDS = (
    *("local_filters", "local_pool", "local_units", "local_dropout", "cloud_filters"),
    *("cloud_units", "dropout", "bottleneck", "lambda_local", "epochs", "batch_size"),
    *("learning_rate", "schedule", "augmentation", "precision", "stages", "seed"),
)
HEAD_FIELDS = (
    *("input", "architecture", "depth", "target", "loss", "cost", "labels", "anchored"),
    *("local_fraction", "oversample", "dropout", "epochs", "batch_size", "learning_rate"),
    *("patience", "precision", "seed"),
)


def rekey(workspace: Workspace, search: SearchConfig | None = None) -> None:
    """Rename what is found under an older address.

    What is of other data, or of another search, keeps its name.

    Args:
        workspace: Whose networks and trials.
        search: Of the trials; None if the workspace has none.
    """
    for folder in _addressed(workspace.backbones, ""):
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            record = json.loads((folder / RECORD).read_text())
            head = record["head"]["config"] if "head" in record else None
            if folder.name == _backbone_key(workspace, record["ddnn"], record["fold"], head):
                along = head and HeadConfig(**head)
                spec = NetworkSpec(DDNNConfig(**record["ddnn"]), record["fold"], along)
                _rename(folder, workspace.backbone(spec))
    for path in _addressed(workspace.records.folder, ".json") if search else ():
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            trial = search.trial(read_sealed_json(path)["choices"])
            if path.stem == _trial_key(workspace, as_json(trial.ddnn), as_json(trial.head)):
                # The weights first, as they are written.
                new = workspace.records.weights(workspace.key(trial))
                _rename(path.with_suffix(""), new)
                _rename(path, new.with_suffix(".json"))


def _addressed(folder: Path, suffix: str) -> list[Path]:
    """Return what is in a folder under a content address."""
    return sorted(folder.glob("[0-9a-f]" * ADDRESS + suffix))


def _rename(old: Path, new: Path) -> None:
    """Rename; what is under the new address stays, as does what another search has renamed."""
    with suppress(OSError):
        if not new.exists():
            os.rename(old, new)


def _backbone_key(workspace, ddnn: dict, fold: int | None, along: dict | None) -> str:
    content = {"version": VERSION, "data": workspace.fingerprint, "ddnn": _known(ddnn, DDNN_FIELDS)}
    content["fold"] = None if fold is None else [fold, FOLDS]
    content["along"] = along and _known(along, HEAD_FIELDS)
    return sha256_of_json(content)[:ADDRESS]


def _trial_key(workspace, ddnn: dict, head: dict) -> str:
    backbone = _backbone_key(workspace, ddnn, None, None)
    content = {"version": VERSION, "backbone": backbone, "head": _known(head, HEAD_FIELDS)}
    return sha256_of_json(content)[:ADDRESS]


def _known(content: dict, names: tuple[str, ...]) -> dict:
    known = {name: content[name] for name in names if name in content}
    if known.get("bottleneck", ...) is None:
        del known["bottleneck"]
    return known
