"""Backbones and trial records, found by the content of what made them."""

import hashlib
import json
from pathlib import Path

from keras_ddnn.atomic import write_json
from keras_ddnn.config import as_json
from keras_ddnn.labels import FOLDS
from tune.space import Backbone, SearchConfig, Trial

# Raised when the meaning of a configuration changes, so that older results are not taken for new.
VERSION = 1


def backbone_key(fingerprint: str, backbone: Backbone) -> str:
    """Return the content address of a backbone: dataset, architecture, λ, seed, training, fold."""
    content = {"version": VERSION, "data": fingerprint, "ddnn": as_json(backbone.ddnn)}
    content["fold"] = None if backbone.fold is None else [backbone.fold, FOLDS]
    content["along"] = backbone.along and as_json(backbone.along)
    return _digest(content)


def trial_key(fingerprint: str, trial: Trial) -> str:
    """Return the content address of a head trial: its backbone and its head."""
    backbone = backbone_key(fingerprint, Backbone(trial.ddnn))
    return _digest({"version": VERSION, "backbone": backbone, "head": as_json(trial.head)})


class Records:
    """The finished trials of one search, a JSON file each."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def weights(self, key: str) -> Path:
        """Return the folder in which the head of a trial keeps its weights."""
        return self.folder / key

    def write(self, key: str, record: dict) -> None:
        """Write a record, whole or not at all."""
        write_json(self.folder / f"{key}.json", record)

    def read(self, key: str) -> dict | None:
        """Return a record, or None if the trial has not finished."""
        path = self.folder / f"{key}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def head(self, key: str):
        """Return the `HeadRule` of a finished trial, with the history of its training."""
        from keras_ddnn.artifact import load_head

        record = self.read(key)
        head = load_head(self.weights(key), record["head"])
        head.history = record["history"]
        return head

    def all(self, search: SearchConfig, fingerprint: str) -> dict[str, dict]:
        """Return the records of a search by their keys, in order; not those of earlier data."""
        records = {path.stem: self.read(path.stem) for path in sorted(self.folder.glob("*.json"))}
        return {
            key: record
            for key, record in records.items()
            if key == trial_key(fingerprint, search.trial(record["choices"]))
        }


def _digest(content) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
