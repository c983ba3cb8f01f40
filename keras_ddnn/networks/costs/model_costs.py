"""What a model costs to run and to keep, whole and on a device up to each layer where it is cut."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

import keras
import numpy as np

from keras_ddnn.evaluation.cut_latency import CLOUD_ONLY, DEVICE_ONLY, CutCosts
from keras_ddnn.networks.costs.layer_costs import step_multiply_adds
from keras_ddnn.networks.costs.trace import Step, Trace
from keras_ddnn.networks.inputs_and_exits import functional, raw_input
from keras_ddnn.networks.paper import split_ddnn
from keras_ddnn.networks.wiring import CutPoints, layer_of


def multiply_adds(model: keras.Model, input_shape: Sequence[int] | None = None) -> int | None:
    """Count the multiply-adds of one sample in a model, a layer once for each of its calls.

    Args:
        model: A functional Keras model, a half of a DDNN or a head, or Sequential with an input
            shape; nested models are counted as well.
        input_shape: Shape of one sample, without n, where the model leaves a length or a size open.

    Returns:
        Their number, None if it is not known: the model has a layer with weights that is none of
        Keras' and has no method `multiply_adds()`, or a size is open. Normalisation folds into the
        convolution before it; activations and pooling are not counted.

    Raises:
        ValueError: If the model is neither functional nor Sequential, or takes no such input.
    """
    return total(map(step_multiply_adds, Trace.of(model, input_shape).steps))


def describe_layers(model: keras.Model) -> list[dict]:
    """Describe each layer of a model in plain JSON types, to draw it where Keras is not loaded.

    Args:
        model: A DDNN, one of its halves or a head.

    Returns:
        A record a layer, after those of the layers that feed it: `name`; `kind`, the name of its
            class; `shape` of one output, without n; `parameters`; `multiply_adds` a sample, None
            where they are not known; and `inputs`, the names of the layers that feed it, none for
            an input layer. `parameters` sum to `model.count_params()`, `multiply_adds` to those of
            the model.
    """
    trace = Trace.of(model)
    maker = {number: name for name, numbers in trace.made.items() for number in numbers}
    records = []
    for layer in model.layers:
        steps = [s for s in trace.steps if layer_of(s.name.split("/")[0]) == layer.name]
        own = {number for step in steps for number in step.writes}
        read = {number for step in steps for number in step.reads} - own
        records.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "shape": list(trace.tensors[trace.made[layer.name][0]].shape[1:]),
                "parameters": layer.count_params(),
                "multiply_adds": total(map(step_multiply_adds, steps)),
                "inputs": [maker[number] for number in sorted(read)],
            }
        )
    return records


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of counts, None if one of them is not known."""
    counts = list(counts)
    return None if None in counts else sum(counts)


def cut_costs(
    model: keras.Model, input_shape: Sequence[int] | None = None, value_bytes: int = 4
) -> list[CutCosts]:
    """Return what each way to divide a model between a device and a cloud takes for a sample.

    The device has the exit that `split` makes by default, a dense layer behind pooling. A DDNN has
    an exit of its own, at its layer "features".

    Args:
        model: A model of one input and one output (n, num_classes), see `cascade.functional`; or a
            DDNN, see `build_ddnn`.
        input_shape: Shape of one sample, without n, where the model leaves a length or a size open.
        value_bytes: Bytes of a weight, and of a value of an activation: 4 for float32, 1 for 8
            bits.

    Returns:
        `CLOUD_ONLY`, each layer at which the model can be cut, in order, and `DEVICE_ONLY`.

    Raises:
        ValueError: If the model cannot be cut at all, or takes no such input.
    """
    exits = {}
    if isinstance(model, keras.Function) and {"local", "cloud"} == {*model.output_names}:
        features = model.get_layer("features").output
        parts = split_ddnn(model)[0], keras.Model(model.input, features)
        whole, sent = map(multiply_adds, parts)
        exits["features"] = None if None in (whole, sent) else whole - sent
        model = keras.Model(model.input, model.output["cloud"])
    model = functional(model)
    trace, points = Trace.of(model, input_shape), CutPoints.of(model)
    counts = {step: step_multiply_adds(step) for step in trace.steps}
    first, last = points.order[0], points.order[-1]
    rows = []
    for name in (first, *points.inner, last):
        number, *others = trace.made[name]
        if others:
            continue  # one tensor travels
        steps, tensor = trace.steps_to([number]), trace.tensors[number]
        rest = {*trace.steps_to(trace.outputs)} - {*steps}
        values, peak = _values(tensor), _peak_values(trace, steps, number, counts)
        row = CutCosts(
            layer=name,
            device_multiply_adds=total(counts[step] for step in steps),
            exit_multiply_adds=exits.get(name, _dense_exit(tensor, model)),
            cloud_multiply_adds=total(counts[step] for step in rest),
            parameter_bytes=value_bytes * _parameters(steps),
            peak_activation_bytes=None if peak is None else value_bytes * peak,
            float16_bytes=None if values is None else 2 * values,
            int8_bytes=values,
        )
        if name == first:
            raw = _raw_bytes(tensor, model)
            row = replace(row, layer=CLOUD_ONLY, exit_multiply_adds=0, float16_bytes=raw)
            row = replace(row, int8_bytes=raw)
        elif name == last:
            row = replace(row, layer=DEVICE_ONLY, exit_multiply_adds=0, float16_bytes=0)
            row = replace(row, int8_bytes=0)
        rows.append(row)
    return rows


