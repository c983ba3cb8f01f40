"""Batches of (input, label), written once, so that they are rows by index from then on.

Training draws rows, folds take some out, and a bank has an order: all of that needs rows by index,
and one pass that is written serves them all.
"""

import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from typing import IO, Any

import numpy as np

from keras_ddnn.data.rows.place import VARIABLE, cache_folder
from keras_ddnn.files.checks import expect
from keras_ddnn.files.notices import notice

ROOM = 2**28  # bytes that stay free on the disk
INFINITE = -1  # cardinality of a tf.data.Dataset


def are_batches(data: Any) -> bool:
    """Return whether data are a `tf.data.Dataset` or a `keras.utils.PyDataset`."""
    return hasattr(data, "element_spec") or hasattr(data, "num_batches")


def written_once(data: Any, what: str, repeatable: bool = False) -> tuple[np.memmap, np.ndarray]:
    """Write batches of (input, label) into a file without a name, and say so in one line.

    Args:
        data: See `are_batches`. Sample weights and several inputs are refused.
        what: Name of the data in messages.
        repeatable: Pass over them once more, and refuse another order: rows of a bank would be none
            of theirs.

    Returns:
        The inputs (n, ...), mapped from the file, which is gone when they are, and the labels.

    Raises:
        ValueError: There are none, they never end, they are no pairs, their rows differ in shape or
            type, the second pass is another, or the file cannot be written.
    """
    _require_an_end(data, what)
    labels: list[np.ndarray] = []
    digests: list[bytes] = []
    inputs = np.empty(0)
    try:
        folder = cache_folder() / "batches"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for x, y in _pairs(data, what):
                if not labels:
                    inputs = x[:0]
                received = f"{x.dtype} of shape {x.shape[1:]}"
                wanted = f"inputs of one kind, {inputs.dtype} of shape {inputs.shape[1:]}"
                alike = (x.dtype, x.shape[1:]) == (inputs.dtype, inputs.shape[1:])
                expect(alike, what, wanted, received)
                _write(file, x, shutil.disk_usage(folder).free, what)
                labels.append(y)
                digests.append(_digest(x, y))
            expect(sum(map(len, labels)), what, "at least one sample", "none")
            file.flush()
            shape = (sum(map(len, labels)), *inputs.shape[1:])
            rows = np.memmap(file, inputs.dtype, "r", shape=shape)
    except OSError as error:
        raise ValueError(
            f"{what}: the batches of a {type(data).__name__} are written to a file first, which "
            f"failed: {error.strerror or error}; {VARIABLE} names another cache folder"
        ) from error
    order = "as its first pass gives them; random changes are frozen so"
    if repeatable:
        _require_the_same(data, digests, what)
        order = "in the order of both its passes"
    notice(
        f"{what}: {len(rows):,} samples of a {type(data).__name__} are written once to {folder} "
        f"({rows.nbytes / 1e6:,.0f} MB, deleted at the end), {order}, and are read by index"
    )
    return rows, np.concatenate(labels)


def _require_an_end(data: Any, what: str) -> None:
    endless = data.cardinality() == INFINITE if _is_tf(data) else data.num_batches is None
    remedy = "leave out repeat()" if _is_tf(data) else "give it a num_batches"
    expect(not endless, what, f"a {type(data).__name__} that ends", f"an endless one; {remedy}")


def _pairs(data: Any, what: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each batch of one pass, as arrays."""
    if _is_tf(data):
        batches = data.as_numpy_iterator()
    else:
        batches = (data[i] for i in range(data.num_batches))
    for batch in batches:
        parts = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and not _is_nest(batch)
        expect(pair, what, "batches of (input, label)", parts)
        x, y = map(np.asarray, batch)
        if y.dtype == object:  # TensorFlow's strings
            y = y.astype("S")
        counts = f"shapes {x.shape} and {y.shape}"
        whole = x.ndim > 1 and y.ndim > 0 and len(x) == len(y)
        remedy = "; batch single samples by .batch(32)" if y.ndim == 0 else ""
        expect(whole, what, "batches of as many inputs as labels", f"{counts}{remedy}")
        yield np.ascontiguousarray(x), y
    if not _is_tf(data):
        data.on_epoch_end()  # where a PyDataset shuffles


def _is_tf(data: Any) -> bool:
    return hasattr(data, "element_spec")


def _is_nest(batch: tuple | list) -> bool:
    return any(isinstance(part, dict | tuple | list) for part in batch)


def _write(file: IO[bytes], batch: np.ndarray, free: int, what: str) -> None:
    if batch.nbytes + ROOM > free:
        raise OSError(
            f"{file.tell() / 1e9:,.1f} GB are written and the disk is full, does it ever end?"
        )
    file.write(batch.data)


def _digest(*arrays: np.ndarray) -> bytes:
    digest = sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.digest()


def _require_the_same(data: Any, digests: list[bytes], what: str) -> None:
    count = 0
    for count, pair in enumerate(_pairs(data, what), start=1):
        if count > len(digests) or _digest(*pair) != digests[count - 1]:
            break
    else:
        if count == len(digests):
            return
    raise ValueError(
        f"{what}: expected a {type(data).__name__} that gives the same batches again, received "
        f"others in batch {count} of its second pass: shuffle with reshuffle_each_iteration=False, "
        "and leave out random changes"
    )
