"""Labelled inputs: a split, the three splits of a dataset, and a part held out of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from keras_ddnn.data.classes import Classes, require_samples_for
from keras_ddnn.data.rows.batches import are_batches, written_once
from keras_ddnn.data.rows.fingerprint import fingerprint
from keras_ddnn.data.rows.sizes import SMALLEST_SIDE
from keras_ddnn.data.rows.view import (
    Array,
    Range,
    as_source,
    converted,
    taken,
)
from keras_ddnn.files.checks import expect, require_utf8
from keras_ddnn.files.notices import notice

BRIGHT = 127  # floats above it are said to be of 0..255


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
        """Whether it is one image, (height, width, channels) of uint8."""
        return self.dtype == "uint8" and len(self.shape) == 3

    @property
    def cameras(self) -> int | None:
        """How many frames of uint8 a sample has, (camera, height, width, channels); else None."""
        return self.shape[0] if self.dtype == "uint8" and len(self.shape) == 4 else None

    @property
    def holds_images(self) -> bool:
        """Whether it is one image, or a frame of each camera."""
        return self.is_image or self.cameras is not None

    def require_shape(self, shape: Sequence[int]) -> None:
        """Raise ValueError unless inputs (n, ...) are of this shape, where it says a size."""
        given = tuple(shape[1:])
        alike = len(given) == len(self.shape) and all(
            size in (None, there) for size, there in zip(self.shape, given)
        )
        absent = "; give frames of zeros for a camera that is absent" if self.cameras else ""
        expect(alike, "inputs", f"a shape of (n, {str(self.shape)[1:-1]}){absent}", tuple(shape))


def as_images(array: Any, subject: str) -> Array:
    """Convert a user's images to uint8: at once in memory, as they are read from a file.

    Args:
        array: Anything with a shape, a type and rows by index, of shape (n, height, width, 1 or 3),
            sides of at least 16 pixels, or (n, height, width) for grey; or a frame of each of
            several cameras, (n, camera, height, width, 1 or 3), where one of zeros is absent.
            Integers in 0..255, floats in [0, 1], or floats of 0..255, which are said. Contiguous
            uint8 is kept as it is.
        subject: Name of the array in error messages.

    Raises:
        ValueError: It is anything else.
    """
    source = as_source(array, subject)
    shape, row = f"shape {source.shape}", tuple(source.shape[1:])
    if len(row) == 2 and min(row) >= SMALLEST_SIDE:
        notice(f"{subject} of {shape} are read as grey images")
        row = (*row, 1)
    known = len(row) in (3, 4) and row[-1] in (1, 3)
    first = len(row) == 3 and row[0] in (1, 3, 4)
    advice = ", which looks like channels first: pass x.transpose(0, 2, 3, 1)" if first else ""
    wanted = "shape (n, height, width, 1 or 3), or (n, camera, height, width, 1 or 3)"
    expect(known, subject, wanted, f"{shape}{advice}")
    expect(row[0] > 0, subject, "at least one camera", shape)
    expect(len(source), subject, "at least one image", "an empty split")
    large = min(row[-3:-1]) >= SMALLEST_SIDE
    expect(large, subject, f"height and width of at least {SMALLEST_SIDE}", shape)
    factor, kind = 1, source.dtype.kind
    if source.dtype != np.uint8:
        accepted = "integers in 0..255 or floats in [0, 1]"
        expect(kind in "iuf", subject, accepted, f"dtype {source.dtype}")
        low, high, broken = Range.of(source)
        trouble = f"NaN or infinity in {broken} of {len(source)} images"
        expect(broken == 0, subject, "finite pixels", trouble)
        if kind == "f" and low >= 0 and BRIGHT < high <= 255:
            notice(f"{subject} are floats of {low:g} to {high:g}, read as 0..255 and rounded")
        elif kind == "f":
            trouble = f"{low:g} to {high:g}; give uint8 for 0..255"
            expect(low >= 0 and high <= 1, subject, "floats in [0, 1]", trouble)
            factor = 255
        else:
            expect(low >= 0 and high <= 255, subject, "integers in 0..255", f"{low} to {high}")
    return converted(source, row=row, dtype=np.uint8, factor=factor)


def pictures(images: Array) -> np.ndarray:
    """Return images (n, h, w, c) to look at; frames of cameras (n, D, h, w, c) lie side by side."""
    images = np.asarray(images)
    n, *_, height, _, channels = images.shape
    rows = np.moveaxis(images, -3, 1)  # of all cameras
    return rows.reshape(n, height, -1, channels)


def as_inputs(array: Any, reads: InputType, subject: str) -> Array:
    """Convert a user's array to what a network reads that reads no images.

    Args:
        array: Anything with a shape, a type and rows by index, (n, *reads.shape): numbers for a
            network that reads floats, integers for one that reads integers.
        reads: What the network reads.
        subject: Name of the array in error messages.

    Raises:
        ValueError: Another shape or type, no sample, NaN, infinity, or a number that the type of
            the network cannot hold.
    """
    source, dtype = as_source(array, subject), np.dtype(reads.dtype)
    shape = f"shape {source.shape}"
    wanted = f"shape (n, {', '.join(map(str, reads.shape))})"
    expect(source.shape and source.shape[1:] == tuple(reads.shape), subject, wanted, shape)
    expect(len(source), subject, "at least one sample", "an empty split")
    kinds = "iuf" if dtype.kind == "f" else "iu"
    known = "numbers" if dtype.kind == "f" else "integers"
    expect(source.dtype.kind in kinds, subject, known, f"dtype {source.dtype}")
    low, high, broken = Range.of(source)
    trouble = f"NaN or infinity in {broken} of {len(source)} samples"
    expect(broken == 0, subject, "finite numbers", trouble)
    largest = np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max
    least = -largest if dtype.kind == "f" else 0
    trouble = f"{low} to {high}"
    expect(least <= low and high <= largest, subject, f"{dtype} in {least}..{largest}", trouble)
    return converted(source, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and labels.

    Attributes:
        images: uint8 of shape (n, height, width, channels), or (n, camera, height, width,
            channels) of several cameras; or whatever else a network reads, a table of numbers
            (n, d) or sequences of tokens (n, length). An array in memory or mapped from a file, or
            `Rows` of one.
        labels: Class numbers, int64 of shape (n,); without ``classes`` whatever the user has.
        classes: The user's labels of these numbers; None until ``Splits`` or ``fit_ddnn`` reads
            the labels.
        gap: Samples fewer than so many rows apart may share numbers, as windows of a series do:
            folds of them are blocks with so many rows between. 0 for independent samples.
    """

    images: Array
    labels: np.ndarray
    classes: Classes | None = None
    gap: int = 0

    def __len__(self):
        """Return the number of images."""
        return len(self.labels)

    @property
    def user_labels(self):
        """The labels as the user gave them, integers or strings of shape (n,)."""
        return self.labels if self.classes is None else self.classes.decode(self.labels)

    def take(self, rows: Any) -> "Split":
        """Return the split of some of the rows: int of shape (m,), bool of shape (n,), or a slice.

        What is in a file stays there. Rows of a series keep their order.

        Raises:
            ValueError: If rows of a series go back, so that a gap between them says nothing.
        """
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        if self.gap:
            taken_rows = np.arange(len(self))[rows]
            forward = bool((np.diff(taken_rows) > 0).all())
            expect(forward, "rows of a series", "rows that go forward in time", "others")
        return replace(self, images=taken(self.images, rows), labels=self.labels[rows])


