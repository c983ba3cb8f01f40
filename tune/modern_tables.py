"""What rules make of networks that were trained alone: the tables of `tune.modern`."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from keras_ddnn.evaluation.cut_latency import dominated
from keras_ddnn.evaluation.statistics import Interval, gain_of_replicates, over_seeds
from keras_ddnn.rules.certificate import violation_rate
from tune.modern_scores import CONFIDENCE, DEFAULT, SEES_BOTH, Scored

FRACTIONS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
HUNDREDTHS = np.linspace(0.0, 1.0, 101)


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
        A row a rule that all of them have: accuracy less that of the other of the same seed, in
        points, from all samples sent on; and the least of these means, of all hundredths of the
        samples.
    """
    seeds, rows = sorted({*pairs} & {*others}), []
    known = [of[seed].scores for of in (pairs, others) for seed in seeds]
    for rule in (rule for rule in known[0] if all(rule in scores for scores in known)):
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
        share = share_of_gap(np.mean(gains, axis=0), gap)
        row = {"pair": name, "rule": rule, "seeds": len(seen)}
        drawn = gain_of_replicates(gains) if len(gains) > 1 else _drawn(gains[0])
        row |= _with_ends("gain", drawn, 100)
        row["worst"] = 100 * min(
            audc[rule][0] - max(audc[c][0] for c in CONFIDENCE if c in audc) for audc in seen
        )
        row |= _with_ends("share", _drawn(share), 100)
        rows.append(row)
    return pd.DataFrame(rows)


def share_of_gap(gain: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return which share of a gap a gain closes; NaN where the interval of the gap reaches 0.

    Args:
        gain, gap: A value and its resamples, as of `audc_replicates`.
    """
    return gain / (gap if _drawn(gap).low > 0 else np.nan)


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
        cost = max(scored.multiply_adds(rule) for scored in seeds)
        for fraction in (0.0, *FRACTIONS, 1.0):
            accuracy = 100 * float(np.mean([curve.at(fraction) for curve in curves]))
            row = {"pair": name, "local_fraction": fraction, "seeds": len(seeds)}
            row |= {"accuracy": accuracy, "bytes": sent * (1 - fraction)}
            row["device_multiply_adds"] = cost if fraction else pair.sending_multiply_adds
            rows.append(row)
    table = pd.DataFrame(rows)
    # Not among all fractions: images for the cloud alone ask nothing of a device, and few rows are
    # more accurate.
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
