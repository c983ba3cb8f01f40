"""Rows by index of an array that need not fit in memory."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from keras_ddnn.files.checks import expect
from keras_ddnn.files.records import LEFT_OUT, fill

BLOCK_BYTES = 32 * 2**20  # read at once where all of an array is looked at


class Source(Protocol):
    """Anything with a shape, a type and rows by index: NumPy, `np.memmap`, HDF5, Zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole, (n, ...)."""

    @property
    def dtype(self) -> np.dtype:
        """Type of all numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any:
        """Return rows: of a slice with a positive step, or of rising int64 (m,)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array that stays where it is, read and converted when they are asked for.

    Attributes:
        source: The array (n, ...).
        index: Which of its rows, int64 of shape (m,); None for all.
        row: Shape of a row as it is read; None for that of the source.
        dtype: Type as it is read; None for that of the source.
        factor: What numbers are multiplied by before they are rounded to integers.
    """

    source: Source
    index: np.ndarray | None = None
    row: tuple[int, ...] = LEFT_OUT
    dtype: np.dtype = LEFT_OUT
    factor: int = 1

    def __post_init__(self) -> None:
        fill(self, row=tuple(self.source.shape[1:]), dtype=self.source.dtype)
        object.__setattr__(self, "dtype", np.dtype(self.dtype))

    def __len__(self) -> int:
        return len(self.source if self.index is None else self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole, (m, ...)."""
        return (len(self), *self.row)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole, if it were in memory."""
        return prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return what an array of these rows would: the first axis is read, others are cut then."""
        key, *others = key if isinstance(key, tuple) else (key,)
        if isinstance(key, slice) and self.index is None and (key.step or 1) > 0:
            rows = self._converted(np.asarray(self.source[key]))
        else:
            single = np.ndim(key) == 0 and not isinstance(key, slice)
            places = self._places([key] if single else key)
            rising, inverse = np.unique(places, return_inverse=True)
            # A file is read in its order; HDF5 reads no other.
            rows = self._converted(np.asarray(self.source[rising]))
            if len(rising) < len(places) or (np.diff(places) < 0).any():
                rows = rows[inverse]
            if single:
                return rows[(0, *others)]
        return rows[(slice(None), *others)] if others else rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    @property
    def plain(self) -> bool:
        """Whether these are all rows of the source, as it has them."""
        same = self.row == tuple(self.source.shape[1:]) and self.dtype == self.source.dtype
        return self.index is None and same and self.factor == 1

    def __reduce__(self) -> tuple:
        """Pickle a file by its name, not by what it holds."""
        source = self.source
        place = MappedFile.of(source) if isinstance(source, np.memmap) else None
        return _rows, (place or source, self.index, self.row, self.dtype, self.factor)

    def take(self, rows: Any) -> "Rows":
        """Return a view of some rows: int (m,), bool (n,) or a slice."""
        return replace(self, index=self._places(rows))

    def _places(self, rows: Any) -> np.ndarray:
        """Return the rows of the source, int64 (m,), that these rows are."""
        n = len(self)
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(n))
        rows = np.asarray(rows)
        if rows.dtype == bool:
            expect(rows.shape == (n,), "rows", f"bool of shape ({n},)", f"shape {rows.shape}")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64, copy=False)
        if len(rows) and not (-n <= rows.min() and rows.max() < n):
            raise IndexError(f"expected rows in -{n}..{n - 1}; received {rows.min()}..{rows.max()}")
        rows = np.where(rows < 0, rows + n, rows)
        return rows if self.index is None else self.index[rows]

    def _converted(self, rows: np.ndarray) -> np.ndarray:
        if self.factor != 1 or (self.dtype.kind in "iu" and rows.dtype.kind == "f"):
            rows = np.rint(rows * self.factor)
        return rows.astype(self.dtype, copy=False).reshape(len(rows), *self.row)


Array: TypeAlias = np.ndarray | Rows  # of inputs: `np.memmap` is an ndarray


class MappedFile(NamedTuple):
    """Where an array lies in a file, which is all that another process need be told of it."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.memmap) -> "MappedFile | None":
        """Return the place of a mapped array or of a part of one; None if it is no plain part."""
        whole: Any = array  # stubs of NumPy know no base of another kind
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        if not (
            isinstance(whole, np.memmap)
            and isinstance(whole.base, mmap.mmap)
            and isinstance(whole.filename, str | Path)
            and whole.mode != "c"  # whose changes are in memory alone
            and array.flags.c_contiguous
        ):
            return None
        offset = whole.offset + array.ctypes.data - whole.ctypes.data
        return cls(str(whole.filename), offset, array.shape, array.dtype.str)

    def open(self) -> np.memmap:
        """Map the array.

        Raises:
            ValueError: This machine does not see the file.
        """
        try:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        except OSError as error:
            raise ValueError(
                f"{self.path} cannot be read on this machine ({error.strerror}): leave files as "
                "they are meanwhile, and let KERAS_DDNN_CACHE name a folder that all machines share"
            ) from error


def _rows(source: Any, *fields: Any) -> Rows:
    return Rows(source.open() if isinstance(source, MappedFile) else source, *fields)


def as_source(array: Any, subject: str) -> Source:
    """Return what has a shape, a type and rows by index as it is; make an array of all else.

    Args:
        array: A user's inputs.
        subject: Their name in error messages.

    Raises:
        ValueError: It has a shape and a NumPy type, but gives no rows by index.
    """
    by_index = isinstance(getattr(array, "dtype", None), np.dtype) and all(
        hasattr(array, name) for name in ("shape", "__len__", "__getitem__")
    )
    if isinstance(array, np.ndarray | Rows) or not by_index:
        return array if isinstance(array, Rows | np.memmap) else np.asarray(array)
    if array.shape and len(array):
        asked = np.unique([0, len(array) - 1])
        expected = (len(asked), *array.shape[1:])
        try:
            received = f"shape {np.asarray(array[asked]).shape}"
        except Exception as error:  # each library has exceptions of its own
            received = f"{type(error).__name__}: {error}"
        wanted = f"rows by index, {expected} for array[{asked}]"
        expect(received == f"shape {expected}", subject, wanted, received)
    return array


def in_memory(array: Source) -> bool:
    """Return whether an array is in memory, rather than in a file."""
    if isinstance(array, Rows):
        return in_memory(array.source)
    return isinstance(array, np.ndarray) and not isinstance(array, np.memmap)


def taken(array: Array, rows: Any) -> Array:
    """Return some rows, int (m,), bool (n,) or a slice: a copy in memory, a view of a file."""
    if isinstance(rows, slice) and rows == slice(None):
        return array
    if in_memory(array):
        return array[rows]
    return (array if isinstance(array, Rows) else Rows(array)).take(rows)


def spread_rows(n: int, most: int) -> np.ndarray:
    """Return the places of up to `most` of n rows, spread evenly over them, int64, rising."""
    return np.linspace(0, n - 1, min(most, n)).astype(int)


def converted(source: Source, **how: Any) -> Array:
    """Return a source converted as `Rows` says: now if it is in memory, else as it is read."""
    rows = replace(source if isinstance(source, Rows) else Rows(source), **how)
    plain = rows.source if isinstance(rows.source, np.ndarray) and rows.plain else None
    if not in_memory(rows):
        return rows if plain is None else plain
    return np.ascontiguousarray(rows[:] if plain is None else plain)


def blocks(array: Source) -> Iterator[np.ndarray]:
    """Yield an array a block of rows at a time, as it lies in C order."""
    row = max(1, prod(array.shape[1:]) * array.dtype.itemsize)
    size = max(1, BLOCK_BYTES // row)
    for start in range(0, len(array), size):
        yield np.ascontiguousarray(array[start : start + size])


class Range(NamedTuple):
    """The least and the largest number of an array, and in how many rows numbers are not finite."""

    low: Any
    high: Any
    broken: int

    @classmethod
    def of(cls, array: Source) -> "Range":
        """Look at an array (n, ...), n at least 1, a block at a time."""
        lows, highs, broken = [], [], 0
        for block in blocks(array):
            axes = tuple(range(1, block.ndim))
            broken += int(np.count_nonzero(~np.isfinite(block).all(axis=axes)))
            lows.append(block.min())
            highs.append(block.max())
        return cls(min(lows), max(highs), broken)
