"""Rows that are made of other rows when they are asked for, and all of them at most once."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from keras_ddnn.data.rows.place import cache_folder
from keras_ddnn.data.rows.view import Array, Rows

BLOCK = 500  # rows that are made at once
MOST_IN_MEMORY = 2**28  # bytes; more goes to a file without a name


class Computed:
    """An array (n, ...) of which nothing is made before it is asked for; see `Source`.

    Args:
        shape: Shape of the whole.
        dtype: Type of the whole.
        make: Slice or rising int64 (m,) → these rows, (m, ...).
        keep: Makes the whole of this array, once, where it is read at random; see `kept`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        make: Callable[[Any], np.ndarray],
        keep: Callable[["Computed"], np.ndarray] | None = None,
    ):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._make, self._keep = make, keep or kept
        self._whole: np.ndarray | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return rows: of a slice with a positive step, or of rising int64 (m,)."""
        return (self._make if self._whole is None else self._whole.__getitem__)(rows)

    def whole(self) -> np.ndarray:
        """Return all of it, made once."""
        if self._whole is None:
            self._whole = self._keep(self)
        return self._whole

    def fill(self, array: np.ndarray) -> None:
        """Write all of it into an array (n, ...), a block of rows after another."""
        for start in range(0, len(self), BLOCK):
            rows = slice(start, start + BLOCK)
            array[rows] = self._make(rows)


def kept(array: Computed) -> np.ndarray:
    """Return the whole of an array: in memory if it is small, else in a file that goes with it."""
    if prod(array.shape) * array.dtype.itemsize <= MOST_IN_MEMORY:
        whole = np.empty(array.shape, array.dtype)
    else:
        folder = cache_folder() / "computed"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            whole = np.memmap(file, array.dtype, "w+", shape=array.shape)
    array.fill(whole)
    return whole


def whole(array: Any) -> Any:
    """Return an array whose rows are made when asked for as one that is there; others as it is.

    What reads rows at random, or many times, wants it so.
    """
    if not (isinstance(array, Rows) and isinstance(array.source, Computed)):
        return array
    rows = replace(array, source=array.source.whole())
    return rows.source if rows.plain else rows


def by_blocks(array: Array, function: Callable[[Any], Any]) -> Any:
    """Apply a function of rows to an array: a block after another where it is in no memory."""
    if not isinstance(array, Rows | np.memmap):
        return function(array)
    blocks = range(0, len(array), BLOCK)
    return np.concatenate([function(np.asarray(array[i : i + BLOCK])) for i in blocks])
