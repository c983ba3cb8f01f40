"""A DDNN as a chain of tiers: one Keras model cut in parts, or several models one after another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import keras
import numpy as np
from keras import layers

from keras_ddnn.data.splits import InputType
from keras_ddnn.files.notices import notice
from keras_ddnn.networks.folding import fold
from keras_ddnn.networks.layers import settle
from keras_ddnn.networks.wiring import CutPoints, wiring

LOCAL, CLOUD = "local", "cloud"  # the first and the last tier
FEATURES = "features"  # of the networks of `build_ddnn`, the layer that is sent
IMAGE_CHANNELS = (1, 3, 4)
RESCALES = (layers.Rescaling, layers.Normalization)  # they take integers as they come
FIRST_LAYERS = 3  # among which a model rescales its images, if it does
POOLING = {
    3: layers.GlobalAveragePooling1D,
    4: layers.GlobalAveragePooling2D,
    5: layers.GlobalAveragePooling3D,
}

Exit = Callable[[keras.KerasTensor], keras.KerasTensor]


@dataclass(frozen=True, eq=False)
class Tier:
    """A part of a DDNN that runs on one machine and can answer.

    Attributes:
        name: "local" for the first, "cloud" for the last.
        model: What it reads → {"outputs": logits (n, num_classes), "features": what it hands on}.
            The last tier hands on nothing and has no "features".
    """

    name: str
    model: keras.Model


@dataclass(frozen=True, eq=False)
class Cascade:
    """Tiers in order. Each answers, or hands on what the next one reads.

    Attributes:
        model: All tiers as one functional model: inputs → {name of a tier: its logits}, in order.
            It is what is trained; the tiers share its weights.
        sent: Of each tier but the last, the layer of `model` whose output is handed on; that of the
            input where the input itself travels.
    """

    model: keras.Model
    sent: tuple[str, ...]
    _folded: dict[str, "Cascade"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def tiers(self) -> tuple[Tier, ...]:
        """From the first that a sample meets to the last."""
        operations = {operation.name: operation for operation in self.model.operations}
        sent = [operations[name].output for name in self.sent]
        read, tiers = [self.model.input, *sent], []
        for place, (name, outputs) in enumerate(self.model.output.items()):
            handed_on = {"features": sent[place]} if place < len(sent) else {}
            part = keras.Model(read[place], {"outputs": outputs, **handed_on}, name=name)
            tiers.append(Tier(name, part))
        return tuple(tiers)

    @property
    def reads(self) -> InputType:
        """What the device reads of a sample."""
        return InputType(tuple(self.model.inputs[0].shape[1:]), self.model.inputs[0].dtype)

    @property
    def sends_inputs(self) -> bool:
        """Whether the device hands on its input as it came, as in a chain."""
        return self.sent[0] == self.model.inputs[0].name

    @property
    def sent_dtype(self) -> str:
        """Type of what the device sends: inputs and integers as they are, features as float16."""
        dtype = self.tiers[0].model.output["features"].dtype
        feature = not self.sends_inputs and keras.backend.is_float_dtype(dtype)
        return "float16" if feature else dtype

    def folded(self) -> "Cascade":
        """Return a copy for inference; see `fold`. The first tier computes in float32.

        It is made once, and anew when the weights have changed since.
        """
        weights = _digest(self.model)
        if weights not in self._folded:
            self._folded.clear()
            on_device = {layer.name for layer in self.tiers[0].model.layers}
            self._folded[weights] = Cascade(fold(self.model, on_device), self.sent)
        return self._folded[weights]

    def copy(self) -> "Cascade":
        """Return a cascade of the same weights and of layers of its own."""
        model = keras.models.clone_model(self.model)
        model.set_weights(self.model.get_weights())
        settle(model)
        for ours, theirs in zip(model.layers, self.model.layers, strict=True):
            ours.trainable = theirs.trainable
        return Cascade(model, self.sent)


def as_cascade(network: "keras.Model | Cascade") -> "Cascade":
    """Return a network as a cascade; a model alone is cut at its layer "features"."""
    return network if isinstance(network, Cascade) else Cascade(network, (FEATURES,))


def _digest(model: keras.Model) -> str:
    """Return the SHA-256 of all weights of a model."""
    digest = sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def split(
    model: keras.Model,
    at: str | Sequence[str],
    exit: Exit | int | None = None,
    preprocess: layers.Layer | None = None,
    *,
    freeze: bool = False,
) -> Cascade:
    """Cut a functional Keras model at layers, and give each part but the last an exit of its own.

    The model is copied with its weights and is not changed. A softmax at its end is left out, as
    outputs are logits from here on, and this is said in one line. Images enter as uint8; tables and
    tokens keep the type that the model takes.

    Args:
        model: Functional, with one input and one output of class scores (n, num_classes); or
            Sequential with an input shape.
        at: Name of the layer whose output travels, or of several in order.
        exit: What makes logits (n, num_classes) of the tensor that travels: a function of a Keras
            tensor, or the units of a hidden dense layer behind global average pooling. By default
            one dense layer reads the pooled tensor.
        preprocess: A layer that becomes the first of the model: raw input → what the model expects.
        freeze: Whether the exits alone are trained, as one wishes for a model that is trained
            already: what the cloud answers stays what it was.

    Returns:
        Cascade: Its first tier is "local", its last "cloud".

    Raises:
        ValueError: If the model has no such layer, the layer does not carry all that the rest
            reads, or the outputs cannot be made logits. The message names what was found.
    """
    model = functional(model)
    cuts = [at] if isinstance(at, str) else list(at)
    points = CutPoints.of(model)
    for name in cuts:
        points.require(name)
    places = [points.order.index(name) for name in cuts]
    if not cuts or places != sorted(set(places)):
        raise ValueError(f"cuts must come in the order of the model, each once; received {cuts}")
    names = tier_names(len(cuts) + 1)
    _require_free(names, model)

    inputs = raw_input(model)
    tensors = logits_on(prepared(inputs, model, preprocess), model)
    logits = tensors[points.order[-1]]
    sent = [tensors[name] for name in cuts]
    outputs = {
        name: make_exit(exit, tensor, logits.shape[-1], name) for name, tensor in zip(names, sent)
    }
    outputs[CLOUD] = as_output(logits, CLOUD)
    joint = keras.Model(inputs, outputs, name="ddnn")
    if freeze:
        for layer in keras.Model(inputs, outputs[CLOUD]).layers:
            layer.trainable = False
    return Cascade(joint, tuple(cuts))


def chain(
    models: Mapping[str, keras.Model],
    preprocess: Mapping[str, layers.Layer] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Cascade:
    """Put independent models one after another: what travels is the input itself.

    Each model is copied with its weights. It sees the input resized to the size it takes.

    Args:
        models: Name of a tier → a functional model of class scores (n, num_classes), the device's
            first. The first is to be named "local", the last "cloud".
        preprocess: Name of a tier → a layer that becomes the first of its model, behind resizing.
        input_shape: Shape of one sample, without n; that of the largest input by default.

    Returns:
        Cascade: A tier a model. All but the last hand on the input as it came.

    Raises:
        ValueError: If there are fewer than two models, they differ in classes or in the kind of
            their input, or the outputs of one cannot be made logits.
    """
    models = {name: functional(model) for name, model in models.items()}
    if len(models) < 2 or [*models][:: len(models) - 1] != [LOCAL, CLOUD]:
        raise ValueError(
            f"a chain has two models or more, from {LOCAL!r} to {CLOUD!r}; received {list(models)}"
        )
    classes = {name: model.output.shape[-1] for name, model in models.items()}
    if len(set(classes.values())) > 1:
        raise ValueError(f"the models of a chain must share their classes; received {classes}")
    raw = {name: raw_input(model) for name, model in models.items()}
    kinds = {name: (tensor.dtype, len(tensor.shape)) for name, tensor in raw.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"the models of a chain must read inputs of one type and rank; received {kinds}"
        )
    largest = max(raw.values(), key=lambda tensor: tensor.shape[1] or 0)
    shape = tuple(input_shape or largest.shape[1:])
    inputs = keras.Input(shape, dtype=largest.dtype, name=largest.name)
    outputs = {}
    for name, model in models.items():
        seen = resized(inputs, model, name)
        seen = prepared(seen, model, (preprocess or {}).get(name))
        tensors = logits_on(seen, model, prefix=f"{name}_")
        outputs[name] = as_output(tensors[_last_operation(model).name], name)
    # Every tier but the last hands on what it was given.
    joint = keras.Model(inputs, outputs, name="ddnn")
    return Cascade(joint, (inputs.name,) * (len(models) - 1))


def tier_names(count: int) -> tuple[str, ...]:
    """Return the names of so many tiers: "local", "tier1", … "cloud"."""
    return (LOCAL, *(f"tier{number}" for number in range(1, count - 1)), CLOUD)


def functional(model: keras.Model) -> keras.Model:
    """Return a model as a functional one of one input and one output (n, num_classes).

    Raises:
        ValueError: If it is none: subclassed, Sequential without an input shape, of several inputs
            or outputs, or of an output that has not one score a class.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    try:
        inputs, outputs = model.inputs, model.outputs
        functional_model = bool(inputs) and hasattr(model, "operations")
    except (AttributeError, ValueError):
        functional_model = False
    if not functional_model:
        raise ValueError(
            "expected a functional Keras model, or a Sequential one with an input shape; received "
            f"{type(model).__name__}: build it by keras.Model(inputs, outputs)"
        )
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"expected a model of one input and one output; received {len(inputs)} and "
            f"{len(outputs)}"
        )
    shape = outputs[0].shape
    if len(shape) != 2 or not shape[-1] or shape[-1] < 2:
        raise ValueError(f"expected an output (n, num_classes), two or more; received {shape}")
    if isinstance(model.output, list | tuple | dict):
        model = keras.Model(inputs[0], outputs[0], name=model.name)
    return model


