"""The file of an interrupted training: what is in it, and which training it is of."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.rows.view import blocks
from keras_ddnn.data.splits import Split
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.records import as_json
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.known import task_as_json
from keras_ddnn.tasks.task import Task

CODE = ("networks", "training", "heads", "labels")  # rooms that change what a training comes to
LIBRARIES = ("tensorflow", "keras", "numpy")


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write plain values and arrays, nested as one likes, with their hash, whole or not at all.

    Raises:
        OSError: If the file cannot be written; an older one is then untouched.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(state, arrays)).encode()
    record = np.frombuffer(text, np.uint8)
    digest = np.frombuffer(_digest(record, arrays), np.uint8)
    with replacing_file(path) as file:
        np.savez(file, **arrays, record=record, sha256=digest)


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` has written; raises whatever damage brings NumPy or JSON to."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    record, digest = arrays.pop("record"), arrays.pop("sha256").tobytes()
    if _digest(record, arrays) != digest:
        raise ValueError("expected the hash that was written")
    return _with_arrays(json.loads(record.tobytes()), arrays)


def address_of_training(
    model: keras.Model,
    config: DDNNConfig,
    data: Iterable[Split | np.ndarray | None],
    callbacks: Sequence[keras.callbacks.Callback],
    task: Task = CLASSIFICATION,
) -> str:
    """Return the SHA-256, in hex, of all that a training's result follows from.

    Args:
        model: Before its training.
        config: The recipe.
        data: Training and validation data, weights of samples; every row is read.
        callbacks: Of which the classes count.
        task: What the outputs are: it has the loss.
    """
    content = {
        "model": _described(model),
        "config": as_json(config),
        "task": task_as_json(task),
        "replicas": model.distribute_strategy.num_replicas_in_sync,
        "callbacks": [type(callback).__qualname__ for callback in callbacks],
        "code": _code(),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for each in data:
        arrays = (each.images, each.labels) if isinstance(each, Split) else (each,)
        for array in arrays if each is not None else ():
            digest.update(f"{array.shape}{np.dtype(array.dtype).str}".encode())
            for block in blocks(array):
                digest.update(block)
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def _described(model: keras.Model) -> str:
    try:
        return model.to_json()
    except (NotImplementedError, TypeError, ValueError):  # by layers that cannot be saved
        return str([(layer.name, type(layer).__qualname__) for layer in model.layers])


@cache
def _code() -> str:
    """Return the hash of our code that trains, and of the versions it runs on."""
    digest = hashlib.sha256(json.dumps([version(name) for name in LIBRARIES]).encode())
    package = Path(__file__).parent.parent
    for file in sorted(file for room in CODE for file in (package / room).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return plain JSON in which each array is the name under which it is put into `arrays`."""
    if isinstance(value, (np.ndarray, np.generic)):
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name}
    if isinstance(value, dict):
        return {name: _without_arrays(each, arrays) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(each, arrays) for each in value]
    return value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {name: _with_arrays(each, arrays) for name, each in value.items()}
    return [_with_arrays(each, arrays) for each in value] if isinstance(value, list) else value


def _digest(record: np.ndarray, arrays: dict[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256(record.tobytes())
    for name, array in arrays.items():
        digest.update(f"{name}{array.shape}{array.dtype.itemsize}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
