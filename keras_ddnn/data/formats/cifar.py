"""The folders in which CIFAR-10 and CIFAR-100 are published: binary ones, and those of Python."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_ddnn.data.formats.archives import require_room
from keras_ddnn.data.formats.found import Found
from keras_ddnn.data.formats.plain_pickle import read_pickle
from keras_ddnn.files.notices import notice

SIDE = 32
PIXELS = 3 * SIDE * SIDE


class _Layout(NamedTuple):
    """One of the four folders.

    Attributes:
        train: Pattern of the names of its training files.
        batches: How many of them there are.
        test: Name of its test file.
        names: Name of the file of class names.
        labels: Bytes before the pixels of a binary record, of which the last is the class; or the
            key of the labels in a pickle.
        names_key: Key of the class names in a pickle; None for text, a name a line.
    """

    train: str
    batches: int
    test: str
    names: str
    labels: int | str
    names_key: str | None


_LAYOUTS = (
    _Layout(r"data_batch_\d\.bin", 5, "test_batch.bin", "batches.meta.txt", 1, None),
    _Layout(r"data_batch_\d", 5, "test_batch", "batches.meta", "labels", "label_names"),
    _Layout(r"train\.bin", 1, "test.bin", "fine_label_names.txt", 2, None),
    _Layout("train", 1, "test", "meta", "fine_labels", "fine_label_names"),
)


def read_cifar(folder: Path) -> Found | None:
    """Read a folder of CIFAR-10 or CIFAR-100; None if it is none.

    Pickles are read without running anything; see `read_pickle`.

    Raises:
        ValueError: A file is missing, damaged or too large for the memory.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for layout in _LAYOUTS:
        if train := [path for path in files if re.fullmatch(layout.train, path.name)]:
            return _read(folder, layout, train)
    return None


def _read(folder: Path, layout: _Layout, train: list[Path]) -> Found:
    test = folder / layout.test
    if not test.is_file():
        raise ValueError(f"{folder}: expected {layout.test} beside {train[0].name}, received none")
    if len(train) < layout.batches:
        names = ", ".join(path.name for path in train)
        notice(f"{folder}: {len(train)} of {layout.batches} training files are there: {names}")
    read: Callable = _binary if isinstance(layout.labels, int) else _pickled
    parts = [read(path, layout.labels) for path in train]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    test_images, test_labels = read(test, layout.labels)
    if layout.labels in (2, "fine_labels"):
        notice(f"{folder}: the classes are the fine ones, of which CIFAR-100 has 100")
    return Found(
        folder.name,
        {"train": images, "test": test_images},
        {"train": labels, "test": test_labels},
        _class_names(folder / layout.names, layout.names_key),
    )


def _class_names(path: Path, key: str | None) -> tuple[str, ...] | None:
    if not path.is_file():
        notice(f"{path.parent}: classes are named by their numbers, for there is no {path.name}")
        return None
    if key is None:
        lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines()]
        return tuple(filter(None, lines))
    names = read_pickle(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ValueError(f"{path}: expected a list {key} of class names, received none")
    return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names)


def _binary(path: Path, labels: int) -> tuple[np.ndarray, np.ndarray]:
    size, length = path.stat().st_size, labels + PIXELS
    if not size or size % length:
        raise ValueError(
            f"{path}: expected records of {length:,} bytes, received {size:,} bytes, of which "
            f"{size % length:,} are left over"
        )
    _require_room(path)
    records = np.fromfile(path, np.uint8).reshape(-1, length)
    return _images(records[:, labels:]), records[:, labels - 1].astype(np.int64)


def _pickled(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    _require_room(path)
    content = read_pickle(path)
    pixels, numbers = content.get("data"), np.asarray(content.get(labels))
    if (
        not isinstance(pixels, np.ndarray)
        or (pixels.dtype, *pixels.shape[1:]) != (np.uint8, PIXELS)
        or numbers.shape != pixels.shape[:1]
        or numbers.dtype.kind not in "iu"
    ):
        raise ValueError(
            f"{path}: expected data, uint8 of shape (n, {PIXELS}), and {labels}, n integers; "
            f"received {', '.join(sorted(content)) or 'nothing'}, of other types or shapes"
        )
    return _images(pixels), numbers.astype(np.int64)


def _images(rows: np.ndarray) -> np.ndarray:
    """Return images (n, 32, 32, 3) of rows that hold the red plane, the green and the blue one."""
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _require_room(path: Path) -> None:
    try:
        require_room({path.name: 2 * path.stat().st_size})
    except MemoryError as error:
        raise ValueError(f"{path}: expected arrays that fit in memory: {error}") from error
