"""What each sample costs at a gate: all that evaluation knows of networks, classes and tiers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class CostsAtGate(Protocol):
    """What `GateCosts` holds; a `Bank` has it too, by the cost that its reports use.

    Attributes:
        stay, go, differ: See `GateCosts`.
    """

    stay: np.ndarray
    go: np.ndarray
    differ: np.ndarray

    def __len__(self) -> int:
        """Return the number of samples."""


@dataclass(frozen=True, eq=False)
class GateCosts:
    """What n samples cost if they are answered at a gate, and if they are sent on.

    Lower is better. The cost of going on is one number a sample, whatever lies behind the gate:
    one network, or several with gates of their own that are fixed already.

    Attributes:
        stay: Cost of the answer at this gate, float64 of shape (n,), finite.
        go: Cost of the answer behind it, float64 of shape (n,), finite.
        differ: Bound of |stay - go| that needs no truth, float64 of shape (n,). For classes it is 1
            where the two answers differ. |stay - go| itself by default.

    Raises:
        ValueError: If the arrays are not finite or not of one shape (n,).
    """

    stay: np.ndarray
    go: np.ndarray
    differ: np.ndarray | None = None

    def __post_init__(self) -> None:
        stay, go = (np.asarray(costs, np.float64) for costs in (self.stay, self.go))
        if stay.ndim != 1 or stay.shape != go.shape:
            raise ValueError(
                "stay and go must be of one shape (n,), a cost a sample; received "
                f"{stay.shape} and {go.shape}"
            )
        differ = np.abs(stay - go) if self.differ is None else np.asarray(self.differ, np.float64)
        for name, values in {"stay": stay, "go": go, "differ": differ}.items():
            if values.shape != stay.shape or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} must be {len(stay)} finite costs, one a sample; received shape "
                    f"{values.shape} with {np.count_nonzero(~np.isfinite(values))} NaN or infinite"
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.stay)
