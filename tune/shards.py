"""A bank in shards of rows: written one after another, gone on with, and read as one bank.

A folder holds `shard-00000.npz` and so on, each a `Bank` of some rows, and `bank.json`, which says
of what artefact and data they are and has the hash of each shard that is whole. One process writes;
the shards are computed by Ray workers, which need not see the folder.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.rows.computed import BLOCK
from keras_ddnn.data.rows.view import Array
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.atomic import remove_leftovers
from keras_ddnn.files.checks import expect, require_count
from keras_ddnn.files.checksums import (
    cut,
    damage,
    read_sealed_json,
    set_aside,
    sha256,
    write_sealed_json,
)
from keras_ddnn.files.manifest import MANIFEST
from keras_ddnn.files.notices import notice

if TYPE_CHECKING:
    import keras

    from keras_ddnn.networks.cascade import Cascade

RECORD = "bank.json"
SHARD_BYTES = 256 * 10**6  # of inputs


def default_rows(row_bytes: int) -> int:
    """Return how many rows of so many bytes a shard has: about `SHARD_BYTES`, whole batches."""
    return max(1, SHARD_BYTES // (row_bytes * BLOCK)) * BLOCK


@dataclass(frozen=True)
class Source:
    """What a sharded bank is of and how it is cut; a bank of anything else is another one.

    Attributes:
        artifact: SHA-256 of the manifest of the artefact whose network is run.
        data: `Splits.fingerprint` of the data set.
        split: "train", "val" or "test".
        rows: Samples of the split.
        shard_rows: Samples of a shard, but for the last.

    Raises:
        ValueError: If `shard_rows` is no multiple of the batch size. Batches would be cut in other
            places than in one process, and results differ in the last bits.
    """

    artifact: str
    data: str
    split: str
    rows: int
    shard_rows: int

    def __post_init__(self) -> None:
        require_count(shard_rows=self.shard_rows)
        nearest = -(-self.shard_rows // BLOCK) * BLOCK
        expected = f"a multiple of {BLOCK}, the size of a batch, such as {nearest}"
        expect(self.shard_rows == nearest, "shard_rows", expected, self.shard_rows)

    @property
    def shards(self) -> dict[str, slice]:
        """Name of the file of each shard → its rows, in order."""
        starts = range(0, self.rows, self.shard_rows)
        return {
            f"shard-{number:05}.npz": slice(start, min(start + self.shard_rows, self.rows))
            for number, start in enumerate(starts)
        }


@dataclass(frozen=True)
class ShardedBank:
    """The folder of a sharded bank, finished or not.

    Attributes:
        folder: Where it is.
        source: What it is of.
        hashes: File name → SHA-256, of the shards that were written.
    """

    folder: Path
    source: Source
    hashes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "ShardedBank":
        """Return what a folder holds.

        Raises:
            ValueError: If its record is missing or damaged.
        """
        if not (folder / RECORD).is_file():
            raise ValueError(
                f"{folder} holds no {RECORD}: expected a folder that tune.capture has written"
            )
        content = read_sealed_json(folder / RECORD)
        try:
            return cls(folder, Source(**content["source"]), dict(content["shards"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / RECORD} describes no sharded bank: {error}") from error

    @classmethod
    def begun(cls, folder: Path, source: Source) -> "ShardedBank":
        """Return the bank of a folder, to go on with, or a new one in a folder that is empty.

        Raises:
            ValueError: If the folder holds anything else, or a bank of something else.
            OSError: If the folder cannot be written.
        """
        if not (folder / RECORD).exists():
            if folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
                raise ValueError(
                    f"{folder} exists and holds no sharded bank: choose another --output"
                )
            new = cls(folder, source)
            new._note()  # before the first shard, which would be taken for somebody else's
            return new
        found = cls.of(folder)
        for name in (f.name for f in fields(Source)):
            there, asked = (str(getattr(which, name)) for which in (found.source, source))
            if there != asked:
                there, asked = (cut(text) if len(text) == 64 else text for text in (there, asked))
                raise ValueError(
                    f"{folder} holds a bank of {name} {there}; received {name} {asked}: choose "
                    "another --output, or repeat its options"
                )
        return found

    def missing(self) -> dict[str, slice]:
        """Return what is to be made, file name → rows. A damaged shard is set aside, and said."""
        remove_leftovers(self.folder)
        missing = {}
        for name, rows in self.source.shards.items():
            path = self.folder / name
            wrong = damage(path, self.hashes[name]) if name in self.hashes else "not noted"
            if wrong and name in self.hashes and path.exists():
                notice(f"{wrong}; it is kept as {set_aside(path).name} and made again")
            if wrong:
                missing[name] = rows
        return missing

    def write(self, name: str, outputs: dict[str, np.ndarray], labels: np.ndarray) -> None:
        """Write a shard, and then note that it is whole.

        Args:
            name: Its file.
            outputs: Tier → what it says of the rows, float32 (n, num_classes).
            labels: Class numbers of all rows of the split, int64.

        Raises:
            OSError: If the folder cannot be written.
        """
        rows = self.source.shards[name]
        tiers = {tier: TierOutputs(array) for tier, array in outputs.items()}
        bank = Bank(tiers, labels[rows], index=np.arange(rows.start, rows.stop))
        bank.save(self.folder / name)
        self.hashes[name] = sha256(self.folder / name)
        self._note()

    def _note(self) -> None:
        content = {"source": asdict(self.source), "shards": self.hashes}
        write_sealed_json(self.folder / RECORD, content)


def load_shards(folder: Path | str, inputs: Array | None = None) -> Bank:
    """Read a sharded bank as the one that a single process would have captured.

    Args:
        folder: The output of `tune.capture`.
        inputs: All inputs of the split; None leaves the bank without.

    Raises:
        ValueError: If a shard is missing or damaged, or there are more or fewer inputs than rows.
    """
    found = ShardedBank.of(Path(folder))
    names = list(found.source.shards)
    if unwritten := [name for name in names if name not in found.hashes]:
        raise ValueError(
            f"{folder} lacks {len(unwritten)} of {len(names)} shards, the first {unwritten[0]}: "
            "run tune.capture again to go on"
        )
    for name in names:
        if wrong := damage(found.folder / name, found.hashes[name]):
            raise ValueError(f"{wrong}: run tune.capture again to make it anew")
    banks = [Bank.load(found.folder / name) for name in names]
    tiers = {
        tier: TierOutputs(np.concatenate([bank.tiers[tier].outputs for bank in banks]))
        for tier in banks[0].tiers
    }
    if inputs is not None:
        expect(len(inputs) == found.source.rows, "inputs", f"{found.source.rows} rows", len(inputs))
        first = next(iter(tiers))
        tiers[first] = replace(tiers[first], inputs=inputs)
    targets, index = (
        np.concatenate([getattr(bank, name) for bank in banks]) for name in ("targets", "index")
    )
    return Bank(tiers, targets, banks[0].task, index)


class Job(NamedTuple):
    """A shard to be computed, as a Ray worker is told of it.

    Attributes:
        name: Of its file.
        folder: The artefact, which every host sees.
        artifact: SHA-256 of its manifest.
        inputs: Of the rows of the shard; those of a mapped file travel by its name.
        labels: Likewise.
    """

    name: str
    folder: Path
    artifact: str
    inputs: Array
    labels: np.ndarray


def captured(job: Job, begin: Callable[[str], object]) -> dict[str, np.ndarray]:
    """Return what each tier says of the rows of a shard, float32 (n, num_classes).

    Args:
        job: Which rows.
        begin: Is told the name of the shard first.

    Raises:
        ValueError: If the artefact is damaged, or not the one that was asked for.
    """
    from keras_ddnn.training.capture import capture

    begin(job.name)
    bank = capture(network(job.folder, job.artifact), job.inputs, job.labels)
    return {name: tier.outputs for name, tier in bank.tiers.items()}


@lru_cache(maxsize=1)  # a worker computes many shards
def network(folder: Path, artifact: str) -> "keras.Model | Cascade":
    """Return the network of an artefact, verified.

    Raises:
        ValueError: As of `captured`.
    """
    from keras_ddnn.deploy.artifact import load_policy

    policy = load_policy(folder)
    if sha256(folder / MANIFEST) != artifact:  # afterwards, so that what was read is known
        raise ValueError(f"{folder} has changed since the start: run the command again")
    return policy.model


def verify(folder: Path, artifact: str) -> None:
    """Read the network of an artefact, so that what is wrong with it is known at once."""
    network(folder, artifact)
