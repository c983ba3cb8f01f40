"""8-bit codes of a feature map, as a device sends them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

CODES = 256
TAIL = 1e-4  # share of the values that may be clipped at either end of the range


@dataclass(frozen=True)
class Quantisation:
    """A linear map between values and the 256 codes of a byte.

    Attributes:
        low: Value of code 0.
        step: Between two codes; above 0.
    """

    low: float
    step: float

    @classmethod
    def of(cls, features: np.ndarray) -> "Quantisation":
        """Fit the range of a feature map of any shape, up to a few values at either end."""
        low, high = np.quantile(features.astype(np.float32), [TAIL, 1.0 - TAIL])
        return cls(float(low), float(high - low) / (CODES - 1) or 1.0)

    @classmethod
    def from_json(cls, content: Mapping | None) -> "Quantisation | None":
        """Return what `as_json` has written; None for None."""
        return content and cls(**content)

    def as_json(self) -> dict:
        """Return all of it as plain JSON types."""
        return asdict(self)

    def codes(self, features: np.ndarray) -> np.ndarray:
        """Return the codes of values, uint8 of their shape; what lies outside is clipped."""
        codes = np.rint((features.astype(np.float32) - self.low) / self.step)
        return codes.clip(0, CODES - 1).astype(np.uint8)

    def values(self, codes: np.ndarray) -> np.ndarray:
        """Return the values of codes, float32 of their shape, to half a step."""
        return np.float32(self.low) + np.float32(self.step) * codes.astype(np.float32)
