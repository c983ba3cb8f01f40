"""The joint loss Σ w_k·L_k of all exits: how a model is compiled for it, and its batches."""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.datasets import Split
from keras_ddnn.data.outputs import TIERS
from keras_ddnn.files.checks import expect
from keras_ddnn.networks.paper import prepare_training, resolve_precision
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task
from keras_ddnn.training.batches import (
    augmentation,
    batches_in_order,
    steps_per_epoch,
    training_batches,
)
from keras_ddnn.training.recipe.lessons import Lessons
from keras_ddnn.training.recipe.losses import loss_of
from keras_ddnn.training.recipe.muon import ConvolutionalMuon

VALIDATION_BATCH_SIZE = 500
EVEN = 0.5  # λ of the compiled loss of a random λ


def compile_ddnn(
    model: keras.Model,
    config: DDNNConfig,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    task: Task = CLASSIFICATION,
    classes: int | None = None,
) -> None:
    """Compile a DDNN with the joint loss and the metrics of its task, and an optimizer.

    Args:
        model: The network.
        config: The recipe.
        learning_rate: By default that of the recipe.
        task: What the outputs are.
        classes: Number of classes where targets are probabilities of each; None for labels.
    """
    outputs, soft = [*model.output], classes is not None
    target = np.zeros((1, classes), np.float32) if soft else np.zeros(1, np.int64)
    with model.distribute_strategy.scope():
        optimizer = _optimizer(config, learning_rate or config.learning_rate)
        if resolve_precision(config.precision) == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(
            optimizer,
            loss={name: loss_of(task, config.label_smoothing, soft=soft) for name in outputs},
            loss_weights=exit_weights(outputs, config),
            metrics={output: [*task.keras_metrics] for output in outputs},
            # XLA made training 3 to 7 times slower on CPUs.
            jit_compile=bool(tf.config.list_physical_devices("GPU")),
        )
        prepare_training(model, dict.fromkeys(outputs, target))


def _optimizer(
    config: DDNNConfig, rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    match config.optimizer:
        case "adam":
            return keras.optimizers.Adam(rate)
        case "muon":
            return ConvolutionalMuon(rate, config.batch_size)
        case _:
            assert_never(config.optimizer)


def exit_weights(outputs: Iterable[str], config: DDNNConfig) -> dict[str, float]:
    """Return the compiled weight of the loss of each output; raises as `loss_weights`."""
    # A random λ arrives as sample weights of mean 1, one λ a step, on top of these.
    return loss_weights(outputs, EVEN if config.lambda_local == "random" else config.lambda_local)


def loss_weights(outputs: Iterable[str], lambda_local: Any) -> dict[str, Any]:
    """Return the weight of the loss of each output: all exits share λ, the last has the rest.

    A network of one output has nothing to share.

    Args:
        outputs: Names of the outputs, in order.
        lambda_local: λ, or a tuple of the weights of all exits but the last.

    Raises:
        ValueError: If there is not one weight for each of these exits.
    """
    *exits, last = outputs
    own = isinstance(lambda_local, tuple)
    weights = lambda_local if own else [lambda_local / len(exits) for _ in exits]
    each = f"one number for all exits, or one for each of {', '.join(exits)}"
    expect(len(weights) == len(exits), "lambda_local", each, f"{len(weights)} numbers")
    return {**dict(zip(exits, weights)), last: 1.0 - sum(weights)}


def joint_batches(
    train: Split,
    config: DDNNConfig,
    weights: np.ndarray | None = None,
    *,
    outputs: Sequence[str] = TIERS,
    first: int = 0,
    lessons: Lessons | None = None,
) -> tf.data.Dataset:
    """Yield endless batches: inputs, targets of all outputs, and their weights if there are any.

    Args:
        train: Training data.
        config: Configuration; a random λ makes weights.
        weights: Of each sample, float32 (n,), which multiply those of λ; see `sample_weights`.
        outputs: Names of the outputs of the network.
        first: Number of the first batch; see `training_batches`.
        lessons: What a teacher says of as many batches, which are then repeated: its probabilities
            are the targets in place of the labels.
    """
    steps, even = steps_per_epoch(len(train), config.batch_size), loss_weights(outputs, EVEN)
    augment = augmentation(config.augmentation, steps)

    def transform(batch: tuple[tf.Tensor, ...], seed: tf.Tensor) -> tuple[Any, ...]:
        images, labels, *counts = batch
        targets = labels if lessons is None else lessons.targets(seed[1])
        inputs, targets = augment(images, seed), dict.fromkeys(outputs, targets)
        factors = dict.fromkeys(outputs, 1.0)
        if config.lambda_local == "random":
            drawn = loss_weights(outputs, tf.random.stateless_uniform([], seed + 2))
            factors = {output: drawn[output] / even[output] for output in outputs}
        elif not counts:
            return inputs, targets
        counts = counts[0] if counts else tf.ones(tf.shape(labels))
        return inputs, targets, {output: factor * counts for output, factor in factors.items()}

    arrays = (train.images, train.labels, *([] if weights is None else [weights]))
    options = {"first": first, "period": lessons and len(lessons)}
    return training_batches(arrays, config.batch_size, config.seed, transform, **options)


def joint_batches_in_order(
    split: Split, outputs: Sequence[str] = TIERS, classes: int | None = None
) -> tf.data.Dataset:
    """Yield inputs and targets of all outputs once, in order: for validation.

    Args:
        split: The data.
        outputs: Names of the outputs of the network.
        classes: See `compile_ddnn`.
    """
    labels = split.labels if classes is None else np.eye(classes, dtype=np.float32)[split.labels]
    labels = dict.fromkeys(outputs, labels)
    return batches_in_order((split.images, labels), VALIDATION_BATCH_SIZE)
