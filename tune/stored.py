"""Trained backbones on disk, read as far as a trial or a report uses them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.network import feature_quantisation
from keras_ddnn.config.training import DDNNConfig
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
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """A `TrainedNetwork` on disk, read as far as it is used.

    Attributes:
        workspace: Where it is.
        members: The networks that are deployed together; see `Trial`. Its tiers are theirs, one
            behind another.
        images: {"train", "val"} → uint8 images, and "test" for the report.
        num_classes: Of the data.
    """

    workspace: Workspace
    members: tuple[NetworkSpec, ...]
    images: dict
    num_classes: int

    @classmethod
    def of(
        cls, workspace: Workspace, members: tuple[NetworkSpec, ...], splits: Splits
    ) -> "StoredNetwork":
        """Return the stored backbone with all images, those of the test data too: for a report."""
        images = {name: getattr(splits, name).images for name in ("train", "val", "test")}
        return cls(workspace, members, images, len(splits.classes))

    @property
    def ddnn(self) -> DDNNConfig:
        """How the network on the device was trained."""
        return self.members[0].ddnn

    @property
    def folders(self) -> list[Path]:
        """The folder of each member."""
        return [*map(self.workspace.backbone, self.members)]

    @property
    def folder(self) -> Path:
        """The folder of the network on the device; what all of them give is kept there, too."""
        return self.folders[0]

    @property
    def exists(self) -> bool:
        """Whether all of it has been trained."""
        return all(folder.exists() for folder in self.folders)

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
        paths = [folder / STAGES for folder in self.folders]
        return _predictions(paths) if all(path.exists() for path in paths) else None

    def fold(self, fold: int) -> Predictions:
        """Return what the DDNN trained without a fold says of it."""
        judges = (member.of_fold(fold) for member in self.members)
        return _predictions([self.workspace.backbone(judge) / JUDGEMENT for judge in judges])

    def co_trained_head(self, config: HeadConfig):
        """Return the `HeadRule` that was trained along with this network's twin."""
        from keras_ddnn.heads.fit import HeadRule

        folder = self.workspace.backbone(replace(self.members[0], along=config))
        record = json.loads((folder / RECORD).read_text())
        return HeadRule.load(record["head"], folder)

    def augmented_bank(self, views: int) -> Bank:
        """Return the bank of augmented copies of the training images, captured when first asked."""
        # What another network behind this one says of the copies is kept beside it.
        others = (folder.name for folder in self.folders[1:])
        folder = self.folder / "-".join([f"augmented{views}", *others])
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

        def make() -> Array:
            from keras_ddnn.training.capture import augmented_images

            return augmented_images(self.ddnn, inputs, views)

        return _when_read(make, (views * len(inputs), *inputs.shape[1:]), inputs.dtype)

    def cascade(self) -> "Cascade":
        """Make the network anew and read its weights."""
        from keras_ddnn.networks.compose import in_a_row

        return in_a_row([*map(self._rebuilt, self.members, self.folders)])

    def _rebuilt(self, member: NetworkSpec, folder: Path) -> "Cascade":
        shape = self.images["train"].shape[1:]
        if member.cut is None:
            from keras_ddnn.networks.cascade import as_cascade
            from keras_ddnn.networks.paper import build_ddnn
            from keras_ddnn.networks.weights import rebuild

            build = partial(build_ddnn, shape, self.num_classes, member.ddnn)
            return as_cascade(rebuild(build, folder / WEIGHTS))
        # The file is our own, and the user's code is made for one call.
        cascade = built(member, shape, self.num_classes)
        cascade.model.load_weights(folder / WEIGHTS)
        return cascade

    def model(self) -> "keras.Model":
        """Make the network anew as one Keras model; see `cascade`."""
        return self.cascade().model

    def _bank(self, name: str) -> Bank:
        files = [folder / f"{name}.npz" for folder in self.folders]
        first, *others = (
            Bank.load(file, None if number else self.images[name])
            for number, file in enumerate(files)
        )
        tiers = _side_by_side([first.tiers, *(bank.tiers for bank in others)])
        return self._with_features(replace(first, tiers=tiers), name)

    @cached_property
    def record(self) -> dict:
        """What was written down of the training of the network on the device."""
        return json.loads((self.folder / RECORD).read_text())

    @property
    def payload(self) -> Payload:
        """Bytes of an offloaded sample of the validation data."""
        if measured := self.record.get("payload"):
            return Payload.from_json(measured)
        # Older records have none, and their banks features; a network of a chain sends its input.
        return Payload.of(self.val_bank.edge, feature_quantisation(self.ddnn))

    @cached_property
    def multiply_adds(self) -> list[int | None]:
        """Of a sample in each tier; None where they are unknown."""
        members = zip(self.members, self.folders)
        return [count for member, folder in members for count in self._work(member, folder)]

    @property
    def prices(self) -> list[int]:
        """What it adds to reach each tier: its multiply-adds, or 1 where some are unknown."""
        work = self.multiply_adds
        return [1 for _ in work] if None in work else work

    def _work(self, member: NetworkSpec, folder: Path) -> list[int | None]:
        """Return the multiply-adds of each tier of a member."""
        recorded = json.loads((folder / RECORD).read_text()).get("multiply_adds")
        if recorded is not None:
            return recorded
        from keras_ddnn.networks.costs.model_costs import multiply_adds

        # Of an older version.
        tiers = built(member, self.images["train"].shape[1:], self.num_classes).tiers
        return [multiply_adds(tier.model) for tier in tiers]

    def _with_features(self, bank: Bank, name: str) -> Bank:
        """Give tiers features: made when a head reads them, and kept for the others that do."""
        if bank.edge.features is not None:  # written by an older version
            return bank
        read, tiers = bank.edge.inputs, dict(bank.tiers)
        for place, tier in enumerate([*tiers][:-1]):
            read = self._sent(place, read, name)
            tiers[tier] = replace(tiers[tier], features=read)
        return replace(bank, tiers=tiers)

    def _sent(self, place: int, inputs: Array, name: str) -> Array:
        """Return what the tier at a place sends of what it reads (n, ...); see `_with_features`."""
        of_tiers = [self.record.get("sends"), *self.record.get("sends_behind", ())]
        sends = of_tiers[place] if place < len(of_tiers) else None
        if sends is None or sends["inputs"]:  # a network of one tier hands on what it reads
            return inputs

        def make() -> Array:
            from keras_ddnn.training.capture import sent_features

            return sent_features(self.cascade().folded().tiers[place], inputs)

        def keep(features: Computed) -> np.ndarray:
            folder = self.folder / f"features_{name}{f'_tier{place}' * bool(place)}"
            if not trained(folder):
                set_damaged_aside(folder)
                with _first_to_finish(folder) as new:
                    open_memmap = np.lib.format.open_memmap
                    file = open_memmap(new / FEATURES, "w+", features.dtype, features.shape)
                    features.fill(file)
                    file.flush()
            return np.load(folder / FEATURES, mmap_mode="r")

        shape = (len(inputs), *sends["shape"])
        return _when_read(make, shape, sends["dtype"], keep)


