"""Image classification data as three splits of uint8 NumPy arrays.

``load`` takes a key of ``DATASETS``, a ``.npz`` file or a folder of images. Nothing is ever
downloaded: ``cluttered_digits`` is generated from the digits that ship with scikit-learn, the other
named datasets are read from a TensorFlow Datasets folder prepared beforehand. Command lines read
the keys of ``DATASETS``, so importing this module must stay cheap: no TensorFlow at the top.
"""

from pathlib import Path

import numpy as np

from keras_ddnn.data.archives import read_archive
from keras_ddnn.data.classes import Classes, class_numbers, listed, read_labels, require_samples_for
from keras_ddnn.data.folders import read_folder
from keras_ddnn.data.readers import colour_of
from keras_ddnn.data.splits import Split, Splits, as_images, as_inputs, hold_out, split_of
from keras_ddnn.files.checks import expect as _expect
from keras_ddnn.files.checks import require_count, require_utf8
from keras_ddnn.files.notices import notice

VALIDATION_FRACTION = 0.1
NAMED = 20  # class folders that a note lists
CLUTTERED_SIZES = {"train": 20_000, "val": 2_000, "test": 2_000}


def as_split(images, labels, num_classes=None, what="train", *, classes=None, reads=None):
    """Validate a user's arrays and convert them to a ``Split``.

    Args:
        images: shape (n, height, width, channels); see ``as_images``.
        labels: shape (n,), integers in 0..num_classes-1, or labels of ``classes``.
        num_classes: upper bound of the labels; None leaves them unbounded.
        classes: reads the labels, in place of ``num_classes``.
        what: name of the split in error messages. Only "train" must hold two classes or more.
        reads: ``InputType`` of the network; where it reads no images, ``images`` are what it
            reads, see ``as_inputs``.

    Raises:
        ValueError: the arrays break one of the rules above; the message names the split, what was
            expected and what was received.
    """
    if reads is None or reads.is_image:
        images = as_images(images, f"{what} images")
    else:
        images = as_inputs(images, reads, f"{what} inputs")
    if classes is None:
        labels = class_numbers(labels, num_classes, f"{what} labels")
    else:
        labels = classes.encode(labels, f"{what} labels")
    counts = f"{len(images)} images and {len(labels)} labels"
    _expect(len(images) == len(labels), what, "one label per image", counts)
    if what == "train":
        varied = np.any(labels != labels[0])
        only = labels[0].item() if classes is None else classes.values[labels[0]]
        _expect(varied, "train labels", "at least two classes", f"only class {only!r}")
    return Split(images, labels, classes)


def read_split(data, classes, what, reads=None):
    """Read a ``Split``, or a pair of images and labels, by the classes of a network.

    Args:
        data: its labels are those of ``classes``, or numbers of classes that it carries itself; or
            batches of (input, label), see ``split_of``.
        classes: ``Classes``.
        what: name of the split in error messages.
        reads: what the network reads, see ``as_split``.

    Raises:
        ValueError: as ``as_split``; a label is none of ``classes``.
    """
    split = split_of(data, what, repeatable=True)
    return as_split(split.images, split.user_labels, what=what, classes=classes, reads=reads)


def read_training_data(train, val=None, num_classes=None, reads=None):
    """Read what a network is trained on, and say in one line how labels become classes.

    Args:
        train, val: a ``Split``, a pair of images and labels, or batches of (input, label), see
            ``split_of``; ``val`` may be None. The classes
            are those that ``train`` carries, else those that its labels make, see ``read_labels``.
        num_classes: labels are the numbers 0..num_classes-1, and are taken as they are.
        reads: what the network reads, see ``as_split``; images by default.

    Returns:
        Both as ``Split`` with ``classes``.

    Raises:
        ValueError: as ``as_split``; more classes than samples; a label of ``val`` that ``train``
            lacks; unlike shapes.
    """
    train = split_of(train, "train")
    val = None if val is None else split_of(val, "val")
    classes = train.classes
    if num_classes is not None:
        require_count(num_classes=num_classes)
        class_numbers(train.labels, num_classes, "train labels")
        require_samples_for(num_classes, len(train), "train labels")
        if classes is None or classes.are_numbers:
            classes = Classes.numbered(num_classes)
        _expect(len(classes) == num_classes, "num_classes", f"{len(classes)}", num_classes)
    elif classes is None:
        _, classes, how = read_labels(train.labels, "train labels")
        if how:
            notice(how)
    train = read_split(train, classes, "train", reads)
    val = None if val is None else read_split(val, classes, "val", reads)
    if val and val.images.shape[1:] != train.images.shape[1:]:
        raise ValueError(
            "train and val images must have one shape; "
            f"received {train.images.shape[1:]} and {val.images.shape[1:]}"
        )
    return train, val


