"""The files of `tune.modern`: what each network said of all images, read as pairs."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import CLOUD, Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.outputs import TIERS, tier_names
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.labels.sources import FOLDS, Banks

OUTPUTS = "outputs"  # their folder
LABELS = "labels.npz"
PARTS = ("train", "val", "test")
AUGMENTED = "train_augmented"
# Name of an ensemble → what its members are, and how many. The members of seed 0 are seeds 0 and
# 1, those of seed 1 are 2 and 3, so that no two ensembles share one.
ENSEMBLES = {"modern_ensemble": ("modern_deep", 2)}
SEEDS = 100  # looked for of each network, from 0
ADDED = ("multiply_adds", "all_multiply_adds", "parameters", "petaflop", "minutes")


@dataclass(frozen=True, eq=False)
class Pair(Banks):
    """A device and a cloud that were trained alone, by what they said; see `TrainedNetwork`.

    Attributes:
        test_bank: For the report.
        augmented: One augmented view of each training image; None if none was kept.
        folds: What the networks of each fold say of it; none if they were not trained.
        device, cloud: What `tune.modern` has kept of each network.
    """

    test_bank: Bank | None = None
    augmented: Bank | None = None
    folds: tuple[Predictions, ...] = ()
    device: Mapping[str, Any] | None = None
    cloud: Mapping[str, Any] | None = None

    @property
    def sending_multiply_adds(self) -> int:
        """What the device does for a sample that it sends without an answer.

        Images cost it nothing, codes their making. A feature map is counted as all that it does.
        """
        coding = self.cloud.get("coding_multiply_adds", 0)
        features = self.cloud.get("sent_bytes") and not coding
        return self.device["multiply_adds"] if features else coding

    def fold(self, fold: int) -> Predictions:
        """Return what the networks trained without a fold say of it."""
        return self.folds[fold]

    @property
    def device_multiply_adds(self) -> int:
        """What the device does for a sample: its answer, and the codes that the cloud reads."""
        return self.device["multiply_adds"] + self.cloud.get("coding_multiply_adds", 0)

    def augmented_bank(self, views: int) -> Bank:
        """Return the view that was kept, however many are asked for."""
        return super().augmented_bank(views) if self.augmented is None else self.augmented

    @classmethod
    def read(cls, folder: Path, device: str, cloud: str, seed: int) -> "Pair":
        """Read the files of both networks of a seed.

        Args:
            folder: Of the outputs.
            device, cloud: Names of the networks.
            seed: Of both.
        """
        names = device, cloud
        labels, (near, far) = _read(folder / LABELS), (_of_members(folder, n, seed) for n in names)
        labels = {part: near.get(labels_name(part), labels[part]) for part in PARTS}
        banks = [_bank(part, near, far, labels[part]) for part in PARTS]
        views, folds = None, []
        if all(any(part.startswith(AUGMENTED) for part in said) for said in (near, far)):
            views = _bank(AUGMENTED, near, far, labels["train"])
        for fold in range(FOLDS):  # none of an ensemble
            paths = [folder / f"{name}-seed{seed}-fold{fold}.npz" for name in names]
            if all(path.exists() for path in paths):
                near, far = map(_read, paths)
                folds.append(Predictions(near["rows"], _said("train", near, far)))
        facts = (_facts(folder, name, seed) for name in names)
        whole = tuple(folds) if len(folds) == FOLDS else ()
        return cls(*banks[:2], None, banks[2], views, whole, *facts)


@dataclass(frozen=True, eq=False)
class Chain:
    """Networks that were trained alone, one behind another.

    Attributes:
        val_bank, test_bank: What they said.
        multiply_adds: Of each.
    """

    val_bank: Bank
    test_bank: Bank
    multiply_adds: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path, names: Sequence[str], seed: int) -> "Chain":
        """Read the files of networks, the device's first, of a seed."""
        said, labels = [_of_members(folder, name, seed) for name in names], _read(folder / LABELS)
        banks = [
            Bank.from_outputs(
                {
                    tier: each[part].astype(np.float32)
                    for tier, each in zip(tier_names(len(names)), said)
                },
                labels[part],
            )
            for part in PARTS[1:]
        ]
        facts = [_facts(folder, name, seed) for name in names]
        return cls(*banks, tuple(fact["multiply_adds"] for fact in facts))


# What is told of each network alone.
FACTS = ("multiply_adds", "parameters", "petaflop", "minutes")
# In percent, of one view and of six → the part and the outputs they are of.
ACCURACIES = {
    f"{part}{views}_accuracy": (part, f"{part}{views}")
    for part in PARTS[1:]
    for views in ("", "_augmented")
}


