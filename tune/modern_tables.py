"""What rules make of networks that were trained alone: the tables of `tune.modern`.

They need the files of logits alone, no data set and no network.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.cut_latency import dominated
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import (
    Interval,
    audc_replicates,
    gain_of_replicates,
    over_seeds,
)
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.rules.certificate import violation_rate
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, untrained_rules
from keras_ddnn.rules.inputs import logits_rich
from tune.modern_outputs import Pair

FRACTIONS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
HUNDREDTHS = np.linspace(0.0, 1.0, 101)
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


def table(name: str, seeds: Sequence[Scored]) -> pd.DataFrame:
    """Return a row a rule: accuracies and AUDC in percent, APGR, each with a 95% interval.

    Over several seeds it is a t interval of their values; of one, it speaks of the samples.
    """
    rows = []
    for rule in seeds[0].scores:
        seen = [scored for scored in seeds if rule in scored.scores]
        curves = [scored.curve(rule) for scored in seen]
        row = {"pair": name, "rule": rule, "seeds": len(seen)}
        row["device_multiply_adds"] = max(scored.multiply_adds(rule) for scored in seen)
        n = len(seen[0].pair.test_bank)
        for tier, values in (
            ("local", [curve.local_accuracy for curve in curves]),
            ("cloud", [curve.cloud_accuracy for curve in curves]),
        ):
            row |= _with_ends(tier, _over(values, _wilson(values[0], n)), 100)
        areas = [scored.audc[rule] for scored in seen]
        shares = [
            (area - curve.local_accuracy) / (curve.cloud_accuracy - curve.local_accuracy)
            for area, curve in zip(areas, curves)
        ]
        for column, drawn, unit in (("audc", areas, 100), ("apgr", shares, 1)):
            interval = _over([each[0] for each in drawn], _drawn(drawn[0]))
            row |= _with_ends(column, interval, unit)
        rows.append(row)
    return pd.DataFrame(rows)


def points(name: str, seeds: Sequence[Scored]) -> pd.DataFrame:
    """Return a row a rule: accuracy less that of the cloud, in points, at local fractions."""
    rows = []
    for rule in seeds[0].scores:
        row = {"pair": name, "rule": rule}
        curves = [scored.curve(rule) for scored in seeds if rule in scored.scores]
        for fraction in FRACTIONS:
            drops = [float(curve.at(fraction)) - curve.cloud_accuracy for curve in curves]
            row |= _with_ends(f"at_{100 * fraction:.0f}", _of_seeds(drops), 100)
        rows.append(row)
    return pd.DataFrame(rows)


def beside(name: str, pairs: Mapping[int, Scored], others: Mapping[int, Scored]) -> pd.DataFrame:
    """Return how a pair fares beside another with the same share kept local.

    Args:
        name: Of the pair.
        pairs, others: Seed → it, and the other; at least one seed is in both.

    Returns:
        A row a rule: accuracy less that of the other of the same seed, in points, from all
        samples sent on; and the least of these means, of all hundredths of the samples.
    """
    seeds, rows = sorted({*pairs} & {*others}), []
    for rule in [rule for rule in pairs[seeds[0]].scores if rule in others[seeds[0]].scores]:
        one, other = (
            np.array([of[seed].curve(rule).at(HUNDREDTHS) for seed in seeds])
            for of in (pairs, others)
        )
        less = one - other
        row = {"pair": name, "rule": rule, "seeds": len(seeds)}
        for percent in (0, *(round(100 * fraction) for fraction in FRACTIONS)):
            row |= _with_ends(f"at_{percent}", _of_seeds(less[:, percent]), 100)
        rows.append(row | {"least": 100 * less.mean(axis=0).min()})
    return pd.DataFrame(rows)


def gaps(name: str, seeds: Sequence[Scored], baseline: str = "margin") -> pd.DataFrame:
    """Return how far rules get from a baseline towards the trees that see both networks.

    Returns:
        A row a rule: its gain in AUDC over the baseline in points, over seeds and samples; the
        worst of a seed, over the best confidence rule there; and the share of the gap it closes,
        NaN where the interval of the gap itself reaches 0.
    """
    rows = []
    for rule in seeds[0].scores:
        seen = [scored.audc for scored in seeds if rule in scored.scores]
        gains = [audc[rule] - audc[baseline] for audc in seen]
        gap = np.mean([audc[SEES_BOTH] - audc[baseline] for audc in seen], axis=0)
        share = np.mean(gains, axis=0) / (gap if _drawn(gap).low > 0 else np.nan)
        row = {"pair": name, "rule": rule, "seeds": len(seen)}
        drawn = gain_of_replicates(gains) if len(gains) > 1 else _drawn(gains[0])
        row |= _with_ends("gain", drawn, 100)
        row["worst"] = 100 * min(
            audc[rule][0] - max(audc[c][0] for c in CONFIDENCE if c in audc) for audc in seen
        )
        row |= _with_ends("share", _drawn(share), 100)
        rows.append(row)
    return pd.DataFrame(rows)


def certificates(name: str, seeds: Sequence[Scored]) -> pd.DataFrame:
    """Return the mean over seeds of `violation_rate` on test samples, of margin and the default."""
    rows = []
    for rule in ("margin", DEFAULT):
        found = [
            violation_rate(
                scored.scores[rule],
                scored.pair.test_bank.local_correct,
                scored.pair.test_bank.cloud_correct,
            )
            for scored in seeds
        ]
        rows.append(
            {"pair": name, "rule": rule, "seeds": len(found)} | dict(pd.DataFrame(found).mean())
        )
    return pd.DataFrame(rows)


def accuracies(name: str, seeds: Sequence[Scored], rule: str = DEFAULT) -> pd.DataFrame:
    """Return a row a local fraction: the mean accuracy over seeds, in percent."""
    curves = [scored.curve(rule) for scored in seeds]
    rows = [
        {"pair": name, "rule": rule, "seeds": len(seeds), "local_fraction": fraction}
        | {"accuracy": 100 * float(np.mean([curve.at(fraction) for curve in curves]))}
        for fraction in HUNDREDTHS
    ]
    return pd.DataFrame(rows)


def pareto(pairs: Mapping[str, Sequence[Scored]], rule: str = DEFAULT) -> pd.DataFrame:
    """Return what each pair reaches at several local fractions, and what that takes.

    Returns:
        A row a pair and local fraction: mean accuracy in percent over seeds, multiply-adds of the
        device, mean bytes sent of a sample, as PNG where images travel; whether no other row of
        the same local fraction has more accuracy for as few multiply-adds (`of_multiply_adds`);
        and whether no other row at all has more for as few bytes (`of_bytes`).
    """
    rows = []
    for name, seeds in pairs.items():
        pair = seeds[0].pair
        sent = pair.cloud.get("sent_bytes") or pair.cloud["png_bytes"]
        curves = [scored.curve(rule) for scored in seeds]
        for fraction in (0.0, *FRACTIONS, 1.0):
            accuracy = 100 * float(np.mean([curve.at(fraction) for curve in curves]))
            row = {"pair": name, "local_fraction": fraction, "seeds": len(seeds)}
            row |= {"accuracy": accuracy, "bytes": sent * (1 - fraction)}
            row["device_multiply_adds"] = seeds[0].multiply_adds(rule) if fraction else 0
            rows.append(row)
    table = pd.DataFrame(rows)
    # Not among all fractions: the cloud alone asks nothing of a device, and few are more accurate.
    alike = [_best(rows, "device_multiply_adds") for _, rows in table.groupby("local_fraction")]
    return table.assign(of_multiply_adds=pd.concat(alike), of_bytes=_best(table, "bytes"))


def _best(table: pd.DataFrame, cost: str) -> pd.Series:
    """Return whether no other row has more accuracy for as little cost."""
    points = [*zip(table[cost], -table["accuracy"])]
    return pd.Series([not dominated(point, points) for point in points], table.index)


def _of_seeds(values: Sequence[float]) -> Interval:
    """Return the interval over seeds, which one seed has not."""
    return _over(values, Interval(float(values[0]), np.nan, np.nan))


def _over(values: Sequence[float], of_one: Interval) -> Interval:
    """Return the interval over seeds, or of the only one."""
    return over_seeds(values) if len(values) > 1 else of_one


def _drawn(replicates: np.ndarray) -> Interval:
    """Return a value and the ends of its resamples, as `audc_replicates` has them."""
    low, high = np.quantile(replicates[1:], [0.025, 0.975])
    return Interval(float(replicates[0]), float(low), float(high))


def _wilson(accuracy: float, n: int) -> Interval:
    ends = binomtest(round(accuracy * n), n).proportion_ci(method="wilson")
    return Interval(accuracy, float(ends.low), float(ends.high))


def _with_ends(name: str, interval: Interval, unit: float) -> dict[str, float]:
    """Return the three columns of an interval."""
    return {
        name: unit * interval.mean,
        f"{name}_low": unit * interval.low,
        f"{name}_high": unit * interval.high,
    }
