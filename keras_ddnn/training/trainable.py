"""What is trained: any network as a cascade, and its data, each read by what the other one says."""

from collections.abc import Sequence
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.datasets import Split, read_training_data
from keras_ddnn.data.rows.view import Array, spread_rows
from keras_ddnn.files.notices import notice
from keras_ddnn.networks.architectures.named_models import as_network, waits_for_data
from keras_ddnn.networks.batched import run_in_batches
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.layers import Unwhitening, waiting_for_data
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.networks.weights import describe
from keras_ddnn.training.capture import capture
from keras_ddnn.training.joint import exit_weights
from keras_ddnn.training.recipe.muon import unnormalised

SAMPLES = 5000  # inputs that whitening is fitted to; of each many patches are seen
VALUES = 2**26  # that it is fitted to at most: fewer inputs of large maps
ASKED = 1000  # training samples that a network is asked about before its training


def read_network_and_data(
    network: Cascade | keras.Model | str | None,
    train: Any,
    val: Any,
    *,
    at: str | Sequence[str] | None,
    num_classes: int | None,
    seed: int,
) -> tuple[Cascade | None, Split, Split | None]:
    """Return a network as a cascade, and the data as it reads them; see `fit_ddnn`.

    Raises:
        ValueError: See `as_network` and `read_training_data`.
    """
    waits = waits_for_data(network)
    cascade = None if waits else as_network(network, at, seed=seed)
    reads, reader = (cascade.reads, cascade.task.target_reader) if cascade else (None, None)
    train, val = read_training_data(train, val, num_classes, reads, reader)
    if waits:
        shape, classes = train.images.shape[1:], len(train.classes)
        cascade = as_network(network, at, shape=shape, classes=classes, seed=seed)
    return cascade, train, val


def make_network(
    network: Cascade | None, input_shape: Sequence[int], num_classes: int, config: DDNNConfig
) -> Cascade:
    """Return a network to train: a copy of the one given, or the paper's by its configuration."""
    if network is not None:
        return network.copy()
    return as_cascade(build_ddnn(input_shape, num_classes, config))


def start_whitening(model: keras.Model, images: Array) -> None:
    """Give each whitening layer that has no weights yet those of the training data, or its inverse.

    Args:
        model: To be trained. One that was trained before keeps its weights.
        images: Training inputs (n, ...).
    """
    for layer in waiting_for_data(model):
        if isinstance(layer, Unwhitening):
            layer.start(model.get_layer(layer.whitening))
        else:
            before = keras.Model(model.input, layer.input)
            most = VALUES // prod(layer.input.shape[1:])
            spread = spread_rows(len(images), min(SAMPLES, max(1, most)))

            def maps(batch, before=before):
                return [tf.cast(before(batch, training=False), tf.float32)]

            (seen,) = run_in_batches(maps, np.asarray(images[spread]))
            if not np.ptp(seen):
                notice(f"all that {layer.name!r} reads of the training data is equal: see the data")
            layer.start(seen)


def require_network(network: Cascade, train: Split, config: DDNNConfig) -> None:
    """Raise ValueError unless a network can be trained on such data by such a recipe."""
    exit_weights(network.model.output, config)  # raises where they are not those of its exits
    shape, images = tuple(network.model.input.shape[1:]), train.images.shape[1:]
    if shape != images:
        raise ValueError(f"the network takes inputs of shape {shape}; the data have {images}")
    if not network.reads.holds_images and config.augmentation != "none":
        raise ValueError(
            f"augmentation is for images; received {config.augmentation!r} for a network that "
            f"reads {network.reads.dtype} of shape {shape}: pass augmentation='none'"
        )
    *_, last = network.model.output.values()
    classes = last.shape[-1]
    if classes != len(train.classes):
        raise ValueError(f"the network has {classes} classes; the data have {len(train.classes)}")
    if config.stages and "probabilities" not in network.task.gives:
        raise ValueError(
            f"stages are mean probabilities of classes; received stages={config.stages} for a "
            f"network of the task {network.task.name!r}: leave it 0"
        )
    if config.bottleneck is not None:
        raise ValueError(
            "a bottleneck is put into the network of the paper alone; received bottleneck="
            f"{config.bottleneck} for another"
        )
    if config.optimizer == "muon" and (found := unnormalised(network.model)):
        notice(
            "Muon keeps the norms of kernels, for convolutions with a normalisation behind each; "
            f"received {len(found)} without, the first {found[0]!r}: pass optimizer='adam', or "
            "put a BatchNormalization behind them"
        )
    try:
        describe(network.model)
    except ValueError as error:
        notice(f"this network is trained, but it cannot be saved as an artefact: {error}")


def tell_what_it_knows(network: Cascade, train: Split) -> None:
    """Say in one line if a network, as it is given, has learned these classes before.

    Then it may have seen these very samples, so that what its folds say of them is not honest.
    """
    if "probabilities" not in network.task.gives or waiting_for_data(network.model):
        return
    asked = train.take(spread_rows(len(train), ASKED))
    right = capture(network, asked.images, asked.labels).cloud_correct.mean()
    chance = np.bincount(asked.labels).max() / len(asked)
    if right > chance + 3 * np.sqrt(chance * (1 - chance) / len(asked)):
        notice(
            f"the network was right in {right:.0%} of the training samples before this training: "
            "if it has learned them, labels of folds are as biased as those of the final epoch; "
            "pass a network with new weights"
        )
