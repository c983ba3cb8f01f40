"""A DDNN as a chain of tiers: one Keras model cut in parts, or several models one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import keras
from keras import layers

from keras_ddnn.data.bank import CLOUD, LOCAL
from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.data.splits import InputType
from keras_ddnn.files.checks import expect
from keras_ddnn.networks.folding import fold, twin
from keras_ddnn.networks.inputs_and_exits import (
    Exit,
    as_output,
    functional,
    last_operation,
    logits_on,
    make_exit,
    prepared,
    raw_input,
    require_free,
    resized,
)
from keras_ddnn.networks.layers import SimulatedQuantisation
from keras_ddnn.networks.patch_codes import code_patches
from keras_ddnn.networks.weights import digest_of_weights
from keras_ddnn.networks.wiring import CutPoints
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task

FEATURES = "features"  # of the networks of `build_ddnn`, the layer that is sent


@dataclass(frozen=True, eq=False)
class Tier:
    """A part of a DDNN that runs on one machine and can answer.

    Attributes:
        name: "local" for the first, "cloud" for the last.
        model: What it reads → {"outputs": logits (n, num_classes), "features": what it hands on}.
            The last tier hands on nothing and has no "features".
        sends_inputs: Whether it hands on what it reads as it came, as in a chain.
    """

    name: str
    model: keras.Model
    sends_inputs: bool = False

    @property
    def sent_dtype(self) -> str | None:
        """Type of what it sends: inputs and integers as they are, features as float16.

        None for the last tier, which sends nothing.
        """
        if "features" not in self.model.output:
            return None
        dtype = self.model.output["features"].dtype
        feature = not self.sends_inputs and keras.backend.is_float_dtype(dtype)
        return "float16" if feature else dtype


@dataclass(frozen=True, eq=False)
class Cascade:
    """Tiers in order. Each answers, or hands on what the next one reads.

    Attributes:
        model: All tiers as one functional model: inputs → {name of a tier: its logits}, in order.
            It is what is trained; the tiers share its weights.
        sent: Names of the layers of `model` whose outputs are handed on, one for each tier but the
            last; the name of the input where the input itself travels.
        task: What its outputs are.
    """

    model: keras.Model
    sent: tuple[str, ...]
    task: Task = CLASSIFICATION
    _folded: dict[str, "Cascade"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def tiers(self) -> tuple[Tier, ...]:
        """From the first that a sample passes to the last."""
        read, tiers = self._read, []
        for place, (name, outputs) in enumerate(self.model.output.items()):
            given, handed_on = {"outputs": outputs}, read[place + 1] if read[place + 1 :] else None
            same = handed_on is read[place]
            if handed_on is not None:
                # Keras makes no model whose output is the tensor in the middle that it reads.
                middle = same and place > 0 and handed_on is not self.model.input
                given["features"] = (
                    layers.Identity(dtype="float32")(handed_on) if middle else handed_on
                )
            tiers.append(Tier(name, keras.Model(read[place], given, name=name), same))
        return tuple(tiers)

    @property
    def _read(self) -> list[keras.KerasTensor]:
        """What each tier reads, of the joint model: its input, then what is handed on."""
        operations = {operation.name: operation for operation in self.model.operations}
        return [self.model.input, *(operations[name].output for name in self.sent)]

    def hop(self, place: int) -> "Cascade":
        """Return the tier at a place, from 0, and the next as a device and a cloud of two tiers.

        The device reads what the tier reads, a feature as float32; what the cloud itself would send
        is left out. Of two tiers it is the cascade. ValueError is raised where no tier follows.
        """
        expect(0 <= place < len(self.sent), "place", f"0 to {len(self.sent) - 1}", place)
        if len(self.sent) == 1:
            return self
        (read, sent), outputs = self._read[place : place + 2], [*self.model.output.values()]
        part = keras.Model(read, {LOCAL: outputs[place], CLOUD: outputs[place + 1]}, name="ddnn")
        dtype = "float32" if keras.backend.is_float_dtype(read.dtype) else read.dtype
        name = self.model.input.name if place == 0 else f"read_by_tier{place}"
        inputs = keras.Input(read.shape[1:], dtype=dtype, name=name)
        sent_by = name if sent is read else self.sent[place]
        return replace(self, model=twin(part, inputs), sent=(sent_by,))

    @property
    def quantisation(self) -> Quantisation | None:
        """The codes that the device sends; None if it sends inputs, or features as they are."""
        layer = self.model.get_layer(self.sent[0]) if self.sent else None
        return layer.quantisation if isinstance(layer, SimulatedQuantisation) else None

    def halves(self) -> tuple[keras.Model, keras.Model]:
        """Return two tiers as `split_ddnn` does those of the paper's network.

        Raises:
            ValueError: If there are not two.
        """
        names = [tier.name for tier in self.tiers]
        expect(len(names) == 2, "halves", "a network of two tiers (else see tiers)", names)
        local, cloud = (tier.model for tier in self.tiers)
        said = {"features": local.output["features"], LOCAL: local.output["outputs"]}
        return (
            keras.Model(local.input, said, name=LOCAL),
            keras.Model(cloud.input, cloud.output["outputs"], name=CLOUD),
        )

    @property
    def reads(self) -> InputType:
        """What the device reads of a sample."""
        return InputType(tuple(self.model.inputs[0].shape[1:]), self.model.inputs[0].dtype)

    def folded(self) -> "Cascade":
        """Return a copy for inference; see `fold`. The first tier computes in float32.

        It is made once, and anew when the weights have changed since.
        """
        weights = digest_of_weights(self.model)
        if weights not in self._folded:
            self._folded.clear()
            on_device = {layer.name for layer in self.tiers[0].model.layers}
            self._folded[weights] = replace(self, model=fold(self.model, on_device))
        return self._folded[weights]

    def copy(self) -> "Cascade":
        """Return a cascade of the same weights and of layers of its own."""
        return replace(self, model=twin(self.model))


def as_cascade(network: "keras.Model | Cascade") -> "Cascade":
    """Return a network as a cascade; a model alone is cut at its layer "features"."""
    return network if isinstance(network, Cascade) else Cascade(network, (FEATURES,))


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
    require_free(names, model)

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
    *,
    codes: int | None = None,
) -> Cascade:
    """Put independent models one after another: what travels is the input itself, or codes of it.

    Each model is copied with its weights. It sees the input resized to the size it takes.

    Args:
        models: Name of a tier → a functional model of class scores (n, num_classes), the device's
            first. The first is to be named "local", the last "cloud". One that is to be trained
            alone, for several chains, is named "cloud".
        preprocess: Name of a tier → a layer that becomes the first of its model, behind resizing.
        input_shape: Shape of one sample, without n; that of the largest input by default.
        codes: Codes of half a byte that are sent of each patch of an image, see `code_patches`. All
            but the device read what is made of them, and should be trained so; a few epochs do.

    Returns:
        Cascade: A tier a model. All but the last hand on the input as it came, or its codes.

    Raises:
        ValueError: If the models are named otherwise, they differ in classes or in the kind of
            their input, or the outputs of one cannot be made logits.
    """
    models = {name: functional(model) for name, model in models.items()}
    names = [*models]
    if names[-1:] != [CLOUD] or (len(names) > 1 and names[0] != LOCAL):
        raise ValueError(
            f"a chain has models from {LOCAL!r} to {CLOUD!r}, or {CLOUD!r} alone; received {names}"
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
    # Every tier but the last hands on what it was given, or its codes.
    sent_by, made = (inputs.name, inputs) if codes is None else code_patches(inputs, codes)
    outputs = {}
    for name, model in models.items():
        seen = resized(inputs if name == LOCAL else made, model, name)
        seen = prepared(seen, model, (preprocess or {}).get(name), inputs)
        tensors = logits_on(seen, model, prefix=f"{name}_")
        outputs[name] = as_output(tensors[last_operation(model).name], name)
    joint = keras.Model(inputs, outputs, name="ddnn")
    return Cascade(joint, (sent_by,) * (len(models) - 1))


def tier_names(count: int) -> tuple[str, ...]:
    """Return the names of so many tiers: "local", "tier1", … "cloud"; of one, "cloud"."""
    return (LOCAL, *(f"tier{number}" for number in range(1, count - 1)), CLOUD)[-count:]


def in_a_row(cascades: Sequence[Cascade]) -> Cascade:
    """Return cascades one behind another, with their weights; each reads the input as it came.

    Args:
        cascades: One, which is returned as it is, or several of one tier each.
    """
    if len(cascades) == 1:
        return cascades[0]
    models = (cascade.model for cascade in cascades)
    return chain(dict(zip(tier_names(len(cascades)), models, strict=True)))
