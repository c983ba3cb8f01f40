"""What rules say of a pair of networks that were trained alone: the scores of `tune.modern`.

They need the files of logits alone, no data set and no network.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import audc_replicates
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, untrained_rules
from keras_ddnn.rules.inputs import logits_rich
from tune.modern_outputs import Pair

SEES_BOTH = "sees_both"  # boosted trees that see what the cloud says, as no device can
DEFAULT, SECOND_LOOK = "default", "second_look"
CONFIDENCE = (*CONFIDENCE_RULES, SECOND_LOOK)
MACS = "multiply_adds"
RESAMPLES = 499
TREES = 150  # of what sees both networks


def scores_of(pair: Pair, seed: int) -> tuple[dict[str, np.ndarray], set[str]]:
    """Return the scores (n,) of every rule on the test samples of a pair, and which look twice.

    Heads are trained on training samples, or on validation samples alone where their name ends so;
    what sees both networks is fitted to the other tenths of the test samples.
    """
    from keras_ddnn.heads.fit import fit_head

    test, val = pair.test_bank, pair.val_bank
    scores = {name: rule.score(test.edge) for name, rule in untrained_rules(test.edge).items()}
    twice = {SECOND_LOOK} & {*scores}
    labels = {DEFAULT: HeadConfig().labels}
    if pair.augmented:
        labels[f"{DEFAULT}/augmented"] = "augmented"
    if pair.folds:
        labels[f"{DEFAULT}/cross_fitted"] = "cross_fitted"
    for name, source in labels.items():
        head = fit_head(pair, HeadConfig(labels=source, seed=seed))
        scores[name] = head.score(test.edge)
        twice |= {name} if head.anchor.rule == SECOND_LOOK else set()
    head = LogitHead.fit(val, seed=seed)
    scores["logit_head/validation"] = head.score(test.edge)
    twice |= {"logit_head/validation"} if head.anchor.rule == SECOND_LOOK else set()
    scores[SEES_BOTH] = _seeing_both(test)
    return scores | {"oracle": oracle_scores(test)}, twice


def _seeing_both(bank: Bank) -> np.ndarray:
    """Return scores of boosted trees on the logits of both networks, each by others' samples."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    far = TierOutputs(bank.cloud_logits)
    same = bank.edge.outputs.argmax(axis=1) == far.outputs.argmax(axis=1)
    seen = np.hstack([logits_rich(bank.edge), logits_rich(far), same[:, None]])
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05, max_iter=TREES, max_leaf_nodes=15, l2_regularization=1.0, random_state=0
    )
    folds = KFold(10, shuffle=True, random_state=0)
    # Processes of a thread each: threads of one process wait for each other where cores are busy.
    return cross_val_predict(trees, seen, benefit(bank, "zero_one"), cv=folds, n_jobs=-1)


@dataclass(frozen=True, eq=False)
class Scored:
    """A pair of one seed.

    Attributes:
        pair: What its networks said.
        scores: Rule → scores (n,) of the test samples.
        twice: Rules for which the device asks its network about the mirrored image, too.
        audc: Rule → its AUDC, and resamples of it.
    """

    pair: Pair
    scores: Mapping[str, np.ndarray]
    twice: Collection[str]
    audc: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, pair: Pair, seed: int) -> "Scored":
        """Train the heads of a pair and score its test samples."""
        scores, twice = scores_of(pair, seed)
        audc = {name: audc_replicates(s, pair.test_bank, RESAMPLES) for name, s in scores.items()}
        return cls(pair, scores, twice, audc)

    def multiply_adds(self, rule: str) -> int:
        """Return what the device does for a sample, heads aside."""
        return self.pair.device_multiply_adds + (rule in self.twice) * self.pair.device[MACS]

    def curve(self, rule: str) -> OffloadCurve:
        """Return the accuracy at each local fraction."""
        return OffloadCurve.from_scores(self.scores[rule], self.pair.test_bank)
