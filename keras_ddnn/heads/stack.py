"""Many heads at once, stacked along an axis of members, as if each were trained alone."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.heads.early_stopping import EarlyStopping
from keras_ddnn.heads.fit import (
    PREDICT_BATCH,
    HeadRule,
    fit_anchor,
    fit_head,
    head_materials,
    initial_head,
    settled,
)
from keras_ddnn.heads.losses import keras_loss, metric_of
from keras_ddnn.labels.sources import TrainedNetwork
from keras_ddnn.labels.targets import LOSSES
from keras_ddnn.networks.paper import compute_policy
from keras_ddnn.training.batches import steps_per_epoch, training_batches


def fit_heads(backbone: TrainedNetwork, configs: Sequence[HeadConfig]) -> list[HeadRule]:
    """Train several heads, those that can share a batch together.

    A dozen small heads take little longer than one: the batch is gathered once and every layer of
    all of them is one product. Labels, loss, sample weights and early stopping are each member's
    own, and so are its first weights, those of `fit_head`; only the units that dropout leaves out
    are the same for all.

    Args:
        backbone: As for `fit_head`.
        configs: Any number of configurations; convolutions and oversampling are trained alone.

    Returns:
        The trained heads, in the order of `configs`.

    Raises:
        ValueError: As `fit_head`.
    """
    configs = settled(configs, backbone)
    stacks = {}
    for place, config in enumerate(configs):
        stacks.setdefault(config.stack_key() or place, []).append(place)
    heads = {}
    for places in stacks.values():
        members = [configs[place] for place in places]
        alone = len(members) == 1
        fitted = [fit_head(backbone, members[0])] if alone else _fit_stack(backbone, members)
        heads |= dict(zip(places, fitted))
    return [heads[place] for place in range(len(configs))]


class Stack:
    """The dense layers of heads of one architecture, along an axis of members.

    Args:
        heads: Heads of `build_head`, but no convolutions.
        dropout: Dropout rate of the hidden layers.
        policy: Keras dtype policy of all but the last layer.
    """

    def __init__(self, heads: Sequence[keras.Model], dropout: float, policy: str):
        self.heads, self.dropout = heads, dropout
        self.dtype = keras.dtype_policies.get(policy).compute_dtype
        self.dense = [[x for x in head.layers if isinstance(x, layers.Dense)] for head in heads]
        self.before = keras.Model(heads[0].input, self.dense[0][0].input)
        last = heads[0].layers[-1]
        self.scale = last.scale if isinstance(last, layers.Rescaling) else 1.0
        kernels, biases = (
            [np.stack([getattr(x, name).numpy() for x in members]) for members in zip(*self.dense)]
            for name in ("kernel", "bias")
        )
        # All members read the same batch, so that their first layers are one wide layer.
        kernels[0] = kernels[0].transpose(1, 0, 2)
        self.kernels = [keras.Variable(kernel) for kernel in kernels]
        self.biases = [keras.Variable(bias[:, None]) for bias in biases]

    @property
    def variables(self) -> list[keras.Variable]:
        """What is trained."""
        return self.kernels + self.biases

    def __call__(self, inputs: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Return the outputs (members, n, units) of inputs (n, ...); with dropout if seeded."""
        x = self.before(inputs)
        for place, (kernel, bias) in enumerate(zip(self.kernels, self.biases)):
            last = place == len(self.kernels) - 1
            dtype = "float32" if last else self.dtype
            x, kernel, bias = (tf.cast(part, dtype) for part in (x, kernel.value, bias.value))
            x = (tf.matmul(x, kernel) if place else _one_wide_layer(x, kernel)) + bias
            if not last:
                x = tf.nn.relu(x)
                if seed is not None and self.dropout:
                    x = tf.nn.experimental.stateless_dropout(
                        x, self.dropout, seed + place, noise_shape=(1, *x.shape[1:])
                    )
        return self.scale * x

    def keep(self, member: int) -> None:
        """Write the weights of a member, as they are now, into its head."""
        for place, dense in enumerate(self.dense[member]):
            kernel = self.kernels[place]
            dense.kernel.assign(kernel[:, member] if place == 0 else kernel[member])
            dense.bias.assign(self.biases[place][member, 0])


