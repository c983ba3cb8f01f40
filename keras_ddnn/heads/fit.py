"""Offload heads: small Keras models that learn which samples are worth sending."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import layers
from sklearn.utils.class_weight import compute_sample_weight

from keras_ddnn.config import HeadConfig
from keras_ddnn.data.bank import EdgeOutputs
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.labels.losses import LOSSES
from keras_ddnn.labels.sources import LABEL_SOURCES, TrainedNetwork, require_samples
from keras_ddnn.labels.targets import TARGETS
from keras_ddnn.networks.layers import FusedBatchNormalization, settle
from keras_ddnn.networks.model_costs import multiply_adds
from keras_ddnn.networks.paper import (
    compute_policy,
    prepare_training,
    resolve_precision,
)
from keras_ddnn.rules.confidence import OffloadRule
from keras_ddnn.rules.inputs import HEAD_INPUTS
from keras_ddnn.training.batches import crop_flip, steps_per_epoch, training_batches

VECTOR_WIDTHS = (256, 128, 64, 32)
MAP_WIDTH = 128
CONV_FILTERS = (16, 32, 32, 64)
CONV_DROPOUT = 0.3
CONV_WEIGHT_DECAY = 1e-5
PREDICT_BATCH = 500


class HeadRule(OffloadRule):
    """A trained offload head as a rule.

    Attributes:
        model: Keras model, array of `HEAD_INPUTS[config.input]` → outputs (n, units) of the target.
        config: What it was trained with.
        history: Metric name → one value an epoch; empty for a loaded head.
        anchor: The confidence rule it corrects; None if it ranks alone.
    """

    def __init__(self, model: keras.Model, config: HeadConfig, history=None, anchor=None):
        self.model = model
        self.config = config
        self.history = history or {}
        self.anchor = anchor
        self.multiply_adds = multiply_adds(model) if anchor is None or anchor.weight else 0
        self._ask = _predict_in_batches

    def score(self, edge: EdgeOutputs) -> np.ndarray:
        """Return the score that target and anchor make of the head's outputs, of shape (n,)."""
        if not self.multiply_adds:
            return self.anchor.correct(edge.xp.zeros_like(edge.local_entropy), edge)
        outputs = self._ask(self.model, HEAD_INPUTS[self.config.input](edge))
        scores = TARGETS[self.config.target].score(outputs, edge.xp)
        return self.anchor.correct(scores, edge) if self.anchor else scores

    def for_graph(self) -> "HeadRule":
        """Return the same rule with a head in float32 that is called, not run in batches."""
        config = replace(self.config, precision="float32")
        head = build_head(self.model.input_shape[1:], config)
        copy_weights(self.model, head)
        rule = HeadRule(head, config, anchor=self.anchor)
        rule._ask = lambda model, inputs: model(inputs, training=False)
        return rule


def build_head(input_shape, config: HeadConfig) -> keras.Model:
    """Build an offload head.

    Args:
        input_shape: Shape of one sample of `HEAD_INPUTS[config.input]`, without n.
        config: Its architecture, depth and target.

    Returns:
        Keras model, (n, *input_shape) → float32 (n, units): logits, or B_k for the target
        "benefit". The first layer of a head on vectors normalises them and must be adapted to
        training data.
    """
    policy = compute_policy(config.precision) if len(input_shape) == 3 else "float32"
    inputs = keras.Input(input_shape, dtype="uint8" if config.input == "image" else None)
    if len(input_shape) == 1:
        x = layers.Normalization(name="normalization")(inputs)
    elif config.input == "image":
        x = layers.Rescaling(1 / 127.5, -1.0, dtype=policy, name="rescaling")(inputs)
    else:
        x = inputs
    x = HEADS[config.architecture](x, config, policy)
    return keras.Model(inputs, x, name="head")


def fit_head(
    backbone: TrainedNetwork,
    config: HeadConfig | None = None,
    *,
    initial: HeadRule | None = None,
    callbacks=(),
    verbose=0,
) -> HeadRule:
    """Train an offload head on what offloading would have done to the training samples.

    Args:
        backbone: A `FittedDDNN`, or `Banks`. Who judges its training samples is the choice of
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
    config = config or HeadConfig()
    config = replace(config, precision=resolve_precision(config.precision))
    (material,) = head_materials(backbone, [config])
    inputs, values = material.inputs, material.values
    head = initial_head(inputs, config)
    if initial:
        copy_weights(initial.model, head)
    head.compile(
        keras.optimizers.Adam(config.learning_rate),
        loss=keras_loss(config.loss),
        metrics=_metrics(config.loss),
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
        validation_data=(material.val_inputs, material.val_values),
        validation_batch_size=PREDICT_BATCH,
        shuffle=False,  # the batches are shuffled already
        callbacks=[
            _ValidationAUDC(backbone.val_bank, material.val_inputs, config),
            keras.callbacks.EarlyStopping(
                "val_audc", mode="max", patience=config.patience, restore_best_weights=True
            ),
            *callbacks,
        ],
        verbose=verbose,
    )
    val_scores = _score(head, material.val_inputs, config)
    return HeadRule(head, config, history.history, anchor_of(config, val_scores, backbone.val_bank))


@dataclass(frozen=True, eq=False)
class Material:
    """What a head is trained and validated on.

    Attributes:
        inputs, values, weights: Of n training samples: what it reads, what it is taught (n, units)
            and how much each sample counts (n,), float32.
        val_inputs, val_values: Of the validation samples.
    """

    inputs: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    val_inputs: np.ndarray
    val_values: np.ndarray


def head_materials(backbone: TrainedNetwork, configs: Sequence[HeadConfig]) -> list[Material]:
    """Return what heads of one input and one label source are trained on; raises as `fit_head`.

    The inputs are made once and shared: features of augmented views take more than a gigabyte.
    """
    if backbone.val_bank is None:
        raise ValueError("a head needs validation samples; received a DDNN fitted without any")
    require_samples([configs[0].labels], backbone.bank.labels)  # before it trains any fold
    data = LABEL_SOURCES[configs[0].labels].training_data(backbone)
    read = HEAD_INPUTS[configs[0].input]
    inputs, val_inputs = read(data.bank.edge), read(backbone.val_bank.edge)
    return [_material(config, data, backbone.val_bank, inputs, val_inputs) for config in configs]


def _material(config, data, val_bank, inputs, val_inputs) -> Material:
    values, val_values = (
        TARGETS[config.target].values(bank, config.cost, config.local_fraction)
        for bank in (data.judge, val_bank)
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


def anchor_of(config: HeadConfig, val_scores: np.ndarray, val_bank) -> Anchor | None:
    """Return the anchor of a trained head, if its configuration asks for one."""
    return Anchor.fit(val_scores, val_bank) if config.anchored else None


class _ValidationAUDC(keras.callbacks.Callback):
    """Adds "val_audc" to the logs: what the head is for, of which its loss is a stand-in."""

    def __init__(self, bank, inputs, config):
        super().__init__()
        self.bank, self.inputs, self.config = bank, inputs, config

    def on_epoch_end(self, epoch, logs=None):
        scores = _score(self.model, self.inputs, self.config)
        logs["val_audc"] = OffloadCurve.from_scores(scores, self.bank).audc


def _predict_in_batches(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return model.predict(inputs, batch_size=PREDICT_BATCH, verbose=0)


def _score(model, inputs, config) -> np.ndarray:
    return TARGETS[config.target].score(_predict_in_batches(model, inputs), np)


def keras_loss(name: str, **options) -> keras.losses.Loss:
    """Return the Keras loss of a key of `LOSSES`, with further options of its own."""
    loss = LOSSES[name]
    options |= {"from_logits": True} if loss.from_logits else {}
    return getattr(keras.losses, loss.keras_class)(**options)


def _metrics(loss: str) -> list[keras.metrics.Metric]:
    if LOSSES[loss].from_logits:
        return [keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")]
    return [keras.metrics.MeanAbsoluteError(name="mae")]


def _oversample(inputs, labels, seed):
    from imblearn.over_sampling import SMOTE

    minority = int(min(labels.sum(), (1.0 - labels).sum()))
    if minority < 2:  # L0 of 0 or 1: nothing to interpolate between
        return inputs, labels
    sampler = SMOTE(k_neighbors=min(5, minority - 1), random_state=seed)
    inputs, labels = sampler.fit_resample(inputs, labels[:, 0].astype(np.int64))
    return inputs.astype(np.float32), labels[:, None].astype(np.float32)


def _outputs(config):
    return layers.Dense(TARGETS[config.target].units, dtype="float32", name="outputs")


def _mlp(x, config, policy):
    widths = VECTOR_WIDTHS[: config.depth]
    if len(x.shape) > 2:
        widths = (MAP_WIDTH,) * config.depth
        x = layers.Flatten(dtype=policy)(x)
    for width in widths:
        x = layers.Dense(width, activation="relu", dtype=policy)(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, dtype=policy)(x)
    return _outputs(config)(x)


def _paper_mlp(x, config, policy):
    config = replace(config, dropout=0.0)
    # (1 + tanh z)/2 = sigmoid(2z): the paper's ending, as the logit of a probability.
    return layers.Rescaling(2.0, dtype="float32", name="doubled")(_mlp(x, config, policy))


def _conv(x, config, policy):
    for filters in CONV_FILTERS:
        for _ in range(config.depth):
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                kernel_regularizer=keras.regularizers.L2(CONV_WEIGHT_DECAY),
                dtype=policy,
            )(x)
            x = FusedBatchNormalization(dtype=policy)(x)
            x = layers.ReLU(dtype=policy)(x)
        x = layers.MaxPooling2D(2, padding="same", dtype=policy)(x)
        x = layers.Dropout(CONV_DROPOUT, dtype=policy)(x)
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    return _outputs(config)(x)


HEADS = {"mlp": _mlp, "paper_mlp": _paper_mlp, "conv": _conv}
