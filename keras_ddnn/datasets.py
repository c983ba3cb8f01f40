"""Image classification data as three splits of uint8 NumPy arrays.

``load`` takes a key of ``DATASETS``, a ``.npz`` file or a folder of images. Nothing is ever
downloaded: ``cluttered_digits`` is generated from the digits that ship with scikit-learn, the other
named datasets are read from a TensorFlow Datasets folder prepared beforehand. Command lines read
the keys of ``DATASETS``, so importing this module must stay cheap: no TensorFlow at the top.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_ddnn.archives import read_archive
from keras_ddnn.checks import require_utf8
from keras_ddnn.folders import read_folder
from keras_ddnn.notices import notice
from keras_ddnn.readers import colour_of

MIN_SIDE = 16  # three poolings leave the cloud network 2×2 of it
VALIDATION_FRACTION = 0.1
CLUTTERED_SIZES = {"train": 20_000, "val": 2_000, "test": 2_000}


@dataclass(frozen=True, eq=False)
class Split:
    """Images, uint8 of shape (n, height, width, channels), and labels, int64 of shape (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Splits:
    """A named dataset: ``train`` fits weights, ``val`` fits thresholds, ``test`` is only reported.

    Raises ValueError if the splits do not share one image shape, or a name is not UTF-8.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]

    def __post_init__(self):
        """Reject splits that no single network could read, and names no report could hold."""
        for what, name in [("dataset", self.name), *(("class", c) for c in self.class_names)]:
            require_utf8(f"the name of a {what}", name)
        expected = self.train.images.shape[1:]
        for what, split in (("val", self.val), ("test", self.test)):
            shape = split.images.shape[1:]
            _expect(shape == expected, f"{what} images", f"shape {expected} as in train", shape)

    @property
    def num_classes(self):
        """Number of classes, including any that a split happens not to contain."""
        return len(self.class_names)

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


def as_split(images, labels, num_classes=None, what="train"):
    """Validate a user's arrays and convert them to a ``Split``.

    Args:
        images: shape (n, height, width, channels), sides of at least 16 pixels, 1 or 3 channels;
            integers in 0..255 or floats in [0, 1]. Contiguous uint8 is kept without a copy.
        labels: shape (n,), integers in 0..num_classes-1.
        num_classes: upper bound of the labels; None leaves them unbounded.
        what: name of the split in error messages. Only "train" must hold two classes or more.

    Raises:
        ValueError: the arrays break one of the rules above; the message names the split, what was
            expected and what was received.
    """
    images = _as_uint8(np.asarray(images), f"{what} images")
    labels = _as_class_numbers(np.asarray(labels), num_classes, f"{what} labels")
    counts = f"{len(images)} images and {len(labels)} labels"
    _expect(len(images) == len(labels), what, "one label per image", counts)
    if what == "train":
        varied = np.any(labels != labels[0])
        _expect(varied, "train labels", "at least two classes", f"only class {labels[0]}")
    return Split(images, labels)


def _expect(condition, subject, expected, received):
    if not condition:
        raise ValueError(f"{subject}: expected {expected}, received {received}")


def _as_uint8(images, subject):
    shape = f"shape {images.shape}"
    known = images.ndim == 4 and images.shape[3] in (1, 3)
    _expect(known, subject, "shape (n, height, width, 1 or 3)", shape)
    _expect(len(images), subject, "at least one image", "an empty split")
    large = min(images.shape[1:3]) >= MIN_SIDE
    _expect(large, subject, f"height and width of at least {MIN_SIDE}", shape)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    kind = images.dtype.kind
    accepted = "integers in 0..255 or floats in [0, 1]"
    _expect(kind in "iuf", subject, accepted, f"dtype {images.dtype}")
    broken = np.count_nonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
    trouble = f"NaN or infinity in {broken} of {len(images)} images"
    _expect(broken == 0, subject, "finite pixels", trouble)
    low, high = images.min(), images.max()
    if kind == "f":
        trouble = f"{low:g} to {high:g}; give uint8 for 0..255"
        _expect(low >= 0 and high <= 1, subject, "floats in [0, 1]", trouble)
        return np.rint(images * 255).astype(np.uint8, order="C")
    _expect(low >= 0 and high <= 255, subject, "integers in 0..255", f"{low} to {high}")
    return images.astype(np.uint8, order="C")


def _as_class_numbers(labels, num_classes, subject):
    advice = "pass labels.argmax(axis=1) if they are one-hot, labels.ravel() if they are a column"
    _expect(labels.ndim == 1, subject, "shape (n,)", f"shape {labels.shape}; {advice}")
    _expect(len(labels), subject, "at least one label", "an empty split")
    _expect(labels.dtype.kind in "iuf", subject, "integers", f"dtype {labels.dtype}")
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.rint(labels))
        _expect(whole.all(), subject, "integers", "fractions or NaN")
    low, high = int(labels.min()), int(labels.max())
    last = high if num_classes is None else num_classes - 1
    bounds = "0 or above" if num_classes is None else f"in 0..{last}"
    _expect(low >= 0 and high <= last, subject, f"classes {bounds}", f"{low} to {high}")
    return np.ascontiguousarray(labels, dtype=np.int64)


def load(name, data_dir=None, seed=0, *, channels=3, background=None, scale=None):
    """Load a dataset by name or path.

    Args:
        name: a key of ``DATASETS``; a ``.npz`` file with arrays ``x_train``, ``y_train``,
            ``x_test``, ``y_test`` and optionally ``x_val``, ``y_val``; or a folder of images laid
            out as ``split/class/image`` with splits ``train``, ``test`` and optionally ``val``.
        data_dir: TensorFlow Datasets folder; None means TFDS_DATA_DIR or its default.
        seed: draws the generated images, and the 10% of each class of ``train`` that become
            ``val`` where the source has no validation split.
        channels: of the images of a folder: 3 for RGB, 1 for grey.
        background: seen through transparent pixels of a folder's images, "#rrggbb" or three
            numbers of 0..255; None means white.
        scale: the value that means white in a folder's grey images of more than 8 bits; see
            ``keras_ddnn.readers.read_image``.

    Returns:
        Splits. Classes of a ``.npz`` are named "0", "1", ...; those of a folder by its subfolders.

    Raises:
        ValueError: unknown name, missing file, data that ``as_split`` rejects, or a ``background``
            or ``scale`` of what is no folder.
        DatasetMissing: the named dataset is not prepared in the TensorFlow Datasets folder.
    """
    require_utf8("the path of a dataset", str(name))
    colour, path = colour_of(background), Path(name).expanduser()
    if name not in DATASETS and path.is_dir():
        reading = {"channels": channels, "background": colour, "scale": scale}
        return _from_folder(path, seed, reading)
    if not (background is None and scale is None):
        raise ValueError(f"background and scale are of image files, which {name} does not hold")
    if name in DATASETS:
        return DATASETS[name](name, data_dir=data_dir, seed=seed)
    if path.is_file():
        return _from_npz(path, seed)
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f"dataset path {str(path)!r} does not exist")
    raise ValueError(
        f"unknown dataset {str(name)!r}: expected one of {', '.join(DATASETS)}, "
        "or the path of a .npz file or of a folder split/class/image"
    )


def hold_out(labels, fraction, seed):
    """Split positions 0..n-1 into (kept, held), taking ``fraction`` of each class at random.

    Both are sorted int64 arrays. In small sets as many samples are held as there are classes.
    """
    from sklearn.model_selection import train_test_split

    count = max(round(fraction * len(labels)), len(np.unique(labels)))
    kept, held = train_test_split(
        np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed
    )
    return np.sort(kept), np.sort(held)


def _assemble(name, splits, class_names, seed):
    """Make Splits of a dict of splits, holding out part of train where there is no val."""
    train = splits["train"]
    if "val" not in splits:
        parts = zip(("train", "val"), hold_out(train.labels, VALIDATION_FRACTION, seed))
        for what, rows in parts:
            splits[what] = as_split(train.images[rows], train.labels[rows], what=what)
        held, total = len(splits["val"]), len(train)
        notice(f"{name} has no validation data: {held:,} of {total:,} training images become it")
    return Splits(name, splits["train"], splits["val"], splits["test"], tuple(class_names))


def _from_npz(path, seed):
    arrays = read_archive(path)
    names = ("train", "val", "test") if "x_val" in arrays else ("train", "test")
    num_classes, splits = None, {}
    for what in names:
        splits[what] = as_split(arrays[f"x_{what}"], arrays[f"y_{what}"], num_classes, what)
        num_classes = num_classes or int(splits["train"].labels.max()) + 1
    return _assemble(path.stem, splits, map(str, range(num_classes)), seed)


def _from_folder(root, seed, reading):
    arrays, class_names = read_folder(root, **reading)
    splits = {what: as_split(*pair, len(class_names), what) for what, pair in arrays.items()}
    return _assemble(root.name, splits, class_names, seed)


class DatasetMissing(ValueError):
    """The dataset is known, but its files are not on this machine."""


def _from_tfds(name, data_dir, seed):
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    class_names = builder.info.features["label"].names
    splits = {}
    for what in ("train", "test"):
        try:
            # File order is part of the result: a seed must mean the same validation images.
            pairs = builder.as_dataset(
                split=what, batch_size=-1, as_supervised=True, shuffle_files=False
            )
        except AssertionError as error:  # all that tfds raises when nothing is prepared
            raise DatasetMissing(
                f"{name} is not in {builder.data_dir}: prepare it with `tfds build {name}`, or "
                "name the folder that holds it by TFDS_DATA_DIR or --data-dir; "
                "cluttered_digits needs no download"
            ) from error
        images, labels = tfds.as_numpy(pairs)
        if images.shape[1:] == (28, 28, 1):
            images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))).repeat(3, axis=3)
        splits[what] = as_split(images, labels, len(class_names), what)
    return _assemble(name, splits, class_names, seed)


def _cluttered_digits(name, data_dir, seed):
    from keras_ddnn.cluttered_digits import generate

    arrays = generate(CLUTTERED_SIZES, seed)
    splits = {what: as_split(*pair, 10, what) for what, pair in arrays.items()}
    return _assemble(name, splits, map(str, range(10)), seed)


DATASETS = {
    "cluttered_digits": _cluttered_digits,
    "cifar10": _from_tfds,
    "cifar100": _from_tfds,
    "svhn_cropped": _from_tfds,
    "fashion_mnist": _from_tfds,
}
