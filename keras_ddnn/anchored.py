"""A learned rule that is not worse than the confidence rule it starts from."""

import numpy as np

from keras_ddnn.bank import Bank, EdgeOutputs
from keras_ddnn.rules import CONFIDENCE_RULES, RULES, OffloadRule
from keras_ddnn.statistics import RankedSamples, audc_gain

WEIGHTS = np.linspace(0.0, 1.0, 21)


class AnchoredRule(OffloadRule):
    """The best confidence rule, corrected by a head as far as validation data support it.

    Both scores are standardised on validation data; the rule's is
    (1 - weight)·confidence + weight·head.

    Attributes:
        anchor: A rule of `RULES`.
        head: The learned rule.
        weight: Of the head, in [0, 1]; with 0 the rule is the anchor.
        scales: ((mean, deviation) of the anchor's scores, the same of the head's).
    """

    def __init__(self, anchor: OffloadRule, head: OffloadRule, weight: float, scales):
        self.anchor, self.head = anchor, head
        self.weight, self.scales = weight, scales
        self.multiply_adds = head.multiply_adds if weight else 0

    def score(self, edge: EdgeOutputs) -> np.ndarray:
        """Return the weighted mean of the standardised scores, of shape (n,)."""
        if not self.weight:
            return self.anchor.score(edge)
        anchor, head = (
            (rule.score(edge) - mean) / deviation
            for rule, (mean, deviation) in zip((self.anchor, self.head), self.scales)
        )
        return (1.0 - self.weight) * anchor + self.weight * head


def anchor_rule(head: OffloadRule, val_bank: Bank) -> AnchoredRule:
    """Correct the best confidence rule by a head, as far as validation data support it.

    The anchor is the rule of `RULES` with the best AUDC. The weight is the one of best AUDC, if its
    paired gain over the anchor has a 95% bootstrap interval above zero; otherwise 0: where the data
    cannot tell the two apart, the rule that needs no training stays.

    Args:
        head: A trained head, not trained on `val_bank`.
        val_bank: Validation samples, at least two.

    Returns:
        The rule; with weight 0 it costs and scores as its anchor.
    """
    confidence = {name: RULES[name]().score(val_bank.edge) for name in CONFIDENCE_RULES}
    name = max(CONFIDENCE_RULES, key=lambda name: _audc(confidence[name], val_bank))
    scores = confidence[name], head.score(val_bank.edge)
    # A constant score has no deviation; any scale will do for it.
    scales = tuple((float(s.mean()), float(s.std()) or 1.0) for s in scores)
    anchor, learned = ((s - mean) / deviation for s, (mean, deviation) in zip(scores, scales))
    blends = [(1.0 - weight) * anchor + weight * learned for weight in WEIGHTS]
    best = int(np.argmax([_audc(blend, val_bank) for blend in blends]))
    supported = best and audc_gain(blends[best], anchor, val_bank).low > 0
    return AnchoredRule(RULES[name](), head, float(WEIGHTS[best]) if supported else 0.0, scales)


def _audc(scores: np.ndarray, bank: Bank) -> float:
    return RankedSamples(scores, bank).audc(np.ones(len(bank), int))
