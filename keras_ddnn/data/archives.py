"""Arrays of a .npz file, of which nothing is read before its size is known."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_ddnn.files.notices import notice

# What damaged, encrypted and unknown members of a zip file raise.
_DAMAGE = (ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays x_train, y_train, x_test, y_test, and x_val, y_val where there are such.

    Args:
        path: A .npz file. Its other arrays are not read, but named in one line.

    Returns:
        Name → array.

    Raises:
        ValueError: It is no such file, lacks an array, is damaged, holds pickled objects, or its
            arrays need more memory than is available.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected a .npz archive, received a file of another kind")
    try:
        # Never unpickle: a dataset from a stranger must not run code.
        with np.load(path, allow_pickle=False) as archive:
            wanted, held = _wanted(archive.files), archive.files
            missing = [name for name in wanted if name not in held]
            if not missing:
                _require_room({name: _bytes_of(archive.zip, name) for name in wanted})
                arrays = {name: archive[name] for name in wanted}
    except _DAMAGE as error:
        raise ValueError(f"{path}: expected a .npz archive of plain arrays: {error}") from error
    except MemoryError as error:
        raise ValueError(f"{path}: expected arrays that fit in memory: {error}") from error
    if missing:
        received = ", ".join(held) or "none"
        raise ValueError(f"{path}: expected arrays {', '.join(missing)}, received {received}")
    if others := [name for name in held if name not in wanted]:
        notice(f"{path}: arrays that are not read: {', '.join(others)}")
    return arrays


def _wanted(held) -> list[str]:
    splits = ("train", "val", "test") if {"x_val", "y_val"} & set(held) else ("train", "test")
    return [f"{kind}_{what}" for what in splits for kind in "xy"]


def _bytes_of(archive: zipfile.ZipFile, name: str) -> int:
    """Return the size of an array by its header, which must agree with that of its file."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"array {name} is of the unknown version {version}")
        shape, _, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(f"array {name} holds pickled objects, which are never read")
        size, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
    if size != held:
        raise ValueError(f"array {name} of shape {shape} needs {size:,} bytes and has {held:,}")
    return size


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def available_memory() -> int:
    """Return how many bytes new arrays may take on this machine."""
    import psutil

    return psutil.virtual_memory().available


def _require_room(sizes: dict[str, int]) -> None:
    """Raise MemoryError unless arrays of these sizes in bytes fit in the memory that is free."""
    available = available_memory()
    if sum(sizes.values()) > available:
        name = max(sizes, key=sizes.get)
        raise MemoryError(
            f"{name} has {sizes[name] / 2**30:,.2f} GiB, all together "
            f"{sum(sizes.values()) / 2**30:,.2f}; {available / 2**30:,.2f} GiB are available"
        )
