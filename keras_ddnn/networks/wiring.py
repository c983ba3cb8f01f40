"""Which layers of a functional Keras model feed which, and where the model can be cut in two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import keras

CALL = " (call "  # parts the name of a layer from the number of an earlier call


@dataclass(frozen=True)
class Address:
    """Where a tensor of a functional model comes from.

    Attributes:
        layer: Name of the layer or operation that makes it.
        call: Which call of that layer makes it, from 0.
        output: Which output of that call it is, from 0.
    """

    layer: str
    call: int
    output: int


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer of a functional model.

    Attributes:
        layer: Name of the layer or operation.
        number: Which call of that layer it is, from 0.
        name: The name of the layer for its last call, which is the one that `layer.output` of a
            layer called once means; an earlier call has its number behind.
        arguments: "args" and "kwargs" as the model's configuration holds them; none for an input.
    """

    layer: str
    number: int
    name: str
    arguments: Mapping[str, object]

    @property
    def reads(self) -> list[Address]:
        """The tensors among the arguments, each once."""
        return [*_tensors(self.arguments)]


def layer_of(name: str) -> str:
    """Return the name of the layer of a `LayerCall.name`."""
    return name.split(CALL)[0]


def as_functional(model: keras.Model) -> keras.Model:
    """Return a functional model as it is, and a Sequential one as a functional one.

    Raises:
        ValueError: If it is neither, or a Sequential model without an input shape.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not isinstance(model, keras.Function):
        raise ValueError(
            "expected a functional Keras model, or a Sequential one with an input shape; received "
            f"{type(model).__name__}: build it by keras.Model(inputs, outputs)"
        )
    return model


def functional_config(model: keras.Model) -> dict:
    """Return the public configuration of a functional model: its layers and their calls.

    Args:
        model: Functional, or Sequential with an input shape; whole, or a part that begins at an
            inner layer.

    Raises:
        ValueError: If it is neither.
    """
    model = as_functional(model)
    config = model.get_config()
    if not any("inbound_nodes" in layer for layer in config.get("layers", ())):
        # A class of its own that describes itself in its own way.
        config = keras.Model(model.inputs, model.outputs, name=model.name).get_config()
    return config


def layer_calls(config: Mapping) -> list[LayerCall]:
    """Return the calls of all layers of a `functional_config`, each after those it reads."""
    calls = {}
    for layer in config["layers"]:
        name, nodes = layer["name"], layer["inbound_nodes"] or [{}]
        for number, arguments in enumerate(nodes):
            last = number == len(nodes) - 1
            label = name if last else f"{name}{CALL}{number + 1})"
            calls[name, number] = LayerCall(name, number, label, arguments)
    feeds = {
        key: [(address.layer, address.call) for address in call.reads]
        for key, call in calls.items()
    }
    return [calls[key] for key in _ordered(feeds)]


def recorded_tensors(config: Mapping) -> dict[Address, keras.KerasTensor]:
    """Return the tensors that the layers of a `functional_config` read, with their shapes."""
    return _tensors([layer["inbound_nodes"] for layer in config["layers"]])


def input_addresses(config: Mapping) -> list[Address]:
    """Return the inputs of a `functional_config`, in the order of `model.inputs`."""
    return _addresses(config["input_layers"])


def output_addresses(model: keras.Model, config: Mapping) -> list[Address]:
    """Return the outputs of a model and its `functional_config`, in the order of `model.outputs`.

    Here alone Keras numbers the calls of a nested functional model from 1.
    """
    nested = {o.name for o in operations_of(model) if isinstance(o, keras.Function)}
    found = _addresses(config["output_layers"])
    return [replace(a, call=a.call - 1) if a.layer in nested else a for a in found]


def operations_of(model: keras.Model) -> list[keras.Operation]:
    """Return the layers and operations of a functional or Sequential model."""
    return as_functional(model).operations


def _addresses(places: object) -> list[Address]:
    """Return the tensors of ["layer", call, output], or of any structure of such."""

    def read(place):
        if isinstance(place, Mapping):
            return {name: read(value) for name, value in place.items()}
        if place and isinstance(place[0], str):
            return Address(*place)
        return [read(value) for value in place]

    return keras.tree.flatten(read(places))


def wiring(model: keras.Model) -> dict[str, list[str]]:
    """Return the layers that feed each layer of a functional model.

    It reads the model's public configuration.

    Args:
        model: A functional model, whole or a part that begins at an inner layer.

    Returns:
        Name of a layer or operation → names of those that feed it, in an order in which each comes
            after what feeds it. An input layer has none. The name of a layer that is called
            several times means its last call; each earlier call is an entry of its own, see
            `LayerCall.name`.
    """
    return _names(layer_calls(functional_config(model)))


def _names(calls: Sequence[LayerCall]) -> dict[str, list[str]]:
    """Return the name of each call → the names of those that feed it."""
    names = {(call.layer, call.number): call.name for call in calls}
    return {
        call.name: list(dict.fromkeys(names[a.layer, a.call] for a in call.reads)) for call in calls
    }


def readers_of(feeds: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return each layer → the layers that read it, of what feeds each; see `wiring`."""
    readers: dict[str, list[str]] = {name: [] for name in feeds}
    for name, before in feeds.items():
        for each in before:
            readers[each].append(name)
    return readers


