"""Offload rules: one score a sample, from what the device knows. The higher, the more to send."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.rows.computed import whole
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task


def offloads(scores: np.ndarray, score_threshold: float) -> np.ndarray:
    """Return whether to offload each sample, bool (n,): where its score is not below a threshold.

    A score that is NaN says nothing for the local answer, so that its sample is offloaded.
    """
    return ~(scores < score_threshold)


class OffloadRule(ABC):
    """A rule that ranks samples for offloading; a threshold on its score makes the decisions.

    A rule is written once. It runs in NumPy and, where `fits_graph` is true, in the graph of a
    device: it takes its functions of arrays from `edge.xp`.

    Attributes:
        multiply_adds: Multiply-adds a sample that the rule costs on top of the local network.
        fits_graph: Whether the rule can be part of a graph.
        files: Names of the files that `save` writes: the networks of the rule.
        needs: What it reads of a tier beside its outputs; see `TierOutputs.require`.
    """

    multiply_adds: int = 0
    fits_graph: bool = True
    files: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @abstractmethod
    def score(self, edge: TierOutputs) -> np.ndarray:
        """Return the score of n samples, of shape (n,): higher means offload."""

    def _distribution(self, edge: TierOutputs) -> Any:
        """Return how sure the outputs are, once the tier has all that the rule needs."""
        for need in self.needs:
            edge.require(need, f"the rule {type(self).__name__}")
        return edge.distribution

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain JSON, from which `from_config` makes it.

        A rule without arguments inherits this method; any other has one of its own.

        Raises:
            ValueError: If the constructor takes arguments and the class does not say which.
        """
        if arguments := list(inspect.signature(type(self)).parameters):
            raise ValueError(
                f"{type(self).__name__} takes {', '.join(arguments)}: expected a get_config of its "
                "own that returns them as plain JSON; received none"
            )
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "OffloadRule":
        """Return the rule that `get_config` has described."""
        return cls(**config)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `files` into a folder; return what `load` needs beside them, as plain JSON.

        A rule without networks inherits both methods: its `get_config` says all.
        """
        return self.get_config()

    @classmethod
    def load(cls, description: Mapping[str, Any], folder: Path, model: Any = None) -> "OffloadRule":
        """Return the rule that `save` has described.

        Args:
            description: What `save` has returned.
            folder: Where it has written `files`.
            model: The DDNN, a Keras model or a `Cascade`, for rules that run parts of it.

        Raises:
            ValueError: In one line, if the description or the files are none of such a rule.
        """
        return cls.from_config(description)

    def for_graph(self) -> "OffloadRule":
        """Return the rule in the form that is traced into a graph: its own by default.

        Raises:
            ValueError: If the rule cannot be part of a graph.
        """
        if not self.fits_graph:
            raise ValueError(
                f"a device runs rules that fit a graph, such as {', '.join(CONFIDENCE_RULES)} or a "
                f"HeadRule; received {type(self).__name__}: take one of these"
            )
        return self


@dataclass(frozen=True, eq=False)
class Gate:
    """What decides at a tier whether it answers or sends on: a rule and a threshold.

    Attributes:
        rule: Scores the samples.
        score_threshold: Samples with a score at or above it are sent on.

    Raises:
        ValueError: If the threshold is NaN.
    """

    rule: OffloadRule
    score_threshold: float

    def __post_init__(self) -> None:
        if np.isnan(self.score_threshold):
            raise ValueError(
                "score_threshold must be a number; received NaN, at which everything is sent on"
            )

    def sends_on(self, tier: TierOutputs) -> np.ndarray:
        """Return whether to send on each of n samples, bool (n,); see `offloads`."""
        return offloads(self.rule.score(tier), self.score_threshold)


class Random(OffloadRule):
    """Ranks at random: the straight line between the two accuracies."""

    fits_graph = False

    def __init__(self, seed: int = 0):
        self.seed = seed

    def get_config(self) -> dict[str, Any]:
        """Return the seed."""
        return {"seed": self.seed}

    def score(self, edge):
        """Return uniform numbers in [0, 1), the same ones in every call."""
        # A separate stream: data generated with the same seed are independent of the ranking.
        return np.random.default_rng([self.seed, 1]).random(len(edge))


class Entropy(OffloadRule):
    """Offloads where the local prediction has high entropy, the baseline of the paper.

    Source: Teerapittayanon et al., "Distributed Deep Neural Networks over the Cloud, the Edge and
    End Devices", 2017.
    """

    needs = ("probabilities",)

    def score(self, edge):
        """Return the entropy of the local probabilities divided by log num_classes, in [0, 1]."""
        return self._distribution(edge).entropy


class MaxProb(OffloadRule):
    """Offloads where the most probable local class has low probability (Chow, 1970)."""

    needs = ("probabilities",)

    def score(self, edge):
        """Return 1 - max p_local, in [0, 1]."""
        return self._distribution(edge).rest


class Margin(OffloadRule):
    """Offloads where the two most probable local classes are close."""

    needs = ("probabilities",)

    def score(self, edge):
        """Return 1 - (p_local of the first class - p_local of the second), in [0, 1]."""
        return self._distribution(edge).closeness


class SecondLook(OffloadRule):
    """Offloads where the image and its mirror image leave the local answer doubtful.

    It is for devices that look twice, see `Cascade.second_look`: the local network is asked about
    the mirrored image, too, at its own cost again. The local answer stays that of the first look.

    Source: Shanmugam et al., "Better Aggregation in Test-Time Augmentation", 2021, for the means
    over views; ours for the rule.
    """

    needs = ("probabilities", "mirrored")

    def score(self, edge):
        """Return 1 - (mean p of the answer - mean p of the best other class), in [0, 2]."""
        first, xp = self._distribution(edge), edge.xp
        mirrored = xp.asarray(whole(edge.mirrored))
        second = edge.task.distribution(mirrored, xp, edge.precision)
        mean = (first.probabilities + second.probabilities) / 2
        answer = xp.take(xp.eye(mean.shape[1], dtype=edge.precision), first.order[:, 0], axis=0)
        return 1.0 - xp.sum(answer * mean, axis=1) + xp.max((1.0 - answer) * mean, axis=1)


class Width(OffloadRule):
    """Offloads where the predicted quantiles of a number lie far apart."""

    needs = ("quantiles",)

    def score(self, edge):
        """Return the distance of the outermost quantiles, in units of the answer, at least 0."""
        return self._distribution(edge).width


class Patience(OffloadRule):
    """Sends on until several tiers in a row have answered alike.

    A threshold of 0.5 - p at each gate is the patience p of the paper: a tier answers where p tiers
    right before it have said the same. So the first tier answers with a patience of 0 alone, and
    gates may be given other thresholds. It reads classes, and fits chains of three tiers or more.

    Source: Zhou et al., "BERT Loses Patience: Fast and Robust Inference with Early Exit", 2020.
    """

    fits_graph = False
    needs = ("probabilities",)

    def score(self, edge):
        """Return minus the number of tiers right before this one that gave its answer, (n,)."""
        answers = edge.outputs.argmax(axis=1)
        agree, tiers = np.ones(len(edge), bool), np.zeros(len(edge))
        for outputs in reversed(edge.earlier):
            agree &= outputs.argmax(axis=1) == answers
            tiers += agree
        return -tiers


# The rules that need no training; the learned one is `heads.HeadRule`.
RULES: dict[str, type[OffloadRule]] = {
    "random": Random,
    "entropy": Entropy,
    "max_prob": MaxProb,
    "margin": Margin,
    "width": Width,
    "second_look": SecondLook,
}


def confidence_rules(known: Task | TierOutputs) -> tuple[str, ...]:
    """Return the names of the rules that rank by confidence, of those of `untrained_rules`.

    `random` is there to be compared with; it is excluded from model selection.
    """
    return tuple(name for name in untrained_rules(known) if name != "random")


def name_of(rule: OffloadRule, rules: Mapping[str, type[OffloadRule]], expected: str) -> str:
    """Return the name of a rule's class in a table.

    Args:
        rule: The rule.
        rules: Name → class.
        expected: The beginning of the error, before the names.

    Raises:
        ValueError: If its class is not in the table; a subclass is another class.
    """
    for name, row in rules.items():
        if type(rule) is row:
            return name
    raise ValueError(
        f"{expected} one of {', '.join(rules)}; received {type(rule).__name__}: take one of these"
    )


def untrained_rules(known: Task | TierOutputs = CLASSIFICATION) -> dict[str, OffloadRule]:
    """Return a rule of every row of `RULES` that can be read, by its name.

    Args:
        known: A tier, or a task, which says what the outputs of any network of it allow.
    """
    return {name: rule() for name, rule in RULES.items() if known.gives.issuperset(rule.needs)}


CONFIDENCE_RULES = confidence_rules(CLASSIFICATION)
