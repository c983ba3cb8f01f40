"""Numbers: what predicted numbers or quantiles answer, how sure they are, and what they cost."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from keras_ddnn.files.checks import require_choice, require_positive, require_probability
from keras_ddnn.tasks.arrays import Numbers, as_numbers, require_rows
from keras_ddnn.tasks.quantiles import QuantileDistribution
from keras_ddnn.tasks.task import COST, Cost, Measure

COSTS = ("squared", "absolute", "pinball", "provisioning")


@dataclass(frozen=True)
class Regression:
    """Outputs are a number (n, 1) or its quantiles (n, q), targets are numbers (n,); see `Task`.

    Of an answer x and a truth y, the costs are

    - "squared": (x - y)², in squared units of the target;
    - "absolute": |x - y|, in units of the target;
    - "pinball": τ·(y - x) where y > x, else (1 - τ)·(x - y), in units of the target, with τ the
      level that answers (Koenker and Bassett, "Regression Quantiles", 1978);
    - "provisioning": over·(x - y) where x ≥ y, else penalty + under·(y - x), in units of cost.

    The last is that of resources provided for a demand: what is provided and not used is wasted,
    and a demand that is not met breaks an agreement, the more the larger it is. It is our own: the
    papers of Spyropoulos et al. weigh the same two errors, by a cost that we have not read.

    **The quantile that is optimal.** Let F be the distribution of y, with density f. The mean
    provisioning cost of x has the derivative over·F(x) - under·(1 - F(x)) - penalty·f(x), which is
    0 at

        F(x) = (under + penalty·f(x)) / (under + over).

    Without a penalty the cost is (under + over) times the pinball cost of τ = under/(under + over),
    and that quantile is optimal whatever F is. A penalty makes a higher one optimal; how much
    higher depends on F: `optimal_level` finds it on samples. The median is optimal for "absolute",
    and no quantile for "squared", which asks for the mean.

    **Training.** With `quantiles` by the sum of their pinball losses. With one number by the cost
    itself, in which the penalty rises over the first `ramp` units of what is missing: a step has no
    gradient.

    Attributes:
        reported: The cost of reports and of B_k, one of `COSTS`.
        quantiles: Levels of the columns of outputs, rising, in (0, 1), or one of them; empty if a
            network predicts one number.
        level: Level of the quantile that answers, one of `quantiles`; the τ of "pinball". By
            default the one that is optimal for the reported cost without a penalty.
        over: Cost of a unit provided and not used.
        under: Cost of a unit missing.
        penalty: Cost of a sample that misses any.
        ramp: Units missing over which the training loss raises the penalty.
        bound: The most that the reported cost of a sample can be, which the user knows of the data;
            None if there is no bound. A cost above it is refused.

    Raises:
        ValueError: If an argument lies outside its range, or no quantile answers.
    """

    reported: str = "provisioning"
    quantiles: tuple[float, ...] = ()
    level: float | None = None
    over: float = 1.0
    under: float = 1.0
    penalty: float = 0.0
    ramp: float = 1.0
    bound: float | None = None

    name = "regression"
    output_name = "numbers"
    refusal = None

    def __post_init__(self) -> None:
        require_choice("cost", self.reported, COSTS)
        require_positive(over=self.over, under=self.under, ramp=self.ramp)
        if self.penalty != 0:
            require_positive(penalty=self.penalty)
        if self.bound is not None:
            require_positive(bound=self.bound)
        levels = tuple(np.atleast_1d(np.asarray(self.quantiles, np.float64)).tolist())
        if list(levels) != sorted({*levels}) or not all(0 < level < 1 for level in levels):
            raise ValueError(f"quantiles must rise within (0, 1); received {self.quantiles}")
        object.__setattr__(self, "quantiles", levels)
        if self.level is None:
            object.__setattr__(self, "level", self._optimal_without_penalty())
        if self.level is not None:
            require_probability(level=self.level)
        if levels and (self.level is None or not np.isclose(levels, self.level).any()):
            raise ValueError(
                f"quantiles must hold the level that answers, for the cost {self.reported!r} by "
                f"default {self.level}; received {levels}: add it, or pass level="
            )

    def _optimal_without_penalty(self) -> float | None:
        if self.reported == "squared":
            return None
        return self.under / (self.under + self.over) if self.reported == "provisioning" else 0.5

    @cached_property
    def _of_error(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        """The costs of an error, answer less truth, by their names."""
        measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "squared": lambda error: error**2,
            "absolute": np.abs,
        }
        if (level := self.level) is not None:
            measures["pinball"] = lambda error: np.where(
                error < 0, -level * error, (1 - level) * error
            )
        measures["provisioning"] = lambda error: np.where(
            error < 0, self.penalty - self.under * error, self.over * error
        )
        return measures

    @cached_property
    def costs(self) -> Mapping[str, Cost]:
        """The costs by their names; see `Task`. Without a level there is no "pinball"."""
        return MappingProxyType({name: partial(self._cost, name) for name in self._of_error})

    def _cost(self, name: str, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        costs = self._of_error[name](self.answers(outputs) - np.asarray(targets, np.float64))
        if name == self.reported and self.bound is not None and (costs > self.bound).any():
            raise ValueError(
                f"the {name} cost must be at most bound={self.bound:g}; received "
                f"{costs.max():g}: give the most that it can be, or None"
            )
        return costs

    def bounded_cost(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the reported cost, at most `bound`, in use where demand may exceed it, (n,)."""
        return np.minimum(
            replace(self, bound=None).costs[self.reported](outputs, targets), self.bound or np.inf
        )

    @property
    def benefit_cost(self) -> str:
        """The reported cost."""
        return self.reported

    @property
    def measure(self) -> Measure:
        """The mean cost, of which lower is better."""
        return replace(COST, title=f"mean {self.reported} cost (lower is better)")

    @property
    def gives(self) -> frozenset[str]:
        """Two quantiles or more say how sure a network is; one number does not.

        The numbers of several networks do, by how much they differ.
        """
        return frozenset({"numbers", "quantiles"} if len(self.quantiles) > 1 else {"numbers"})

    @property
    def target_reader(self) -> Numbers:
        """What takes numbers as they are."""
        names = tuple(f"quantile {level:g}" for level in self.quantiles) or ("number",)
        return Numbers(len(names), names)

    @property
    def keras_loss(self) -> Mapping[str, Any]:
        """The loss of training; see `training/recipe/losses.py`."""
        levels = self.quantiles or (self.level,)
        pinball = {"class_name": "keras_ddnn>Pinball", "config": {"levels": list(levels)}}
        slopes = {name: getattr(self, name) for name in ("over", "under", "penalty", "ramp")}
        of_number = {
            "squared": {"class_name": "MeanSquaredError", "config": {}},
            "absolute": {"class_name": "MeanAbsoluteError", "config": {}},
            "pinball": pinball,
            "provisioning": {"class_name": "keras_ddnn>Provisioning", "config": slopes},
        }
        return pinball if self.quantiles else of_number[self.reported]

    @property
    def keras_metrics(self) -> tuple[str, ...]:
        """None: the mean error of several quantiles at once says nothing."""
        return ()

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Return the number, or the quantile of `level`, of outputs (n,) or (n, q), float64 (n,).

        Raises:
            ValueError: If there is not a column a quantile.
        """
        columns, expected = np.asarray(outputs, np.float64), len(self.target_reader)
        columns = columns.reshape(len(columns), -1)
        if columns.shape[1] != expected:
            raise ValueError(
                f"expected outputs of {expected} numbers a sample, one a quantile; received "
                f"{columns.shape[1]}"
            )
        return columns[:, self._place]

    @property
    def _place(self) -> int:
        """Column of the quantile of `level`; 0 of one number."""
        if not self.quantiles or self.level is None:  # quantiles have a level
            return 0
        return int(np.argmin(np.abs(np.subtract(self.quantiles, self.level))))

    def differ(self, stay: np.ndarray, go: np.ndarray) -> np.ndarray | None:
        """Return a bound of |difference of the reported costs| from two outputs, float64 (n,).

        The absolute and the pinball cost change by at most 1 and max(τ, 1 - τ) a unit; the
        provisioning cost by the larger of over·d and penalty + under·d for answers a distance d
        apart, and not at all for d = 0. The squared cost has no bound without the truth: None,
        unless costs have one. No difference exceeds the bound of the costs.
        """
        distance = np.abs(self.answers(stay) - self.answers(go))
        most = {
            "squared": np.full(distance.shape, np.inf),
            "absolute": distance,
            "pinball": max(self.level or 0.0, 1 - (self.level or 0.0)) * distance,
            "provisioning": np.maximum(self.over * distance, self.penalty + self.under * distance),
        }[self.reported]
        most = np.where(distance > 0, np.minimum(most, self.bound or np.inf), 0.0)
        return most if np.isfinite(most).all() else None

    def distribution(
        self, outputs: np.ndarray, xp: ModuleType, precision: str
    ) -> QuantileDistribution:
        """Return the quantiles of outputs (n, q)."""
        return QuantileDistribution(outputs, xp, precision, self._place, self.quantiles)

    def checked(
        self, outputs: Mapping[str, Any], targets: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return outputs, float32 (n, q) a tier, q = 1 for a number, and targets, float64 (n,).

        Raises:
            ValueError: If an array is not of finite numbers and of that shape.
        """
        columns = len(self.target_reader)
        numbers = {
            tier: as_numbers(array, f"{tier} outputs", columns) for tier, array in outputs.items()
        }
        targets = as_numbers(targets, "targets")
        n = len(next(iter(numbers.values())))
        for tier, array in numbers.items():
            require_rows(f"{tier} outputs", len(array), n)
        require_rows("targets", len(targets), n)
        return {tier: array.astype(np.float32) for tier, array in numbers.items()}, targets

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return one group for all: numbers have no classes to share out."""
        return np.zeros(len(targets), np.int64)

    def get_config(self) -> dict[str, Any]:
        """Return all fields as plain JSON."""
        return asdict(self)

    def optimal_level(self, values: np.ndarray) -> float:
        """Return the level of the quantile of samples that has the least mean provisioning cost.

        Between two samples that cost rises with what is provided, if a unit more costs more than it
        saves, or else falls; at a sample it drops, as its demand is then met. So the least is at a
        sample, and all of them are tried. Take what is left of validation data, y less a number
        that a network predicts, or demands themselves.

        Args:
            values: float (n,), n at least 1.

        Returns:
            k/n less 1/2n, where the k-th smallest value is the one to provide: in (0, 1).
        """
        ordered = np.sort(as_numbers(values, "values"))
        n, sums = len(ordered), np.append(0.0, np.cumsum(ordered))
        met = np.searchsorted(ordered, ordered, side="right")  # demands that each value meets
        missed = n - met
        over = met * ordered - sums[met]
        under = sums[-1] - sums[met] - missed * ordered
        total = self.over * over + self.under * under + self.penalty * missed
        return float((met[np.argmin(total)] - 0.5) / n)
