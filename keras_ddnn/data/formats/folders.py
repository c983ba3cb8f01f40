"""Folders of images: split/class/image, or class/image. What is passed over is said, in one line.

Hidden files, whose names begin with a dot, are not read. Those that look like images are counted,
except for the `._x.png` that macOS lays beside each `x.png`; hidden folders are not looked into.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_ddnn.data.formats.found import SPELLINGS, Found, paths_array, split_named
from keras_ddnn.data.readers import IMAGE_SUFFIXES
from keras_ddnn.files.checks import require_utf8
from keras_ddnn.files.notices import notice

# Beside files and folders whose names begin with a dot; by Windows, macOS and Synology.
LEFT_BY_SYSTEMS = {
    *("desktop.ini", "thumbs.db", "ehthumbs.db", "$recycle.bin", "system volume information"),
    *("__macosx", "@eadir"),
}
HIDDEN = "hidden"  # no suffix: those begin with a dot


def list_folder(root: Path) -> Found:
    """List the images of a folder split/class/image, or class/image, without reading them.

    Args:
        root: The folder. Its splits may be spelt as in `SPELLINGS`, in upper or lower case. Without
            any, all images are training data, from which the other splits are to be drawn.

    Raises:
        ValueError: A split is missing or there twice; splits do not have the same classes; a class
            has no images; images lie beside or below the class folders; the name of a class is not
            one line of UTF-8, or two of a split are one folder.
    """
    passed: Counter = Counter()
    folders = _splits_of(root, passed)
    class_names = _subfolders(folders["train"])
    for name in class_names:
        require_utf8(f"{folders['train']}: the name of a class", name)
        if len(name.splitlines()) != 1:
            raise ValueError(
                f"{folders['train']}: the name of a class must be one line; received {name!r}: "
                "rename it"
            )
    files, labels = {}, {}
    for what, folder in folders.items():
        found, expected = (", ".join(names) for names in (_subfolders(folder), class_names))
        if found != expected or not class_names:
            wanted = f"class folders {expected}" if expected else "class folders"
            raise ValueError(f"{folder}: expected {wanted}, received {found or 'none'}")
        if stray := _images_in(folder, passed):
            raise ValueError(f"{stray[0]}: expected images in class folders, received one outside")
        _require_different([folder / name for name in class_names])
        files[what], labels[what] = _files_of(folder, class_names, passed)
    say_passed_over(root, passed)
    return Found(root.name, files, labels, tuple(class_names), root)


def images_below(folder: Path, passed: Counter, above: tuple = ()) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders, in order; hidden ones are left out.

    Args:
        folder: The folder.
        passed: Counts the other files, by their suffix, and hidden images.
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
    """Say in one line each how many files are no images, by suffix, and how many are hidden."""
    others = {suffix: count for suffix, count in sorted(passed.items()) if suffix != HIDDEN}
    if others:
        kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in others.items())
        total = sum(others.values())
        notice(f"{root}: {total:,} files are not read, because of their suffix: {kinds}")
    if hidden := passed[HIDDEN]:
        notice(f"{root}: {hidden:,} images are not read, because their names begin with a dot")


def _splits_of(root: Path, passed: Counter) -> dict[str, Path]:
    """Return split → folder; the root itself as train where its subfolders are classes."""
    found: dict[str, Path] = {}
    others: list[str] = []
    for name in _subfolders(root):
        what = split_named(name)
        if what in found:
            raise ValueError(
                f"{root}: expected one folder for the split {what}, "
                f"received {found[what].name} and {name}"
            )
        if what:
            found[what] = root / name
        else:
            others.append(name)
    if not found and any(_images_in(root / name, Counter()) for name in others):
        return {"train": root}
    if not {"train", "test"} <= set(found):
        received = ", ".join(_subfolders(root)) or "none"
        raise ValueError(
            f"{root}: expected subfolders train, test, maybe val, or one of images for each class, "
            f"received {received}"
        )
    counts = {name: sum(1 for _ in images_below(root / name, passed)) for name in others}
    unknown = [f"{name} ({count:,} images)" for name, count in counts.items() if count]
    if stray := _images_in(root, passed):
        unknown.append(f"{len(stray):,} images beside the splits")
    if unknown:
        notice(f"{root}: not read, because it is no train, val or test: {', '.join(unknown)}")
    return {what: found[what] for what in SPELLINGS if what in found}


def _files_of(
    folder: Path, class_names: list[str], passed: Counter
) -> tuple[np.ndarray, np.ndarray]:
    """Return the paths of the images of a split, objects (n,), and their class numbers (n,)."""
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
    return paths_array(files), np.array(labels, np.int64)


def _require_different(folders: list[Path]) -> None:
    """Refuse two classes that a symbolic link makes one, whose images would be of both."""
    places: dict[Path, Path] = {}
    for folder in folders:
        if (first := places.setdefault(folder.resolve(), folder)) is not folder:
            raise ValueError(
                f"{folder}: expected a folder of its own for each class, received a symbolic link "
                f"to that of {first.name!r}: delete the link, or replace it by a folder"
            )


def _subfolders(folder) -> list[str]:
    return sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_hidden(entry.name)
    )


def _images_in(folder, passed) -> list[Path]:
    """Return the images in a folder; a link to nothing counts, for it is missed when it is read."""
    images = []
    for entry in os.scandir(folder):
        path = Path(entry.path)
        suffix = path.suffix.lower()
        if _is_hidden(entry.name):
            left_by_macos = entry.name.startswith("._")
            if suffix in IMAGE_SUFFIXES and not left_by_macos and not path.is_dir():
                passed[HIDDEN] += 1
        elif suffix in IMAGE_SUFFIXES and not path.is_dir():
            images.append(path)
        elif not path.is_dir():
            passed[suffix or "none"] += 1
    return sorted(images)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS
