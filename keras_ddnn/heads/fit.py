"""Offload heads: small Keras models that learn which samples are worth sending."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.rows.view import Array
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.blend import Anchor, AnchoredRule, require_confidence
from keras_ddnn.files.fields.rules import HEAD
from keras_ddnn.files.records import as_json
from keras_ddnn.heads.architectures import build_head
from keras_ddnn.heads.early_stopping import EarlyStopping
from keras_ddnn.heads.losses import keras_loss, metric_of
from keras_ddnn.labels.logit_head import choose_target
from keras_ddnn.labels.sources import (
    LABEL_SOURCES,
    HeadTrainingData,
    TrainedNetwork,
    require_samples,
)
from keras_ddnn.labels.targets import LOSSES, TARGETS
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.layers import settle
from keras_ddnn.networks.paper import prepare_training, resolve_precision, save_weights
from keras_ddnn.networks.weights import rebuild
from keras_ddnn.rules.inputs import HEAD_INPUTS
from keras_ddnn.training.batches import (
    batches_in_order,
    crop_flip,
    steps_per_epoch,
    training_batches,
)

PREDICT_BATCH = 500
HEAD_WEIGHTS = "head.weights.h5"


class HeadRule(AnchoredRule):
    """A trained offload head as a rule.

    Attributes:
        model: Keras model, array of `HEAD_INPUTS[config.input]` → outputs (n, units) of the target.
        config: What it was trained with.
        history: Metric name → one value an epoch; empty for a loaded head.
        anchor: The confidence rule it corrects; None if it ranks alone.
    """

    files = (HEAD_WEIGHTS,)

    def __init__(
        self,
        model: keras.Model | None,
        config: HeadConfig,
        history: dict[str, list[float]] | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self.model = model
        self.config = replace(config, target=config.first_target)
        self.history = history or {}
        self.anchor = anchor
        self.multiply_adds = multiply_adds(model) if self.is_run else 0
        self._ask = _predict_in_batches

    def score_alone(self, edge: TierOutputs) -> np.ndarray:
        """Return the score that the target makes of the head's outputs, of shape (n,)."""
        outputs = self._ask(self.model, HEAD_INPUTS[self.config.input](edge))
        return TARGETS[self.config.first_target].score(outputs, edge.xp)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights into a folder; return the rest, as plain JSON."""
        save_weights(self.model, folder / HEAD_WEIGHTS)
        return {
            "config": as_json(self.config),
            "input_shape": list(self.model.input_shape[1:]),
            "anchor": self.anchor and self.anchor.as_json(),
        }

    @classmethod
    def load(
        cls, description: Mapping[str, Any], folder: Path, model: keras.Model | None = None
    ) -> "HeadRule":
        """Return the head that `save` has described, without its history; `model` is not read.

        Raises:
            ValueError: In one line, if the description is none, or the weights are not of this
                head.
        """
        HEAD("head", description)
        config, shape = HeadConfig(**description["config"]), tuple(description["input_shape"])
        head = rebuild(lambda: build_head(shape, config), folder / HEAD_WEIGHTS)
        return cls(head, config, anchor=Anchor.from_json(description["anchor"]))

    def for_graph(self) -> "HeadRule":
        """Return the same rule with a head in float32 that is called, not run in batches."""
        config = replace(self.config, precision="float32")
        head = build_head(self.model.input_shape[1:], config)
        copy_weights(self.model, head)
        rule = HeadRule(head, config, anchor=self.anchor)
        rule._ask = lambda model, inputs: model(inputs, training=False)
        return rule


def fit_head(
    backbone: TrainedNetwork,
    config: HeadConfig | None = None,
    *,
    initial: HeadRule | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> HeadRule:
    """Train an offload head on what offloading would have done to the training samples.

    Args:
        backbone: A `FittedDDNN`, or `Banks`. What labels its training samples is the choice of
            `config.labels`; b* is the L0 quantile of their B_k. Training keeps the weights of the
            epoch with the best AUDC on the validation samples and stops early; their labels take
            the L0 quantile of their own B_k.
        config: A `HeadConfig`.
        initial: A head of the same configuration to go on from; its weights are not changed.
        callbacks: Further Keras callbacks; logs hold "val_audc".
        verbose: Keras progress: "auto", 0, 1 or 2.

    Returns:
        HeadRule: The trained head.

    Raises:
        ValueError: If there are no validation samples, too few training samples for the labels, or
            `backbone` cannot provide them.
    """
    (config,) = settled([config or HeadConfig()], backbone)
    (material,) = head_materials(backbone, [config])
    inputs, values = material.inputs, material.values
    head = initial_head(inputs, config)
    if initial:
        copy_weights(initial.model, head)
    head.compile(
        keras.optimizers.Adam(config.learning_rate),
        loss=keras_loss(config.loss),
        metrics=[metric_of(config.loss)],
        jit_compile=False,
    )
    prepare_training(head, values[:1])
    augment = crop_flip if config.architecture == "conv" else lambda batch, seed: batch
    history = head.fit(
        training_batches(
            (inputs, values, material.weights),
            config.batch_size,
            config.seed,
            lambda batch, seed: (augment(batch[0], seed), *batch[1:]),
        ),
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch(len(values), config.batch_size),
        validation_data=batches_in_order((material.val_inputs, material.val_values), PREDICT_BATCH),
        shuffle=False,  # the batches are shuffled already
        callbacks=[
            _KeepBest(EarlyStopping(config, backbone.val_bank), material.val_inputs),
            *callbacks,
        ],
        verbose=verbose,
    )
    anchor = fit_anchor(HeadRule(head, config), backbone.val_bank)
    return HeadRule(head, config, history.history, anchor)


def settled(configs: Sequence[HeadConfig], backbone: TrainedNetwork) -> list[HeadConfig]:
    """Return configurations with the precision of this machine, and the target that is learned.

    Validation samples choose it once, for all that name none.
    """
    chosen, val_bank = None, backbone.val_bank
    open_ones = [config for config in configs if config.target is None]
    if open_ones and val_bank:
        open_ones[0].require_target(val_bank.edge)
        chosen = choose_target(val_bank)
    return [
        replace(c, precision=resolve_precision(c.precision), target=c.target or chosen)
        for c in configs
    ]


@dataclass(frozen=True, eq=False)
class Material:
    """What a head is trained and validated on.

    Attributes:
        inputs, values, weights: Training samples: what it reads (n, ...), what it is taught (n,
            units) and how much each sample counts (n,), float32.
        val_inputs, val_values: The same of the validation samples.
    """

    inputs: Array
    values: np.ndarray
    weights: np.ndarray
    val_inputs: Array
    val_values: np.ndarray


def head_materials(backbone: TrainedNetwork, configs: Sequence[HeadConfig]) -> list[Material]:
    """Return what heads of one input and one label source are trained on; raises as `fit_head`.

    The inputs are made once and shared: features of augmented views take more than a gigabyte.
    """
    if not backbone.val_bank:  # none, or one of no samples
        raise ValueError("a head needs validation samples; received a DDNN fitted without any")
    # Before it trains any fold.
    require_samples([configs[0].labels], backbone.bank.strata)
    for config in configs:
        TARGETS[config.first_target].values(backbone.val_bank, config.cost, config.local_fraction)
        if config.anchored:
            require_confidence(backbone.val_bank.edge)
    data = LABEL_SOURCES[configs[0].labels].training_data(backbone)
    read = HEAD_INPUTS[configs[0].input]
    inputs, val_inputs = (
        x if len(x.shape) > 2 else np.asarray(x)  # a vector is small, and is normalised as a whole
        for x in (read(data.bank.edge), read(backbone.val_bank.edge))
    )
    return [_material(config, data, backbone.val_bank, inputs, val_inputs) for config in configs]


def _material(
    config: HeadConfig,
    data: HeadTrainingData,
    val_bank: Bank,
    inputs: np.ndarray,
    val_inputs: np.ndarray,
) -> Material:
    values, val_values = (
        TARGETS[config.first_target].values(bank, config.cost, config.local_fraction)
        for bank in (data.labels_bank, val_bank)
    )
    if config.oversample:
        inputs, values = _oversample(inputs, values, config.seed)
    balanced = LOSSES[config.loss].balanced
    weights = compute_sample_weight("balanced", values[:, 0]) if balanced else np.ones(len(values))
    return Material(inputs, values, weights.astype(np.float32), val_inputs, val_values)


def initial_head(inputs: np.ndarray, config: HeadConfig) -> keras.Model:
    """Return a head before its training, for inputs (n, ...); sets the seeds of all libraries."""
    keras.utils.set_random_seed(config.seed)
    head = build_head(inputs.shape[1:], config)
    if inputs.ndim == 2:
        head.get_layer("normalization").adapt(inputs)
    return head


def copy_weights(source: keras.Model, head: keras.Model) -> None:
    """Give a head the weights of another of the same configuration."""
    head.set_weights(source.get_weights())
    settle(head)


def fit_anchor(rule: HeadRule, val_bank: Bank) -> Anchor | None:
    """Return the anchor of a trained head, if its configuration asks for one."""
    return Anchor.fit(rule.score(val_bank.edge), val_bank) if rule.config.anchored else None


class _KeepBest(keras.callbacks.Callback):
    """Adds "val_audc" to the logs, stops early and restores the weights of the best epoch."""

    def __init__(self, stopping: EarlyStopping, val_inputs: np.ndarray):
        super().__init__()
        self.stopping, self.val_inputs = stopping, val_inputs
        self.weights = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        outputs = _predict_in_batches(self.model, self.val_inputs)
        logs["val_audc"] = audc = self.stopping.audc(outputs)
        if self.stopping.is_best(audc):
            self.weights = self.model.get_weights()
        if not self.stopping.running:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.model.set_weights(self.weights)


def _predict_in_batches(model: keras.Model, inputs: Array) -> np.ndarray:
    return model.predict(batches_in_order((inputs,), PREDICT_BATCH), verbose=0)


def _oversample(inputs: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from imblearn.over_sampling import SMOTE

    minority = int(min(labels.sum(), (1.0 - labels).sum()))
    if minority < 2:  # L0 of 0 or 1: nothing to interpolate between
        return inputs, labels
    sampler = SMOTE(k_neighbors=min(5, minority - 1), random_state=seed)
    inputs, labels = sampler.fit_resample(inputs, labels[:, 0].astype(np.int64))
    return inputs.astype(np.float32), labels[:, None].astype(np.float32)
