"""Every call that a model makes for one sample, in order, nested models unfolded, with shapes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_ddnn.networks.wiring import (
    Address,
    LayerCall,
    functional_config,
    input_addresses,
    layer_calls,
    operations_of,
    output_addresses,
    recorded_tensors,
)


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
        name: Name of the layer as `wiring` gives it; behind "NESTED/" within a nested model.
        operation: What is called.
        args: Its positional arguments, Keras tensors among them.
        kwargs: Its other arguments.
        outputs: What it returns, flat: Keras tensors with their shapes (n, …).
        reads: Numbers of the tensors it reads, as places in `Trace.tensors`.
        writes: Numbers of the tensors in `outputs`.
    """

    name: str
    operation: keras.Operation
    args: tuple
    kwargs: Mapping[str, object]
    outputs: tuple[keras.KerasTensor, ...]
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The Keras tensors among the arguments."""
        return _keras_tensors([self.args, dict(self.kwargs)])

    @classmethod
    def of(cls, layer: keras.Operation, *args: keras.KerasTensor) -> "Step":
        """Return the call of a layer with tensors, by itself."""
        outputs = keras.tree.flatten(layer.compute_output_spec(*args))
        return cls(layer.name, layer, args, {}, tuple(outputs))


@dataclass(frozen=True, eq=False)
class Trace:
    """All calls of a functional model.

    Attributes:
        steps: Each after those whose tensors it reads. Inputs are no steps.
        tensors: Every tensor, the inputs first.
        made: Name of a layer of the model, or of an input, as `wiring` gives it → the numbers of
            the tensors that it makes.
        outputs: Numbers of the model's outputs.
    """

    steps: tuple[Step, ...]
    tensors: tuple[keras.KerasTensor, ...]
    made: dict[str, tuple[int, ...]]
    outputs: tuple[int, ...]

    @classmethod
    def of(cls, model: keras.Model, input_shape: Sequence[int] | None = None) -> "Trace":
        """Trace a model, whose layers neither change nor run.

        Args:
            model: Functional, or Sequential with an input shape.
            input_shape: Shape of one sample, without n, in place of the one that the model names,
                where a length or a size is left open.

        Raises:
            ValueError: If the model is neither, or takes no such input.
        """
        config = functional_config(model)
        tracer = _Tracer()
        for tensor in model.inputs:
            shape = tensor.shape if input_shape is None else _closed(tensor, input_shape)
            tracer.add(keras.KerasTensor(shape, tensor.dtype))
        made, outputs = tracer.run(model, config, range(len(tracer.tensors)))
        return cls(tuple(tracer.steps), tuple(tracer.tensors), made, tuple(outputs))

    def steps_to(self, numbers: Sequence[int]) -> list[Step]:
        """Return the steps that tensors depend on, in order."""
        needed, steps = set(numbers), []
        for step in reversed(self.steps):
            if needed.intersection(step.writes):
                needed.update(step.reads)
                steps.append(step)
        return steps[::-1]

    def run(self, inputs: Sequence[Any], call: Callable[..., Any]) -> list[Any]:
        """Make the calls again on other tensors; the layers are the model's own.

        Args:
            inputs: One in the place of each input of the model.
            call: (place in `steps`, operation, *args, **kwargs) → what the operation returns.

        Returns:
            The outputs of the model.
        """
        numbers = {id(tensor): number for number, tensor in enumerate(self.tensors)}
        values = dict(enumerate(inputs))

        def given(argument: Any) -> Any:
            keras_tensor = isinstance(argument, keras.KerasTensor)
            return values[numbers[id(argument)]] if keras_tensor else argument

        for place, step in enumerate(self.steps):
            args, kwargs = keras.tree.map_structure(given, [list(step.args), dict(step.kwargs)])
            made = keras.tree.flatten(call(place, step.operation, *args, **kwargs))
            values |= dict(zip(step.writes, made))
        return [values[number] for number in self.outputs]


class _Tracer:
    """Goes through models, and collects steps and tensors."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.tensors: list[keras.KerasTensor] = []

    def add(self, tensor: keras.KerasTensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def run(
        self, model: keras.Model, config: Mapping, inputs: Sequence[int], prefix: str = ""
    ) -> tuple[dict[str, tuple[int, ...]], list[int]]:
        """Return what each layer has made, by its name, and the numbers of the outputs."""
        operations = {operation.name: operation for operation in operations_of(model)}
        recorded = recorded_tensors(config)
        ends = output_addresses(model, config)
        for address, tensor in zip(ends, model.outputs, strict=True):
            recorded[address] = keras.KerasTensor(tensor.shape, tensor.dtype)
        known = dict(zip(input_addresses(config), inputs, strict=True))
        made = {address.layer: (number,) for address, number in known.items()}
        for call in layer_calls(config):
            if not call.arguments:
                continue  # an input
            numbers = self._call(operations[call.layer], call, known, recorded, prefix)
            made[call.name] = tuple(numbers)
            for output, number in enumerate(numbers):
                known[Address(call.layer, call.number, output)] = number
        return made, [known[address] for address in ends]

    def _call(
        self,
        operation: keras.Operation,
        call: LayerCall,
        known: Mapping[Address, int],
        recorded: Mapping[Address, keras.KerasTensor],
        prefix: str,
    ) -> list[int]:
        """Collect one call; return the numbers of what it makes."""
        tensor_of = {address: self.tensors[known[address]] for address in call.reads}
        args = [_filled(value, tensor_of) for value in call.arguments["args"]]
        kwargs = {key: _filled(v, tensor_of) for key, v in call.arguments["kwargs"].items()}
        if isinstance(operation, keras.Function | keras.Sequential):
            number_of = {id(tensor): known[address] for address, tensor in tensor_of.items()}
            given = _keras_tensors(args[0] if args else kwargs)
            inputs = [number_of[id(tensor)] for tensor in given[: len(operation.inputs)]]
            config = functional_config(operation)
            return self.run(operation, config, inputs, f"{prefix}{call.name}/")[1]
        # Shapes are as they were when the model was built, unless the input has another.
        outputs = _recorded_outputs(call, recorded)
        if not outputs or any(x.shape != recorded[a].shape for a, x in tensor_of.items()):
            outputs = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
        numbers = [self.add(tensor) for tensor in outputs]
        reads = tuple(known[address] for address in call.reads)
        outputs, writes = tuple(outputs), tuple(numbers)
        self.steps.append(
            Step(prefix + call.name, operation, tuple(args), kwargs, outputs, reads, writes)
        )
        return numbers


def _recorded_outputs(
    call: LayerCall, recorded: Mapping[Address, keras.KerasTensor]
) -> list[keras.KerasTensor]:
    """Return what a call makes, as far as it is read; nothing if its first output is not."""
    found = {
        a.output: x for a, x in recorded.items() if (a.layer, a.call) == (call.layer, call.number)
    }
    return [found[output] for output in range(len(found))] if max(found) < len(found) else []


def _closed(tensor: keras.KerasTensor, shape: Sequence[int]) -> tuple[int | None, ...]:
    """Return (n, *shape); ValueError where a tensor names another size than the shape."""
    expected = tensor.shape[1:]
    sizes = [{size, given} - {None} for size, given in zip(expected, shape)]
    if len(expected) != len(shape) or max(map(len, sizes), default=0) > 1:
        raise ValueError(f"expected an input of shape {expected}; received {tuple(shape)}")
    return (tensor.shape[0], *(known.pop() if known else None for known in sizes))


def _keras_tensors(structure: object) -> list[keras.KerasTensor]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _filled(argument: object, tensor_of: Mapping[Address, keras.KerasTensor]) -> object:
    """Return an argument of a call as its configuration has it, with tensors in their places."""
    if isinstance(argument, list):
        return [_filled(value, tensor_of) for value in argument]
    if not isinstance(argument, Mapping):
        return argument
    kind = argument.get("class_name")
    if kind == "__keras_tensor__":
        return tensor_of[Address(*argument["config"]["keras_history"])]
    if kind == "__tuple__":
        return tuple(_filled(value, tensor_of) for value in argument["config"]["value"])
    if kind is not None:
        return keras.saving.deserialize_keras_object(dict(argument))
    return {name: _filled(value, tensor_of) for name, value in argument.items()}
