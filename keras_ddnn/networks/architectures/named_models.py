"""Keras models by a name on a command line, and whatever a user has for a network as a cascade."""

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

from keras_ddnn.config.network import PaperOptions
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.networks import layers  # noqa: F401 - a saved model finds them
from keras_ddnn.networks.architectures.modern import ModernOptions, build_modern
from keras_ddnn.networks.architectures.series import SeriesOptions, build_series
from keras_ddnn.networks.architectures.views import ViewsOptions, build_views
from keras_ddnn.networks.cascade import CLOUD, FEATURES, LOCAL, Cascade
from keras_ddnn.networks.compose import split
from keras_ddnn.networks.inputs_and_exits import functional, require_logits
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.networks.wiring import CutPoints
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task

PAPER = "paper"  # the network that is made of the configuration of its training
NAMED_CUTS = 4  # cuts that a message lists


@dataclass(frozen=True)
class Network:
    """A network that is known by its name: one Keras model, with an output for each of its tiers.

    Attributes:
        options: Record of its architecture; see `PaperOptions`.
        build: (input shape, number of classes, options, precision) → the model.
        shape, classes: Of the data it was made for.
    """

    options: Any
    build: Callable[[Sequence[int], int, Any, str], keras.Model]
    shape: tuple[int, ...] = (32, 32, 3)
    classes: int = 10


def _paper(shape: Sequence[int], classes: int, options: PaperOptions, precision: str):
    return build_ddnn(shape, classes, DDNNConfig(**asdict(options), precision=precision))


def _modern(*widths: int, **options: Any) -> Network:
    return Network(ModernOptions(widths=widths, **options), build_modern)


def _of_series(**options: Any) -> Network:
    return Network(SeriesOptions(**options), build_series, (24, 5), 1)


NETWORKS = {
    PAPER: Network(PaperOptions(), _paper),
    # For devices of at most 1.5, 12.5 and 50 million multiply-adds at 32×32 pixels, and the cloud.
    "modern_tiny": _modern(20, 48, 80, stride=2, strided=True),
    "modern_small": _modern(32, 64, 128, strided=True),
    "modern_medium": _modern(64, 128, 256, strided=True),
    "modern_large": _modern(64, 256, 256),
    "modern_wide": _modern(96, 320, 320),
    "modern_deep": _modern(64, 256, 320, depth=3, residual=True),
    # To be split behind its first group, "activation_0_2", which a device of 12.5 million can have.
    "modern_strided": _modern(32, 256, 320, depth=3, residual=True, strided=True),
    # Of windows of 24 steps of a series with its clock, for a device and for the cloud. That with
    # dropout is for `MCDropout`.
    "tcn_small": _of_series(kind="tcn", width=12, blocks=3),
    "tcn_small_dropout": _of_series(kind="tcn", width=12, blocks=3, dropout=0.1),
    "tcn_large": _of_series(kind="tcn", width=48, blocks=4),
    "lstm_small": _of_series(kind="lstm", width=8, blocks=1),
    "lstm_large": _of_series(kind="lstm", width=48, blocks=2),
    # A device for each of several cameras.
    "views": Network(ViewsOptions(), build_views, (4, 32, 32, 1)),
}


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
        return row.build(shape, classes or row.classes, row.options, DDNNConfig.precision)
    if ":" in name or name.endswith(".keras"):
        if classes is not None:
            raise ValueError(f"the model {name!r} has classes of its own; leave out --classes")
        model = _from_function(name) if ":" in name else _from_file(name)
        if not isinstance(model, keras.Model):
            raise ValueError(f"{name}: expected a Keras model; received {type(model).__name__}")
        return model
    known = _applications()
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


def waits_for_data(network: Any) -> bool:
    """Return whether it is a name of a network that can be made once its data are known."""
    return isinstance(network, str) and network in {*NETWORKS, *_applications()} - {PAPER}


