"""Networks in files: what they are as JSON, and weights as HDF5, read as data and never as code."""

import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_ddnn.networks.architectures.modern_layers import MODERN_LAYERS
from keras_ddnn.networks.architectures.view_layers import VIEW_LAYERS
from keras_ddnn.networks.codes import PATCH_LAYERS
from keras_ddnn.networks.layers import OWN_LAYERS

NUMBERS = "fiub"  # kinds of NumPy types: HDF5 has types that refer to elsewhere, too
MAX_DESCRIPTION = 16 << 20  # bytes
# What a description may name of Keras: what computes, begins, bounds or types it.
KINDS = (
    keras.Operation,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
)
# Layers of Keras that hold code of somebody else, or read a file that their description names.
OTHERS = (
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "StringLookup",
    "IntegerLookup",
    "IndexLookup",
    "TextVectorization",
    "FeatureSpace",
)
PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__")


def describe(model: keras.Model) -> dict:
    """Return a functional model as plain JSON, from which `from_description` makes it again.

    Raises:
        ValueError: In one line that names the layer, if its own code would be needed for that.
    """
    try:
        description = json.loads(json.dumps(model.get_config(), allow_nan=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"expected layers that Keras can write as JSON; received others: {_one_line(error)}"
        ) from error
    _require_known(description)
    return description


def from_description(description: Mapping) -> keras.Model:
    """Make a model of what `describe` has returned. It runs code of Keras and of ours alone.

    Raises:
        ValueError: In one line, if it names anything but layers of these two, or describes no
            functional model.
    """
    _require_known(description)
    try:
        model = keras.Model.from_config(dict(description))
    except Exception as error:  # Keras raises whatever a made-up description happens to break
        raise ValueError(f"expected a functional model; {_one_line(error)}") from error
    if not isinstance(model, keras.Function):
        raise ValueError(f"expected a functional model; received {type(model).__name__}")
    return model


def read_description(path: str | Path) -> dict:
    """Read a file of `describe`.

    Raises:
        ValueError: In one line, if it is too long, no JSON or no object.
    """
    with open(path, "rb") as file:
        text = file.read(MAX_DESCRIPTION + 1)
    try:
        if len(text) > MAX_DESCRIPTION:
            raise ValueError(f"expected at most {MAX_DESCRIPTION:,} bytes; received more")
        description = json.loads(text)
        if not isinstance(description, dict):
            raise ValueError(f"expected an object; received {text[:20]!r}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} describes no network: {_one_line(error)}") from error
    return description


def _require_known(content: object, layer: str = "the model") -> None:
    """Raise ValueError unless all classes that a description names are of Keras or ours."""
    pending = [(content, layer)]
    while pending:
        content, layer = pending.pop()
        if isinstance(content, Mapping):
            layer = content["name"] if isinstance(content.get("name"), str) else layer
            if "class_name" in content and not _is_known(content):
                inner = content.get("config")
                name = inner.get("name", layer) if isinstance(inner, Mapping) else layer
                raise ValueError(
                    "expected layers of Keras alone, without code or files of their own; received "
                    f"{str(content.get('registered_name') or content['class_name'])[:60]!r} in "
                    f"{str(name)[:60]!r}"
                )
            pending += [(value, layer) for value in content.values()]
        elif isinstance(content, list | tuple):
            pending += [(value, layer) for value in content]


def _is_known(content: Mapping) -> bool:
    name, module, registered = (
        content.get(key) for key in ("class_name", "module", "registered_name")
    )
    if not isinstance(name, str) or name in OTHERS:
        return False
    if module is None:
        return name in PLAIN
    if registered in OWN_LAYERS | VIEW_LAYERS | MODERN_LAYERS | PATCH_LAYERS:
        return True
    if registered not in (None, name) or not isinstance(module, str):
        return False
    if module != "keras" and not module.startswith("keras."):
        return False
    # Keras has loaded its own modules: none is imported here by its name.
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and issubclass(found, KINDS)


def digest_of_weights(model: keras.Model) -> str:
    """Return the SHA-256 of all weights of a model."""
    digest = sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


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