def _ordered(feeds: Mapping) -> list:
    """Return all keys, each after what feeds it, without recursion: networks are deep."""
    order: dict = {}
    for key in feeds:
        stack = [key]
        while stack:
            top = stack[-1]
            missing = [before for before in feeds[top] if before not in order]
            if top in order or not missing:
                order[top] = None
                stack.pop()
            else:
                stack += missing
    return list(order)


def _tensors(arguments: object) -> dict[Address, keras.KerasTensor]:
    """Return the tensors that a part of a configuration holds, each once."""
    found: dict[Address, keras.KerasTensor] = {}
    if isinstance(arguments, Mapping):
        if arguments.get("class_name") == "__keras_tensor__":
            tensor = arguments["config"]
            address = Address(*tensor["keras_history"])
            return {address: keras.KerasTensor(tensor["shape"], tensor["dtype"])}
        arguments = [*arguments.values()]
    if isinstance(arguments, list | tuple):
        for value in arguments:
            found |= _tensors(value)
    return found


@dataclass(frozen=True)
class CutPoints:
    """Where a functional model can be cut: layers whose output is all that the rest reads.

    Attributes:
        order: Names of the layers that the output depends on, each after what feeds it.
        crossing: Layer → layers before it whose output is read behind it too; none at a cut.
        repeated: Names of calls of layers that are called several times. No cut is there, for the
            name of a layer has to tell which of its outputs travels.
    """

    order: tuple[str, ...]
    crossing: dict[str, tuple[str, ...]]
    repeated: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: keras.Model) -> "CutPoints":
        """Find them in a functional model of one input and one output tensor."""
        config = functional_config(model)
        (output,) = output_addresses(model, config)
        calls = layer_calls(config)
        again = {call.name: call.layer for call in calls if call.name != call.layer}
        last = next(c.name for c in calls if (c.layer, c.number) == (output.layer, output.call))
        feeds = _names(calls)
        needed = _before(last, feeds)
        order = tuple(name for name in feeds if name in needed)
        readers = readers_of({name: feeds[name] for name in order})
        crossing = {}
        for name in order:
            ahead = _before(name, feeds)
            crossing[name] = tuple(
                before
                for before in order
                if before in ahead and before != name and not ahead.issuperset(readers[before])
            )
        return cls(order, crossing, frozenset({*again, *again.values()}))

    @property
    def inner(self) -> tuple[str, ...]:
        """The layers at which the model can be cut: neither its input nor its output."""
        return tuple(
            name
            for name in self.order[1:-1]
            if not self.crossing[name] and name not in self.repeated
        )

    def require(self, name: str) -> None:
        """Raise ValueError, in one line, unless the model can be cut at a layer."""
        if name not in self.order:
            near = get_close_matches(name, self.order, n=3, cutoff=0.3)
            hint = (
                f"near names: {', '.join(near)}" if near else f"last: {', '.join(self.inner[-3:])}"
            )
            raise ValueError(f"the model has no layer {name!r} on the way to its output; {hint}")
        if name in self.inner:
            return
        place = self.order.index(name)
        cuts = [self.order.index(cut) for cut in self.inner]
        nearest = [
            self.order[found]
            for found in (
                max((cut for cut in cuts if cut < place), default=None),
                min((cut for cut in cuts if cut > place), default=None),
            )
            if found is not None
        ]
        if name in self.repeated:
            raise ValueError(
                f"the layer {name!r} is called several times, so that its name tells no cut; "
                f"nearest cuts: {', '.join(nearest) or 'none'}"
            )
        crossing = ", ".join(self.crossing[name]) or "nothing, for it is an end of the model"
        raise ValueError(
            f"a cut must carry all that the rest reads; at {name!r} there cross it also: {crossing}"
            f"; nearest cuts: {', '.join(nearest) or 'none'}"
        )


def _before(name: str, feeds: Mapping[str, list[str]]) -> set[str]:
    """Return a layer and all that it depends on."""
    found, stack = {name}, [name]
    while stack:
        for before in feeds[stack.pop()]:
            if before not in found:
                found.add(before)
                stack.append(before)
    return found
