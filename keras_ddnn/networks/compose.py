"""A DDNN of one model that is cut in parts, or of several models one after another or at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
from keras import layers

from keras_ddnn.data.bank import CLOUD, LOCAL
from keras_ddnn.data.outputs import tier_names
from keras_ddnn.files.checks import expect, require_switch
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.codes import DECODED, SENT, code_patches, coder_and_reader
from keras_ddnn.networks.inputs_and_exits import (
    Exit,
    as_output,
    functional,
    last_operation,
    make_exit,
    outputs_on,
    prepared,
    raw_input,
    require_free,
    resized,
)
from keras_ddnn.networks.layers import settle
from keras_ddnn.networks.wiring import CutPoints
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task

END = "__end"  # of names of layers behind what a part of a network gives


def split(
    model: keras.Model,
    at: str | Sequence[str],
    exit: Exit | int | None = None,
    preprocess: layers.Layer | None = None,
    *,
    freeze: bool = False,
    task: Task = CLASSIFICATION,
    second_look: bool = False,
) -> Cascade:
    """Cut a functional Keras model at layers, and give each part but the last an exit of its own.

    The model is copied with its weights and is not changed. A softmax at its end is left out, as
    outputs are logits from here on, and this is said in one line. Images enter as uint8; tables and
    tokens keep the type that the model takes.

    Args:
        model: Functional, with one input and one output of class scores (n, num_classes), or of
            the numbers of the task; or Sequential with an input shape.
        at: Name of the layer whose output travels, or of several in order.
        exit: What makes logits (n, num_classes) of the tensor that travels: a function of a Keras
            tensor, or the units of a hidden dense layer behind global average pooling. By default
            one dense layer reads the pooled tensor.
        preprocess: A layer that becomes the first of the model: raw input → what the model expects.
        freeze: Whether the exits alone are trained, as one wishes for a model that is trained
            already: what the cloud answers stays what it was.
        task: What the outputs are.
        second_look: See `Cascade`.

    Returns:
        Cascade: Its first tier is "local", its last "cloud".

    Raises:
        ValueError: If the model has no such layer, the layer does not carry all that the rest
            reads, the outputs cannot be made logits, or a switch is neither True nor False. The
            message names what was found.
    """
    require_switch(freeze=freeze)
    columns = _columns(task)
    model = functional(model, columns)
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
    read = prepared(inputs, model, preprocess)
    tensors = outputs_on(read, model, numbers=columns is not None)
    logits = tensors[points.order[-1]]
    outputs = {
        name: make_exit(exit, tensors[cut], logits.shape[-1], name)
        for name, cut in zip(names, cuts)
    }
    outputs[CLOUD] = as_output(logits, CLOUD)
    joint = keras.Model(inputs, outputs, name="ddnn")
    if freeze:
        for layer in keras.Model(inputs, outputs[CLOUD]).layers:
            layer.trainable = False
    return Cascade(joint, tuple(cuts), task, second_look)


def with_codes(network: Cascade, codes: int) -> Cascade:
    """Let a cascade of feature maps send codes of them, in few bytes.

    Each block of 2×2 places becomes so many codes of half a byte, see `code_patches`. What is
    behind a cut reads the map that is made of them; the exit in front of it reads the map itself.
    The codes are fitted to the maps that the network has when `fit_ddnn` begins to train it: train
    it without codes before, and with them for a few epochs more.

    Args:
        network: That sends feature maps (n, h, w, c).
        codes: Of a block, an even number, at most 4·c; where a side of the map is odd, each place
            is a block of its own, of at most c.

    Returns:
        Cascade: Of the same weights and of layers of its own. A layer that parts of the network
            share stays one.

    Raises:
        ValueError: If it sends something else, or its maps have no such codes.
    """
    network = as_cascade(network)
    model, fed = network.model, network.model.input
    wanted = "feature maps; for codes of inputs pass codes to chain"
    expect(network.sent, "what the cascade sends", wanted, "nothing, of one tier")
    expect(fed.name not in network.sent, "what the cascade sends", wanted, "the inputs themselves")
    expect(network.quantisation is None, "what the cascade sends", "feature maps", "codes already")
    names = {operation.name for operation in model.operations}
    copies, ends, sent = {}, {}, []

    def copy(operation: keras.Operation) -> keras.Operation:
        """Make each layer once, also where parts of the network share it."""
        if operation.name not in copies:
            copies[operation.name] = type(operation).from_config(operation.get_config())
        return copies[operation.name]

    def call(operation: keras.Operation, *arguments: Any, **options: Any) -> Any:
        if operation.name.endswith(END):
            ends[operation.name.removesuffix(END)] = arguments[0]
            return arguments[0]
        return operation(*arguments, **options)

    read = inputs = keras.Input(fed.shape[1:], dtype=fed.dtype, name=fed.name)
    outputs = {}
    for tier in network.tiers:
        # Tensors that a copied model gives are found by layers that are put behind them.
        said = {name: layers.Identity(name=name + END)(t) for name, t in tier.model.output.items()}
        part = keras.Model(tier.model.input, said)
        keras.models.clone_model(part, input_tensors=read, clone_function=copy, call_function=call)
        outputs[tier.name] = ends["outputs"]
        if len(sent) < len(network.sent):
            name, read = code_patches(ends["features"], codes, {*names, *sent})
            sent.append(name)
    joint = keras.Model(inputs, outputs, name=model.name)
    for layer in model.layers:  # of codes there are more
        joint.get_layer(layer.name).set_weights(layer.get_weights())
        joint.get_layer(layer.name).trainable = layer.trainable
    settle(joint)
    return replace(network, model=joint, sent=tuple(sent))


def chain(
    models: Mapping[str, keras.Model],
    preprocess: Mapping[str, layers.Layer] | None = None,
    input_shape: Sequence[int] | None = None,
    *,
    codes: int | None = None,
    task: Task = CLASSIFICATION,
    second_look: bool = False,
) -> Cascade:
    """Put independent models one after another: what travels is the input itself, or codes of it.

    Each model is copied with its weights. It sees the input resized to the size it takes.

    Args:
        models: Name of a tier → a functional model of class scores (n, num_classes), or of the
            numbers of the task, the device's first. The first is to be named "local", the last
            "cloud". One that is to be trained alone, for several chains, is named "cloud".
        preprocess: Name of a tier → a layer that becomes the first of its model, behind resizing.
        input_shape: Shape of one sample, without n; that of the largest input by default.
        codes: Codes of half a byte that are sent of each patch of an image, see `code_patches`. All
            but the device read what is made of them, and should be trained so; a few epochs do. A
            cloud that was trained alone with codes brings its own: leave them out then.
        task: What the outputs are.
        second_look: See `Cascade`.

    Returns:
        Cascade: A tier a model. All but the last hand on the input as it came, or its codes.

    Raises:
        ValueError: If the models are named otherwise, they differ in classes or in the kind of
            their input, the outputs of one cannot be made logits, or both the cloud and `codes`
            bring codes.
    """
    columns = _columns(task)
    models = {name: functional(model, columns) for name, model in models.items()}
    names = [*models]
    if names[-1:] != [CLOUD] or (len(names) > 1 and names[0] != LOCAL):
        raise ValueError(
            f"a chain has models from {LOCAL!r} to {CLOUD!r}, or {CLOUD!r} alone; received {names}"
        )
    coder, models[CLOUD] = coder_and_reader(models[CLOUD])
    if coder and codes is not None:
        raise ValueError(
            f"the cloud reads codes that were fitted in its training; received codes={codes}, too: "
            "leave it out"
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
    if coder:
        copied = outputs_on(resized(inputs, coder, "codes"), coder, numbers=True)
        sent_by, made = SENT, copied[DECODED]
    elif codes is not None:
        sent_by, made = code_patches(inputs, codes)
    else:
        sent_by, made = inputs.name, inputs
    outputs = {}
    for name, model in models.items():
        seen = resized(inputs if name == LOCAL else made, model, name)
        seen = prepared(seen, model, (preprocess or {}).get(name), inputs)
        tensors = outputs_on(seen, model, f"{name}_", numbers=columns is not None)
        outputs[name] = as_output(tensors[last_operation(model).name], name)
    joint = keras.Model(inputs, outputs, name="ddnn")
    return Cascade(joint, (sent_by,) * (len(models) - 1), task, second_look)


def ensemble(models: Sequence[keras.Model], task: Task = CLASSIFICATION) -> keras.Model:
    """Make one model of several, whose outputs are the means of theirs: a tier of a chain.

    Networks that were trained alone, from different seeds, err on different samples, so that their
    mean is more accurate than any of them, where there is time to ask all.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation Using
    Deep Ensembles", 2017; here it is the logits whose mean is taken.

    Args:
        models: Two or more functional models of the same input, and of as many class scores
            (n, num_classes), or numbers of the task. Each is copied with its weights. A softmax at
            the end of one is left out.
        task: What the outputs are.

    Returns:
        keras.Model: Of inputs as a chain takes them, uint8 images or tables and tokens as they are.

    Raises:
        ValueError: If there are fewer, they differ in their input or in their number of outputs,
            or the outputs of one cannot be made logits.
    """
    columns = _columns(task)
    listed = isinstance(models, Sequence)
    members = [functional(model, columns) for model in models] if listed else []
    raw = [raw_input(member) for member in members]
    kinds = [
        f"{tensor.dtype} of shape {tensor.shape[1:]} → {member.output.shape[-1]}"
        for tensor, member in zip(raw, members)
    ]
    expect(
        len(members) > 1 and len(set(kinds)) == 1,
        "the models of an ensemble",
        "a list of two or more, of one input and of as many outputs",
        "; ".join(kinds) or type(models).__name__,
    )
    said = []
    for place, member in enumerate(members):
        # Each has its own way from what users have to what it reads, told apart by its name.
        member = keras.Model(member.inputs[0], member.output, name=f"member{place}")
        read = prepared(raw[0], member, None)
        tensors = outputs_on(read, member, f"{member.name}_", numbers=columns is not None)
        said.append(tensors[last_operation(member).name])
    means = layers.Average(dtype="float32", name="means")
    return keras.Model(raw[0], means(said), name="ensemble")


def _columns(task: Task) -> int | None:
    """Return how many numbers a task asks of a network; None for a score a class."""
    return None if task.target_reader is None else len(task.target_reader)


def in_a_row(cascades: Sequence[Cascade]) -> Cascade:
    """Return cascades one behind another, with their weights; each reads the input as it came.

    Args:
        cascades: One, which is returned as it is, or several of one tier each.
    """
    if len(cascades) == 1:
        return cascades[0]
    models = (cascade.model for cascade in cascades)
    named = dict(zip(tier_names(len(cascades)), models, strict=True))
    return chain(named, task=cascades[0].task)