def raw_input(model: keras.Model) -> keras.KerasTensor:
    """Return an input for what users have: uint8 for images, else the type that the model takes."""
    tensor = model.inputs[0]
    image = len(tensor.shape) == 4 and tensor.shape[-1] in IMAGE_CHANNELS
    if image and tensor.dtype.startswith("float"):
        return keras.Input(tensor.shape[1:], dtype="uint8", name="images")
    return keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)


def prepared(
    inputs: keras.KerasTensor, model: keras.Model, preprocess: layers.Layer | None
) -> keras.KerasTensor:
    """Return what the first layer of a model reads, made of raw inputs."""
    if preprocess is not None:
        return preprocess(inputs)
    if inputs.dtype == model.inputs[0].dtype:
        return inputs
    operations = {operation.name: operation for operation in model.operations}
    first = [operations.get(name) for name in list(wiring(model))[1 : 1 + FIRST_LAYERS]]
    if not any(isinstance(layer, RESCALES) for layer in first):
        notice(
            f"the model {model.name!r} does not rescale its images: it gets pixels of 0 to 255; "
            "pass preprocess, a Keras layer, if it was made for another range"
        )
    if isinstance(first[0], RESCALES):
        return inputs
    return layers.Rescaling(1.0, name=f"{model.name}_as_float")(inputs)