def networks(folder: Path) -> pd.DataFrame:
    """Return a row a network and seed: what it costs, and its accuracies of one view and of six.

    Where it has two tiers they are those of its cloud.
    """
    rows = []
    alone = {path.stem.rpartition("-seed")[0] for path in folder.glob("*.json")}
    for name in sorted(alone | {*ENSEMBLES}):
        for seed in seeds_of(folder, name):
            facts = _facts(folder, name, seed)
            row = {"network": name, "seed": seed, "epochs": facts.get("recipe", {}).get("epochs")}
            row |= {fact: facts.get(fact) for fact in FACTS}
            rows.append(row | _accuracies(folder, name, seed))
    return pd.DataFrame(rows)


def labels_of(splits: Splits) -> dict[str, np.ndarray]:
    """Return part → labels (n,), as they are kept beside the outputs."""
    return {part: getattr(splits, part).labels for part in PARTS}


def require_same_labels(folder: Path, splits: Splits) -> None:
    """Raise ValueError unless the outputs in a folder, if there are any, are of these data."""
    path, labels = folder / LABELS, labels_of(splits)
    if path.exists():
        kept = _read(path)
        if not all(np.array_equal(kept[part], labels[part]) for part in PARTS):
            raise ValueError(
                f"{folder} has outputs of other data: their labels differ from those of --dataset: "
                "pass another --output, and another --work"
            )


def name_of(device: str, cloud: str) -> str:
    """Return the name of a pair in tables."""
    return device if device == cloud else f"{device}+{cloud}"


def stored_name(part: str, tier: str, tiers: Collection[str]) -> str:
    """Return under which name the logits of a tier are kept; a network alone has one."""
    return part if len(tiers) == 1 else f"{part}_{tier}"


def mirrored_name(part: str) -> str:
    """Return under which name the logits of mirrored images are kept."""
    return f"{part}_mirrored"


def labels_name(part: str) -> str:
    """Return under which name the labels are kept of a world that has its own."""
    return f"{part}_labels"


def _bank(part: str, near: Mapping, far: Mapping, labels: np.ndarray) -> Bank:
    mirrored = near.get(mirrored_name(part))
    if mirrored is not None:
        mirrored = mirrored.astype(np.float32)
    return Bank.from_outputs(_said(part, near, far), labels, mirrored=mirrored)


def _said(part: str, near: Mapping, far: Mapping) -> dict[str, np.ndarray]:
    """Return the logits of both tiers: of two networks, or of one that has both."""
    tiers = dict(zip(TIERS, (near, far)))
    said = {tier: _of_tier(content, part, tier) for tier, content in tiers.items()}
    return {tier: array.astype(np.float32) for tier, array in said.items()}


def _of_tier(content: Mapping, part: str, tier: str) -> np.ndarray | None:
    """Return the logits of a tier, of a network that has both or of one alone; None without."""
    return content.get(stored_name(part, tier, TIERS), content.get(part))


def _paths(folder: Path, name: str, seed: int) -> list[Path]:
    """Return the files of the members of a network of a seed."""
    member, count = ENSEMBLES.get(name, (name, 1))
    return [folder / f"{member}-seed{count * seed + place}.npz" for place in range(count)]


def _of_members(folder: Path, name: str, seed: int) -> dict[str, np.ndarray]:
    """Return what a network said: the means of its members, of the images that all of them saw.

    Augmented views differ with the seed, and so do folds.
    """
    first, *others = (_read(path) for path in _paths(folder, name, seed))
    if not others:
        return first
    alike = {*PARTS, *(stored for _, stored in ACCURACIES.values())} & {*first}
    return {
        part: np.mean([each[part] for each in (first, *others)], axis=0, dtype=np.float32)
        for part in alike
    }


def _facts(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Return what was kept of a network beside its outputs: what its members cost is summed."""
    paths = _paths(folder, name, seed)
    first, *others = (json.loads(path.with_suffix(".json").read_text()) for path in paths)
    sums = {fact: sum(one[fact] for one in (first, *others)) for fact in ADDED if fact in first}
    return first | sums


def _accuracies(folder: Path, name: str, seed: int) -> dict[str, float]:
    """Return the accuracies of what a network, or its cloud, said, in percent."""
    said, labels = _of_members(folder, name, seed), _read(folder / LABELS)
    found = {}
    for fact, (part, stored) in ACCURACIES.items():
        logits = _of_tier(said, stored, CLOUD)
        if logits is not None:
            right = logits.argmax(axis=1) == said.get(labels_name(part), labels[part])
            found[fact] = 100 * float(np.mean(right))
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as content:
        return dict(content)


def seeds_of(folder: Path, *networks: str) -> list[int]:
    """Return the seeds of which the outputs of all these networks are there, rising."""
    return [
        seed
        for seed in range(SEEDS)
        if all(path.exists() for name in networks for path in _paths(folder, name, seed))
    ]