def split_of(data: Any, what: str, *, repeatable: bool = False) -> Split:
    """Return a ``Split`` of one, of a pair of images and labels, or of batches of (input, label).

    Args:
        data: batches are a ``tf.data.Dataset`` or ``keras.utils.PyDataset``; see ``written_once``.
        what: name of the split in messages.
        repeatable: refuse batches that do not come in the same order again.

    Raises:
        ValueError: it is none of these, or batches end in nothing, never end, or are no pairs.
    """
    if isinstance(data, Split):
        return data
    if are_batches(data):
        return Split(*written_once(data, what, repeatable))
    several = isinstance(data, tuple | list)
    received = f"{len(data)} values" if several else type(data).__name__
    wanted = "a Split, a pair of inputs and labels, or batches of pairs"
    expect(several and len(data) == 2, what, wanted, received)
    return Split(*data)


@dataclass(frozen=True, eq=False)
class Splits:
    """A named dataset: ``train`` fits weights, ``val`` fits thresholds, ``test`` is only reported.

    Labels are numbers in the order of ``class_names``; ``classes`` has the user's own labels.
    ``drawn_by`` says how splits were drawn that the source did not have; None if it had all.
    ``reading`` says how image files became pixels: ``fit``, ``background`` and ``scale`` of
    ``load``; None for other data.

    Raises ValueError if the splits do not share one image shape and one set of classes.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    drawn_by: str | None = None
    reading: Mapping[str, Any] | None = None

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
            received = split.classes and split.classes.mapping
            expect(same, f"{what} labels", "the classes of train", received)
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

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of every array's shape, dtype and contents.

        Equal data have equal fingerprints whatever their name, seed or origin. Of decoded images in
        the cache it is computed once.
        """
        splits = self.train, self.val, self.test
        return fingerprint([array for s in splits for array in (s.images, s.labels)])


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
