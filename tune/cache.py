"""Backbones and trial records, found by the content of what made them."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.files.checksums import (
    damage_of_folder,
    read_sealed_json,
    set_aside,
    sha256_of_json,
    write_sealed_json,
)
from keras_ddnn.files.records import as_json, differences
from keras_ddnn.labels.sources import FOLDS
from keras_ddnn.rules.confidence import Gate
from keras_ddnn.tasks.known import task_as_json, task_from_words
from tune.specs import CLASSES, NetworkSpec, Trial

# Raised when the meaning of a configuration changes, so that older results are not taken for new.
# An address names what differs from the defaults alone: a default that changes changes a meaning.
VERSION = 4
# What an address leaves out although it is the default no longer.
FORMER = {HeadConfig: {"target": "distilled"}}
ADDRESS = 16  # hexadecimal digits of a content address


def backbone_key(fingerprint: str, backbone: NetworkSpec, network: str | None = None) -> str:
    """Return the content address of a backbone: dataset, network, λ, seed, training, fold.

    Args:
        fingerprint: Of the dataset.
        backbone: What is trained.
        network: Address of the network, if it is not the paper's; see `address_of`.
    """
    content = {"version": VERSION, "data": fingerprint}
    if backbone.cut is None:
        content["ddnn"] = _content(backbone.ddnn)
    else:
        # Neither the name of the network nor options of the paper's: they make no difference.
        content |= {"network": network, "at": backbone.cut.at}
        content["recipe"] = _content(backbone.ddnn.recipe)
        if backbone.cut.task != CLASSES:
            content["task"] = task_as_json(task_from_words(backbone.cut.task))
    content["fold"] = None if backbone.fold is None else [backbone.fold, FOLDS]
    content["along"] = backbone.along and _content(backbone.along)
    return sha256_of_json(content)[:ADDRESS]


def trial_key(fingerprint: str, trial: Trial, networks: Sequence[str | None] = ()) -> str:
    """Return the content address of a head trial: its backbones and its head.

    Args:
        fingerprint: Of the dataset.
        trial: The trial.
        networks: Address of the network of each of its members; see `backbone_key`.
    """
    addresses = networks or [None] * len(trial.members)
    keys = [backbone_key(fingerprint, *each) for each in zip(trial.members, addresses, strict=True)]
    content = {"version": VERSION, "backbone": "+".join(keys), "head": _content(trial.head)}
    return sha256_of_json(content)[:ADDRESS]


def _content(config) -> dict:
    return differences(type(config), as_json(config), **FORMER.get(type(config), {}))


def trained(folder: Path) -> bool:
    """Return whether a backbone is there and undamaged."""
    return folder.exists() and not damage_of_folder(folder)


def set_damaged_aside(folder: Path) -> None:
    """Rename a folder in which something is damaged, so that it can be made again."""
    if folder.exists() and (wrong := damage_of_folder(folder)):
        with suppress(FileNotFoundError):  # by another worker, just now
            warnings.warn(f"{wrong}; set aside as {set_aside(folder).name}", stacklevel=2)


class Records:
    """The finished trials of one search, a JSON file each."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def weights(self, key: str) -> Path:
        """Return the folder in which the head of a trial keeps its weights."""
        return self.folder / key

    def write(self, key: str, record: dict) -> None:
        """Write a record, whole or not at all; the weights of its head come first."""
        write_sealed_json(self._path(key), record)

    def read(self, key: str) -> dict | None:
        """Return a record, or None if the trial has not finished, or it or its head is damaged."""
        return None if self._damage(key) else read_sealed_json(self._path(key))

    def set_damaged_aside(self) -> None:
        """Rename each record that is damaged, or whose head is: its trial has not finished."""
        for path in sorted(self.folder.glob("*.json")):
            if wrong := self._damage(path.stem):
                warnings.warn(f"{wrong}; set aside as {set_aside(path).name}", stacklevel=2)

    def _damage(self, key):
        """Say what is wrong with a record; None if nothing is."""
        try:
            read_sealed_json(self._path(key))
        except ValueError as error:
            return str(error)
        return damage_of_folder(self.weights(key))

    def _path(self, key):
        return self.folder / f"{key}.json"

    def head(self, key: str, record: dict):
        """Return the `HeadRule` of a finished trial and its record, with the training's history."""
        from keras_ddnn.heads.fit import HeadRule

        head = HeadRule.load(record["head"], self.weights(key))
        head.history = record["history"]
        return head

    def behind(self, key: str, record: dict) -> dict[str, Gate]:
        """Return the gates behind the device of a finished trial, by the names of their tiers."""
        from keras_ddnn.heads.fit import HeadRule

        return {
            tier: Gate(HeadRule.load(gate["head"], self.weights(key) / tier), gate["threshold"])
            for tier, gate in record.get("behind", {}).items()
        }

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        """Yield the key and the record of each finished trial, in order of the keys."""
        for path in sorted(self.folder.glob("*.json")):
            if record := self.read(path.stem):
                yield path.stem, record
