"""Rules as part of a TensorFlow graph, in float32, for a device that runs no Python of ours.

Each function repeats a NumPy original of the same name; a test compares them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import tensorflow as tf

from keras_ddnn.head_inputs import EPSILON, PLACES
from keras_ddnn.heads import HeadRule, build_head, copy_weights
from keras_ddnn.rules import RULES, OffloadRule


@dataclass(frozen=True, eq=False)
class GraphOutputs:
    """What a graph knows of n samples; the tensors of `EdgeOutputs`.

    Attributes:
        local_logits: float32 of shape (n, num_classes).
        features: float32 of shape (n, h, w, f).
        images: uint8 of shape (n, height, width, channels).
    """

    local_logits: tf.Tensor
    features: tf.Tensor
    images: tf.Tensor

    @cached_property
    def log_probabilities(self):
        """Logarithms of the local probabilities (n, num_classes)."""
        return tf.nn.log_softmax(self.local_logits)

    @cached_property
    def ranked(self):
        """The local probabilities, falling, and their classes, each (n, num_classes)."""
        return tf.math.top_k(tf.exp(self.log_probabilities), self.local_logits.shape[1])

    @cached_property
    def rest(self):
        """1 - the highest probability, (n, 1); summed, for a difference has no digits near 0."""
        return tf.reduce_sum(self.ranked.values[:, 1:], axis=1, keepdims=True)

    @cached_property
    def entropy(self):
        """Entropy of the local probabilities over log num_classes, (n, 1)."""
        logs = self.log_probabilities
        nats = -tf.reduce_sum(tf.exp(logs) * logs, axis=1, keepdims=True)
        return tf.minimum(nats / tf.math.log(float(logs.shape[1])), 1.0)

    @cached_property
    def closeness(self):
        """1 - the gap between the two highest probabilities, (n, 1)."""
        return self.rest + self.ranked.values[:, 1:2]


def logits_plus(edge: GraphOutputs):
    """Return logits, normalised entropy and top-2 gap (n, num_classes + 2)."""
    return tf.concat([edge.local_logits, edge.entropy, 1.0 - edge.closeness], axis=1)


def logits_rich(edge: GraphOutputs):
    """Return all that the logits tell of confidence and class (n, d)."""
    values, classes = edge.ranked
    ranked = tf.math.log(values + EPSILON)
    log_odds = tf.math.log(values[:, :1] + EPSILON) - tf.math.log(edge.rest + EPSILON)
    first, second = (tf.one_hot(classes[:, place], values.shape[1]) for place in (0, 1))
    top = ranked[:, :4]
    gaps = top[:, :-1] - top[:, 1:]
    return tf.concat(
        [ranked, gaps, log_odds, edge.entropy, 1.0 - edge.closeness, first, second], axis=1
    )


def logits_features(edge: GraphOutputs):
    """Return `logits_rich` and the feature map pooled to 4×4 places (n, d)."""
    pooled = edge.features
    for axis in (1, 2):
        size = pooled.shape[axis]
        starts = sorted({place * size // PLACES for place in range(PLACES)})
        parts = tf.split(pooled, [b - a for a, b in zip(starts, [*starts[1:], size])], axis)
        pooled = tf.concat([tf.reduce_mean(part, axis, keepdims=True) for part in parts], axis)
    flat = tf.reshape(pooled, [-1, pooled.shape[1] * pooled.shape[2] * pooled.shape[3]])
    return tf.concat([logits_rich(edge), flat], axis=1)


def _only(outputs):
    return outputs[:, 0]


def _difference(logits):
    return tf.sigmoid(logits[:, 1]) - tf.sigmoid(logits[:, 0])


# The keys are those of `HEAD_INPUTS`, `TARGETS` and `RULES`; chance cannot be part of a graph.
GRAPH_INPUTS = {
    "features": lambda edge: edge.features,
    "image": lambda edge: edge.images,
    "logits": lambda edge: edge.local_logits,
    "logits_plus": logits_plus,
    "logits_rich": logits_rich,
    "logits_features": logits_features,
}
GRAPH_TARGETS = {
    "hard": _only,
    "benefit": _only,
    "correctness": _difference,
    "distilled": _difference,
}
GRAPH_RULES = {
    "entropy": lambda edge: edge.entropy[:, 0],
    "max_prob": lambda edge: edge.rest[:, 0],
    "margin": lambda edge: edge.closeness[:, 0],
}


def fits_graph(rule: OffloadRule) -> bool:
    """Return whether `score_in_graph` knows a rule."""
    return isinstance(rule, HeadRule) or type(rule) in map(RULES.get, GRAPH_RULES)


def score_in_graph(rule: OffloadRule) -> Callable[[GraphOutputs], tf.Tensor]:
    """Return a rule as a function of tensors, `GraphOutputs` → scores (n,) as of `rule.score`.

    Raises:
        ValueError: If the rule draws random numbers or is not ours.
    """
    if not fits_graph(rule):
        raise ValueError(
            f"a graph holds a HeadRule or one of {', '.join(GRAPH_RULES)}; received "
            f"{type(rule).__name__}"
        )
    if isinstance(rule, HeadRule):
        return _head(rule)
    return next(graph for name, graph in GRAPH_RULES.items() if type(rule) is RULES[name])


def _head(rule: HeadRule):
    config = replace(rule.config, precision="float32")
    head = build_head(rule.model.input_shape[1:], config)
    copy_weights(rule.model, head)
    inputs, target = GRAPH_INPUTS[config.input], GRAPH_TARGETS[config.target]

    def score(edge):
        return target(head(inputs(edge), training=False))

    def anchored(edge):
        (mean, deviation), (head_mean, head_deviation) = anchor.scales
        confidence = (GRAPH_RULES[anchor.rule](edge) - mean) / deviation
        # With a weight of 0 the head is not run.
        learned = score(edge) if anchor.weight else tf.zeros_like(confidence)
        learned = (learned - head_mean) / head_deviation
        return (1.0 - anchor.weight) * confidence + anchor.weight * learned

    anchor = rule.anchor
    return anchored if anchor else score
