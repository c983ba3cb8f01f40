"""What a model gets to become a part of a cascade: inputs as users have them, logits, exits."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_ddnn.files.notices import notice
from keras_ddnn.networks.layers import settle
from keras_ddnn.networks.wiring import CutPoints, as_functional, layer_of, wiring

IMAGE_CHANNELS = (1, 3, 4)
RESCALES = (layers.Rescaling, layers.Normalization)  # they take integers as they come
FIRST_LAYERS = 3  # among which a model rescales its images, if it does
POOLING = {
    3: layers.GlobalAveragePooling1D,
    4: layers.GlobalAveragePooling2D,
    5: layers.GlobalAveragePooling3D,
}

PROBABILITIES = ("softmax", "sigmoid")
# Operations of Keras that are no layers: of probabilities they make no logits.
ARITHMETIC = (
    *("Absolute", "Add", "Divide", "GetItem", "Maximum", "Mean", "Minimum", "Multiply"),
    *("Power", "Reshape", "Squeeze", "Subtract", "Sum", "TrueDivide"),
)

Exit = Callable[[keras.KerasTensor], keras.KerasTensor]


def functional(model: keras.Model, columns: int | None = None) -> keras.Model:
    """Return a model as a functional one of one input and one output (n, columns).

    Args:
        model: Of one input and one output.
        columns: Of the output; None for a score a class, two or more.

    Raises:
        ValueError: If it is none: subclassed, Sequential without an input shape, of several inputs
            or outputs, or of an output of another shape.
    """
    model = as_functional(model)
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"expected a model of one input and one output; received {len(inputs)} and "
            f"{len(outputs)}"
        )
    shape = outputs[0].shape
    fits = len(shape) == 2 and shape[-1] and shape[-1] >= 2
    if columns is None and not fits:
        raise ValueError(f"expected an output (n, num_classes), two or more; received {shape}")
    if columns is not None and shape[1:] != (columns,):
        raise ValueError(f"expected an output (n, {columns}) of numbers; received {shape}")
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
    inputs: keras.KerasTensor,
    model: keras.Model,
    preprocess: layers.Layer | None,
    raw: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """Return what the first layer of a model reads, made of inputs, which `raw` ones were before.

    Args:
        inputs: As users have them, or resized.
        model: See `functional`.
        preprocess: A layer that is to be the first.
        raw: The inputs as users have them; `inputs` by default.
    """
    if preprocess is not None:
        return preprocess(inputs)
    raw = inputs if raw is None else raw
    if raw.dtype == model.inputs[0].dtype:
        return inputs
    operations = {operation.name: operation for operation in model.operations}
    first = [operations.get(name) for name in list(wiring(model))[1 : 1 + FIRST_LAYERS]]
    if not any(isinstance(layer, RESCALES) for layer in first):
        notice(
            f"the model {model.name!r} does not rescale its images: it gets pixels of 0 to 255; if "
            "it was made for another range, put a keras.layers.Rescaling before it, or pass it to "
            "split or chain as preprocess"
        )
    if isinstance(first[0], RESCALES) or inputs.dtype != raw.dtype:
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
    # Not rounded to pixels again, as a device resizes in float32: training is to see the same.
    floats = keras.backend.is_float_dtype(model.inputs[0].dtype)
    dtype = "float32" if floats else inputs.dtype
    return layers.Resizing(*expected[:2], dtype=dtype, name=f"{name}_resized")(inputs)


def outputs_on(
    inputs: keras.KerasTensor, model: keras.Model, prefix: str = "", numbers: bool = False
) -> dict[str, keras.KerasTensor]:
    """Copy a model with its weights onto a tensor; of class scores without a softmax at the end.

    Args:
        inputs: What the first layer reads.
        model: What to copy; see `functional`.
        prefix: Prefix of the names of the copied layers.
        numbers: Whether the outputs are numbers, which may end with any activation.

    Returns:
        Name of a layer of `model` → the output of its copy.

    Raises:
        ValueError: If scores are neither logits nor made by a softmax that can be left out.
    """
    last = last_operation(model)
    activation = "any" if numbers else require_logits(model, or_softmax=True)
    if activation == "softmax":
        notice(f"the softmax of {last.name!r} is left out: outputs are logits from here on")

    def clone(operation: keras.Operation) -> keras.Operation:
        config = operation.get_config()
        if isinstance(operation, layers.Layer):
            config = config | {"name": prefix + operation.name}
        if operation is last and activation == "softmax":
            if not operation.weights:
                return layers.Identity(name=config["name"])
            config = config | {"activation": "linear"}
        return type(operation).from_config(config)

    tensors, copies = {}, {}

    def call(operation: keras.Operation, *arguments: Any, **options: Any) -> Any:
        name = operation.name.removeprefix(prefix)
        copies[name] = operation
        if isinstance(operation, layers.Identity):
            options.pop("mask", None)  # that of the softmax in whose place it stands
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


def require_logits(model: keras.Model, or_softmax: bool = False) -> str:
    """Return the activation that a model of one output ends with.

    Args:
        model: See `functional`.
        or_softmax: Whether a softmax that can be left out is allowed, too.

    Raises:
        ValueError: If the outputs are no logits.
    """
    last = last_operation(model)
    activation = _activation(last)
    left_out = (
        or_softmax
        and activation == "softmax"
        and not isinstance(last, keras.Model)
        and [*map(layer_of, wiring(model))].count(last.name) == 1  # an earlier call keeps its own
    )
    if activation == "linear" and (made := _probabilities_behind(last, model)):
        raise ValueError(
            f"outputs must be logits; received what {last.name!r} makes of the probabilities of "
            f"{', '.join(map(repr, made))} in the model {model.name!r}: make it of the logits"
        )
    if activation != "linear" and not left_out:
        allowed = ", or a softmax of them at the end" if or_softmax else ""
        raise ValueError(
            f"outputs must be logits{allowed}; received {activation!r} in {last.name!r} of the "
            f"model {model.name!r}"
        )
    return activation


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


def last_operation(model: keras.Model) -> keras.Operation:
    """Return the operation that makes the output of a functional model."""
    name = CutPoints.of(model).order[-1]
    return next(operation for operation in model.operations if operation.name == name)


def _activation(operation: keras.Operation) -> str:
    """Return the name of the activation that an operation ends with, "linear" for none."""
    if isinstance(operation, keras.Model):
        return _activation(last_operation(functional(operation)))
    if isinstance(operation, layers.Softmax):
        return "softmax"
    function = getattr(operation, "activation", keras.activations.linear)
    return getattr(function, "__name__", type(function).__name__)


def _probabilities_behind(operation: keras.Operation, model: keras.Model) -> list[str]:
    """Return the layers whose probabilities are all that an operation passes on; or none."""
    feeds, operations = wiring(model), {each.name: each for each in model.operations}
    found, behind = {}, [operation.name]
    for name in behind:  # which grows
        maker = operations[layer_of(name)]
        activation = _activation(maker)
        if activation in PROBABILITIES:
            found[maker.name] = True
        elif isinstance(maker, keras.Model) and activation == "linear":
            inner = functional(maker)
            made = _probabilities_behind(last_operation(inner), inner)
            if not made:
                return []
            found |= dict.fromkeys(made, True)
        elif activation != "linear" or not feeds[name] or not _passes_on(maker):
            return []
        else:
            behind += [before for before in feeds[name] if before not in behind]
    return sorted(found)


def _passes_on(operation: keras.Operation) -> bool:
    """Return whether probabilities stay such, or sums of such, in a layer or operation of Keras."""
    if isinstance(operation, layers.Layer):
        kept = type(operation).__module__.startswith("keras.")
        return kept and not operation.weights and not isinstance(operation, layers.Lambda)
    return type(operation).__name__ in ARITHMETIC


def require_free(names: Sequence[str], model: keras.Model) -> None:
    """Raise ValueError if a model has layers of the names that tiers shall have."""
    taken = {operation.name for operation in model.operations} & {*names}
    if taken:
        raise ValueError(
            f"the names {', '.join(names)} are those of the tiers; the model has layers named "
            f"{', '.join(sorted(taken))}: rename them"
        )
