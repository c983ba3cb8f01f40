"""What is known of a set of samples: by the device alone, and with hindsight."""

import zipfile
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import softmax
from scipy.stats import entropy

from keras_ddnn.atomic import replacing_file


def normalised_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of (n, num_classes) over log num_classes, of shape (n,), in [0, 1]."""
    nats = entropy(probabilities, axis=1)
    # The sum of p log p may exceed log num_classes in its last digit.
    return np.minimum(nats / np.log(probabilities.shape[1]), 1.0)


@dataclass(frozen=True, eq=False)
class EdgeOutputs:
    """All that a device knows of n samples before it decides to offload them.

    Attributes:
        local_logits: float32 of shape (n, num_classes).
        features: The local feature map, or what a bottleneck leaves of it, float16 of shape (n, h,
            w, f).
        images: uint8 of shape (n, height, width, channels).
    """

    local_logits: np.ndarray
    features: np.ndarray
    images: np.ndarray

    def __len__(self):
        return len(self.local_logits)

    @cached_property
    def local_probabilities(self) -> np.ndarray:
        """Softmax of the local logits, float64 of shape (n, num_classes)."""
        return softmax(self.local_logits.astype(np.float64), axis=1)

    @cached_property
    def local_entropy(self) -> np.ndarray:
        """Entropy of the local probabilities over log num_classes, float64 of (n,), in [0, 1]."""
        return normalised_entropy(self.local_probabilities)

    @cached_property
    def local_margin(self) -> np.ndarray:
        """Gap between the two highest local probabilities, float64 of shape (n,), in [0, 1]."""
        top_two = np.sort(self.local_probabilities, axis=1)[:, -2:]
        return top_two[:, 1] - top_two[:, 0]


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

    def __len__(self):
        return len(self.labels)

    @cached_property
    def cloud_probabilities(self) -> np.ndarray:
        """Softmax of the cloud logits, float64 of shape (n, num_classes)."""
        return softmax(self.cloud_logits.astype(np.float64), axis=1)

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

        Raises:
            OSError: If the folder cannot be written; an older file at `path` is then untouched.
        """
        with replacing_file(path) as file:
            np.savez(
                file,
                local_logits=self.edge.local_logits,
                features=self.edge.features,
                cloud_logits=self.cloud_logits,
                labels=self.labels,
                index=self.index,
            )

    @classmethod
    def load(cls, path, images: np.ndarray) -> "Bank":
        """Read a saved bank; the feature map stays on disk and is paged in as it is used.

        Args:
            path: The `.npz` written by `save`.
            images: All images of the split the bank was captured from; rows are found by `index`.

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
        outside = index[(index < 0) | (index >= len(images))]
        if len(outside):
            raise ValueError(f"{path} refers to image {outside[0]}; received {len(images)} images")
        whole_split = np.array_equal(index, np.arange(len(images)))
        edge = EdgeOutputs(logits, features, images if whole_split else images[index])
        return cls(edge, cloud_logits, labels, index)


def _memory_map(path, name: str) -> np.ndarray:
    """Map one array of an uncompressed `.npz`, which NumPy itself can only read whole."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
        header = member.tell()
        info = archive.getinfo(f"{name}.npy")
    if dtype.hasobject or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} must be uncompressed numbers")
    with open(path, "rb") as file:
        # Lengths of the name and the extra field, which the data follow.
        file.seek(info.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(name_length) + int(extra_length) + header
    order = "F" if fortran_order else "C"
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)