def unknown_layers(model: keras.Model, input_shape: Sequence[int] | None = None) -> list[str]:
    """Return the layers of a model whose multiply-adds are not known: "name (Class)"."""
    return [
        f"{step.name} ({type(step.operation).__name__})"
        for step in Trace.of(model, input_shape).steps
        if step_multiply_adds(step) is None
    ]


def _dense_exit(tensor: keras.KerasTensor, model: keras.Model) -> int | None:
    """Return the multiply-adds of a dense layer that reads the mean of each channel."""
    channels, num_classes = tensor.shape[-1], model.outputs[0].shape[-1]
    return None if channels is None else channels * num_classes


def _raw_bytes(tensor: keras.KerasTensor, model: keras.Model) -> int | None:
    """Return the bytes of an input as users have it: of images a byte a value."""
    values, dtype = _values(tensor), raw_input(model).dtype
    return None if values is None or dtype == "string" else values * np.dtype(dtype).itemsize


def _values(tensor: keras.KerasTensor) -> int | None:
    """Return how many values a tensor (n, …) has a sample, None if a size is open."""
    return None if None in tensor.shape[1:] else prod(tensor.shape[1:])


def _parameters(steps: Iterable[Step]) -> int:
    """Return how many weights steps read, each counted once."""
    operations = {id(step.operation): step.operation for step in steps}
    weights = {
        id(weight): prod(weight.shape)
        for operation in operations.values()
        for weight in getattr(operation, "weights", ())
    }
    return sum(weights.values())


def _peak_values(
    trace: Trace, steps: Sequence[Step], kept: int, counts: Mapping[Step, int | None]
) -> int | None:
    """Return the most values that must be kept at one time while steps run in order.

    A tensor is kept until the last step that reads it, and the tensor `kept` to the end. A step
    without multiply-adds that makes as many values as its one input has works in place, if no
    other step reads that input later: an activation, a normalisation, a change of shape.
    """
    sizes = {n: _values(trace.tensors[n]) for step in steps for n in (*step.reads, *step.writes)}
    if None in sizes.values():
        return None
    last = {number: place for place, step in enumerate(steps) for number in step.reads}
    last[kept] = len(steps)
    made = {number for step in steps for number in step.writes}
    live = {*sizes} - made  # the inputs
    peak = sum(sizes[number] for number in live)
    for place, step in enumerate(steps):
        over = {number for number in step.reads if last[number] == place}
        in_place = (
            len(step.reads) == len(step.writes) == len(over) == 1
            and not counts[step]
            and sizes[step.reads[0]] == sizes[step.writes[0]]
        )
        during = (live - over if in_place else live) | {*step.writes}
        peak = max(peak, sum(sizes[number] for number in during))
        live = {number for number in during - over if last.get(number, -1) > place}
    return peak