def _one_wide_layer(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Multiply (n, inputs) by (inputs, members, units) to (members, n, units)."""
    inputs, members, units = kernel.shape
    wide = tf.matmul(x, tf.reshape(kernel, (inputs, members * units)))
    return tf.transpose(tf.reshape(wide, (-1, members, units)), (1, 0, 2))


def _fit_stack(backbone: TrainedNetwork, configs: Sequence[HeadConfig]) -> list[HeadRule]:
    first = configs[0]
    materials = head_materials(backbone, configs)
    inputs, val_inputs = materials[0].inputs, materials[0].val_inputs
    heads = [initial_head(inputs, config) for config in configs]
    policy = compute_policy(first.precision) if inputs.ndim == 4 else "float32"
    stack = Stack(heads, first.dropout if first.architecture == "mlp" else 0.0, policy)
    batches = training_batches(
        (
            inputs,
            np.stack([m.values for m in materials], axis=1),
            np.stack([m.weights for m in materials], axis=1),
        ),
        first.batch_size,
        first.seed,
        lambda batch, seed: (*batch, seed),
    )
    train = _training(stack, configs, batches, steps_per_epoch(len(inputs), first.batch_size))
    predict = tf.function(stack.__call__, reduce_retracing=True)
    val_values = np.stack([m.val_values for m in materials])

    histories = [{} for _ in configs]
    metric_names = [metric_of(config.loss).name for config in configs]
    stopping = [EarlyStopping(config, backbone.val_bank) for config in configs]
    for _ in range(first.epochs):
        running = [member for member, one in enumerate(stopping) if one.running]
        if not running:
            break
        logs = dict(zip(("loss", "metric"), train().numpy()))
        outputs = np.concatenate(
            [
                predict(val_inputs[start : start + PREDICT_BATCH]).numpy()
                for start in range(0, len(val_inputs), PREDICT_BATCH)
            ],
            axis=1,
        )
        val_logs = _measure(configs, outputs, val_values, np.ones(outputs.shape[:2], np.float32))
        logs |= dict(zip(("val_loss", "val_metric"), np.array(val_logs)))
        for member in running:
            audc = stopping[member].audc(outputs[member])
            row = {
                name.replace("metric", metric_names[member]): float(values[member])
                for name, values in logs.items()
            }
            for name, value in (row | {"val_audc": audc}).items():
                histories[member].setdefault(name, []).append(value)
            if stopping[member].is_best(audc):
                stack.keep(member)
    rules = []
    for head, config, history in zip(heads, configs, histories):
        anchor = fit_anchor(HeadRule(head, config), backbone.val_bank)
        rules.append(HeadRule(head, config, history, anchor))
    return rules


def _training(
    stack: Stack, configs: Sequence[HeadConfig], batches: tf.data.Dataset, steps: int
) -> Callable[[], tf.Tensor]:
    """Return what trains all members for an epoch and returns their means, (2, members)."""
    optimizer = keras.optimizers.Adam(configs[0].learning_rate)
    optimizer.build(stack.variables)
    iterator = iter(batches)

    @tf.function
    def epoch() -> tf.Tensor:
        total = tf.zeros((2, len(configs)))
        for _ in tf.range(steps):
            inputs, values, weights, seed = next(iterator)
            with tf.GradientTape() as tape:
                outputs = stack(inputs, seed)
                loss, metric = _measure(
                    configs, outputs, tf.transpose(values, (1, 0, 2)), tf.transpose(weights)
                )
                # Members share no weight: the gradient of the sum is that of each.
                together = tf.reduce_sum(loss)
            gradients = tape.gradient(together, stack.variables)
            optimizer.apply_gradients(zip(gradients, stack.variables))
            total += tf.stack([loss, metric])
        return total / steps

    return epoch


def _measure(
    configs: Sequence[HeadConfig], outputs: tf.Tensor, values: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the loss and the metric of each member, two of shape (members,), as Keras means them.

    Args:
        configs: Configurations of the members.
        outputs, values: (members, n, units).
        weights: (members, n).
    """
    losses, metrics = [None] * len(configs), [None] * len(configs)
    for name in dict.fromkeys(config.loss for config in configs):
        members = [place for place, config in enumerate(configs) if config.loss == name]
        ours, theirs = (tf.gather(x, members) for x in (outputs, values))
        loss = keras_loss(name, reduction="none")(theirs, ours) * tf.gather(weights, members)
        if LOSSES[name].from_logits:
            metric = tf.cast(tf.cast(ours > 0, tf.float32) == theirs, tf.float32)
        else:
            metric = tf.abs(ours - theirs)
        for place, member in enumerate(members):
            losses[member] = tf.reduce_mean(loss[place])
            metrics[member] = tf.reduce_mean(metric[place])
    return tf.stack(losses), tf.stack(metrics)
