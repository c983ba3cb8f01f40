"""What a service says of samples: logits, which tier made them, and whether one behind it failed.

Only `logits` was there at first. The other two are optional on both sides: who does not know them
passes over them, and where they are missing they are zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_ddnn.serve.protocol.wire import Tensor, WireError

OUTPUTS = LOGITS, TIERS, FALLBACK = "logits", "tiers", "fallback"
FARTHEST = 255  # tiers are told in a byte


@dataclass(frozen=True, eq=False)
class Answers:
    """What a service says of n samples.

    Attributes:
        logits: float32 of shape (n, num_classes), of the tier that answered.
        tiers: How many tiers behind the service that is, int (n,): 0 for its own network.
        fallback: Whether a tier behind the one that answered was asked and gave no answer in time,
            bool (n,).
        takes_timeout: Whether the service knows the parameter `timeout` of a request.
    """

    logits: np.ndarray
    tiers: np.ndarray
    fallback: np.ndarray
    takes_timeout: bool = True

    @classmethod
    def of_one_tier(cls, logits: np.ndarray) -> "Answers":
        """Return the answers (n, num_classes) of a network behind which there is none."""
        return cls(logits, np.zeros(len(logits), int), np.zeros(len(logits), bool))

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: slice) -> "Answers":
        return Answers(self.logits[rows], self.tiers[rows], self.fallback[rows])

    def as_tensors(self) -> list[Tensor]:
        """Return what travels, in the order of `OUTPUTS`."""
        tiers = np.minimum(self.tiers, FARTHEST).astype(np.uint8)
        arrays = self.logits, tiers, self.fallback.astype(np.uint8)
        return [Tensor(name, array) for name, array in zip(OUTPUTS, arrays)]

    @classmethod
    def of_tensors(
        cls, tensors: Mapping[str, np.ndarray], count: int, num_classes: int
    ) -> "Answers":
        """Return what was sent of `count` samples.

        Raises:
            WireError: If there are no logits, they are not finite, or an array is of another shape
                or type.
        """
        logits, expected = tensors.get(LOGITS), (count, num_classes)
        if logits is None or logits.shape != expected or logits.dtype != np.float32:
            raise WireError(f"expected float32 logits of shape {expected}")
        if not np.isfinite(logits).all():
            raise WireError("expected finite logits")
        none = np.zeros(count, np.uint8)
        tiers, fallback = (tensors.get(name, none) for name in (TIERS, FALLBACK))
        for name, array in ((TIERS, tiers), (FALLBACK, fallback)):
            if array.shape != (count,) or array.dtype != np.uint8:
                raise WireError(f"expected uint8 {name} of shape {(count,)}")
        if fallback.max() > 1:
            raise WireError(f"expected fallback of 0 and 1; received {fallback.max()}")
        return cls(logits, tiers.astype(int), fallback.astype(bool), TIERS in tensors)