def resized(inputs: keras.KerasTensor, model: keras.Model, name: str) -> keras.KerasTensor:
    """Return images of the size that a model takes; other inputs must have that shape already."""
    expected, received = model.inputs[0].shape[1:], inputs.shape[1:]
    if expected == received:
        return inputs
    if len(expected) != 3 or expected[-1] != received[-1]:
        raise ValueError(
            f"the model {name!r} takes inputs of shape {expected}; received {received}, and only "
            "the sides of images are resized"
        )
    # It keeps the type: resized images are pixels again.
    return layers.Resizing(*expected[:2], dtype=inputs.dtype, name=f"{name}_resized")(inputs)


def logits_on(
    inputs: keras.KerasTensor, model: keras.Model, prefix: str = ""
) -> dict[str, keras.KerasTensor]:
    """Copy a model with its weights onto a tensor, without a softmax at its end.

    Args:
        inputs: What the first layer reads.
        model: What to copy; see `functional`.
        prefix: Of the names of the copied layers.

    Returns:
        Name of a layer of `model` → the output of its copy.

    Raises:
        ValueError: If its outputs are neither logits nor made by a softmax that can be left out.
    """
    last = _last_operation(model)
    activation = _activation(last)
    if activation not in ("linear", "softmax") or (
        activation == "softmax" and isinstance(last, keras.Model)
    ):
        raise ValueError(
            f"outputs must be logits, or a softmax of them at the end; received {activation!r} in "
            f"{last.name!r} of the model {model.name!r}"
        )
    if activation == "softmax":
        notice(f"the softmax of {last.name!r} is left out: outputs are logits from here on")

    def clone(operation):
        config = operation.get_config()
        if isinstance(operation, layers.Layer):
            config = config | {"name": prefix + operation.name}
        if operation is last and activation == "softmax":
            if not operation.weights:
                return layers.Identity(name=config["name"])
            config = config | {"activation": "linear"}
        return type(operation).from_config(config)

    tensors, copies = {}, {}

    def call(operation, *arguments, **options):
        name = operation.name.removeprefix(prefix)
        copies[name] = operation
        tensors[name] = operation(*arguments, **options)
        return tensors[name]

    # `clone_model` returns a model of its own input; what it calls on the way hangs on `inputs`.
    structure = [inputs] if isinstance(model.input, list | tuple) else inputs
    keras.models.clone_model(
        model, input_tensors=structure, clone_function=clone, call_function=call
    )
    for layer in model.layers:
        if layer.weights:
            copies[layer.name].set_weights(layer.get_weights())
            settle(copies[layer.name])
    return tensors


