"""Which layers of a functional Keras model feed which, and where the model can be cut in two."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import keras


def wiring(model: keras.Model) -> dict[str, list[str]]:
    """Return the layers that feed each layer of a functional model.

    It reads the model's public configuration. A layer that is called several times counts once,
    with all that feeds it.

    Args:
        model: A functional model, whole or a part that begins at an inner layer.

    Returns:
        Name of a layer or operation → names of those that feed it, in an order in which each comes
            after what feeds it. An input layer has none.
    """
    feeds = {
        layer["name"]: list(dict.fromkeys(_histories(layer["inbound_nodes"])))
        for layer in model.get_config()["layers"]
    }
    order: dict[str, list[str]] = {}
    for name in feeds:
        _visit(name, feeds, order)
    return order


def _visit(name: str, feeds: Mapping[str, list[str]], order: dict[str, list[str]]) -> None:
    """Append a layer and all before it to `order`, without recursion: networks are deep."""
    stack = [name]
    while stack:
        top = stack[-1]
        missing = [before for before in feeds[top] if before not in order]
        if top in order or not missing:
            order.setdefault(top, feeds[top])
            stack.pop()
        else:
            stack += missing


def _histories(config: object) -> Iterator[str]:
    """Yield the names of the layers whose tensors a part of a configuration holds."""
    if isinstance(config, Mapping):
        if config.get("class_name") == "__keras_tensor__":
            yield config["config"]["keras_history"][0]
        else:
            for value in config.values():
                yield from _histories(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _histories(value)


@dataclass(frozen=True)
class CutPoints:
    """Where a functional model can be cut: layers whose output is all that the rest reads.

    Attributes:
        order: Names of the layers that the output depends on, each after what feeds it.
        crossing: Layer → layers before it whose output is read behind it too; none at a cut.
    """

    order: tuple[str, ...]
    crossing: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, model: keras.Model) -> "CutPoints":
        """Find them in a functional model of one input and one output tensor."""
        feeds = wiring(model)
        (output,) = (operation.name for operation in _outputs(model))
        needed = _before(output, feeds)
        order = tuple(name for name in feeds if name in needed)
        readers: dict[str, list[str]] = {name: [] for name in order}
        for name in order:
            for before in feeds[name]:
                readers[before].append(name)
        crossing = {}
        for name in order:
            ahead = _before(name, feeds)
            crossing[name] = tuple(
                before
                for before in order
                if before in ahead and before != name and not ahead.issuperset(readers[before])
            )
        return cls(order, crossing)

    @property
    def inner(self) -> tuple[str, ...]:
        """The layers at which the model can be cut: neither its input nor its output."""
        return tuple(name for name in self.order[1:-1] if not self.crossing[name])

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
        crossing = ", ".join(self.crossing[name]) or "nothing, for it is an end of the model"
        raise ValueError(
            f"a cut must carry all that the rest reads; at {name!r} there cross it also: {crossing}"
            f"; nearest cuts: {', '.join(nearest) or 'none'}"
        )


def _outputs(model: keras.Model) -> list:
    """Return the operations that make the outputs of a functional model."""
    names = list(dict.fromkeys(_histories_of_outputs(model.get_config()["output_layers"])))
    operations = {operation.name: operation for operation in model.operations}
    return [operations[name] for name in names]


def _histories_of_outputs(config: object) -> Iterator[str]:
    """Yield the layers of ["name", 0, 0], of a list of such, or of a dict of such."""
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _histories_of_outputs(value)
    elif config and isinstance(config[0], str):
        yield config[0]
    else:
        for value in config:
            yield from _histories_of_outputs(value)


def _before(name: str, feeds: Mapping[str, list[str]]) -> set[str]:
    """Return a layer and all that it depends on."""
    found, stack = {name}, [name]
    while stack:
        for before in feeds[stack.pop()]:
            if before not in found:
                found.add(before)
                stack.append(before)
    return found
