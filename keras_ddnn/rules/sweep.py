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
        self._paid = samples.gate_costs().paid[self._order]

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

    def saved(self, counts: np.ndarray) -> np.ndarray:
        """Return what is saved of the price behind the gate as the threshold rises; see `sweep`.

        Returns:
            In samples that pay all of it, float64 of shape (k + 1,), rising. Where everything that
            is sent on pays all of it, these are the samples kept local.
        """
        counts = counts[self._order]
        added = np.cumsum(counts * self._paid)[self._ends]
        return np.concatenate([[0.0], added]) + (counts.sum() - added[-1])

    def audc(self, counts: np.ndarray) -> float:
        """Return 1 - the mean cost over mean prices from the highest to the lowest of a resample.

        The mean price of a sample runs from that of all tiers behind the gate to none of it, and a
        price that no threshold reaches is one of which a part is left over. Where all samples that
        are sent on pay alike, it is the mean over local fractions 0 to 1; where a wrong answer
        costs 1 and a right one 0, it is the mean accuracy. See `sweep`.

        Args:
            counts: int of shape (n,), at least one above zero.
        """
        kept, cost = self.sweep(counts)
        saved, gained = self.saved(counts), kept[-1] - cost
        return float((np.trapezoid(gained, saved) + gained[0] * saved[0]) / kept[-1] ** 2)
