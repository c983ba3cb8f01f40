"""Codes of a feature map, as a device sends them: of a byte each, or two in a byte."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

TAIL = 1e-4  # share of the values that may be clipped at either end of the range


@dataclass(frozen=True)
class Quantisation:
    """A linear map between values and codes of eight or four bits.

    Attributes:
        low: Value of code 0.
        step: Between two codes; above 0.
        bits: Bits of a code. Two codes of four bits, of neighbouring channels, make a byte.
    """

    low: float
    step: float
    bits: int = 8

    @property
    def highest(self) -> int:
        """The last code; the first is 0."""
        return 2**self.bits - 1

    def shape_of_codes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the codes of values of a shape (…, f)."""
        return (*shape[:-1], shape[-1] * self.bits // 8)

    @classmethod
    def of(cls, features: np.ndarray) -> "Quantisation":
        """Fit the range of a feature map of any shape, up to a few values at either end."""
        low, high = np.quantile(features.astype(np.float32), [TAIL, 1.0 - TAIL])
        return cls(float(low), float(high - low) / 255 or 1.0)

    @classmethod
    def from_json(cls, content: Mapping | None) -> "Quantisation | None":
        """Return what `as_json` has written; None for None."""
        return None if content is None else cls(**content)

    def as_json(self) -> dict:
        """Return all of it as plain JSON types."""
        return asdict(self)

    def codes(self, features: np.ndarray) -> np.ndarray:
        """Return the codes of values (…, f); what lies outside is clipped.

        Returns:
            uint8 (…, f); with four bits (…, f/2), of an even number of channels, the code of the
                first of two channels in the upper half of a byte.
        """
        codes = np.rint((features.astype(np.float32) - self.low) / self.step)
        codes = codes.clip(0, self.highest).astype(np.uint8)
        return codes if self.bits == 8 else codes[..., ::2] << 4 | codes[..., 1::2]

    def values(self, codes: np.ndarray) -> np.ndarray:
        """Return the values (…, f) of what `codes` returned, float32, to half a step."""
        if self.bits == 4:
            codes = np.stack([codes >> 4, codes & 15], axis=-1).reshape(*codes.shape[:-1], -1)
        return np.float32(self.low) + np.float32(self.step) * codes.astype(np.float32)


# Sixteen codes about zero, for the unit Gaussian that normalisation makes of a bottleneck: near the
# best step, 0.335 (Max, "Quantizing for Minimum Distortion", 1960), and such that float16 and
# bfloat16 hold every value exactly.
BOTTLENECK_CODES = Quantisation(low=-7.5 * 0.375, step=0.375, bits=4)
