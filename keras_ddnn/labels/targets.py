"""What an offload head is taught, by which losses, and how its outputs make a score."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit, hard_labels, right_answers


@dataclass(frozen=True)
class HeadLoss:
    """A loss of `keras.losses`.

    Attributes:
        keras_class: Its name.
        from_logits: Whether it reads logits of a label, and not numbers of any size.
        balanced: Whether easy and hard samples weigh the same in total, whatever L0 is.
    """

    keras_class: str
    from_logits: bool = True
    balanced: bool = False


LOSSES = {
    "bce": HeadLoss("BinaryCrossentropy"),
    "weighted_bce": HeadLoss("BinaryCrossentropy", balanced=True),
    # Lin et al., "Focal Loss for Dense Object Detection", 2017, with its γ = 2.
    "focal": HeadLoss("BinaryFocalCrossentropy"),
    "mse": HeadLoss("MeanSquaredError", from_logits=False),
    "huber": HeadLoss("Huber", from_logits=False),
}


@dataclass(frozen=True)
class Target:
    """A way to teach offloading.

    Attributes:
        values: (bank, cost, local_fraction) → what to learn, float32 of shape (n, units).
        score: (outputs of the head (n, units), functions of arrays as of `TierOutputs.xp`) → scores
            (n,).
        units: Outputs of the head.
        losses: Keys of `LOSSES` that fit, the default first.
        reads: Which of cost and local_fraction `values` looks at.
        needs: What outputs must say for it, see `Task.gives`.
    """

    values: Callable[[Bank, str, float], np.ndarray]
    score: Callable[[np.ndarray, ModuleType], np.ndarray]
    units: int
    losses: tuple[str, ...]
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _hard(bank: Bank, cost: str, local_fraction: float) -> np.ndarray:
    return hard_labels(benefit(bank, cost), local_fraction)[:, None].astype(np.float32)


def _benefit(bank: Bank, cost: str, local_fraction: float) -> np.ndarray:
    return benefit(bank, cost)[:, None].astype(np.float32)


def _correctness(bank: Bank, cost: str, local_fraction: float) -> np.ndarray:
    right = right_answers(bank, "the target 'correctness'")
    return np.stack(right, axis=1).astype(np.float32)


def _distilled(bank: Bank, cost: str, local_fraction: float) -> np.ndarray:
    rows, probabilities = np.arange(len(bank)), bank.cloud_probabilities
    answers = [bank.task.answers(outputs) for outputs in (bank.edge.outputs, bank.cloud_logits)]
    if max(each.max(initial=0) for each in answers) >= probabilities.shape[1]:
        raise ValueError(
            "the target 'distilled' needs answers that are classes; received samples that are "
            "refused: take HeadConfig.of_task(task), which learns what answers cost"
        )
    return np.stack([probabilities[rows, a] for a in answers], axis=1).astype(np.float32)


def _expected(bank: Bank, cost: str, local_fraction: float) -> np.ndarray:
    *_, cloud = bank.tiers.values()
    known, task = cloud.require("quantiles", "the target 'expected_benefit'"), bank.task
    measure = task.bounded_cost if cost == task.reported else task.costs[cost]
    each = (measure(bank.edge.outputs, y) - measure(cloud.outputs, y) for y in known.points.T)
    return (sum(each) / known.points.shape[1])[:, None].astype(np.float32)


def _only(outputs: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    return outputs[:, 0]


def _difference(logits: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    return _sigmoid(logits[:, 1], xp) - _sigmoid(logits[:, 0], xp)


def _sigmoid(x: np.ndarray, xp: ModuleType) -> np.ndarray:
    # 1 / (1 + exp(-x)) in a form that keeps its digits at both ends.
    return xp.exp(-xp.logaddexp(xp.zeros_like(x), -x))


TARGETS = {
    # The paper's label: 1 where B_k is at least b*. The score is a logit, good around L0.
    "hard": Target(_hard, _only, 1, ("bce", "weighted_bce", "focal"), ("cost", "local_fraction")),
    # B_k itself; its expectation is the right score at every L0.
    "benefit": Target(_benefit, _only, 1, ("mse", "huber"), ("cost",)),
    # B_k as the cloud expects it by its own quantiles. It needs no truth, whose noise is most of
    # B_k, and so it teaches from samples that trained the networks, too.
    "expected_benefit": Target(
        _expected, _only, 1, ("mse", "huber"), ("cost",), needs=("quantiles",)
    ),
    # P(local right) and P(cloud right); offloading is right iff their difference exceeds its price.
    "correctness": Target(_correctness, _difference, 2, ("bce", "focal"), needs=("probabilities",)),
    # The same two as the cloud sees them: its probabilities of either answer, which say by how much
    # where the truth says only whether, and need no true labels (Hinton et al., "Distilling the
    # Knowledge in a Neural Network", 2015).
    "distilled": Target(_distilled, _difference, 2, ("bce",), needs=("probabilities",)),
}
# Those that teach how probably the local and the cloud's answers are right. Where the cloud is sure
# and wrong, what is distilled misleads, and the truth does not; elsewhere it says more.
PROBABILITY_TARGETS = ("distilled", "correctness")
