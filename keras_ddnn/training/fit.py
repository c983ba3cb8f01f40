"""Joint training of the local and the cloud network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ddnn.config.network import feature_quantisation
from keras_ddnn.config.presets import resolve_config
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.datasets import Split, read_split
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.labels.sources import fold_config, fold_rows
from keras_ddnn.networks.cascade import Cascade
from keras_ddnn.networks.paper import resolve_precision
from keras_ddnn.training.bank_log import log_exits, log_gates
from keras_ddnn.training.batches import steps_per_epoch
from keras_ddnn.training.bottleneck_start import start_bottleneck
from keras_ddnn.training.capture import CaptureBank, CaptureStages, augmented_bank, capture
from keras_ddnn.training.checkpoint import Checkpoint
from keras_ddnn.training.devices import Devices, strategy_of
from keras_ddnn.training.joint import compile_ddnn, joint_batches, joint_batches_in_order
from keras_ddnn.training.recipe.losses import loss_of
from keras_ddnn.training.recipe.sample_weights import sample_weights
from keras_ddnn.training.recipe.schedules import StopAfter, learning_rate_of, parts_of
from keras_ddnn.training.recipe.teacher import NO_FOLDS, Teacher
from keras_ddnn.training.saved_state import address_of_training
from keras_ddnn.training.trainable import (
    make_network,
    read_network_and_data,
    require_network,
    start_whitening,
    tell_what_it_knows,
)


@dataclass(frozen=True, eq=False)
class FittedDDNN:
    """A trained DDNN and what it says of the data it was trained on.

    Attributes:
        cascade: The network, as trained.
        history: Metric name → one value an epoch.
        bank, val_bank: Captured at the end of training; `val_bank` is None without validation data.
        stages: What the mean over the last `config.stages` epochs says of `bank`; None without.
        config: The configuration used, presets resolved.
        classes: The user's labels, in the order of the logits.
        seconds: Wall time of the training and the capture.
        network, sample_weight, teacher: As given to `fit_ddnn`; folds are trained anew by the first
            two.
        gap: Of the training data, see `Split`.
    """

    cascade: Cascade
    history: dict[str, list[float]]
    bank: Bank
    val_bank: Bank | None
    stages: Predictions | None
    config: DDNNConfig
    classes: Classes
    seconds: float
    network: Cascade | None = None
    sample_weight: np.ndarray | None = None
    teacher: Teacher | None = None
    gap: int = 0
    _folds: dict[int, Predictions] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> keras.Model:
        """Inputs → {name of a tier: its logits}, for two "local" and "cloud"."""
        return self.cascade.model

    @cached_property
    def local_model(self) -> keras.Model:
        """The device's half, sharing the weights of `model`; see `split_ddnn`."""
        return self.cascade.halves()[0]

    @cached_property
    def cloud_model(self) -> keras.Model:
        """The cloud's half, sharing the weights of `model`; see `split_ddnn`."""
        return self.cascade.halves()[1]

    def capture(self, split: Any) -> Bank:
        """Run the DDNN over a `Split`, a pair or repeatable batches, with labels as in training."""
        split = read_split(split, self.classes, "split", self.cascade.reads)
        return capture(self.cascade, split.images, split.labels)

    def augmented_bank(self, views: int) -> Bank:
        """Capture `views` augmented copies of the training images; see `augmented_bank`."""
        return augmented_bank(self.cascade, self.config, self.bank, views)

    def fold(self, fold: int) -> Predictions:
        """Train a DDNN without one fold of the training images, once; see `fit_fold`.

        Raises:
            ValueError: If it has a teacher, which has seen the fold.
        """
        if self.teacher is not None:
            raise ValueError(NO_FOLDS)
        if fold not in self._folds:
            train, val = (
                bank and Split(bank.edge.inputs, bank.targets, self.classes, self.gap)
                for bank in (self.bank, self.val_bank)
            )
            config, count = fold_config(self.config), None
            if self.cascade.task.target_reader is None:
                count = len(self.classes)
            options = {"network": self.network, "sample_weight": self.sample_weight}
            self._folds[fold] = fit_fold(train, val, config, fold, count, **options)
        return self._folds[fold]


