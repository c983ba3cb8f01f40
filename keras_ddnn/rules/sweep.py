"""A threshold swept over scored samples: how many stay, and what all of them cost."""

import numpy as np

from keras_ddnn.data.gate_costs import CostsAtGate
from keras_ddnn.rules.certificate import cuts


class RankedSamples:
    """Samples sorted once by a score, after which the AUDC of any resample takes one pass.

    A resample is a count a sample: how often it was drawn. Between the ends of a run of tied
    samples the cost is a straight line, which is the mean over their orders; so the area is made of
    trapezoids, one a run, and a sample drawn twice is a run of its own. In a chain the counts are 0
    and 1: whether the gates before have sent the sample on.

    Attributes:
        thresholds: What keeps the first run of tied samples, the first two, … all k, float64 of
            shape (k + 1,); see `cuts`. The first is -∞, which keeps nothing of any sample.
    """

    def __init__(self, scores: np.ndarray, samples: CostsAtGate) -> None:
        """Sort n samples, a `Bank` or `GateCosts`, by `scores` (n,).

        Raises:
            ValueError: If there is not one finite score a sample.
        """
        if scores.shape != (len(samples),) or not np.isfinite(scores).all():
            raise ValueError(
                f"expected {len(samples)} finite scores, one a sample; received shape "
                f"{scores.shape} with {np.count_nonzero(~np.isfinite(scores))} NaN or infinite"
            )
        self._order, kept, thresholds = cuts(scores)
        self._ends = kept[1:] - 1
        self.thresholds = np.append(-np.inf, thresholds[1:])
        self._go = samples.go[self._order]
        self._price_of_keeping = samples.stay[self._order] - self._go

    def sweep(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raise the threshold past each of the k runs of tied samples.

        Args:
            counts: int or bool of shape (..., n), how often each sample was drawn.

        Returns:
            Samples kept local, int of shape (..., k + 1), and the sum of the costs of all samples,
            float64 of that shape: the first pair is the cloud alone, the last the local network
            alone.
        """
        counts = counts[..., self._order]
        kept = np.cumsum(counts, axis=-1)[..., self._ends]
        added = np.cumsum(counts * self._price_of_keeping, axis=-1)[..., self._ends]
        nothing = np.zeros((*counts.shape[:-1], 1), int)
        kept = np.concatenate([nothing, kept], axis=-1)
        added = np.concatenate([nothing, added], axis=-1)
        return kept, np.expand_dims(counts @ self._go, -1) + added

    def audc(self, counts: np.ndarray) -> float:
        """Return 1 - the mean cost over local fractions 0 to 1 of a resample, see `sweep`.

        Where a wrong answer costs 1 and a right one 0, that is the mean accuracy.

        Args:
            counts: int of shape (n,), at least one above zero.
        """
        kept, cost = self.sweep(counts)
        return float(np.trapezoid(kept[-1] - cost, kept) / kept[-1] ** 2)
