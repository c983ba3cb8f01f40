"""The scores of EENet: how probably the answer of an exit is right, from it and earlier exits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.labels.logit_head import logistic_regression
from keras_ddnn.rules.confidence import OffloadRule
from keras_ddnn.tasks.task import Task


class ExitScore(OffloadRule):
    """Sends on where the answer of an exit is probably wrong, as learned from right answers.

    The score of exit k is q_k = σ(w_k · x_k + b_k), where x_k holds the probabilities of the
    classes, the largest of them, 1 - entropy / log num_classes, the share of the exits up to k that
    gave the most frequent answer, and q_1 … q_{k-1}. A sample is sent on where 1 - q_k is high. Its
    samples must not have trained the network: see `fit`.

    Source: Ilhan et al., "Adaptive Deep Neural Network Inference Optimization with EENet", 2024,
    after the authors' public code. Ours differ in three places: σ where the code cuts off at 0 and
    1; all samples count alike, where EENet weighs them by the exit that it would assign; and all
    thresholds are chosen together for a budget, see `ScoredChain`, where EENet learns how many
    samples each exit gets.

    Args:
        weights: Of each exit up to the one of this rule, the first first: w_k and b_k behind it,
            float of shape (num_classes + 3 + k,) for k = 1, 2, …

    Raises:
        ValueError: If there is none, or their lengths do not rise by one.
    """

    fits_graph = False
    needs = ("probabilities",)

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        self.weights = [np.asarray(of_exit, np.float64) for of_exit in weights]
        shapes = [of_exit.shape for of_exit in self.weights]
        rising = [(shapes[0][0] + k,) for k in range(len(shapes))] if shapes and shapes[0] else []
        if not shapes or shapes != rising:
            raise ValueError(
                "expected weights of each exit, (num_classes + 4,) of the first and one more of "
                f"each behind it; received shapes {shapes}: fit them by ExitScore.fit"
            )
        self.multiply_adds = sum(of_exit.size for of_exit in self.weights)

    @classmethod
    def fit(cls, bank: Bank) -> list["ExitScore"]:
        """Learn a rule for each gate of a chain.

        Args:
            bank: n samples of K tiers that trained neither network nor exits.

        Returns:
            K - 1 rules, the first tier's first: those of a `ScoredChain`.
        """
        right = bank.costs("zero_one") == 0
        weights: list[np.ndarray] = []
        outputs = [tier.outputs for tier in bank.tiers.values()][:-1]
        for k, x in enumerate(_of_exits(outputs, bank.task)):
            x = np.column_stack([x, *_scores(weights, outputs, bank.task)])
            w, b = logistic_regression(x, right[:, k : k + 1])
            weights.append(np.append(w[:, 0], b))
        return [cls(weights[: k + 1]) for k in range(len(weights))]

    def get_config(self) -> dict[str, Any]:
        """Return the weights as lists."""
        return {"weights": [of_exit.tolist() for of_exit in self.weights]}

    def score(self, edge: TierOutputs) -> np.ndarray:
        """Return 1 - q_k of the exit, in [0, 1].

        Raises:
            ValueError: If it has another place in its chain, or other classes, than in `fit`.
        """
        for need in self.needs:
            edge.require(need, "the rule ExitScore")
        outputs = [*edge.earlier, edge.outputs]
        columns = outputs[0].shape[1] + 4
        if len(outputs) != len(self.weights) or len(self.weights[0]) != columns:
            raise ValueError(
                f"this ExitScore is that of exit {len(self.weights)} for "
                f"{len(self.weights[0]) - 4} classes; received exit {len(outputs)} with "
                f"{columns - 4}: take the rule of that gate, or fit them again"
            )
        return 1.0 - _scores(self.weights, outputs, edge.task)[-1]


def _scores(
    weights: Sequence[np.ndarray], outputs: Sequence[np.ndarray], task: Task
) -> list[np.ndarray]:
    """Return q_k (n,) of each exit that has weights."""
    scores: list[np.ndarray] = []
    for of_exit, x in zip(weights, _of_exits(outputs, task)):
        logit = np.column_stack([x, *scores]) @ of_exit[:-1] + of_exit[-1]
        scores.append(0.5 * (1.0 + np.tanh(logit / 2)))  # σ, without an overflow
    return scores


def _of_exits(outputs: Sequence[np.ndarray], task: Task) -> list[np.ndarray]:
    """Return what is known at each exit but the earlier scores, float64 (n, num_classes + 3)."""
    known, votes = [], np.zeros(outputs[0].shape)
    for k, logits in enumerate(outputs, start=1):
        votes[np.arange(len(logits)), logits.argmax(axis=1)] += 1
        said = task.distribution(logits, np, "float64")
        agreed = votes.max(axis=1) / k
        columns = (said.probabilities, 1 - said.rest, 1 - said.entropy, agreed)
        known.append(np.column_stack(columns))
    return known
