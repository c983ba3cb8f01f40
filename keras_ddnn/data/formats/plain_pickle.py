"""Pickles of NumPy arrays and plain types, read without running anything that they ask for.

A pickle names functions and has them called. Here it gets none: the names that NumPy writes stand
for small classes of ours, which check what they are given, and every other name is refused.
"""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

_NUMBERS = "biuf"  # kinds of dtype
# Text of a file -> byte order of a dtype
_ORDERS: dict[str, Literal["<", ">", "|", "="]] = {"<": "<", ">": ">", "|": "|", "=": "="}


class _Type:
    """Stands for numpy.dtype: a name such as "u1", and the byte order of its state."""

    def __init__(self, name: Any, *_: Any):
        self.dtype = np.dtype(_text(name))
        _require(self.dtype.kind in _NUMBERS, "an array of other things than numbers")

    def __setstate__(self, state: Any) -> None:
        _require(isinstance(state, tuple) and len(state) > 1, "a broken dtype")
        order = _text(state[1])
        _require(order in _ORDERS, "a broken dtype")
        self.dtype = self.dtype.newbyteorder(_ORDERS[order])


class _Array:
    """Stands for an array, which comes empty, and whose state holds its numbers."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _require(isinstance(state, tuple) and len(state) == 5, "a broken array")
        _, shape, kind, by_columns, content = state
        self.array = _array(content, kind, shape, "F" if by_columns is True else "C")


def _array(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    content = content.encode("latin-1") if isinstance(content, str) else content
    _require(isinstance(kind, _Type) and isinstance(content, bytes | bytearray), "a broken array")
    _require(isinstance(shape, tuple) and all(isinstance(n, int) for n in shape), "a broken shape")
    _require(order in ("C", "F") and all(n >= 0 for n in shape), "a broken shape")
    _require(math.prod(shape) * kind.dtype.itemsize == len(content), "an array of another size")
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)


def _empty(*_: Any) -> _Array:
    return _Array()


def _encoded(text: Any, encoding: Any) -> bytes:
    _require(isinstance(text, str) and encoding == "latin1", "text in another encoding")
    return text.encode("latin-1")


class _Class:
    """Stands for numpy.ndarray, which is named and never called."""


# What NumPy of any version writes, by Python 2 and 3.
_STANDINS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Class(),
    ("_codecs", "encode"): _encoded,
} | {
    (f"numpy.{core}.{module}", name): standin
    for core in ("core", "_core")
    for module, name, standin in (
        ("multiarray", "_reconstruct", _empty),
        ("numeric", "_frombuffer", _array),
    )
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        """Return what stands for a name; refuse any but those of plain arrays."""
        _require((module, name) in _STANDINS, f"{module}.{name}")
        return _STANDINS[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays, lists, numbers and text; nothing in it is run.

    Returns:
        Its keys as text; arrays of numbers as NumPy arrays, other values as they are.

    Raises:
        ValueError: The file is damaged, or asks for anything else.
    """
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        _require(isinstance(content, dict), f"a {type(content).__name__}")
        return {
            _text(key): value.array if isinstance(value, _Array) else value
            for key, value in content.items()
        }
    except Exception as error:  # the parser of a damaged pickle stumbles in every way
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise ValueError(
            f"{path}: expected a pickled dictionary of arrays, lists and text, of which nothing is "
            f"run; received {reason}"
        ) from error


def _require(condition: bool, received: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(received)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    _require(isinstance(value, str), f"{type(value).__name__} where text is expected")
    return value
