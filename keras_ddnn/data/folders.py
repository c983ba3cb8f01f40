"""Folders of images, laid out as split/class/image. What is passed over is said, in one line."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_ddnn.data.readers import IMAGE_SUFFIXES, read_groups
from keras_ddnn.files.checks import require_utf8
from keras_ddnn.files.notices import notice

SPELLINGS = {  # in lower case, also before "set", as in training_set
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
LEFT_BY_SYSTEMS = {"desktop.ini", "thumbs.db"}  # beside files whose names begin with a dot

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def read_folder(root: Path, **reading) -> tuple[Arrays, tuple[str, ...]]:
    """Read a folder split/class/image.

    Args:
        root: The folder. Its splits may be spelt as in `SPELLINGS`, in upper or lower case.
        reading: Keywords of `read_image`.

    Returns:
        Split → images, uint8 (n, h, w, channels), and class numbers, int64 (n,); and the names of
        the classes, in order.

    Raises:
        ValueError: A split is missing or there twice; splits do not have the same classes; a class
            has no images; images lie beside or below the class folders, cannot be read or differ in
            size; the name of a class is not UTF-8.
    """
    passed = Counter()
    folders = _splits_of(root, passed)
    class_names = _subfolders(folders["train"])
    for name in class_names:
        require_utf8(f"{folders['train']}: the name of a class", name)
    files, labels = {}, {}
    for what, folder in folders.items():
        found, expected = (", ".join(names) for names in (_subfolders(folder), class_names))
        if found != expected or not class_names:
            wanted = f"class folders {expected}" if expected else "class folders"
            raise ValueError(f"{folder}: expected {wanted}, received {found or 'none'}")
        if stray := _images_in(folder, passed):
            raise ValueError(f"{stray[0]}: expected images in class folders, received one outside")
        files[what], labels[what] = _files_of(folder, class_names, passed)
    arrays = read_groups(list(files.values()), root, **reading)
    say_passed_over(root, passed)
    return dict(zip(files, zip(arrays, labels.values()))), tuple(class_names)


def images_below(folder: Path, passed: Counter, above: tuple = ()) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders, in order; hidden ones are left out.

    Args:
        folder: The folder.
        passed: Counts the other files, by their suffix.
        above: Folders to leave out: a link may lead back to one that it is in.

    Raises:
        OSError: A folder cannot be read.
    """
    yield from _images_in(folder, passed)
    above = (*above, folder.resolve())
    for name in _subfolders(folder):
        if (folder / name).resolve() not in above:
            yield from images_below(folder / name, passed, above)


def say_passed_over(root: Path, passed: Counter) -> None:
    """Say in one line how many files are no images, by suffix."""
    if passed:
        kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in sorted(passed.items()))
        notice(f"{root}: {passed.total():,} files are not read, because of their suffix: {kinds}")


def _splits_of(root, passed):
    spelt = {spelling: what for what, known in SPELLINGS.items() for spelling in known}
    found, others = {}, []
    for name in _subfolders(root):
        what = spelt.get(re.sub(r"[ _-]?set$", "", name.lower()))
        if what in found:
            raise ValueError(
                f"{root}: expected one folder for the split {what}, "
                f"received {found[what].name} and {name}"
            )
        if what:
            found[what] = root / name
        else:
            others.append(name)
    if not {"train", "test"} <= set(found):
        received = ", ".join(_subfolders(root)) or "none"
        raise ValueError(f"{root}: expected subfolders train, test, maybe val, received {received}")
    counts = {name: sum(1 for _ in images_below(root / name, passed)) for name in others}
    unknown = [f"{name} ({count:,} images)" for name, count in counts.items() if count]
    if stray := _images_in(root, passed):
        unknown.append(f"{len(stray):,} images beside the splits")
    if unknown:
        notice(f"{root}: not read, because it is no train, val or test: {', '.join(unknown)}")
    return {what: found[what] for what in SPELLINGS if what in found}


def _files_of(folder, class_names, passed):
    """Return the images of a split, and their class numbers (n,)."""
    files, labels = [], []
    for k, name in enumerate(class_names):
        for nested in _subfolders(folder / name):
            if image := next(images_below(folder / name / nested, passed), None):
                raise ValueError(
                    f"{image}: expected images in {folder / name}, received one in a folder below"
                )
        images = _images_in(folder / name, passed)
        if not images:
            raise ValueError(f"{folder / name}: expected images, received none")
        files += images
        labels += [k] * len(images)
    return files, np.array(labels, np.int64)


def _subfolders(folder) -> list[str]:
    return sorted(path.name for path in _visible(folder) if path.is_dir())


def _images_in(folder, passed) -> list[Path]:
    """Return the images in a folder; a link to nothing counts, for it is missed when it is read."""
    files = sorted(path for path in _visible(folder) if not path.is_dir())
    passed.update(
        file.suffix.lower() or "none" for file in files if file.suffix.lower() not in IMAGE_SUFFIXES
    )
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]


def _visible(folder) -> Iterator[Path]:
    return (
        Path(entry.path)
        for entry in os.scandir(folder)
        if not entry.name.startswith(".") and entry.name.lower() not in LEFT_BY_SYSTEMS
    )