def make_exit(
    exit: Exit | int | None, tensor: keras.KerasTensor, num_classes: int, name: str
) -> keras.KerasTensor:
    """Return the logits of an exit that reads a tensor; see `split`.

    Raises:
        ValueError: If a function makes something else than (n, num_classes).
    """
    if callable(exit):
        logits = exit(tensor)
        if tuple(logits.shape) != (None, num_classes):
            raise ValueError(
                f"an exit must make logits of shape (n, {num_classes}); received {logits.shape}"
            )
        return as_output(logits, name)
    rank = len(tensor.shape)
    x = POOLING[rank](name=f"{name}_pool")(tensor) if rank in POOLING else tensor
    if exit:
        x = layers.Dense(exit, activation="relu", name=f"{name}_dense")(x)
    return layers.Dense(num_classes, dtype="float32", name=name)(x)


def as_output(logits: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return logits as a float32 output of a name, by which losses and metrics find it."""
    return layers.Identity(dtype="float32", name=name)(logits)


def _last_operation(model: keras.Model):
    name = CutPoints.of(model).order[-1]
    return next(operation for operation in model.operations if operation.name == name)


def _activation(operation) -> str:
    """Return the name of the activation that an operation ends with, "linear" for none."""
    if isinstance(operation, keras.Model):
        return _activation(_last_operation(functional(operation)))
    if isinstance(operation, layers.Softmax):
        return "softmax"
    function = getattr(operation, "activation", keras.activations.linear)
    return getattr(function, "__name__", type(function).__name__)


def _require_free(names: Sequence[str], model: keras.Model) -> None:
    taken = {operation.name for operation in model.operations} & {*names}
    if taken:
        raise ValueError(
            f"the names {', '.join(names)} are those of the tiers; the model has layers named "
            f"{', '.join(sorted(taken))}: rename them"
        )
