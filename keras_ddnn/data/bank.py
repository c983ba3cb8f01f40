"""What is known of a set of samples: by the device alone, and with hindsight."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from keras_ddnn.data.outputs import as_rows, checked_outputs
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.tasks.classification import normalised_entropy, softmax

NO_FEATURES = np.empty(0, np.float16)  # stands for None in a file


@dataclass(frozen=True, eq=False)
class EdgeOutputs:
    """All that a device knows of n samples before it decides to offload them.

    Rules and heads read it in NumPy, in float64, and in a TensorFlow graph, in float32, by the same
    lines.

    Attributes:
        local_logits: float32 of shape (n, num_classes).
        features: The local feature map, or what a bottleneck leaves of it, float16 of shape (n, h,
            w, f); None where nobody has kept it.
        images: uint8 of shape (n, height, width, channels); None likewise.
        xp: The functions of the arrays: NumPy, or `tensorflow.experimental.numpy` in a graph.
        precision: Type in which probabilities are computed.
    """

    local_logits: np.ndarray
    features: np.ndarray | None
    images: np.ndarray | None
    xp: ModuleType = np
    precision: str = "float64"

    def __len__(self) -> int:
        return len(self.local_logits)

    def require(self, name: str, reader: str) -> np.ndarray:
        """Return the features or the images.

        Args:
            name: "features" or "images".
            reader: Who reads them, for the message.

        Raises:
            ValueError: If they are not there.
        """
        array = getattr(self, name)
        if array is None:
            argument = "inputs" if name == "images" else name
            raise ValueError(
                f"{reader} expects {name} beside the logits; received logits alone; give "
                f"Bank.from_outputs(..., {argument}=...), or take one that reads logits"
            )
        return array

    @cached_property
    def local_probabilities(self) -> np.ndarray:
        """Softmax of the local logits, of shape (n, num_classes)."""
        return softmax(self.xp.asarray(self.local_logits, self.precision), self.xp)

    @cached_property
    def local_entropy(self) -> np.ndarray:
        """Entropy of the local probabilities over log num_classes, of shape (n,), in [0, 1]."""
        return normalised_entropy(self.local_probabilities, self.xp)

    @cached_property
    def local_order(self) -> np.ndarray:
        """The classes by falling local probability, lower numbers first in a tie, int (n, C)."""
        return self.xp.argsort(-self.local_probabilities, axis=1, kind="stable")

    @cached_property
    def local_ranked(self) -> np.ndarray:
        """The local probabilities, falling, of shape (n, num_classes)."""
        return -self.xp.sort(-self.local_probabilities, axis=1)

    @cached_property
    def local_rest(self) -> np.ndarray:
        """1 - the highest local probability, of shape (n,), in [0, 1].

        It is the sum of the others: where the highest is near 1, 1 - p has few digits.
        """
        return self.xp.sum(self.local_ranked[:, 1:], axis=1)

    @cached_property
    def local_closeness(self) -> np.ndarray:
        """1 - the gap between the two highest local probabilities, of shape (n,), in [0, 1]."""
        return self.local_rest + self.local_ranked[:, 1]

    @property
    def local_margin(self) -> np.ndarray:
        """Gap between the two highest local probabilities, of shape (n,), in [0, 1]."""
        return 1.0 - self.local_closeness


@dataclass(frozen=True, eq=False)
class Bank:
    """What the networks said of n samples, and the truth: the material of labels and evaluation.

    A bank holds float16 features and float32 logits: n·(2·h·w·f + 8·num_classes + 16) bytes, which
    is 0.74 GB for 45,000 samples of 16×16×32 features. Images are shared with their split.

    Attributes:
        edge: The device's part; an `OffloadRule` sees nothing else.
        cloud_logits: float32 of shape (n, num_classes).
        labels: int64 of shape (n,).
        index: int64 of shape (n,): the place of each sample in the split it was captured from.
    """

    edge: EdgeOutputs
    cloud_logits: np.ndarray
    labels: np.ndarray
    index: np.ndarray = field(default=None)

    def __post_init__(self):
        if self.index is None:
            object.__setattr__(self, "index", np.arange(len(self.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_outputs(
        cls, outputs: Mapping[str, Any], labels: Any, features: Any = None, inputs: Any = None
    ) -> "Bank":
        """Make a bank of the outputs of any two classifiers on the same n samples.

        The arrays may come from any framework whose arrays NumPy reads. No sample may have trained
        either network: their outputs on training data are biased.

        Args:
            outputs: Tier → logits, float16, float32 or float64 of shape (n, num_classes): "local"
                and "cloud". Logarithms of probabilities are logits.
            labels: Integers 0..num_classes-1 of shape (n,).
            features: What the device could send, of n rows, for heads that read it.
            inputs: What the device sees, of n rows, for heads that read images.

        Returns:
            The bank; logits are float32.

        Raises:
            ValueError: If an array is not of its type and shape, logits are not finite or are
                probabilities, or the lengths or classes of two arrays differ.
        """
        logits, labels = checked_outputs(outputs, labels)
        n = len(labels)
        edge = EdgeOutputs(
            logits["local"], as_rows(features, n, "features"), as_rows(inputs, n, "inputs")
        )
        return cls(edge, logits["cloud"], labels)

    def rows(self, rows: np.ndarray | slice) -> "Bank":
        """Return the bank of some of its rows, int (m,) or a slice, in that order."""
        features, images = (
            array if array is None else array[rows]
            for array in (self.edge.features, self.edge.images)
        )
        edge = replace(
            self.edge, local_logits=self.edge.local_logits[rows], features=features, images=images
        )
        return Bank(edge, self.cloud_logits[rows], self.labels[rows], self.index[rows])

    @cached_property
    def cloud_probabilities(self) -> np.ndarray:
        """Softmax of the cloud logits, float64 of shape (n, num_classes)."""
        return softmax(self.cloud_logits.astype(np.float64))

    @cached_property
    def local_correct(self) -> np.ndarray:
        """Whether the local network is right, bool of shape (n,)."""
        return self.edge.local_logits.argmax(axis=1) == self.labels

    @cached_property
    def cloud_correct(self) -> np.ndarray:
        """Whether the cloud network is right, bool of shape (n,)."""
        return self.cloud_logits.argmax(axis=1) == self.labels

    @cached_property
    def disagree(self) -> np.ndarray:
        """Whether the two networks answer differently, bool of shape (n,)."""
        return self.edge.local_logits.argmax(axis=1) != self.cloud_logits.argmax(axis=1)

    @cached_property
    def stay(self) -> np.ndarray:
        """Cost of the local answer, 1 where it is wrong and else 0, float64 of shape (n,)."""
        return 1.0 - self.local_correct

    @cached_property
    def go(self) -> np.ndarray:
        """Cost of the cloud's answer, 1 where it is wrong and else 0, float64 of shape (n,)."""
        return 1.0 - self.cloud_correct

    @cached_property
    def differ(self) -> np.ndarray:
        """1 where the two networks answer differently and else 0, float64 of shape (n,)."""
        return self.disagree.astype(np.float64)

    def save(self, path) -> None:
        """Write everything but the images to an uncompressed `.npz`, whole or not at all.

        Where there are no features, an empty array is written for them.

        Raises:
            OSError: If the folder cannot be written; an older file at `path` is then untouched.
        """
        features = self.edge.features
        with replacing_file(path) as file:
            np.savez(
                file,
                local_logits=self.edge.local_logits,
                features=NO_FEATURES if features is None else features,
                cloud_logits=self.cloud_logits,
                labels=self.labels,
                index=self.index,
            )

    @classmethod
    def load(cls, path, images: np.ndarray | None = None) -> "Bank":
        """Read a saved bank; the feature map stays on disk and is paged in as it is used.

        Args:
            path: The `.npz` written by `save`.
            images: All images of the split the bank was captured from; rows are found by `index`.
                None leaves the bank without images.

        Raises:
            ValueError: If the file holds no bank, or refers to images that are not there.
        """
        try:
            features = _memory_map(path, "features")
            with np.load(path, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in saved.files if name != "features"}
            index = arrays["index"]
            logits, cloud_logits, labels = (
                arrays[name] for name in ("local_logits", "cloud_logits", "labels")
            )
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a saved bank: {error}") from error
        if images is not None:
            outside = index[(index < 0) | (index >= len(images))]
            if len(outside):
                raise ValueError(
                    f"{path} refers to image {outside[0]}; received {len(images)} images"
                )
            whole_split = np.array_equal(index, np.arange(len(images)))
            images = images if whole_split else images[index]
        return cls(EdgeOutputs(logits, features, images), cloud_logits, labels, index)


def _memory_map(path, name: str) -> np.ndarray | None:
    """Map one array of an uncompressed `.npz`, which NumPy itself can only read whole.

    None for an empty array.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
        header = member.tell()
        info = archive.getinfo(f"{name}.npy")
    if dtype.hasobject or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} must be uncompressed numbers")
    if 0 in shape:
        return None
    with open(path, "rb") as file:
        # Lengths of the name and the extra field, which the data follow.
        file.seek(info.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(name_length) + int(extra_length) + header
    order = "F" if fortran_order else "C"
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)