def load(
    name,
    data_dir=None,
    seed=0,
    *,
    channels=3,
    background=None,
    scale=None,
    image_size=None,
    fit="resize",
):
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
            ``keras_ddnn.data.readers.read_image``.
        image_size: of a folder's images: height and width, or one side of a square; None means
            their own, or if they differ the median of their shorter sides, at most 224.
        fit: how images of another size are brought to it: "resize", "crop_to_aspect_ratio" or
            "pad_to_aspect_ratio", as ``keras.utils.image_dataset_from_directory`` does.

    Images of a folder are decoded once, into the cache folder, and mapped from there; see README.

    Returns:
        Splits. Classes of a ``.npz`` are named by their labels, see ``read_labels``; those of a
        folder by its subfolders.

    Raises:
        ValueError: unknown name, missing file, data that ``as_split`` rejects, or a ``background``
            or ``scale`` of what is no folder.
        DatasetMissing: the named dataset is not prepared in the TensorFlow Datasets folder.
    """
    reading = {"channels": channels, "background": background, "scale": scale}
    files = _read_files(name, reading | {"image_size": image_size, "fit": fit})
    if files is None:
        return DATASETS[name](name, data_dir=data_dir, seed=seed)
    return _assemble(*files, seed)


def load_test(name, **reading):
    """Load the test data of a dataset alone; see ``load``, which also needs validation data.

    Args:
        name: as of ``load``.
        reading: its keywords for the images of a folder.

    Returns:
        Split.

    Raises:
        ValueError: as ``load``.
        DatasetMissing: as ``load``.
    """
    files = _read_files(name, reading)
    return load(name).test if files is None else files[1]["test"]


def _read_files(name, reading):
    """Return the name, the splits and the class names of files; None of a key of DATASETS."""
    require_utf8("the path of a dataset", str(name))
    path, colour = Path(name).expanduser(), colour_of(reading.get("background"))
    if name not in DATASETS and path.is_dir():
        return _from_folder(path, reading | {"background": colour})
    if any(reading.get(option) is not None for option in ("background", "scale", "image_size")):
        raise ValueError(
            f"background, scale and image_size are of image files, which {name} does not hold"
        )
    if name in DATASETS:
        return None
    if path.is_file():
        return _from_npz(path)
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f"dataset path {str(path)!r} does not exist")
    raise ValueError(
        f"unknown dataset {str(name)!r}: expected one of {', '.join(DATASETS)}, "
        "or the path of a .npz file or of a folder split/class/image"
    )


def _assemble(name, splits, class_names, seed):
    """Make Splits of a dict of splits, holding out part of train where there is no val."""
    class_names = tuple(class_names)
    if "val" not in splits:
        train = splits["train"]
        kept, held = hold_out(train.labels, VALIDATION_FRACTION, seed)
        splits |= {"train": train.take(kept), "val": train.take(held)}
        notice(
            f"{name} has no validation data: {len(held):,} of {len(train):,} training images "
            "become it"
        )
        if len(lone := np.flatnonzero(np.bincount(train.labels) == 1)):
            known = class_names if train.classes is None else train.classes.values
            names = listed([known[k] for k in lone])
            notice(f"validation data hold no image of {names}: train has one, and keeps it")
    return Splits(name, splits["train"], splits["val"], splits["test"], class_names)


def _from_npz(path):
    arrays = read_archive(path)
    names = ("train", "val", "test") if "x_val" in arrays else ("train", "test")
    _, classes, how = read_labels(arrays["y_train"], "train labels")
    splits = {
        what: as_split(arrays[f"x_{what}"], arrays[f"y_{what}"], what=what, classes=classes)
        for what in names
    }
    if how:
        notice(how)
    return path.stem, splits, classes.names


def _from_folder(root, reading):
    arrays, class_names = read_folder(root, **reading)
    received = f"only class {class_names[0]!r}"
    _expect(len(class_names) > 1, "train labels", "at least two classes", received)
    splits = {what: as_split(*pair, len(class_names), what) for what, pair in arrays.items()}
    if class_names != Classes.numbered(len(class_names)).names:
        names = ", ".join(map(repr, class_names[:NAMED]))
        more = len(class_names) - NAMED
        others = f" and {more:,} others" if more > 0 else ""
        notice(
            f"classes 0 to {len(class_names) - 1} are the folders {names}{others}, in this order"
        )
    return root.name, splits, class_names


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
    from keras_ddnn.data.cluttered_digits import generate

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
