"""Trained backbones on disk, read as far as a trial or a report uses them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_ddnn.config import DDNNConfig, HeadConfig, feature_quantisation
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.rows.computed import Computed
from keras_ddnn.data.rows.view import Array, Rows
from keras_ddnn.evaluation.payload import Payload
from keras_ddnn.files.checksums import sealed_folder
from keras_ddnn.labels.predictions import Predictions
from tune.backbones import JUDGEMENT, RECORD, STAGES, WEIGHTS
from tune.cache import set_damaged_aside, trained
from tune.networks import built
from tune.specs import NetworkSpec
from tune.workspace import Workspace

if TYPE_CHECKING:
    import keras

    from keras_ddnn.networks.cascade import Cascade

FEATURES = "features.npy"


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """A `TrainedNetwork` on disk, read as far as it is used.

    Attributes:
        workspace: Where it is.
        spec: Of the deployed network.
        images: {"train", "val"} → uint8 images, and "test" for the report.
        num_classes: Of the data.
    """

    workspace: Workspace
    spec: NetworkSpec
    images: dict
    num_classes: int

    @classmethod
    def of(cls, workspace: Workspace, spec: NetworkSpec, splits: Splits) -> "StoredNetwork":
        """Return the stored backbone with all images, those of the test data too: for a report."""
        images = {name: getattr(splits, name).images for name in ("train", "val", "test")}
        return cls(workspace, spec, images, splits.num_classes)

    @property
    def ddnn(self) -> DDNNConfig:
        """How it was trained."""
        return self.spec.ddnn

    @property
    def folder(self) -> Path:
        """The folder of the deployed DDNN."""
        return self.workspace.backbone(self.spec)

    @cached_property
    def bank(self) -> Bank:
        """Of the training images, by the final epoch."""
        return self._bank("train")

    @cached_property
    def val_bank(self) -> Bank:
        """Of the validation images."""
        return self._bank("val")

    @cached_property
    def test_bank(self) -> Bank:
        """Of the test images; for the report alone."""
        return self._bank("test")

    @cached_property
    def stages(self) -> Predictions | None:
        """What several late epochs say of the training images, if they were kept."""
        path = self.folder / STAGES
        return Predictions.load(path) if path.exists() else None

    def fold(self, fold: int) -> Predictions:
        """Return what the DDNN trained without a fold says of it."""
        return Predictions.load(self.workspace.backbone(self.spec.of_fold(fold)) / JUDGEMENT)

    def co_trained_head(self, config: HeadConfig):
        """Return the `HeadRule` that was trained along with this network's twin."""
        from keras_ddnn.heads.fit import HeadRule

        folder = self.workspace.backbone(replace(self.spec, along=config))
        record = json.loads((folder / RECORD).read_text())
        return HeadRule.load(record["head"], folder)

    def augmented_bank(self, views: int) -> Bank:
        """Return the bank of augmented copies of the training images, captured when first asked."""
        folder = self.folder / f"augmented{views}"
        if not trained(folder):
            set_damaged_aside(folder)
            from keras_ddnn.training.capture import augmented_bank

            bank = augmented_bank(self.cascade(), self.ddnn, self.bank, views)
            with _first_to_finish(folder) as new:
                bank.save(new / "bank.npz")
        return self._with_features(
            Bank.load(folder / "bank.npz", self._augmented(folder, views)), folder.name
        )

    def _augmented(self, folder: Path, views: int) -> Array:
        """Return the augmented images, which only heads of images read."""
        if (folder / "images.npy").exists():  # of an older version
            return np.load(folder / "images.npy", mmap_mode="r")
        inputs = self.images["train"]

        @cache
        def made() -> Array:
            from keras_ddnn.training.capture import augmented_images

            return augmented_images(self.ddnn, inputs, views)

        shape = (views * len(inputs), *inputs.shape[1:])
        return Rows(Computed(shape, inputs.dtype, lambda rows: made()[rows]))

    def cascade(self) -> "Cascade":
        """Make the network anew and read its weights."""
        shape = self.images["train"].shape[1:]
        if self.spec.cut is None:
            from keras_ddnn.networks.cascade import as_cascade
            from keras_ddnn.networks.paper import build_ddnn
            from keras_ddnn.networks.weights import rebuild

            build = partial(build_ddnn, shape, self.num_classes, self.ddnn)
            return as_cascade(rebuild(build, self.folder / WEIGHTS))
        # The file is our own, and the user's code is made for one call.
        cascade = built(self.spec, shape, self.num_classes)
        cascade.model.load_weights(self.folder / WEIGHTS)
        return cascade

    def model(self) -> "keras.Model":
        """Make the network anew as one Keras model; see `cascade`."""
        return self.cascade().model

    def _bank(self, name: str) -> Bank:
        bank = Bank.load(self.folder / f"{name}.npz", self.images[name])
        return self._with_features(bank, name)

    @cached_property
    def record(self) -> dict:
        """What was written down of its training."""
        return json.loads((self.folder / RECORD).read_text())

    @property
    def payload(self) -> Payload:
        """Bytes of an offloaded sample of the validation data."""
        if measured := self.record.get("payload"):
            return Payload.from_json(measured)
        # Older records have none, and their banks features.
        return Payload.of(self.val_bank.edge, feature_quantisation(self.ddnn))

    def _with_features(self, bank: Bank, name: str) -> Bank:
        """Give a bank features: made when a head reads them, and kept for the others that do."""
        if bank.edge.features is not None:  # written by an older version
            return bank
        sends, inputs = self.record["sends"], bank.edge.inputs
        if sends["inputs"]:
            return bank.with_features(inputs)

        @cache
        def made() -> Array:
            from keras_ddnn.training.capture import sent_features

            return sent_features(self.cascade().folded().tiers[0], inputs)

        def keep(features: Computed) -> np.ndarray:
            folder = self.folder / f"features_{name}"
            if not trained(folder):
                set_damaged_aside(folder)
                with _first_to_finish(folder) as new:
                    open_memmap = np.lib.format.open_memmap
                    file = open_memmap(new / FEATURES, "w+", features.dtype, features.shape)
                    features.fill(file)
                    file.flush()
            return np.load(folder / FEATURES, mmap_mode="r")

        shape = (len(bank), *sends["shape"])
        features = Computed(shape, sends["dtype"], lambda rows: made()[rows], keep)
        return bank.with_features(Rows(features))


@contextmanager
def _first_to_finish(folder: Path) -> Iterator[Path]:
    """Make a folder that two trials may make at once: both the same, and the first one stays."""
    with suppress(FileExistsError), sealed_folder(folder) as new:
        yield new
        if folder.exists():
            raise FileExistsError(folder)