def as_network(
    network: Cascade | keras.Model | str | None,
    at: str | Sequence[str] | None = None,
    *,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    seed: int = 0,
    task: Task = CLASSIFICATION,
) -> Cascade | None:
    """Return whatever stands for a network as a cascade.

    Args:
        network: A `Cascade`, which is returned as it is; a Keras model; or a name, see
            `named_model`. None, or "paper", is the network of the paper.
        at: The layer of a model whose output travels, see `split`. It may be left out where the
            outputs are named "local" and "cloud": then it is the layer "features".
        shape, classes: Shape of one sample and number of classes, for a name that `waits_for_data`.
        seed: See `named_model`.
        task: What the outputs are, unless it is a cascade, which says so itself.

    Returns:
        The cascade; None for the network of the paper, whose configuration makes it.

    Raises:
        ValueError: If it is something else, needs a cut and has none, or cannot be cut there; in
            one line.
    """
    of_paper = network is None or (isinstance(network, str) and network == PAPER)
    if of_paper or isinstance(network, Cascade):
        if at is not None:
            what = "the network of the paper" if of_paper else "a cascade"
            raise ValueError(f"{what} is cut already; received at={at!r}: leave it out")
        return None if of_paper else network
    name = network if isinstance(network, str) else None
    model = network if name is None else named_network(name, shape, classes, seed)
    if not isinstance(model, keras.Model):
        raise ValueError(
            "expected a Keras model, a keras_ddnn.Cascade or the name of a network; received "
            f"{type(model).__name__}: build the model first"
        )
    several = isinstance(model, keras.Function) and len(model.outputs) > 1
    if several:
        return _of_two_outputs(model, at or FEATURES, task)
    if at is None:
        raise ValueError(_needs_cut(functional(model), name))
    return split(model, at, task=task)


def _of_two_outputs(model: keras.Model, at: str | Sequence[str], task: Task) -> Cascade:
    """Return a model that has an exit of its own as a cascade, cut at a layer."""
    output = model.output
    found = output if isinstance(output, dict) else dict(zip(model.output_names, model.outputs))
    if {*found} != {LOCAL, CLOUD}:
        raise ValueError(
            f"expected a model of one output, or of the outputs {LOCAL!r} and {CLOUD!r}; received "
            f"{', '.join(found)}"
        )
    (at, *others) = [at] if isinstance(at, str) else at
    if others:
        others = [at, *others]
        raise ValueError(f"a model of two outputs is cut at one layer; received at={others!r}")
    for name in (LOCAL, CLOUD) if task.target_reader is None else ():
        require_logits(functional(keras.Model(model.input, found[name], name=name)))
    try:
        CutPoints.of(keras.Model(model.input, found[CLOUD])).require(at)
    except ValueError as error:
        raise ValueError(f"{error}; pass at=LAYER, the layer that is sent") from None
    outputs = {name: found[name] for name in (LOCAL, CLOUD)}
    return Cascade(keras.Model(model.input, outputs, name=model.name), (at,), task)


def _needs_cut(model: keras.Model, name: str | None) -> str:
    """Say that a model of one output has to be cut, and where it can be."""
    cuts = CutPoints.of(model).inner
    places = np.unique(np.linspace(0, len(cuts) - 1, NAMED_CUTS).astype(int)) if cuts else ()
    some = ", ".join(cuts[place] for place in places)
    listed = "" if name is None else f"; python -m keras_ddnn.cuts {name} lists what each costs"
    return (
        f"the model {name or model.name!r} has one output and needs a layer to be cut at: pass "
        "at=LAYER or network=keras_ddnn.split(model, at=LAYER); it can be cut at "
        f"{len(cuts)} layers"
        f"{some and ', as '}{some}{listed}"
    )


def _applications() -> dict[str, Callable[..., keras.Model]]:
    return {name: made for name, made in vars(keras.applications).items() if name[0].isupper()}


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
