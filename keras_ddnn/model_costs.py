"""What a model costs to run and to keep, whole and on a device up to each layer where it is cut."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import keras

from keras_ddnn.cascade import functional
from keras_ddnn.layer_costs import step_multiply_adds
from keras_ddnn.trace import Step, Trace
from keras_ddnn.wiring import CutPoints

CLOUD_ONLY, DEVICE_ONLY = "cloud only", "device only"  # rows beside the layers


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
        steps = [s for s in trace.steps if s.name.split("/")[0].split(" (call")[0] == layer.name]
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


@dataclass(frozen=True)
class CutCosts:
    """What it costs to cut a model at a layer; None is what is not known.

    Attributes:
        layer: Name of the layer whose output travels; `CLOUD_ONLY` if the input does, and
            `DEVICE_ONLY` if nothing does.
        device_multiply_adds: Of the device up to the layer, without an exit.
        exit_multiply_adds: Of the device's own classifier behind the layer.
        cloud_multiply_adds: Of the rest.
        parameter_bytes: Of the weights up to the layer, with those of normalisation.
        peak_activation_bytes: The most that all tensors take that must be kept at one time.
        float16_bytes: Of what travels, in float16.
        int8_bytes: Of what travels, in codes of eight bits.
    """

    layer: str
    device_multiply_adds: int | None
    exit_multiply_adds: int | None
    cloud_multiply_adds: int | None
    parameter_bytes: int
    peak_activation_bytes: int | None
    float16_bytes: int | None
    int8_bytes: int | None


def cut_costs(
    model: keras.Model,
    input_shape: Sequence[int] | None = None,
    value_bytes: int = 4,
    exits: Mapping[str, int] | None = None,
) -> list[CutCosts]:
    """Return what each way to divide a model between a device and a cloud costs a sample.

    Args:
        model: Of one input and one output (n, num_classes); see `cascade.functional`.
        input_shape: Shape of one sample, without n, where the model leaves a length or a size open.
        value_bytes: Of a weight and of a value of an activation: 4 for float32, 1 for 8 bits.
        exits: Name of a layer → multiply-adds of the exit there, where it is not the one that
            `split` makes by default, a dense layer behind pooling.

    Returns:
        `CLOUD_ONLY`, each layer at which the model can be cut, in order, and `DEVICE_ONLY`.

    Raises:
        ValueError: If the model cannot be cut at all, or takes no such input.
    """
    model = functional(model)
    trace, points = Trace.of(model, input_shape), CutPoints.of(model)
    counts = {step: step_multiply_adds(step) for step in trace.steps}
    needed = trace.steps_to(trace.outputs)
    num_classes = model.outputs[0].shape[-1]
    first, last = points.order[0], points.order[-1]
    rows = []
    for name in (first, *points.inner, last):
        if len(trace.made[name]) > 1:
            continue  # what travels is one tensor
        (number,) = trace.made[name]
        tensor = trace.tensors[number]
        steps, values = trace.steps_to([number]), _values(tensor)
        exit_adds = None if tensor.shape[-1] is None else tensor.shape[-1] * num_classes
        peak = _peak_values(trace, steps, number, counts)
        rows.append(
            CutCosts(
                layer={first: CLOUD_ONLY, last: DEVICE_ONLY}.get(name, name),
                device_multiply_adds=total(counts[step] for step in steps),
                exit_multiply_adds=0
                if name in (first, last)
                else (exits or {}).get(name, exit_adds),
                cloud_multiply_adds=total(counts[step] for step in {*needed} - {*steps}),
                parameter_bytes=value_bytes * _parameters(steps),
                peak_activation_bytes=peak and value_bytes * peak,
                float16_bytes=values and 2 * values,
                int8_bytes=values,
            )
        )
    return rows


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
