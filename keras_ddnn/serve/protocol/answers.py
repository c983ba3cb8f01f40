"""What a service says of samples: logits, which tier made them, and whether one behind it failed.

Only `logits` was there at first. The others are optional on both sides: who does not know them
passes over them. Where tiers and fallback are missing they are zeros, and temperatures are ones.
`probabilities` travel where a request asks for them by name.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from keras_ddnn.serve.protocol.wire import Tensor, WireError
from keras_ddnn.tasks.temperature import probabilities_at

OUTPUTS = LOGITS, TIERS, FALLBACK, TEMPERATURES = "logits", "tiers", "fallback", "temperatures"
PROBABILITIES = "probabilities"
FARTHEST = 255  # tiers are told in a byte


@dataclass(frozen=True, eq=False)
class Answers:
    """What a service says of n samples.

    Attributes:
        logits: float32 of shape (n, num_classes), of the tier that answered.
        tiers: How many tiers behind the service that is, int (n,): 0 for its own network.
        fallback: Whether a tier behind the one that answered was asked and gave no answer in time,
            bool (n,).
        temperatures: Of the logits of the tier that answered, float32 (n,); see `fit_temperature`.
        takes_timeout: Whether the service knows the parameter `timeout` of a request.
    """

    logits: np.ndarray
    tiers: np.ndarray
    fallback: np.ndarray
    temperatures: np.ndarray
    takes_timeout: bool = True

    @classmethod
    def of_one_tier(cls, logits: np.ndarray, temperature: float = 1.0) -> "Answers":
        """Return the answers (n, num_classes) of a network behind which there is none."""
        n = len(logits)
        temperatures = np.full(n, temperature, np.float32)
        return cls(logits, np.zeros(n, int), np.zeros(n, bool), temperatures)

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: slice) -> "Answers":
        arrays = self.logits, self.tiers, self.fallback, self.temperatures
        return Answers(*(array[rows] for array in arrays))

    def as_tensors(self, names: Collection[str] = OUTPUTS) -> list[Tensor]:
        """Return what travels, of `OUTPUTS` and `PROBABILITIES`, in this order."""
        tiers = np.minimum(self.tiers, FARTHEST).astype(np.uint8)
        arrays = self.logits, tiers, self.fallback.astype(np.uint8), self.temperatures
        tensors = [Tensor(name, array) for name, array in zip(OUTPUTS, arrays) if name in names]
        if PROBABILITIES in names:
            tensors.append(Tensor(PROBABILITIES, probabilities_at(self.logits, self.temperatures)))
        return tensors

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
        temperatures = tensors.get(TEMPERATURES, np.ones(count, np.float32))
        if temperatures.shape != (count,) or temperatures.dtype != np.float32:
            raise WireError(f"expected float32 {TEMPERATURES} of shape {(count,)}")
        if not (np.isfinite(temperatures) & (temperatures > 0)).all():
            raise WireError(f"expected {TEMPERATURES} that are finite and above 0")
        told = tiers.astype(int), fallback.astype(bool), temperatures
        return cls(logits, *told, TIERS in tensors)
