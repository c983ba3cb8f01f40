"""What a saved bank does not hold in memory: arrays of its own file, and inputs of its split."""

import zipfile
from typing import Literal

import numpy as np

from keras_ddnn.data.rows.view import Array, taken


def indexed(inputs: Array, index: np.ndarray, path) -> Array:
    """Return the rows of all inputs of a split; no copy where these are all of them."""
    outside = index[(index < 0) | (index >= len(inputs))]
    if len(outside):
        raise ValueError(f"{path} refers to image {outside[0]}; received {len(inputs)} images")
    return inputs if np.array_equal(index, np.arange(len(inputs))) else taken(inputs, index)


def mapped_array(path, name: str) -> np.ndarray | None:
    """Map one array of an uncompressed `.npz`, which NumPy itself can only read whole.

    None for an empty array.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
        header = member.tell()
        info = archive.getinfo(f"{name}.npy")
    if dtype.hasobject or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} must be uncompressed numbers")
    if 0 in shape:
        return None
    with open(path, "rb") as file:
        # Lengths of the name and the extra field, which the data follow.
        file.seek(info.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(name_length) + int(extra_length) + header
    order: Literal["F", "C"] = "F" if fortran_order else "C"
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order=order)
