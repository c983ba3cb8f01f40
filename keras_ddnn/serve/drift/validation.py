"""The validation sample of an artefact: what its threshold did there, and may do at worst."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

import numpy as np

from keras_ddnn.serve.drift.audit import bound_of
from keras_ddnn.serve.drift.sample_bounds import highest_mean, share_error
from keras_ddnn.tasks.known import task_of
from keras_ddnn.tasks.task import Measure

MOST_SAMPLES = 10**6  # that shares in a plan can tell


@dataclass(frozen=True)
class ValidationSample:
    """What a threshold does on n validation samples.

    Attributes:
        n: Samples.
        local_fraction: The share kept.
        drop: Accuracy below the cloud's, or mean cost above it; negative where keeping helps.
        disagreement: The share kept where the cloud answers otherwise, or the mean of what the
            costs of kept answers may differ by.
        most: Between two thresholds of a plan, which is silent on what lies there: by how much the
            local fraction may differ, and the highest drop and disagreement. Elsewhere 0, and the
            drop and the disagreement themselves.
        bound: The most that a sample can cost, the unit of drop and disagreement; 1 for classes.
        whole: Whether a sample loses all of it or nothing: answers are right or wrong.
    """

    n: int
    local_fraction: float
    drop: float
    disagreement: float
    most: tuple[float, float, float]
    bound: float = 1.0
    whole: bool = True

    @classmethod
    def of(cls, manifest: Mapping) -> "ValidationSample":
        """Return that of an artefact, from its calibration or, without one, from its plan.

        Args:
            manifest: What `read_manifest` returns.

        Raises:
            ValueError: If it knows nothing of validation data, or its costs have no bound.
        """
        task = task_of(manifest)
        costs = {"bound": bound_of(task), "whole": task.measure.higher_is_better}
        calibration, plan = manifest.get("calibration"), manifest.get("plan")
        numbers = calibration["numbers"] if calibration else {}
        if "validation" in numbers:
            found = numbers["validation"]
            shares = (found["local_fraction"], found[task.measure.loss], found["disagreement"])
            return cls(numbers["n"], *shares, (0.0, *shares[1:]), **costs)
        if not plan:
            raise ValueError(
                "a drift guard expects an artefact that was saved with validation data; received "
                "one without"
            )
        return cls._between(manifest["score_threshold"], plan, task.measure, costs)

    @classmethod
    def _between(
        cls, threshold: float, plan: list, measure: Measure, costs: Mapping
    ) -> "ValidationSample":
        """Return what a plan has at a threshold; between two points of it, on a straight line."""
        thresholds, local, told, disagreement = (
            [point[what] for point in plan]
            for what in ("score_threshold", "local_fraction", measure.name, "disagreement")
        )
        # The first point offloads everything.
        drop = told[0] - np.array(told) if costs["whole"] else np.array(told) - told[0]
        shares = [float(np.interp(threshold, thresholds, y)) for y in (local, drop, disagreement)]
        below = max(int(np.searchsorted(thresholds, threshold, "right")) - 1, 0)
        above = min(int(np.searchsorted(thresholds, threshold)), len(plan) - 1)
        # Up to the point above, as many may be lost as disagree.
        lost = float(drop[below]) + disagreement[above] - disagreement[below]
        differs = max(local[above] - shares[0], shares[0] - local[below])
        most = (differs, lost, disagreement[above])
        # Mean costs are no shares of samples.
        n = _samples(local + told + disagreement if costs["whole"] else local)
        return cls(n, *shares, most, **costs)

    def limits(self, alpha: float) -> dict[str, float]:
        """Return the lowest limits that are wrong with a probability of at most 3·alpha.

        Each holds for all thresholds at once, see `highest_mean`. Where the networks disagree, one
        of them alone is taken to be right, which leaves the drop the most uncertain.

        Args:
            alpha: In (0, 1).

        Returns:
            `tolerance` of the local fraction, either way; `max_drop` and `max_disagreement`, in
            units of cost.

        Raises:
            ValueError: If `alpha` lies outside (0, 1).
        """
        differs, *means = self.most
        drop, disagreement = (mean / self.bound for mean in means)
        # Up, but not for what floating point adds to a whole number. What is no whole number of
        # samples gets one more, which makes up for the halves that are left out below.
        either = min(ceil(self.n * disagreement - 1e-6) + (not self.whole), self.n)
        net = min(max(ceil(self.n * drop - 1e-6), -either), either)
        losses = (either + net) // 2
        return {
            "tolerance": min(share_error(self.n, alpha) + differs, 1.0),
            "max_drop": self.bound * highest_mean(losses, losses - net, self.n, alpha),
            "max_disagreement": self.bound * highest_mean(either, 0, self.n, alpha),
        }


def _samples(shares) -> int:
    """Return the fewest samples that could have given these shares.

    They divide the number there were, so that limits from so few are never too low.
    """
    parts = (Fraction(share).limit_denominator(MOST_SAMPLES).denominator for share in shares)
    return min(lcm(*parts), MOST_SAMPLES)
