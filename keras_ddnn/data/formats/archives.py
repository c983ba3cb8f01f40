"""Arrays of a .npz file, of which nothing is read before its size is known."""

import math
import re
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_ddnn.data.formats.found import Found, split_named
from keras_ddnn.files.notices import notice

# What damaged, encrypted and unknown members of a zip file raise.
# From Python 3.12 on, a header that is no Python ends in a TokenError.
_DAMAGE = (
    ValueError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)

# As Keras, MedMNIST and scikit-learn name them: x_train, train_images, X_test, target.
NAMES = {
    "x": ("x", "image", "images", "data", "input", "inputs"),
    "y": ("y", "label", "labels", "target", "targets"),
}
ALL = "train"  # what arrays without a split are, until splits are drawn


def read_npz(path: Path) -> Found:
    """Read the arrays of a .npz file that are named as images and labels of splits.

    Args:
        path: The file. It has train and test, maybe val, or one pair of arrays without a split. Its
            other arrays are not read, but named in one line.

    Raises:
        ValueError: It is no such file, lacks an array or has two of a kind, is damaged, holds
            pickled objects, or its arrays need more memory than is available.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected a .npz archive, received a file of another kind")
    try:
        # Never unpickle: a dataset from a stranger must not run code.
        with np.load(path, allow_pickle=False) as archive:
            held = archive.files
            names, trouble = _wanted(held)
            if not trouble:
                require_room({name: _bytes_of(archive.zip, name) for name in names.values()})
                arrays = {role: archive[name] for role, name in names.items()}
    except _DAMAGE as error:
        raise ValueError(f"{path}: expected a .npz archive of plain arrays: {error}") from error
    except MemoryError as error:
        raise ValueError(f"{path}: expected arrays that fit in memory: {error}") from error
    if trouble:
        raise ValueError(f"{path}: {trouble}")
    if others := [name for name in held if name not in names.values()]:
        notice(f"{path}: arrays that are not read: {', '.join(others)}")
    inputs, labels = ({what: arrays[k, what] for k, what in arrays if k == kind} for kind in "xy")
    return Found(path.stem, inputs, labels)


def _wanted(held: list[str]) -> tuple[dict[tuple[str, str], str], str | None]:
    """Return ("x" or "y", split) → name of the array; and what is wrong with the names, or None."""
    names: dict[tuple[str, str | None], str] = {}
    for name in held:
        if (role := _role(name)) and (other := names.setdefault(role, name)) != name:
            return {}, f"expected one array of a kind, received {other} and {name}"
    splits = {what for _, what in names}
    whole = ["train", *["val"][: "val" in splits], "test"]
    wanted = [None] if splits == {None} else whole
    roles = [(kind, what) for what in wanted for kind in "xy"]
    missing = [f"{kind}_{what}" if what else kind for kind, what in roles]
    missing = [name for name, role in zip(missing, roles) if role not in names]
    if missing:
        return {}, f"expected arrays {', '.join(missing)}, received {', '.join(held) or 'none'}"
    return {(kind, what or ALL): names[kind, what] for kind, what in roles}, None


def _role(name: str) -> tuple[str, str | None] | None:
    """Return ("x" or "y", split or None) of the name of an array; None if it is neither."""
    kinds = {spelling: kind for kind, known in NAMES.items() for spelling in known}
    if (whole := name.lower()) in kinds:
        return kinds[whole], None
    first, _, last = re.sub(r"[ .-]", "_", whole).partition("_")
    for kind, what in ((first, last), (last, first)):
        if kind in kinds and split_named(what):
            return kinds[kind], split_named(what)
    return None


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


def require_room(sizes: dict[str, int]) -> None:
    """Raise MemoryError unless arrays of these sizes in bytes fit in the memory that is free."""
    available = available_memory()
    if sum(sizes.values()) > available:
        name = max(sizes, key=sizes.__getitem__)
        raise MemoryError(
            f"{name} has {sizes[name] / 2**30:,.2f} GiB, all together "
            f"{sum(sizes.values()) / 2**30:,.2f}; {available / 2**30:,.2f} GiB are available"
        )
