"""What tells the contents of arrays, wherever they are: one hash of all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_ddnn.data.rows.kept import content_of, remembered
from keras_ddnn.data.rows.view import Array, Rows, Source, blocks, in_memory


def fingerprint(arrays: Sequence[Array]) -> str:
    """Return the SHA-256, in hex, of the shape, dtype and contents of all arrays.

    Of decoded images in the cache it is computed once.
    """
    if all(map(in_memory, arrays)):
        return _digest(arrays)
    return remembered([_content(array) for array in arrays], lambda: _digest(arrays))


def _digest(arrays: Sequence[Source]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        for block in blocks(array):
            digest.update(block)
    return digest.hexdigest()


def _content(array: Source) -> str | None:
    """Return what tells the contents of an array without reading it all from a file."""
    if isinstance(array, Rows):
        source, index = _content(array.source), array.index
        known = source and replace(array, index=None).plain
        return f"{source} {'' if index is None else _digest([index])}" if known else None
    if in_memory(array):
        return _digest([array])
    return content_of(array) if isinstance(array, np.memmap) else None
