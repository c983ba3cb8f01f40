"""Training a network of `tune.cameras`, and what is kept of it: its logits and what it cost."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import prod
from pathlib import Path

import numpy as np

from keras_ddnn.config.presets import resolve_config
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.splits import Split
from keras_ddnn.evaluation.missing_views import without_views
from keras_ddnn.evaluation.payload import SAMPLES, png_bytes
from keras_ddnn.files.atomic import write_json
from tune.modern_networks import new_model
from tune.modern_training import clock, multiply_adds_of, write_arrays

SCHEME = "max", "concatenation"  # of devices that are added or fail, as in the source
PRESET, EPOCHS = "quickstart", 20
PRECISION = "float32"  # whatever the machine: maps are so small that others are no faster
PARTS = ("val", "test")
OUTPUTS = "outputs"  # folder of what the networks said


@dataclass(frozen=True)
class Network:
    """A network to train.

    Attributes:
        local, cloud: Its aggregation schemes; see `ViewsOptions`.
        absent: Share of the frames that are made black in training.
        cameras: Which cameras it has, from 0; None for all.
        epochs: Of its training.
    """

    local: str = SCHEME[0]
    cloud: str = SCHEME[1]
    absent: float = 0.0
    cameras: tuple[int, ...] | None = None
    epochs: int = EPOCHS

    @property
    def name(self) -> str:
        """Stem of its files, to which the seed is added."""
        absent = f"-absent{round(100 * self.absent)}" if self.absent else ""
        of = "" if self.cameras is None else "-of" + "+".join(map(str, self.cameras))
        return f"{self.schemes}{absent}{of}"

    @property
    def schemes(self) -> str:
        """Its aggregation schemes, and its epochs where they are not the usual ones."""
        longer = "" if self.epochs == EPOCHS else f"-{self.epochs}epochs"
        return f"{self.local}-{self.cloud}{longer}"

    def of(self, chosen: Sequence[int], cameras: int) -> "Network":
        """Return the network of some of the cameras, which never had the others.

        One camera has nothing to combine, so that it is the same network in all schemes.
        """
        if len(chosen) == 1:
            return Network(cameras=tuple(chosen), epochs=self.epochs)
        whole = len(chosen) == cameras
        return replace(self, absent=0.0, cameras=None if whole else tuple(sorted(chosen)))

    def data(self, split: Split) -> Split:
        """Return a split of its cameras alone."""
        if self.cameras is None:
            return split
        images = np.ascontiguousarray(np.asarray(split.images)[:, list(self.cameras)])
        return Split(images, split.labels, split.classes)

    def absences(self, cameras: int) -> Iterator[tuple[int, ...]]:
        """Return which cameras are made black for the report: none, each and each pair.

        Of networks with all cameras that have the scheme of the source, or know absences: others
        are not asked about it.
        """
        asked = self.cameras is None and ((self.local, self.cloud) == SCHEME or self.absent > 0)
        for count in range(min(3, cameras) if asked else 1):
            yield from combinations(range(cameras), count)


def output_file(options: argparse.Namespace, network: Network, seed: int) -> Path:
    """Return where the logits of a network are kept."""
    return options.output / OUTPUTS / f"{network.name}-seed{seed}.npz"


def is_trained(options: argparse.Namespace, network: Network, seed: int) -> bool:
    """Return whether both files of a network are there: its logits, and what it cost."""
    path = output_file(options, network, seed)
    return path.exists() and path.with_suffix(".json").exists()


def stored_name(part: str, tier: str, absent: tuple[int, ...] = ()) -> str:
    """Return the name of logits in a file, of a part where some cameras are black."""
    return f"{part}_{tier}" + ("_without" + "+".join(map(str, absent)) if absent else "")


def train_network(network: Network, seed: int, splits: Splits, options: argparse.Namespace) -> None:
    """Train a network and write its logits, and what it cost."""
    from keras_ddnn.networks.architectures.views import ViewsOptions, build_views
    from keras_ddnn.training.fit import fit_ddnn

    epochs = network.epochs if options.epochs is None else options.epochs
    config = resolve_config(PRESET, seed=seed, epochs=epochs, precision=PRECISION)
    print(f"{network.name}-seed{seed}: {config.epochs} epochs", flush=True)
    train, parts = network.data(splits.train), {p: network.data(getattr(splits, p)) for p in PARTS}
    made = ViewsOptions(local=network.local, cloud=network.cloud, absent=network.absent)
    shape = train.images.shape[1:]
    options.work.mkdir(parents=True, exist_ok=True)
    fitted = fit_ddnn(
        train,
        None,
        config,
        network=new_model(lambda: build_views(shape, splits.num_classes, made, PRECISION), seed),
        num_classes=splits.num_classes,
        callbacks=[clock()],
        checkpoint=options.work / f"{network.name}-seed{seed}.training",
        verbose=2,
    )
    arrays = {}
    for part, split in parts.items():
        for absent in network.absences(shape[0]):
            images = without_views(split.images, absent) if absent else split.images
            bank = fitted.capture(Split(images, split.labels, split.classes))
            arrays |= {stored_name(part, t, absent): o.outputs for t, o in bank.tiers.items()}
    sent = fitted.cascade.tiers[0].model.output["features"].shape[1:]
    frames = np.asarray(parts["val"].images[:SAMPLES])
    facts = {
        "minutes": round(sum(fitted.history["seconds"]) / 60, 2),
        "epochs": config.epochs,
        "multiply_adds": multiply_adds_of(fitted.cascade),
        # Of one device and sample: its codes, and the frame that they come from.
        "sent_bytes": prod(sent) * fitted.cascade.quantisation.bits // 8 // shape[0],
        "frame_bytes": prod(shape[1:]),
        "png_bytes": float(np.mean([png_bytes(each) for each in frames])) / shape[0],
        "recipe": asdict(config.recipe),
        "options": asdict(made),
    }
    print(json.dumps({k: facts[k] for k in ("minutes", "multiply_adds", "sent_bytes")}), flush=True)
    path = output_file(options, network, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_suffix(".json"), facts)
    write_arrays(path, arrays)
