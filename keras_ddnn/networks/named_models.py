"""Keras models by a name on a command line: a function, a file, or a network that is known."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ddnn.config import DDNNConfig, PaperOptions
from keras_ddnn.networks import layers  # noqa: F401 - a saved model finds them
from keras_ddnn.networks.paper import build_ddnn


@dataclass(frozen=True)
class Network:
    """A network that is known by its name: one Keras model with an output for each tier.

    Attributes:
        options: Record of its architecture; see `PaperOptions`.
        build: (input shape, number of classes, options, precision) → the model.
        at: Name of the layer whose output travels.
        shape, classes: Of the data it was made for.
    """

    options: type
    build: Callable[[Sequence[int], int, Any, str], keras.Model]
    at: str
    shape: tuple[int, ...]
    classes: int


def _paper(shape: Sequence[int], classes: int, options: PaperOptions, precision: str):
    return build_ddnn(shape, classes, DDNNConfig(**asdict(options), precision=precision))


NETWORKS = {"paper": Network(PaperOptions, _paper, "features", (32, 32, 3), 10)}


def named_model(
    name: str,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> keras.Model:
    """Return the model that a name stands for.

    Args:
        name: "package.module:function", a function without arguments that returns a model; a
            `.keras` file, of which no code is run; a model of `keras.applications`, made without
            weights; or a key of `NETWORKS`.
        input_shape: Shape of one sample, without n, of a network that is known by its name; a
            function or a file makes its own.
        classes: Number of classes of a network that is known by its name.
        seed: Set before a function is called, after all Keras state is cleared, so that the same
            code gives the same weights and names of layers.

    Raises:
        ValueError: If there is no such model, or it cannot be made; in one line.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if row := NETWORKS.get(name):
        shape = input_shape or row.shape
        return row.build(shape, classes or row.classes, row.options(), DDNNConfig.precision)
    if ":" in name or name.endswith(".keras"):
        if classes is not None:
            raise ValueError(f"the model {name!r} has classes of its own; leave out --classes")
        model = _from_function(name) if ":" in name else _from_file(name)
        if not isinstance(model, keras.Model):
            raise ValueError(f"{name}: expected a Keras model; received {type(model).__name__}")
        return model
    known = {n: f for n, f in vars(keras.applications).items() if n[0].isupper()}
    if name not in known:
        near = get_close_matches(name, [*known, *NETWORKS], n=3, cutoff=0.4)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise ValueError(
            f"unknown model {name!r}: expected package.module:function, a .keras file, a model of "
            f"keras.applications or one of {', '.join(NETWORKS)}{hint}"
        )
    given = {"input_shape": input_shape and tuple(input_shape), "classes": classes}
    return _made(known[name], name, {k: v for k, v in given.items() if v is not None})


def named_network(name: str, shape: Sequence[int], classes: int, seed: int = 0) -> keras.Model:
    """Return the model that a name stands for, made for data where a name alone does not say.

    Args:
        name: See `named_model`.
        shape: Shape of one sample, without n.
        classes: Number of classes of the data.
        seed: See `named_model`.

    Raises:
        ValueError: If there is no such model, or it cannot be made; in one line.
    """
    if ":" in name or name.endswith(".keras"):
        return named_model(name, seed=seed)
    return named_model(name, shape, classes, seed)


def address_of(model: keras.Model) -> str:
    """Return the SHA-256, in hex, of the configuration of a model and of its weights.

    It does not depend on where the code that makes the model is, or what it is called.
    """
    content = keras.saving.serialize_keras_object(model)
    digest = sha256(json.dumps(content, sort_keys=True).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def _from_function(name: str):
    module, _, function = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name}: expected package.module:function; {_one_line(error)}") from error
    return _made(make, name)


def _from_file(name: str):
    try:
        return keras.saving.load_model(name, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what a damaged file happens to break
        raise ValueError(f"{name}: expected a .keras file; {_one_line(error)}") from error


def _made(make, name: str, options: dict | None = None):
    try:
        return make(**({"weights": None} | options if options is not None else {}))
    except Exception as error:  # it is the user's code
        raise ValueError(f"{name} raised {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
