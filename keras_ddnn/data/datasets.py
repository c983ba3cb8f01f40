"""Image classification data as three splits of uint8 NumPy arrays.

``load`` takes a key of ``DATASETS``, a file or a folder; see ``read_files``. Nothing is ever
downloaded: ``cluttered_digits`` and ``cluttered_views`` are generated from the digits that ship
with scikit-learn, the other named datasets are read from a TensorFlow Datasets folder prepared
beforehand. Command lines read the keys of ``DATASETS``, so importing this module must stay cheap:
no TensorFlow at the top.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.classes import Classes, class_numbers, listed, read_labels, require_samples_for
from keras_ddnn.data.formats.files import read_files
from keras_ddnn.data.formats.found import SHARES, WORDS, Found
from keras_ddnn.data.formats.named import read_generated, read_tfds
from keras_ddnn.data.formats.pixels import as_pixels
from keras_ddnn.data.readers import colour_of
from keras_ddnn.data.rows.images import DEFAULTS, chosen_reading, read_groups
from keras_ddnn.data.rows.sizes import Fit
from keras_ddnn.data.splits import Split, Splits, as_images, as_inputs, split_of
from keras_ddnn.files.checks import expect as _expect
from keras_ddnn.files.checks import require_count, require_utf8
from keras_ddnn.files.notices import notice

DATASET_HELP = (
    "an .npz file, a .csv or .parquet table of image files, a folder split/class/image or "
    "class/image, or one of IDX or CIFAR files"
)
NAMED = 20  # class folders that a note lists


def as_split(images, labels, num_classes=None, what="train", *, classes=None, reads=None):
    """Validate a user's arrays and convert them to a ``Split``.

    Args:
        images: shape (n, height, width, channels), or (n, camera, height, width, channels); see
            ``as_images``.
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
    if reads is None or reads.holds_images:
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
        only = labels[0].item() if classes is None else classes.decode(labels[:1]).tolist()[0]
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
    read = as_split(split.images, split.user_labels, what=what, classes=classes, reads=reads)
    return replace(read, gap=split.gap)


def read_training_data(train, val=None, num_classes=None, reads=None, reader=None):
    """Read what a network is trained on, and say in one line how labels become classes.

    Args:
        train, val: a ``Split``, a pair of images and labels, or batches of (input, label), see
            ``split_of``; ``val`` may be None. The classes
            are those that ``train`` carries, else those that its labels make, see ``read_labels``.
        num_classes: labels are the numbers 0..num_classes-1, and are taken as they are.
        reads: what the network reads, see ``as_split``; images by default.
        reader: what reads labels, in place of classes that they make; see ``Task.target_reader``.

    Returns:
        Both as ``Split`` with ``classes``.

    Raises:
        ValueError: as ``as_split``; more classes than samples; a label of ``val`` that ``train``
            lacks; unlike shapes.
    """
    train = split_of(train, "train")
    val = None if val is None else split_of(val, "val")
    classes = train.classes if reader is None else reader
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
    name: str | Path,
    data_dir: str | Path | None = None,
    seed: int = 0,
    *,
    channels: int = 3,
    background: str | Sequence[int] | None = None,
    scale: float | None = None,
    image_size: int | Sequence[int] | str | None = None,
    fit: Fit = "resize",
    skip_unreadable: bool = False,
) -> Splits:
    """Load a dataset by name or path.

    Args:
        name: a key of ``DATASETS``, or the path of a file or a folder; see ``read_files``.
        data_dir: TensorFlow Datasets folder; None means TFDS_DATA_DIR or its default.
        seed: draws the generated images, and the splits that the source does not have: of each
            class a fifth becomes ``test`` and a tenth of the rest ``val``.
        channels: of image files and of grey arrays (n, h, w): 3 for RGB, 1 for grey.
        background: seen through transparent pixels, "#rrggbb" or three numbers of 0..255; None
            means white.
        scale: the value that means white in arrays, or in grey image files of more than 8 bits; see
            ``as_pixels`` and ``keras_ddnn.data.readers.read_image``.
        image_size: of image files: height and width, or one side of a square; None means their own,
            or if they differ the median of their shorter sides, at most 224.
        fit: how images of another size are brought to it: "resize", "crop_to_aspect_ratio" or
            "pad_to_aspect_ratio", as ``keras.utils.image_dataset_from_directory`` does.
        skip_unreadable: leave out the image files that cannot be read, which are named, instead of
            refusing them all.

    Image files are decoded once, into the cache folder, and mapped from there; see README.

    Returns:
        Splits. Classes of arrays and tables are named by their labels, see ``read_labels``; those
        of a folder by its subfolders.

    Raises:
        ValueError: unknown name, missing file, data that ``as_split`` rejects, or an option that
            means nothing for such data.
        DatasetMissing: the named dataset is not prepared in the TensorFlow Datasets folder.
    """
    reading = {"channels": channels, "background": background, "scale": scale}
    reading |= {"image_size": image_size, "fit": fit, "skip_unreadable": skip_unreadable}
    found, splits, class_names = _load(name, data_dir, seed, reading, tuple(SHARES))
    parts = (splits["train"], splits["val"], splits["test"])
    chosen = chosen_reading(reading, None)
    kept = None if found.root is None else {option: chosen[option] for option in DEFAULTS}
    return Splits(found.name, *parts, class_names, found.drawn_by, kept)


