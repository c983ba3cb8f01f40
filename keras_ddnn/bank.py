"""What is known of a set of samples: by the device alone, and with hindsight."""

import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType

import numpy as np
from scipy.special import softmax

from keras_ddnn.atomic import replacing_file

TINY = float(np.finfo(np.float32).tiny)  # keeps the logarithm of a probability of 0 finite


def normalised_entropy(probabilities: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    """Return the entropy of (n, num_classes) over log num_classes, of shape (n,), in [0, 1].

    Args:
        probabilities: Rows that sum to 1.
        xp: NumPy, or `tensorflow.experimental.numpy` in a graph.
    """
    # A probability of 0 counts as 0, which is the limit of p log p.
    logs = xp.log(xp.maximum(probabilities, xp.full_like(probabilities, TINY)))
    nats = -xp.sum(probabilities * logs, axis=1)
    shares = nats / float(np.log(probabilities.shape[1]))
    # The sum of p log p may exceed log num_classes in its last digit.
    return xp.minimum(shares, xp.ones_like(shares))


@dataclass(frozen=True, eq=False)
class EdgeOutputs:
    """All that a device knows of n samples before it decides to offload them.

    Rules and heads read it in NumPy, in float64, and in a TensorFlow graph, in float32, by the same
    lines.

    Attributes:
        local_logits: float32 of shape (n, num_classes).
        features: The local feature map, or what a bottleneck leaves of it, float16 of shape (n, h,
            w, f).
        images: uint8 of shape (n, height, width, channels).
        xp: The functions of the arrays: NumPy, or `tensorflow.experimental.numpy` in a graph.
        precision: Type in which probabilities are computed.
    """

    local_logits: np.ndarray
    features: np.ndarray
    images: np.ndarray
    xp: ModuleType = np
    precision: str = "float64"

    def __len__(self):
        return len(self.local_logits)

    @cached_property
    def local_probabilities(self) -> np.ndarray:
        """Softmax of the local logits, of shape (n, num_classes)."""
        logits = self.xp.asarray(self.local_logits, self.precision)
        powers = self.xp.exp(logits - self.xp.max(logits, axis=1, keepdims=True))
        return powers / self.xp.sum(powers, axis=1, keepdims=True)

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
