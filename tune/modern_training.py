"""Training a network of `tune.modern`, and what is kept of it: its logits and what it cost."""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ddnn.config.presets import resolve_config
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.splits import Split
from keras_ddnn.evaluation.payload import SAMPLES, Payload, png_bytes
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.labels.sources import fold_config
from tune.modern_outputs import AUGMENTED, OUTPUTS, PAPER, stored_name

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
CLOUD = "cloud"  # the tier of a network that is trained alone
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


def output_file(options: argparse.Namespace, job: Job) -> Path:
    """Return where the logits of a network are kept."""
    return options.output / OUTPUTS / f"{job.name}.npz"


def _recipe(job: Job, options: argparse.Namespace) -> DDNNConfig:
    epochs = {} if options.epochs is None else {"epochs": options.epochs}
    config = resolve_config(options.preset or RECIPES[job.network], seed=job.seed, **epochs)
    return config if job.fold is None else fold_config(config)


def train_network(job: Job, splits: Splits, options: argparse.Namespace) -> None:
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
        write_arrays(output_file(options, job), arrays | {"rows": said.rows})
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
    write_json(output_file(options, job).with_suffix(".json"), facts)
    write_arrays(output_file(options, job), arrays)


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


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
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
