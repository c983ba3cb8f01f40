"""A learned rule on logits alone: fitted by scikit-learn, kept as plain numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.blend import Anchor, AnchoredRule, surely_best
from keras_ddnn.files.checks import require_choice
from keras_ddnn.labels.targets import PROBABILITY_TARGETS, TARGETS
from keras_ddnn.rules.inputs import HEAD_INPUTS

# What a linear head of logits can read: keys of `HEAD_INPUTS`.
LOGIT_INPUTS = ("logits", "logits_plus", "logits_rich")
INVERSE_PENALTY = 0.03  # scikit-learn's C: small, as the samples may be a few hundred
FOLDS = 5
DIGITS = 9  # significant ones: they tell every float32 from its neighbours


class LogitHead(AnchoredRule):
    """Offloads where the cloud is more probably right than the local network, as learned.

    Two logistic regressions of `HEAD_INPUTS[input]` give the probabilities that the local and the
    cloud network are right; the score is their difference. The head is linear because it learns
    from hundreds or thousands of samples, not from tens of thousands: there, a single hidden
    layer ranked worse in our trials. The anchor blends it with the best confidence rule.

    Args:
        weights: float (d, 2), of the numbers that the head reads; local first.
        bias: float (2,).
        input: A key of `LOGIT_INPUTS`.
        target: A key of `PROBABILITY_TARGETS`, what it has learned.
        anchor: The confidence rule that it corrects; None if it ranks alone.

    Attributes:
        held_out_scores: float (n,), scores of the samples of `fit`, each by a head that was fitted
            without it; None for a head that was not fitted here.

    Raises:
        ValueError: If the numbers are not finite or not of these shapes, or a name is unknown.
    """

    def __init__(
        self,
        weights: np.ndarray,
        bias: np.ndarray,
        *,
        input: str = "logits_rich",
        target: str = "distilled",
        anchor: Anchor | None = None,
    ) -> None:
        require_choice("input of a LogitHead", input, LOGIT_INPUTS)
        require_choice("target of a LogitHead", target, PROBABILITY_TARGETS)
        self.weights, self.bias = (np.asarray(x, np.float32) for x in (weights, bias))
        shapes = self.weights.shape, self.bias.shape
        if len(shapes[0]) != 2 or shapes[0][1] != 2 or shapes[1] != (2,):
            raise ValueError(
                f"a LogitHead expects weights (d, 2) and bias (2,); received {shapes[0]} and "
                f"{shapes[1]}; fit it again"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ValueError("a LogitHead expects finite weights; received NaN or infinity")
        self.input, self.target, self.anchor = input, target, anchor
        self.held_out_scores: np.ndarray | None = None
        self.multiply_adds = self.weights.size if self.is_run else 0

    @classmethod
    def fit(
        cls,
        bank: Bank,
        *,
        input: str = "logits_rich",
        target: str | None = None,
        anchored: bool = True,
        seed: int = 0,
    ) -> "LogitHead":
        """Fit a head on samples that trained neither network.

        The target, then the anchor, are chosen by scores of heads that were fitted without the
        samples they score, in five parts drawn by `seed`.

        Args:
            bank: n samples, at least 10.
            input: A key of `LOGIT_INPUTS`.
            target: "distilled", the cloud's own probabilities of both answers, or "correctness",
                whether they are right. By default the second only where it is surely better, as
                where the cloud is sure and wrong; see `surely_best`.
            anchored: Whether the head corrects the best confidence rule, or ranks alone.
            seed: Seed that draws the five parts.

        Returns:
            The head; 5,000 samples of 10 classes take about two seconds.

        Raises:
            ValueError: If there are fewer samples, or a name is unknown.
        """
        require_choice("input of a LogitHead", input, LOGIT_INPUTS)
        if target is not None:
            require_choice("target of a LogitHead", target, PROBABILITY_TARGETS)
        if len(bank) < 2 * FOLDS:
            raise ValueError(
                f"a LogitHead expects {2 * FOLDS} samples or more; received {len(bank)}; give more "
                "samples, or take a rule that needs no training"
            )
        if target is None:
            # Of the task, not of these samples: others may cost what these happen not to.
            told = bank.task.measure.higher_is_better  # answers are right or wrong
            targets = PROBABILITY_TARGETS if told else PROBABILITY_TARGETS[:1]
        else:
            targets = (target,)
        held_out = [cls._held_out(bank, input, each, seed) for each in targets]
        place = surely_best(held_out, bank) if len(targets) > 1 else 0
        target, scores = targets[place], held_out[place]
        head = cls._alone(bank, input, target)
        if anchored:
            anchor = Anchor.fit(scores, bank)
            head = cls(head.weights, head.bias, input=input, target=target, anchor=anchor)
            scores = anchor.correct(scores, bank.edge)
        head.held_out_scores = scores
        return head

    @classmethod
    def _held_out(cls, bank: Bank, input: str, target: str, seed: int) -> np.ndarray:
        """Return scores (n,), each by a head without an anchor that was fitted without it."""
        from sklearn.model_selection import KFold

        scores = np.empty(len(bank))
        for kept, held in KFold(FOLDS, shuffle=True, random_state=seed).split(scores):
            scores[held] = cls._alone(bank.rows(kept), input, target).score(bank.rows(held).edge)
        return scores

    @classmethod
    def _alone(cls, bank: Bank, input: str, target: str) -> "LogitHead":
        """Return a head without an anchor."""
        values = TARGETS[target].values(bank, "true_class", 0.5)
        weights, bias = logistic_regression(HEAD_INPUTS[input](bank.edge), values)
        return cls(weights, bias, input=input, target=target)

    def score_alone(self, edge: TierOutputs) -> np.ndarray:
        """Return P(cloud right) - P(local right), of shape (n,).

        Raises:
            ValueError: If the logits have another number of classes than those of `fit`.
        """
        read = HEAD_INPUTS[self.input](edge)
        if read.shape[1] != len(self.weights):
            raise ValueError(
                f"this LogitHead expects {len(self.weights)} numbers of {self.input}; received "
                f"{read.shape[1]}, of {edge.outputs.shape[1]} classes; fit it for these"
            )
        scores = TARGETS[self.target].score(edge.xp.matmul(read, self.weights) + self.bias, edge.xp)
        return edge.xp.asarray(scores, edge.precision)

    def get_config(self) -> dict[str, Any]:
        """Return all of the head but `held_out_scores`, as plain JSON."""
        return {
            "input": self.input,
            "target": self.target,
            "weights": [[_short(x) for x in row] for row in self.weights],
            "bias": [_short(x) for x in self.bias],
            "anchor": self.anchor and self.anchor.as_json(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LogitHead":
        """Return the head that `get_config` has described."""
        config = dict(config)
        return cls(**config | {"anchor": Anchor.from_json(config["anchor"])})


def choose_target(bank: Bank) -> str:
    """Return the key of `PROBABILITY_TARGETS` that a `LogitHead` chooses on samples held out.

    With fewer samples than it needs, the first.
    """
    return (
        LogitHead.fit(bank, anchored=False).target
        if len(bank) >= 2 * FOLDS
        else PROBABILITY_TARGETS[0]
    )


def _short(x: np.float32) -> float:
    return float(f"{x:.{DIGITS}g}")


def logistic_regression(inputs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regress probabilities (n, units) on inputs (n, d), which are standardised for it.

    Each sample counts twice: as a right answer by its probability, as a wrong one by the rest.

    Returns:
        Weights (d, units) and bias (units,) that read the inputs as they are.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    once = scaler.fit_transform(inputs.astype(np.float64))
    twice, right = np.concatenate([once, once]), np.repeat([1, 0], len(once))
    weights, bias = [], []
    for unit in values.T.astype(np.float64):
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=300)
        model.fit(twice, right, sample_weight=np.concatenate([unit, 1.0 - unit]))
        weights.append(model.coef_[0] / scaler.scale_)
        bias.append(model.intercept_[0] - weights[-1] @ scaler.mean_)
    return np.stack(weights, axis=1), np.array(bias)
