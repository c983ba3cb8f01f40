"""Trained backbones: made once in a Ray worker, kept in a folder each, read by every trial."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from keras_ddnn.config import DDNNConfig, HeadConfig, as_json
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.files.atomic import write_json
from keras_ddnn.files.checksums import sealed_folder
from keras_ddnn.labels.sources import Predictions
from tune.cache import backbone_key, set_damaged_aside, trained
from tune.space import NetworkSpec

WEIGHTS = "ddnn.weights.h5"
JUDGEMENT = "judgement.npz"
STAGES = "stages.npz"
RECORD = "backbone.json"


def train_backbone(splits: Splits, backbone: NetworkSpec, folder: str, epochs) -> None:
    """Train one DDNN and keep in a folder what trials and the report need of it.

    Of the deployed DDNN that is its weights, its three banks and its TensorBoard log; of a fold
    what it says of the images it has not seen; of one with a head trained beside it, the head.

    Args:
        splits: The data.
        backbone: What to train.
        folder: Appears once everything in it is complete.
        epochs: Ray queue that is told (backbone, epoch, Keras logs) after each epoch, and
            (backbone, -1, None) when the training begins.
    """
    epochs.actor.put_nowait.remote((backbone, -1, None))
    import keras

    # Not `epochs.put`: while a worker waits for an answer Ray lends its core to the next backbone.
    announce = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.actor.put_nowait.remote(
            (backbone, epoch, dict(logs))
        )
    )
    with sealed_folder(folder) as new:
        record = {"ddnn": as_json(backbone.ddnn), "fold": backbone.fold}
        train = _train_deployed if backbone.deployed else _train_fold
        if backbone.along:
            train = _train_along
        write_json(new / RECORD, record | train(splits, backbone, new, announce))


def _require_finite_loss(history: Mapping) -> None:
    """Raise ValueError if a training has diverged: what such a network says is of no use."""
    for epoch, loss in enumerate(history["loss"], start=1):
        if not np.isfinite(loss):
            raise ValueError(f"the training has diverged: loss {loss} in epoch {epoch}")


def _train_deployed(splits, backbone, folder, announce) -> dict:
    from keras_ddnn.networks.paper import save_weights
    from keras_ddnn.training.fit import fit_ddnn

    fitted = fit_ddnn(
        splits.train,
        splits.val,
        backbone.ddnn,
        num_classes=splits.num_classes,
        tensorboard=folder / "tensorboard",
        callbacks=[announce],
        verbose=0,
    )
    _require_finite_loss(fitted.history)
    save_weights(fitted.model, folder / WEIGHTS)
    fitted.bank.save(folder / "train.npz")
    fitted.val_bank.save(folder / "val.npz")
    # Captured once here, while the network is in memory; read once, by the report.
    fitted.capture(splits.test).save(folder / "test.npz")
    if fitted.stages:
        fitted.stages.save(folder / STAGES)
    return {"history": fitted.history, "seconds": fitted.seconds}


def _train_fold(splits, backbone, folder, announce) -> dict:
    from keras_ddnn.training.fit import fit_fold

    judgement = fit_fold(
        splits.train,
        splits.val,
        backbone.ddnn,
        backbone.fold,
        splits.num_classes,
        callbacks=[announce],
    )
    judgement.save(folder / JUDGEMENT)
    return {}


def _train_along(splits, backbone, folder, announce) -> dict:
    from keras_ddnn.deploy.artifact import save_head
    from keras_ddnn.heads.co_training import CoTrainedHead
    from keras_ddnn.training.fit import fit_ddnn

    start = max(backbone.ddnn.epochs // 2, backbone.ddnn.wide_epochs)  # one set of features
    along = CoTrainedHead(splits.train, splits.val, backbone.along, start)
    fit_ddnn(
        splits.train,
        splits.val,
        backbone.ddnn,
        num_classes=splits.num_classes,
        callbacks=[announce, along],
        verbose=0,
    )
    return {"head": save_head(along.head, folder)}


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """A `TrainedNetwork` on disk, read as far as it is used.

    Attributes:
        root: Folder of the trained backbones.
        fingerprint: Fingerprint of the dataset.
        ddnn: Configuration of the deployed DDNN.
        images: {"train", "val"} → uint8 images, and "test" for the report.
        num_classes: Classes of the data.
    """

    root: Path
    fingerprint: str
    ddnn: DDNNConfig
    images: dict
    num_classes: int

    @classmethod
    def of(cls, root: Path, fingerprint: str, ddnn: DDNNConfig, splits: Splits):
        """Return the stored backbone with all images, those of the test data too: for a report."""
        images = {name: getattr(splits, name).images for name in ("train", "val", "test")}
        return cls(root, fingerprint, ddnn, images, splits.num_classes)

    @property
    def folder(self) -> Path:
        """The folder of the deployed DDNN."""
        return self._folder_of(NetworkSpec(self.ddnn))

    @cached_property
    def bank(self) -> Bank:
        """Bank of the training images, by the final epoch."""
        return self._bank("train")

    @cached_property
    def val_bank(self) -> Bank:
        """Bank of the validation images."""
        return self._bank("val")

    @cached_property
    def test_bank(self) -> Bank:
        """Bank of the test images; for the report alone."""
        return self._bank("test")

    @cached_property
    def stages(self) -> Predictions | None:
        """What several late epochs say of the training images, if they were kept."""
        path = self.folder / STAGES
        return Predictions.load(path) if path.exists() else None

    def fold(self, fold: int) -> Predictions:
        """Return what the DDNN trained without a fold says of it."""
        return Predictions.load(self._folder_of(NetworkSpec(self.ddnn).of_fold(fold)) / JUDGEMENT)

    def co_trained_head(self, config: HeadConfig):
        """Return the `HeadRule` that was trained beside a copy of this network."""
        from keras_ddnn.deploy.artifact import load_head

        folder = self._folder_of(NetworkSpec(self.ddnn, along=config))
        record = json.loads((folder / RECORD).read_text())
        return load_head(folder, record["head"])

    def augmented_bank(self, views: int) -> Bank:
        """Return the bank of augmented copies of the training images, captured when first asked."""
        folder = self.folder / f"augmented{views}"
        if not trained(folder):
            set_damaged_aside(folder)
            from keras_ddnn.training.capture import augmented_bank

            bank = augmented_bank(self.model(), self.ddnn, self.bank, views)
            # Two trials may ask at once: both capture the same, and the first to finish stays.
            with suppress(FileExistsError), sealed_folder(folder) as new:
                np.save(new / "images.npy", bank.edge.images)
                bank.save(new / "bank.npz")
                if folder.exists():
                    raise FileExistsError(folder)
        return Bank.load(folder / "bank.npz", np.load(folder / "images.npy", mmap_mode="r"))

    def model(self):
        """Rebuild the Keras model and read its weights."""
        from keras_ddnn.networks.paper import build_ddnn
        from keras_ddnn.networks.weights import rebuild

        shape = self.images["train"].shape[1:]
        build = partial(build_ddnn, shape, self.num_classes, self.ddnn)
        return rebuild(build, self.folder / WEIGHTS)

    def _folder_of(self, backbone):
        return Path(self.root) / backbone_key(self.fingerprint, backbone)

    def _bank(self, name):
        return Bank.load(self.folder / f"{name}.npz", self.images[name])
