"""Weights in HDF5 files, which are read only if they hold all that they say, themselves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np

NUMBERS = "fiub"  # kinds of NumPy types: HDF5 has types that refer to elsewhere, too


def rebuild(build: Callable[[], keras.Model], path) -> keras.Model:
    """Build a network and read its weights.

    Args:
        build: Makes the network. It is called twice: first without any memory for weights, so that
            a network that is too large for its file is refused and never made.
        path: A `.weights.h5` file of `keras.Model.save_weights`.

    Returns:
        keras.Model: The network, with the weights of the file.

    Raises:
        ValueError: In one line, if the network cannot be built, the file is damaged, refers to data
            outside itself or claims more than it holds, or the weights are of another network.
    """
    path = Path(path)
    held = _count_in(path)
    try:
        # Keras keeps what is not initialised yet for each thread, and initialises it later: this
        # thread ends before.
        with ThreadPoolExecutor(1) as thread:
            needed = thread.submit(_count_of, build).result()
    except ValueError as error:
        raise ValueError(f"no network can be built as described: {_one_line(error)}") from error
    if needed > held:
        raise ValueError(
            f"{path}: expected the {needed:,} weights of the network described; received {held:,}"
        )
    model = build()
    try:
        model.load_weights(path)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the weights of the network described; received others: "
            f"{_one_line(error)}"
        ) from error
    return model


def _count_of(build) -> int:
    """Return how many numbers the variables of a network hold, without making them."""
    with keras.StatelessScope(initialize_variables=False):
        return sum(int(np.prod(variable.shape)) for variable in build().weights)


def _count_in(path: Path) -> int:
    """Return how many numbers an HDF5 file holds, after checking all that it is made of."""
    counts = []

    def check(name, item):
        if isinstance(item, h5py.Group):
            _require_own_members(path, item)
        else:
            counts.append(_require_own_numbers(path, name, item))

    try:
        with h5py.File(path, "r") as file:
            _require_own_members(path, file)
            file.visititems(check)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no readable HDF5 file: {_one_line(error)}") from error
    return sum(counts)


def _require_own_members(path, group) -> None:
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(
                f"{path}: expected weights alone; received {name!r}, a link to elsewhere "
                f"({type(link).__name__})"
            )


def _require_own_numbers(path, name, item) -> int:
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in NUMBERS:
        raise ValueError(f"{path}: expected arrays of numbers; received {name!r} of another type")
    if item.is_virtual or item.external:
        raise ValueError(f"{path}: expected weights alone; received {name!r}, kept in another file")
    if item.id.get_storage_size() < item.nbytes:
        raise ValueError(
            f"{path}: expected {item.nbytes:,} bytes of {name!r}, uncompressed; received "
            f"{item.id.get_storage_size():,}"
        )
    return item.size


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:200]}"
