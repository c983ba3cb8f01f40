"""The validation sample of an artefact: what its threshold did there, and may do at worst."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

import numpy as np

from keras_ddnn.data.classes import Classes
from keras_ddnn.serve.drift.sample_bounds import highest_mean, share_error
from keras_ddnn.tasks.arrays import Numbers
from keras_ddnn.tasks.known import task_of
from keras_ddnn.tasks.task import Task

MOST_SAMPLES = 10**6  # that shares in a plan can tell


def require_right_or_wrong(task: Task, reader: str) -> None:
    """Raise ValueError unless answers are right or wrong, of which accuracies are told."""
    if not task.measure.higher_is_better:
        raise ValueError(
            f"{reader}: expected an artefact of plain classes, whose answers are right or wrong; "
            f"received one of the task {task.name!r}: leave it out"
        )


def audited_numbers(
    task: Task, classes: Classes | Numbers, labels: np.ndarray | None, count: int
) -> np.ndarray:
    """Return the class numbers of `count` samples, int (count,); -1 where they are not known.

    Args:
        task: Of the artefact; where there are labels, its answers must be right or wrong.
        classes: The user's labels.
        labels: Of the samples, (count,), as for `EdgeRuntime.predict`; None if there are none.

    Raises:
        ValueError: If there is not one label a sample, training did not have one, or answers are
            not right or wrong.
    """
    if labels is None:
        return np.full(count, -1)
    require_right_or_wrong(task, "labels")
    if np.shape(labels) != (count,):
        raise ValueError(f"expected {count} labels; received shape {np.shape(labels)}")
    return classes.encode_known(labels)


@dataclass(frozen=True)
class ValidationSample:
    """What a threshold does on n validation samples.

    Attributes:
        n: Samples.
        local_fraction: The share kept.
        drop: Accuracy below the cloud's; negative where keeping samples helps.
        disagreement: The share kept where the cloud answers otherwise.
        most: Between two thresholds of a plan, which is silent on what lies there: by how much the
            local fraction may differ, and the highest drop and disagreement. Elsewhere 0, and the
            drop and the disagreement themselves.
    """

    n: int
    local_fraction: float
    drop: float
    disagreement: float
    most: tuple[float, float, float]

    @classmethod
    def of(cls, manifest: Mapping) -> "ValidationSample":
        """Return that of an artefact, from its calibration or, without one, from its plan.

        Args:
            manifest: What `read_manifest` returns.

        Raises:
            ValueError: If it knows nothing of validation data, or answers are not right or wrong.
        """
        require_right_or_wrong(task_of(manifest), "a drift guard")
        calibration, plan = manifest.get("calibration"), manifest.get("plan")
        numbers = calibration["numbers"] if calibration else {}
        if "validation" in numbers:
            found = numbers["validation"]
            shares = (found["local_fraction"], found["accuracy_drop"], found["disagreement"])
            return cls(numbers["n"], *shares, (0.0, *shares[1:]))
        if not plan:
            raise ValueError(
                "a drift guard expects an artefact that was saved with validation data; received "
                "one without"
            )
        return cls._between(manifest["score_threshold"], plan)

    @classmethod
    def _between(cls, threshold, plan):
        """Return what a plan has at a threshold; between two points of it, on a straight line."""
        thresholds, local, accuracy, disagreement = (
            [point[what] for point in plan]
            for what in ("score_threshold", "local_fraction", "accuracy", "disagreement")
        )
        drop = accuracy[0] - np.array(accuracy)  # the first point offloads everything
        shares = [float(np.interp(threshold, thresholds, y)) for y in (local, drop, disagreement)]
        below = max(int(np.searchsorted(thresholds, threshold, "right")) - 1, 0)
        above = min(int(np.searchsorted(thresholds, threshold)), len(plan) - 1)
        # Up to the point above, as many may be lost as disagree.
        lost = float(drop[below]) + disagreement[above] - disagreement[below]
        differs = max(local[above] - shares[0], shares[0] - local[below])
        most = (differs, lost, disagreement[above])
        return cls(_samples(local + accuracy + disagreement), *shares, most)

    def limits(self, alpha: float) -> dict[str, float]:
        """Return the lowest limits that are wrong with a probability of at most 3·alpha.

        Each holds for all thresholds at once, see `highest_mean`. Where the networks disagree, one
        of them alone is taken to be right, which leaves the drop the most uncertain.

        Args:
            alpha: In (0, 1).

        Returns:
            `tolerance` of the local fraction, either way, `max_drop` and `max_disagreement`.

        Raises:
            ValueError: If `alpha` lies outside (0, 1).
        """
        differs, drop, disagreement = self.most
        # Up, but not for what floating point adds to a whole number.
        either = min(ceil(self.n * disagreement - 1e-6), self.n)
        net = min(max(ceil(self.n * drop - 1e-6), -either), either)
        losses = (either + net) // 2
        return {
            "tolerance": min(share_error(self.n, alpha) + differs, 1.0),
            "max_drop": highest_mean(losses, losses - net, self.n, alpha),
            "max_disagreement": highest_mean(either, 0, self.n, alpha),
        }


def _samples(shares) -> int:
    """Return the fewest samples that could have given these shares.

    They divide the number there were, so that limits from so few are never too low.
    """
    parts = (Fraction(share).limit_denominator(MOST_SAMPLES).denominator for share in shares)
    return min(lcm(*parts), MOST_SAMPLES)
