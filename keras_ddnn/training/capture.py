"""From a model to a bank: run the tiers of a DDNN over a split and keep what they say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.rows.batches import written_once
from keras_ddnn.data.rows.computed import Computed
from keras_ddnn.data.rows.view import Array, Rows
from keras_ddnn.data.splits import Split
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.networks.batched import BATCH_SIZE, as_sent, mirror, run_in_batches
from keras_ddnn.networks.cascade import Cascade, Tier, as_cascade
from keras_ddnn.training.batches import augmented_views

TINY = 1e-9  # keeps the logarithm of a mean probability finite


def capture(
    network: keras.Model | Cascade, images: Array | Any, labels: np.ndarray | None = None
) -> Bank:
    """Run a DDNN over inputs (n, ...) and labels (n,), in inference mode.

    Each tier is fed what the one before it would send, float16 features or the inputs themselves,
    and not the other's own tensors, so that deployment repeats these logits.

    Args:
        network: A `Cascade`, or a model of `build_ddnn`.
        images: What the local network reads, of the type of its input; or, without `labels`, a
            `tf.data.Dataset` or `keras.utils.PyDataset` of batches of both.
        labels: Class numbers, int64.

    Raises:
        ValueError: Batches never end, or a second pass gives them in another order; the model of
            a `Cascade` is given in its place; the inputs have another shape than it reads; or
            layers wait for the training data that give them weights.
    """
    if labels is None:
        images, labels = written_once(images, "capture", repeatable=True)
    cascade = as_cascade(network)
    cascade.require_started()
    cascade = cascade.folded()
    cascade.reads.require_shape(images.shape)

    def step(batch: tf.Tensor) -> list[tf.Tensor]:
        said, read = [], batch
        for tier in cascade.tiers:
            outputs, *sent = as_sent(tier.model(read, training=False), tier.sent_dtype)
            said, read = [*said, outputs], sent and sent[0]
        return said

    outputs = run_in_batches(step, images)
    tiers, read = {}, images
    for tier, out in zip(cascade.tiers, outputs):
        read = sent_features(tier, read)
        tiers[tier.name] = TierOutputs(out, read)
    first = cascade.tiers[0].name
    tiers[first] = replace(tiers[first], inputs=images, mirrored=mirrored_outputs(cascade, images))
    return Bank(tiers, labels, cascade.task)


def sent_features(
    tier: Tier, inputs: Array, keep: Callable[[Computed], np.ndarray] | None = None
) -> Array | None:
    """Return what a tier sends of its inputs (n, ...), made when it is asked for; None if nothing.

    Args:
        tier: Folded, as a device runs it. One that hands on its inputs has them as its features.
        inputs: What it reads.
        keep: Where all of it is kept once something reads it at random; see `Computed`.
    """
    if tier.sends_inputs or tier.sent_dtype is None:
        return inputs if tier.sends_inputs else None
    step = tf.function(
        lambda batch: as_sent(tier.model(batch, training=False), tier.sent_dtype)[1:],
        autograph=False,
        reduce_retracing=True,
    )
    size = min(BATCH_SIZE, len(inputs))

    def make(rows: slice | np.ndarray) -> np.ndarray:
        # A batch has the size that it has in `capture`, so that it gives the same features.
        few = isinstance(rows, np.ndarray)
        return run_in_batches(step, np.asarray(inputs[rows]), (size,) if few else ())[0]

    shape = (len(inputs), *tier.model.output["features"].shape[1:])
    return Rows(Computed(shape, tier.sent_dtype, make, keep))


def mirrored_outputs(cascade: Cascade, images: Array) -> Array | None:
    """Return what the device answers to the mirrored images, made when it is asked for.

    Args:
        cascade: Folded, as a device runs it. None is returned if it takes no second look.
        images: uint8 (n, h, w, c).
    """
    if not cascade.second_look:
        return None
    device = cascade.tiers[0].model
    step = tf.function(
        lambda batch: [device(mirror(batch), training=False)["outputs"]],
        autograph=False,
        reduce_retracing=True,
    )

    def make(rows: slice | np.ndarray) -> np.ndarray:
        return run_in_batches(step, np.asarray(images[rows]))[0]

    shape = (len(images), *device.output["outputs"].shape[1:])
    return Rows(Computed(shape, np.float32, make))


class CaptureBank(keras.callbacks.Callback):
    """Captures a `Bank` of every given split when training ends, with the final epoch's weights.

    Args:
        network: The `Cascade` that is trained; by default the model is one of `build_ddnn`.
        **splits: Name → `Split`.

    Attributes:
        banks: Name → `Bank`, filled at the end of training.
    """

    def __init__(self, network: Cascade | None = None, /, **splits: Split):
        super().__init__()
        self.network, self.splits = network, splits
        self.banks = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raise ValueError, before the training, for a model that needs its cascade."""
        as_cascade(self.network or self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Capture the banks."""
        network = as_cascade(self.network or self.model)
        for name, split in self.splits.items():
            self.banks[name] = capture(network, split.images, split.labels)


class CaptureStages(keras.callbacks.Callback):
    """Averages the probabilities of every tier over the last epochs of training.

    Args:
        split: Training data.
        stages: Number of epochs to average.

    Attributes:
        means: Tier → mean probabilities, float32 of shape (n, num_classes).
    """

    def __init__(self, split: Split, stages: int):
        super().__init__()
        self.split, self.stages = split, stages
        self.means: dict[str, np.ndarray] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the probabilities of one of the last epochs."""
        if epoch < self.params["epochs"] - self.stages:
            return

        def step(batch: tf.Tensor) -> list[tf.Tensor]:
            return [*map(tf.nn.softmax, self.model(batch, training=False).values())]

        for name, seen in zip(self.model.output, run_in_batches(step, self.split.images)):
            self.means[name] = self.means.get(name, 0.0) + seen / self.stages

    def judgement(self) -> Predictions:
        """Return logits whose softmax are the mean probabilities."""
        rows = np.arange(len(self.split))
        logits = {name: np.log(mean + TINY).astype(np.float32) for name, mean in self.means.items()}
        return Predictions(rows, logits)


def augmented_bank(
    network: Cascade | keras.Model, config: DDNNConfig, bank: Bank, views: int
) -> Bank:
    """Capture augmented copies of the images of a bank, each a sample of its own.

    The copies are made when they are asked for, like their features.

    Args:
        network: The DDNN; see `capture`.
        config: What it was trained with. The copies are those of its augmentation, or crops and
            mirrored images where it has none.
        bank: Bank of the training images.
        views: Copies of each image.
    """
    if not as_cascade(network).reads.holds_images:
        raise ValueError("augmented copies are made of images alone; the network reads no images")
    images = augmented_images(config, bank.edge.inputs, views)
    return capture(network, images, np.tile(bank.labels, views))


def augmented_images(config: DDNNConfig, images: Array, views: int) -> Array:
    """Return the copies of images that `augmented_bank` captures, made when they are asked for."""
    name = "crop_flip" if config.augmentation == "none" else config.augmentation
    return augmented_views(images, name, views, config.seed)
