"""Labelled inputs: a split, the three splits of a dataset, and a part held out of one."""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from keras_ddnn.data.classes import Classes, require_samples_for
from keras_ddnn.files.checks import expect, require_utf8


class InputType(NamedTuple):
    """What a network reads of a sample.

    Attributes:
        shape: Without n.
        dtype: "uint8" for images; a table has "float32", a sequence of tokens "int32".
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_image(self) -> bool:
        """Whether it is an image, (height, width, channels) of uint8."""
        return self.dtype == "uint8" and len(self.shape) == 3


def as_inputs(array, reads: InputType, subject: str) -> np.ndarray:
    """Convert a user's array to what a network reads that reads no images.

    Args:
        array: shape (n, *reads.shape): numbers for a network that reads floats, integers for one
            that reads integers.
        reads: What the network reads.
        subject: name of the array in error messages.

    Raises:
        ValueError: another shape or type, no sample, NaN, infinity, or a number that the type of
            the network cannot hold.
    """
    array, dtype = np.asarray(array), np.dtype(reads.dtype)
    shape = f"shape {array.shape}"
    wanted = f"shape (n, {', '.join(map(str, reads.shape))})"
    expect(array.ndim and array.shape[1:] == tuple(reads.shape), subject, wanted, shape)
    expect(len(array), subject, "at least one sample", "an empty split")
    kinds = "iuf" if dtype.kind == "f" else "iu"
    known = "numbers" if dtype.kind == "f" else "integers"
    expect(array.dtype.kind in kinds, subject, known, f"dtype {array.dtype}")
    broken = np.count_nonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
    trouble = f"NaN or infinity in {broken} of {len(array)} samples"
    expect(broken == 0, subject, "finite numbers", trouble)
    largest = np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max
    least = -largest if dtype.kind == "f" else 0
    low, high = array.min(), array.max()
    trouble = f"{low} to {high}"
    expect(least <= low and high <= largest, subject, f"{dtype} in {least}..{largest}", trouble)
    return np.ascontiguousarray(array, dtype)


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and labels.

    Attributes:
        images: uint8 of shape (n, height, width, channels); or whatever else a network reads, a
            table of numbers (n, d) or sequences of tokens (n, length).
        labels: Class numbers, int64 of shape (n,); without ``classes`` whatever the user has.
        classes: The user's labels of these numbers; None until ``Splits`` or ``fit_ddnn`` reads
            the labels.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: Classes | None = None

    def __len__(self):
        """Return the number of images."""
        return len(self.labels)

    @property
    def user_labels(self):
        """The labels as the user gave them, integers or strings of shape (n,)."""
        return self.labels if self.classes is None else self.classes.decode(self.labels)

    def take(self, rows):
        """Return the split of some of the rows: int of shape (m,), or bool of shape (n,)."""
        return replace(self, images=self.images[rows], labels=self.labels[rows])


@dataclass(frozen=True, eq=False)
class Splits:
    """A named dataset: ``train`` fits weights, ``val`` fits thresholds, ``test`` is only reported.

    Labels are numbers in the order of ``class_names``; ``classes`` has the user's own labels.
    ``drawn_by`` says how splits were drawn that the source did not have; None if it had all.

    Raises ValueError if the splits do not share one image shape and one set of classes.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    drawn_by: str | None = None

    def __post_init__(self):
        """Reject splits that no single network could read, and names no report could hold."""
        for what, name in [("dataset", self.name), *(("class", c) for c in self.class_names)]:
            require_utf8(f"the name of a {what}", name)
        expected = self.train.images.shape[1:]
        for what, split in (("val", self.val), ("test", self.test)):
            shape = split.images.shape[1:]
            expect(shape == expected, f"{what} images", f"shape {expected} as in train", shape)
        require_samples_for(self.num_classes, len(self.train), "train labels")
        for what in ("train", "val", "test"):
            split = getattr(self, what)
            if split.classes is None or split.classes.are_numbers:
                numbered = replace(split, classes=Classes.numbered(self.num_classes))
                object.__setattr__(self, what, numbered)
        for what, split in (("val", self.val), ("test", self.test)):
            same = split.classes == self.classes
            expect(same, f"{what} labels", "the classes of train", split.classes.mapping)
        count = len(self.classes)
        expect(count == self.num_classes, "class_names", f"{count} names", self.num_classes)

    @property
    def classes(self):
        """The user's own labels, in the order of ``class_names``."""
        return self.train.classes

    @property
    def num_classes(self):
        """Number of classes, including any that a split happens not to contain."""
        return len(self.class_names)

    def require_measurable(self):
        """Raise ValueError unless ``val`` and ``test`` have the two images that intervals need."""
        for what, split in (("val", self.val), ("test", self.test)):
            expect(len(split) > 1, what, "at least two images to measure by", len(split))

    def fingerprint(self):
        """Return the SHA-256, in hex, of every array's shape, dtype and contents.

        Equal data have equal fingerprints whatever their name, seed or origin.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.val, self.test):
            for array in (split.images, split.labels):
                digest.update(f"{array.shape}{array.dtype.str}".encode())
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def hold_out(labels, fraction, seed):
    """Split positions 0..n-1 into (kept, held), taking ``fraction`` of each class at random.

    Both are sorted int64 arrays. In small sets as many samples are held as there are classes. The
    only sample of a class is kept.

    Raises:
        ValueError: no class has two samples.
    """
    from sklearn.model_selection import train_test_split

    (shared,) = np.nonzero(np.bincount(labels)[labels] > 1)
    expect(len(shared), "train labels", "two samples of a class, one to hold out", "none")
    count = max(round(fraction * len(shared)), len(np.unique(labels[shared])))
    _, held = train_test_split(shared, test_size=count, stratify=labels[shared], random_state=seed)
    return np.setdiff1d(np.arange(len(labels)), held), np.sort(held)