def _when_read(
    make: Callable[[], Array],
    shape: Sequence[int],
    dtype: Any,
    keep: Callable[[Computed], np.ndarray] | None = None,
) -> Rows:
    """Return an array of known shape and type whose network is read when a row is."""
    made = cache(make)
    return Rows(Computed(shape, dtype, lambda rows: made()[rows], keep))


def _predictions(paths: Sequence[Path]) -> Predictions:
    """Return what the members say of the same rows, one file each."""
    parts = [*map(Predictions.load, paths)]
    outputs = _side_by_side([part.outputs for part in parts])
    for part in parts[1:]:
        if not np.array_equal(part.rows, parts[0].rows):
            raise ValueError(f"expected what is said of the same rows; received others: {paths}")
    return replace(parts[0], outputs=outputs)


def _side_by_side(parts: Sequence[Mapping[str, T]]) -> dict[str, T]:
    """Return the tiers of members one behind another, by the names that they then have."""
    from keras_ddnn.data.outputs import tier_names

    tiers = [tier for part in parts for tier in part.values()]
    return dict(zip(tier_names(len(tiers)), tiers, strict=True))


@contextmanager
def _first_to_finish(folder: Path) -> Iterator[Path]:
    """Make a folder that two trials may make at once: both the same, and the first one stays."""
    with suppress(FileExistsError), sealed_folder(folder) as new:
        yield new
        if folder.exists():
            raise FileExistsError(folder)
