"""A DDNN as a chain of tiers."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import keras
import numpy as np
from keras import layers

from keras_ddnn.data.bank import CLOUD, LOCAL
from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.data.splits import InputType
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import expect, require_switch
from keras_ddnn.networks.folding import fold, twin
from keras_ddnn.networks.layers import SimulatedQuantisation, waiting_for_data
from keras_ddnn.networks.weights import digest_of_weights
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
        second_look: Whether the device also asks its network about the mirrored image, for rules
            that read `TierOutputs.mirrored`; it costs the network a second time. Of images alone.
    """

    model: keras.Model
    sent: tuple[str, ...]
    task: Task = CLASSIFICATION
    second_look: bool = False
    _folded: dict[str, "Cascade"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require_switch(second_look=self.second_look)
        images = f"inputs of {self.reads.dtype}, {self.reads.shape}"
        fits = self.reads.is_image or not self.second_look
        expect(fits, "second_look", "a network of images, which can be mirrored", images)

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
        if sent is read:
            maker = self.model.get_layer(self.sent[place])
            if isinstance(maker, SimulatedQuantisation):
                # Rounding again changes nothing, and tells that codes are handed on.
                read = maker.input
        part = keras.Model(read, {LOCAL: outputs[place], CLOUD: outputs[place + 1]}, name="ddnn")
        dtype = "float32" if keras.backend.is_float_dtype(read.dtype) else read.dtype
        name = self.model.input.name if place == 0 else f"read_by_tier{place}"
        inputs = keras.Input(read.shape[1:], dtype=dtype, name=name)
        sent_by = name if sent is read else self.sent[place]
        looks = self.second_look and place == 0
        return replace(self, model=twin(part, inputs), sent=(sent_by,), second_look=looks)

    @property
    def quantisation(self) -> Quantisation | None:
        """The codes that the device sends; None if it sends inputs, or features as they are."""
        layer = self.model.get_layer(self.sent[0]) if self.sent else None
        return layer.quantisation if isinstance(layer, SimulatedQuantisation) else None

    def require_started(self) -> None:
        """Raise ValueError if a layer that takes its weights from data has none: it gives zeros."""
        if waiting := [layer.name for layer in waiting_for_data(self.model)]:
            raise ValueError(
                f"{', '.join(waiting)} take their weights from training data; received none yet: "
                "train the network by fit_ddnn"
            )

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

    def blank_device(self) -> TierOutputs:
        """Return what the device knows of two samples, all of it zeros: to try heads on."""
        first = self.tiers[0].model.output
        shapes = first["features"].shape[1:], self.reads.shape
        features, inputs = (np.zeros((2, *(size or 1 for size in shape))) for shape in shapes)
        columns = next(iter(self.model.output.values())).shape[-1]
        return TierOutputs(np.zeros((2, columns)), features, inputs, task=self.task)

    def copy(self) -> "Cascade":
        """Return a cascade of the same weights and of layers of its own."""
        return replace(self, model=twin(self.model))


def as_cascade(network: "keras.Model | Cascade") -> "Cascade":
    """Return a network as a cascade; a model alone is cut at its layer "features".

    Raises:
        ValueError: If a model alone has no such layer: what it sends, and its task, the cascade
            alone knows.
    """
    if isinstance(network, Cascade):
        return network
    known = f"a Cascade, or a model of build_ddnn with its layer {FEATURES!r}"
    remedy = "pass the cascade, as chain and split return it and fit_ddnn has it in .cascade"
    functional = isinstance(network, keras.Function)
    expect(functional, "network", known, f"{type(network).__name__}: {remedy}")
    received = f"the model {network.name!r} without that layer: {remedy}"
    names = {operation.name for operation in network.operations}
    expect(FEATURES in names, "network", known, received)
    return Cascade(network, (FEATURES,))