def fit_ddnn(
    train: Any,
    val: Any = None,
    config: DDNNConfig | str | None = None,
    *,
    network: Cascade | keras.Model | str | None = None,
    at: str | Sequence[str] | None = None,
    num_classes: int | None = None,
    sample_weight: Any = None,
    teacher: Teacher | Cascade | keras.Model | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: str | Path | Checkpoint | None = None,
    devices: Devices = "auto",
    tensorboard: str | Path | None = None,
    verbose: int | str = "auto",
    **overrides: Any,
) -> FittedDDNN:
    """Train a DDNN on the joint loss of all exits, for two λ·L_local + (1 - λ)·L_cloud.

    Its bank is captured at the end.

    Args:
        train, val: A `Split`; a pair of images (n, h, w, c), or frames of cameras (n, D, h, w, c),
            uint8 or float in [0, 1], and labels (n,), integers or strings; or a `tf.data.Dataset`
            or `keras.utils.PyDataset` of batches of both, of which one pass is written to a file.
            Of a cascade whose task is a `Regression` the labels are numbers. Images are anything
            with a shape, a type and rows by index: NumPy, `np.memmap`, HDF5, Zarr. Labels other
            than 0..k-1 are mapped to these numbers, which is said in one line; see `Classes`.
            Without `val` the plateau schedule watches the training loss.
        config: A `DDNNConfig` or the name of a preset ("paper" by default).
        network: What to train: a cascade of any number of tiers, see `split`; a Keras model; or a
            name, see `named_model`. It is copied first. By default, or as "paper", the network of
            the paper, as `config` says. Of another network `config` has only the recipe, and its
            precision is its own.
        at: The layer at which a model is cut, or several, see `split`; of one with the outputs
            "local" and "cloud" it is "features" by default.
        num_classes: Turns the mapping off: labels then are the numbers 0..num_classes-1.
        sample_weight: What each training sample counts, of shape (n,); see `sample_weights`.
        teacher: A trained network whose probabilities are learned in place of the labels; the
            accuracy of the history is then how often both give one answer. A network, or a
            `Teacher` with settings of its own.
        callbacks: Further Keras callbacks.
        checkpoint: File of the state of the training, saved every five minutes. A training that was
            killed goes on from it; it is removed at the end. Or a `Checkpoint`.
        devices: "auto" trains on all GPUs, "one" on one; see `strategy_of`.
        tensorboard: Folder to log to: losses and accuracies of every exit by epoch and of the
            banks, by the names of the tiers; learning rate; the histogram of B_k and b* of every
            gate; and a projector of the local features.
        verbose: Keras progress: "auto", 0, 1 or 2.
        **overrides: Fields of `DDNNConfig` to replace, e.g. `epochs=5, lambda_local="random",
            seed=1`.

    Returns:
        FittedDDNN: The model, its two halves, the history and the banks. The same seed on the same
            machine gives the same weights; the seeds of Python, NumPy and TensorFlow are set.

    Raises:
        ValueError: On a bad configuration, bad data or a network that does not fit them, before any
            training.
    """
    config = resolve_config(config, **overrides)
    # Recorded as resolved: on another machine "auto" could mean another network.
    config = replace(config, precision=resolve_precision(config.precision))
    network, train, val = read_network_and_data(
        network, train, val, at=at, num_classes=num_classes, seed=config.seed
    )
    num_classes = len(train.classes)
    if network is not None:
        require_network(network, train, config)
    if (teacher := Teacher.of(teacher)) is not None:
        teacher.require_fits(network, train)
    weights = sample_weights(train, config.class_weight, sample_weight)

    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    steps = steps_per_epoch(len(train.labels), config.batch_size)
    lessons = teacher and teacher.lessons(train, config)
    soft_classes = lessons and lessons.classes
    if config.stages:
        callbacks = [capture_stages := CaptureStages(train, config.stages), *callbacks]
    if tensorboard:
        log = keras.callbacks.TensorBoard(tensorboard, write_graph=False)
        callbacks = [log, *callbacks]

    start, cascade = time.perf_counter(), None
    strategy, checkpoint = strategy_of(devices), Checkpoint.of(checkpoint)
    make_rate = partial(learning_rate_of, steps=steps, monitor="val_loss" if val else "loss")
    for part, first, end in parts_of(config):
        with strategy.scope():
            shape = train.images.shape[1:]
            before, cascade = cascade, make_network(network, shape, num_classes, part)
        model = cascade.model
        if before is None:
            start_whitening(model, train.images)
            if checkpoint.path:
                data = (train, val, weights, *(lessons.arrays if lessons else ()))
                checkpoint.find(address_of_training(model, config, data, callbacks, cascade.task))
            checkpoint.begin(first, end)
            rate = make_rate(part)
        else:
            start_bottleneck(model, before.model, train.images, feature_quantisation(part))
            reached = float(keras.ops.convert_to_numpy(before.model.optimizer.learning_rate))
            reached = checkpoint.begin(first, end, reached)
            rest = replace(part, learning_rate=reached, epochs=end - first)
            rate = make_rate(rest, warm_up=0.0)
        compile_ddnn(model, part, rate.initial, cascade.task, soft_classes)
        capture_bank = CaptureBank(cascade, train=train, **({"val": val} if val else {}))
        last = capture_bank if end == config.epochs else StopAfter(end)
        if checkpoint.done:
            continue
        outputs, begun = [*model.output], checkpoint.steps_done(steps)
        model.fit(
            joint_batches(train, config, weights, outputs=outputs, first=begun, lessons=lessons),
            initial_epoch=checkpoint.place.epoch,
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=val and joint_batches_in_order(val, outputs, soft_classes),
            shuffle=False,  # the batches are shuffled already
            callbacks=checkpoint.around([*rate.callbacks, *callbacks, last]),
            verbose=verbose,
        )
    checkpoint.end()
    fitted = FittedDDNN(
        cascade,
        history=checkpoint.history,
        bank=capture_bank.banks["train"],
        val_bank=capture_bank.banks.get("val"),
        stages=capture_stages.judgement() if config.stages else None,
        config=config,
        classes=train.classes,
        seconds=time.perf_counter() - start,
        network=network,
        sample_weight=sample_weight,
        teacher=teacher,
        gap=train.gap,
    )
    if tensorboard:
        banks = {"train": fitted.bank, "validation": fitted.val_bank or fitted.bank}
        log_exits(Path(tensorboard), banks, loss_of(cascade.task, config.label_smoothing))
        if len(fitted.bank.tiers) > 1:  # a network alone has no benefit of offloading
            log_gates(Path(tensorboard), banks, fitted.classes, cascade.reads.holds_images)
    return fitted


def fit_fold(
    train: Split,
    val: Split | None,
    config: DDNNConfig,
    fold: int,
    num_classes: int | None,
    **options: Any,
) -> Predictions:
    """Train a DDNN without one fold of its training data, and predict that fold.

    Args:
        train, val: Data of the DDNN to be deployed.
        config: Configuration of the fold's DDNN; see `fold_config`.
        fold: 0 to `labels.FOLDS` - 1.
        num_classes: Classes of the data, of which a fold may lack some; None for numbers.
        **options: Further arguments of `fit_ddnn`.
    """
    if fold == 0 and isinstance(network := options.get("network"), Cascade):
        tell_what_it_knows(network, train)
    rest, held = fold_rows(train.labels, config.seed, train.gap)[fold]
    options = {"verbose": 0, **options, "num_classes": num_classes}
    if (all_weights := options.get("sample_weight")) is not None:
        options["sample_weight"] = np.asarray(all_weights)[rest]
    bank = fit_ddnn(train.take(rest), val, config, **options).capture(train.take(held))
    return Predictions.of(held, bank)
