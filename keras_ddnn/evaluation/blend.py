"""A learned rule that is not worse than the confidence rule it starts from."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import CostsAtGate
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.statistics import audc_replicates
from keras_ddnn.rules.confidence import RULES, OffloadRule, confidence_rules
from keras_ddnn.rules.sweep import RankedSamples

WEIGHTS = np.linspace(0.0, 1.0, 21)
RESAMPLES = 199
TINY = 1e-12


@dataclass(frozen=True)
class Anchor:
    """The best confidence rule, corrected by a head as far as validation data support it.

    Both scores are standardised as on validation data; the anchored score is
    (1 - weight)·confidence + weight·head.

    Attributes:
        rule: A key of `RULES`.
        weight: Weight of the head, in [0, 1]; with 0 the head need not be run.
        scales: ((mean, deviation) of the confidence scores, the same of the head's).
    """

    rule: str
    weight: float
    scales: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def fit(cls, scores: np.ndarray, val_bank: Bank) -> "Anchor":
        """Choose the confidence rule and the weight on validation data.

        The rule is the one of best AUDC, the weight that of `surely_best`: the further the head
        leads away from the rule the more it must prove, and where it proves nothing, the rule that
        needs no training stays.

        Args:
            scores: Scores of a head on the samples of `val_bank`, on which it was not trained.
            val_bank: n samples, at least two.

        Raises:
            ValueError: If the outputs say nothing of how sure they are.
        """
        names = require_confidence(val_bank.edge)
        confidence = {name: RULES[name]().score(val_bank.edge) for name in names}
        name = max(names, key=lambda name: _audc(confidence[name], val_bank))
        both = confidence[name], scores
        scales = _mean_and_deviation(confidence[name]), _mean_and_deviation(scores)
        # The first has weight 0.
        blends = [cls(name, float(weight), scales)._blend(*both) for weight in WEIGHTS]
        return cls(name, float(WEIGHTS[surely_best(blends, val_bank)]), scales)

    @classmethod
    def from_json(cls, content: Mapping | None) -> "Anchor | None":
        """Return what `as_json` has written; None for None."""
        if content is None:
            return None
        (mean, deviation), (of_head, deviation_of_head) = content["scales"]
        scales = (mean, deviation), (of_head, deviation_of_head)
        return cls(content["rule"], content["weight"], scales)

    def as_json(self) -> dict:
        """Return all of it as plain JSON types."""
        return asdict(self)

    def correct(self, scores: np.ndarray, edge: TierOutputs) -> np.ndarray:
        """Return the anchored scores (n,) of a head's scores (n,)."""
        return self._blend(RULES[self.rule]().score(edge), scores)

    def _blend(self, *both):
        anchor, learned = (
            (scores - mean) / deviation for scores, (mean, deviation) in zip(both, self.scales)
        )
        return (1.0 - self.weight) * anchor + self.weight * learned


def surely_best(candidates: Sequence[np.ndarray], samples: CostsAtGate) -> int:
    """Return the place of the scores (n,) that are best by what they gain, less one standard error.

    The gain is that of AUDC over the first candidate, which stays where no other proves better.
    """
    audc = np.array([audc_replicates(scores, samples, RESAMPLES) for scores in candidates])
    gains = audc - audc[0]
    return int(np.argmax(gains[:, 0] - gains[:, 1:].std(axis=1)))


def require_confidence(edge: TierOutputs) -> tuple[str, ...]:
    """Return the names of the confidence rules that a head can correct.

    Args:
        edge: What the device knows of some samples.

    Raises:
        ValueError: If there is none, as the outputs say nothing of how sure they are.
    """
    if not (names := confidence_rules(edge)):
        raise ValueError(
            "an anchored head corrects a confidence rule; received outputs that no such rule can "
            "read: pass anchored=False, or predict several quantiles"
        )
    return names


class AnchoredRule(OffloadRule):
    """A learned rule, which ranks alone or corrects a confidence rule.

    Attributes:
        anchor: The confidence rule that it corrects; None if it ranks alone.
    """

    anchor: Anchor | None = None

    @property
    def is_run(self) -> bool:
        """Whether the score depends on what the rule has learned."""
        return self.anchor is None or self.anchor.weight > 0

    @abstractmethod
    def score_alone(self, edge: TierOutputs) -> np.ndarray:
        """Return the learned score of n samples, without the anchor, of shape (n,)."""

    def score(self, edge: TierOutputs) -> np.ndarray:
        """Return `score_alone`, anchored if the rule has an anchor, of shape (n,)."""
        outputs = edge.xp.asarray(edge.outputs[:, 0], edge.precision)
        alone = self.score_alone(edge) if self.is_run else edge.xp.zeros_like(outputs)
        return self.anchor.correct(alone, edge) if self.anchor else alone


def _mean_and_deviation(scores: np.ndarray) -> tuple[float, float]:
    deviation = float(scores.std())
    # Any scale will do for a constant score.
    return float(scores.mean()), deviation if deviation > TINY else 1.0


def _audc(scores: np.ndarray, samples: CostsAtGate) -> float:
    return RankedSamples(scores, samples).audc(np.ones(len(samples), int))
