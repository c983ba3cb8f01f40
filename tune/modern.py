"""Networks of today, each trained alone and paired afterwards: `python -m tune.modern`.

Every network and seed is trained once and leaves its logits on all images, of 16 bits, in a small
file; so K devices and M clouds cost K + M trainings, and all tables are made from these files. A
run that is killed goes on where it was.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from keras_ddnn.config.presets import PRESETS, resolve_config
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits, load
from keras_ddnn.data.splits import Split
from keras_ddnn.evaluation.payload import SAMPLES, Payload, png_bytes
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.labels.sources import FOLDS, fold_config
from tune.failures import run_command
from tune.modern_outputs import (
    AUGMENTED,
    LABELS,
    PAPER,
    PARTS,
    Pair,
    name_of,
    seeds_of,
    stored_name,
)
from tune.modern_tables import Scored, certificates, gaps, pareto, points, table
from tune.study import GO_ON, study_parser

if TYPE_CHECKING:
    from keras_ddnn.networks.cascade import Cascade
    from keras_ddnn.training.fit import FittedDDNN

# Network → its recipe.
RECIPES = {
    "modern_large": "modern",
    "modern_medium": "modern_long",
    "modern_small": "modern_long",
    "modern_tiny": "modern_long",
    PAPER: "strong",
}
# Device → cloud.
PAIRS = (
    (PAPER, PAPER),
    ("modern_small", "modern_large"),
    ("modern_tiny", "modern_large"),
    ("modern_tiny", "modern_small"),
    ("modern_medium", "modern_large"),
)
TABLES = {"table": table, "points": points, "gaps": gaps, "certificates": certificates}
CLOUD = "cloud"  # the tier of a network that is trained alone
OUTPUTS = "outputs"
VAL = ("val", "val_augmented")
OPERATIONS = 6  # of a multiply-add in training: two forwards, four backwards


@dataclass(frozen=True)
class Job:
    """A network to train.

    Attributes:
        network: Key of `NETWORKS`.
        seed: Of its weights, its batches and its folds.
        fold: The fold of the training images it is trained without, at half the epochs; None for
            the network itself.
        all_images: Whether it is trained on the validation images too.
    """

    network: str
    seed: int
    fold: int | None = None
    all_images: bool = False

    @property
    def name(self) -> str:
        """Stem of its files."""
        part = "-all" if self.all_images else "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.network}-seed{self.seed}{part}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing and write the tables; see `run_command` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_command(partial(_run, options), GO_ON, traceback=options.traceback)


def _run(options: argparse.Namespace) -> None:
    missing = [job for job in _jobs(options) if not _file(options, job).exists()]
    if missing:
        splits = load(options.dataset, options.data_dir)
        labels = {part: getattr(splits, part).labels for part in PARTS}
        _write(options.output / OUTPUTS / LABELS, labels)
    for job in missing:
        _train(job, splits, options)
    _tell(options)


def _tell(options: argparse.Namespace) -> None:
    """Write the tables of all pairs whose outputs are there."""
    folder, found = options.output / OUTPUTS, {name: [] for name in TABLES}
    every = {}
    for device, cloud in PAIRS:
        seeds = seeds_of(folder, device, cloud)
        scored = [Scored.of(Pair.read(folder, device, cloud, seed), seed) for seed in seeds]
        if scored:
            every[name_of(device, cloud)] = scored
        for name, make in TABLES.items() if scored else ():
            found[name].append(make(name_of(device, cloud), scored))
    if every:
        found["pareto"] = [pareto(every)]
    for name, tables in found.items():
        if tables:
            with replacing_file(options.output / f"{name}.csv") as file:
                pd.concat(tables).to_csv(file, index=False, float_format="%.6g")


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    for seed in options.seeds:
        for network in options.networks:
            yield Job(network, seed)
    for seed in options.fold_seeds:
        for network in options.networks:
            yield from (Job(network, seed, fold) for fold in range(FOLDS))
    for network in options.all_images:
        yield Job(network, options.seeds[0], all_images=True)


def _file(options: argparse.Namespace, job: Job) -> Path:
    return options.output / OUTPUTS / f"{job.name}.npz"


def _recipe(job: Job, options: argparse.Namespace) -> DDNNConfig:
    epochs = {} if options.epochs is None else {"epochs": options.epochs}
    config = resolve_config(options.preset or RECIPES[job.network], seed=job.seed, **epochs)
    return config if job.fold is None else fold_config(config)


def _train(job: Job, splits: Splits, options: argparse.Namespace) -> None:
    """Train a network and write its logits, and what it cost."""
    from keras_ddnn.networks.paper import save_weights
    from keras_ddnn.training.fit import fit_ddnn, fit_fold

    train, config = splits.train, _recipe(job, options)
    if job.all_images:
        train = _joined(splits.train, splits.val)
    network = _network(job, splits)
    print(f"{job.name}: {config.epochs} epochs", flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    given = {
        "network": network,
        "callbacks": [_clock()],
        "checkpoint": options.work / f"{job.name}.training",
        "verbose": 2,
    }
    if job.fold is not None:
        said = fit_fold(train, None, config, job.fold, splits.num_classes, **given)
        arrays = {stored_name("train", tier, said.outputs): o for tier, o in said.outputs.items()}
        _write(_file(options, job), arrays | {"rows": said.rows})
        return
    fitted = fit_ddnn(train, None, config, **given)
    banks = {"train": fitted.bank, "val": fitted.capture(splits.val)}
    banks |= {"test": fitted.capture(splits.test)}
    banks |= {AUGMENTED: _train_augmented(fitted)} if not job.all_images else {}
    banks |= _augmented(fitted.cascade, splits)
    arrays = {
        stored_name(part, tier, bank.tiers): said.outputs
        for part, bank in banks.items()
        for tier, said in bank.tiers.items()
    }
    save_weights(fitted.model, options.work / f"{job.name}.weights.h5")
    facts = _costs(fitted, banks["val"], splits) | {"recipe": asdict(config.recipe)}
    facts |= {f"{part}_accuracy": 100 * float(banks[part].cloud_correct.mean()) for part in VAL}
    print(json.dumps({name: facts[name] for name in facts if name != "recipe"}), flush=True)
    write_json(_file(options, job).with_suffix(".json"), facts)
    _write(_file(options, job), arrays)


def _network(job: Job, splits: Splits) -> "Cascade | None":
    """Return a network to train: a tier of a chain, or None for that of the paper."""
    if job.network == PAPER:
        return None
    from keras_ddnn.networks.cascade import chain
    from keras_ddnn.networks.named_models import named_network

    shape = splits.train.images.shape[1:]
    return chain({CLOUD: named_network(job.network, shape, splits.num_classes, job.seed)})


def _costs(fitted: "FittedDDNN", bank: Bank, splits: Splits) -> dict[str, Any]:
    """Return what a network costs to train, to run and to send to, with its first tier's first."""
    from keras_ddnn.networks.costs.model_costs import multiply_adds

    counts = [multiply_adds(tier.model) for tier in fitted.cascade.tiers]
    work = OPERATIONS * sum(counts) * len(fitted.bank) * fitted.config.epochs
    payload = Payload.of(bank.edge) if len(counts) > 1 else None
    images = splits.val.images[:SAMPLES]
    return {
        "multiply_adds": counts[0],
        "all_multiply_adds": sum(counts),
        "parameters": fitted.model.count_params(),
        "minutes": round(sum(fitted.history["seconds"]) / 60, 2),
        "petaflop": round(work / 1e15, 4),
        "sent_bytes": payload and payload.codes_zlib,
        "png_bytes": float(np.mean([png_bytes(np.asarray(image)) for image in images])),
    }


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write logits in 16 bits, and whole numbers in 32."""
    arrays = {
        name: array.astype(np.float16 if array.dtype.kind == "f" else np.int32)
        for name, array in arrays.items()
    }
    with replacing_file(path) as file:
        np.savez_compressed(file, **arrays)


def _joined(*splits: Split) -> Split:
    images = np.concatenate([np.asarray(split.images) for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    return Split(images, labels, splits[0].classes)


def _train_augmented(fitted: "FittedDDNN") -> Bank:
    """Return the bank of a view of each training image, the same one for all networks of a seed."""
    from keras_ddnn.training.batches import augmented_views
    from keras_ddnn.training.capture import capture

    views = augmented_views(fitted.bank.edge.inputs, "crop_flip", 1, fitted.config.seed)
    return capture(fitted.cascade, views, fitted.bank.labels)


def _augmented(cascade: "Cascade", splits: Splits) -> dict[str, Bank]:
    """Return banks of the mean logits of six views: mirrored, and shifted by a pixel.

    Those that are not shifted count twice (Jordan, 2024).
    """
    from keras_ddnn.training.capture import capture

    banks = {}
    for part in ("val", "test"):
        split, totals = getattr(splits, part), {}
        images = np.asarray(split.images)
        height, width = images.shape[1:3]
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
        for place, weight in ((1, 0.25), (0, 0.125), (2, 0.125)):
            view = padded[:, place : place + height, place : place + width]
            for each in (view, view[:, :, ::-1]):
                bank = capture(cascade, np.ascontiguousarray(each), split.labels)
                for tier, said in bank.tiers.items():
                    totals[tier] = totals.get(tier, 0.0) + weight * said.outputs
        banks[f"{part}_augmented"] = bank.with_outputs(totals)
    return banks


def _clock() -> Any:
    """Return a callback that notes the seconds of each epoch among the metrics."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            logs["seconds"] = time.perf_counter() - self._start

        def get_state(self) -> dict[str, Any]:
            return {}

        def set_state(self, state: dict[str, Any]) -> None:
            pass

    return Clock()


def _parser() -> argparse.ArgumentParser:
    parser = study_parser("tune.modern", __doc__)
    add = parser.add_argument
    add("--networks", nargs="+", choices=RECIPES, default=list(RECIPES))
    add("--preset", choices=PRESETS, help="recipe of all networks; default: that of each")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--fold-seeds", type=int, nargs="*", default=[], help="whose folds are trained, too")
    add("--all-images", nargs="*", choices=RECIPES, default=[], help="trained on train and val")
    return parser


if __name__ == "__main__":
    sys.exit(main())