def load_part(
    name: str | Path, parts: Sequence[str], trained: Mapping[str, Any] | None = None, **reading: Any
) -> tuple[str, Split, tuple[str, ...]]:
    """Return the first of some parts that a dataset has: its name, the data and the class names.

    Args:
        name, parts: as of ``load``, which needs all; of "train", "val" and "test".
        trained: how image files are read where ``reading`` does not say; see ``Splits.reading``.
        reading: its keywords for images. ``image_size``, that of a network, is of files alone.

    Raises:
        ValueError: as ``load``; or there is none of these parts, which are never drawn anew here.
        DatasetMissing: as ``load``.
    """
    _, splits, class_names = _load(name, None, 0, reading, (), trained)
    received = f"{', '.join(splits)}; name a folder of images that no network was trained on"
    there = [part for part in parts if part in splits]
    _expect(there, f"{name}", f"{' or '.join(parts)} data of its own", received)
    return there[0], splits[there[0]], class_names


def _load(
    name: str | Path,
    data_dir: Any,
    seed: int,
    reading: dict[str, Any],
    wanted: Sequence[str],
    trained: Mapping[str, Any] | None = None,
) -> tuple[Found, dict[str, Split], tuple[str, ...]]:
    """Read what is there, draw splits that are missing, check all; with the classes' names."""
    require_utf8("the path of a dataset", str(name))
    colour_of(reading.get("background"))  # before anything is read
    given = {option for option, value in reading.items() if value not in (None, False, "resize")}
    found = None if name in DATASETS else _of_path(Path(name))
    known = {"channels", "background", "scale"} if name not in DATASETS else {"channels"}
    known |= set() if wanted else {"image_size"}  # asked by a network, not by the user
    if (found is None or found.root is None) and (odd := sorted(given - known)):
        raise ValueError(f"{' and '.join(odd)}: expected image files, which {name} does not hold")
    found = found or DATASETS[str(name)](str(name), data_dir, seed)
    if found.class_names is None:
        numbers, classes, how = read_labels(found.labels["train"], "train labels")
        names, called = classes.names, classes.values
        if how:
            notice(how)
    else:
        names = called = found.class_names
        classes = Classes.numbered(len(names))
        numbers = class_numbers(found.labels["train"], len(classes), "train labels")
    only = f"only class {called[numbers[0]]!r}"
    _expect(np.any(numbers != numbers[0]), "train labels", "at least two classes", only)
    counts = f"{len(found.inputs['train'])} images and {len(numbers)} labels"
    _expect(len(found.inputs["train"]) == len(numbers), "train", "one label per image", counts)
    there = _from_arrays(found, reading) if found.root is None else found
    there = there.drawn(numbers, wanted, seed)  # of images only the paths
    if there.root is not None:
        there = _from_images(there, there.root, chosen_reading(reading, trained))
    splits = {
        what: as_split(inputs, there.labels[what], what=what, classes=classes)
        for what, inputs in there.inputs.items()
    }
    if there.root and names != Classes.numbered(len(classes)).names:
        _say_order(names)
    drawn = splits.keys() - found.labels.keys()
    for what, split in splits.items():
        _say_missing_classes(what, split, splits["train"] if what in drawn else None, called)
    return found._replace(drawn_by=there.drawn_by), splits, names


def _of_path(path: Path) -> Found:
    path = path.expanduser()
    if path.exists():
        return read_files(path)
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f"dataset path {str(path)!r} does not exist")
    raise ValueError(
        f"unknown dataset {str(path)!r}: expected one of {', '.join(DATASETS)}, or the path of a "
        ".npz, .csv or .parquet file, or of a folder split/class/image or class/image"
    )


def _from_arrays(found: Found, reading: dict[str, Any]) -> Found:
    options = (reading.get("background"), reading.get("scale"))
    arrays = as_pixels(found.inputs, reading.get("channels", 3), *options)
    return found._replace(inputs={k: as_images(a, f"{k} images") for k, a in arrays.items()})


def _from_images(found: Found, root: Path, reading: dict[str, Any]) -> Found:
    read = read_groups([np.asarray(f).tolist() for f in found.inputs.values()], root, **reading)
    inputs, kept = (dict(zip(found.inputs, values)) for values in zip(*read))
    labels = {what: found.labels[what][rows] for what, rows in kept.items()}
    return found._replace(inputs=inputs, labels=labels)


def _say_order(names: Sequence[str]) -> None:
    first = ", ".join(map(repr, names[:NAMED]))
    more = len(names) - NAMED
    others = f" and {more:,} others" if more > 0 else ""
    notice(f"classes 0 to {len(names) - 1} are the folders {first}{others}, in this order")


def _say_missing_classes(what: str, split: Split, train: Split | None, called: Sequence) -> None:
    """Say which classes a split has no image of; `train` is where the split was drawn from."""
    count = len(called)
    missing = np.flatnonzero(np.bincount(split.labels, minlength=count) == 0)
    if len(missing):
        lone = train and (np.bincount(train.labels, minlength=count)[missing] == 1).all()
        why = ": train has one, and keeps it" if lone else ""
        names = listed([called[k] for k in missing.tolist()])
        notice(f"{WORDS[what]} hold no image of {names}{why}")


DATASETS = {
    "cluttered_digits": read_generated,
    "cluttered_views": read_generated,
    "cifar10": read_tfds,
    "cifar100": read_tfds,
    "svhn_cropped": read_tfds,
    "fashion_mnist": read_tfds,
}
