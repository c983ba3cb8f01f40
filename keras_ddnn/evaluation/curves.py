"""How good a rule is: the curve of costs against what is saved, and the point one would run at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import CostsAtGate, threshold_for_fraction
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import audc_interval
from keras_ddnn.files.records import LEFT_OUT, fill
from keras_ddnn.rules.confidence import OffloadRule
from keras_ddnn.rules.sweep import RankedSamples
from keras_ddnn.tasks.task import ACCURACY, Measure


@dataclass(frozen=True, eq=False)
class OffloadCurve:
    """Mean cost at every share of samples kept local, in the order of a score.

    Attributes:
        total_cost: Sum of the costs of all n samples with 0, 1, … n of them kept local, float64 of
            shape (n + 1,), lower is better. Where scores tie, the mean over all orders of the tied
            samples.
        measure: How the mean cost is told: as an accuracy by default, see `Measure`.
        saved: Share of the price behind the gate that is saved with 0, 1, … n samples kept, float64
            of shape (n + 1,), rising to 1; see `GateCosts.paid`. The local fraction by default,
            which it is where all that are sent on pay alike, as those of two tiers do.
    """

    total_cost: np.ndarray
    measure: Measure = ACCURACY
    saved: np.ndarray = LEFT_OUT

    def __post_init__(self) -> None:
        fill(self, saved=self.local_fraction)

    @classmethod
    def from_scores(cls, scores: np.ndarray, samples: CostsAtGate) -> "OffloadCurve":
        """Sweep the threshold of `scores` (n,) over n samples, a `Bank` or `GateCosts`.

        Raises:
            ValueError: If there is not one finite score a sample.
        """
        ranked, everything = RankedSamples(scores, samples), np.ones(len(samples), int)
        (kept, cost), saved = ranked.sweep(everything), ranked.saved(everything)
        total_cost, total_saved = (
            np.interp(np.arange(len(samples) + 1), kept, values) for values in (cost, saved)
        )
        return cls(total_cost, samples.gate_costs().measure, total_saved / len(samples))

    @property
    def local_fraction(self) -> np.ndarray:
        """Share of samples kept local, float64 of shape (n + 1,): 0, 1/n, … 1."""
        n = len(self.total_cost) - 1
        return np.arange(n + 1) / n

    @property
    def values(self) -> np.ndarray:
        """What `measure` tells of the mean cost, float64 of shape (n + 1,): see its `title`.

        The first is the cloud's, the last the local network's.
        """
        return self.measure.of(self.total_cost, len(self.total_cost) - 1)

    @property
    def area(self) -> float:
        """Mean of `values` over all that can be saved, 0 to 1: the AUDC, or the mean cost."""
        return self._mean(self.values)

    @property
    def accuracy(self) -> np.ndarray:
        """1 - mean cost, float64 of shape (n + 1,): the accuracy where a wrong answer costs 1."""
        return ACCURACY.of(self.total_cost, len(self.total_cost) - 1)

    @property
    def cloud_accuracy(self) -> float:
        """Accuracy when everything is offloaded."""
        return float(self.accuracy[0])

    @property
    def local_accuracy(self) -> float:
        """Accuracy when everything stays local."""
        return float(self.accuracy[-1])

    @property
    def audc(self) -> float:
        """Area under the deferral curve: mean accuracy over all that can be saved, 0 to 1.

        Of two tiers what is saved is the local fraction.
        """
        return self._mean(self.accuracy)

    def _mean(self, values: np.ndarray) -> float:
        """Return the mean of values (n + 1,) over what is saved.

        Gates behind this one may save a part whatever it does; where less than that is to be saved,
        the rest of the price is left over.
        """
        return float(np.trapezoid(values, self.saved) + values[0] * self.saved[0])

    @property
    def mean_cost(self) -> float:
        """Mean cost over all that can be saved, 0 to 1, which is 1 - AUDC."""
        return 1.0 - self.audc

    @property
    def apgr(self) -> float:
        """Average performance gap recovered, (AUDC - A_local) / (A_cloud - A_local).

        Random ranking has 0.5; NaN if both networks cost the same. Source: Ong et al.,
        "RouteLLM", 2024.
        """
        gap = self.cloud_accuracy - self.local_accuracy
        return (self.audc - self.local_accuracy) / gap if gap else float("nan")

    def at(self, saved: np.ndarray | float) -> np.ndarray:
        """Return `values` at one share saved or an array of them, by interpolation."""
        return np.interp(saved, self.saved, self.values)


def decision_accuracy(offloaded: np.ndarray, bank: Bank) -> float:
    """Return the share of decisions, bool (n,), that are the oracle's."""
    return float(np.mean(offloaded == (oracle_scores(bank) > 0)))


def routed_accuracy(offloaded: np.ndarray, samples: CostsAtGate) -> float:
    """Return the accuracy when the samples of `offloaded`, bool (n,), are answered by the cloud."""
    return float((1.0 - np.where(offloaded, samples.go, samples.stay)).mean())


def compare_rules(
    rules: Mapping[str, OffloadRule],
    calibration: Bank,
    test: Bank,
    local_fraction: float,
    intervals: bool = False,
) -> tuple[pd.DataFrame, dict[str, OffloadCurve]]:
    """Evaluate rules, and the oracle, on `test`, with thresholds chosen on `calibration`.

    Args:
        rules: Name → rule.
        calibration: Validation samples; they choose each threshold.
        test: Samples to report on.
        local_fraction: The share L0 to keep local.
        intervals: Whether to add `audc_low` and `audc_high`, a 95% bootstrap interval.

    Returns:
        A table with a row a rule, best first, and the curve of each. `realised_local_fraction`,
        `accuracy` and `decision_accuracy`, the share of decisions that are the oracle's, are those
        at the threshold; `multiply_adds` counts the rule alone. Where lower costs are reported, see
        `Measure`, the columns are `mean_cost` for `audc`, `cost` for `accuracy`, and so on. Where
        the task may refuse an answer, `refused` is the share of samples without one.

    Raises:
        ValueError: If `local_fraction` lies outside [0, 1] or a score is not finite.
    """
    measure = test.gate_costs().measure
    scored = {
        name: (rule.score(calibration.edge), rule.score(test.edge)) for name, rule in rules.items()
    }
    scored["oracle"] = (oracle_scores(calibration), oracle_scores(test))
    curves, rows = {}, []
    for name, (calibration_scores, scores) in scored.items():
        threshold = threshold_for_fraction(calibration_scores, local_fraction)
        offloaded = scores >= threshold
        curves[name] = curve = OffloadCurve.from_scores(scores, test)
        interval = audc_interval(scores, test) if intervals else None
        ends = (interval.low, interval.high) if interval else (np.nan, np.nan)
        low, high = sorted(map(measure.of_audc, ends))
        routed = np.where(offloaded, test.go, test.stay)
        rows.append(
            {
                "rule": name,
                measure.area: curve.area,
                f"{measure.area}_low": low,
                f"{measure.area}_high": high,
                "apgr": curve.apgr,
                "score_threshold": threshold,
                "realised_local_fraction": 1.0 - offloaded.mean(),
                measure.name: float(measure.of(routed.sum(), len(test))),
                "decision_accuracy": decision_accuracy(offloaded, test),
                "multiply_adds": rules[name].multiply_adds if name in rules else 0,
                **_refused(offloaded, test),
            }
        )
    table = pd.DataFrame(rows).sort_values(
        measure.area, ascending=not measure.higher_is_better, kind="stable"
    )
    return table.reset_index(drop=True), curves


def _refused(offloaded: np.ndarray, bank: Bank) -> dict[str, float]:
    """Return the share of samples that get no answer, where there may be some."""
    refusal, answers = bank.task.refusal, bank.task.answers
    if refusal is None:
        return {}
    said = np.where(offloaded, answers(bank.cloud_logits), answers(bank.edge.outputs))
    return {"refused": float(np.mean(said == refusal))}
