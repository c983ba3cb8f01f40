"""Classes whose mistakes have prices: which answer is cheapest, and what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_ddnn.tasks.arrays import as_numbers
from keras_ddnn.tasks.classification import OF_LOGITS, Classification, softmax
from keras_ddnn.tasks.task import COST, Cost


@dataclass(frozen=True)
class PricedClasses(Classification):
    """Classification whose mistakes cost what a matrix says, in any unit of cost.

    The answer is not the most probable class, but the one of the least expected price, Σ p[y] ·
    prices[y][answer] over the classes y. Source: Elkan, "The Foundations of Cost-Sensitive
    Learning", 2001. Networks are trained as for classes; whether their probabilities are right
    decides how good the answers are.

    **Refusals.** A column more than there are classes is the price of no answer where y is true.
    Then the answer may be `refusal`, the number behind the last class: where the probabilities
    promise no class that is cheaper. Source: Chow, "On Optimum Recognition Error and Reject
    Tradeoff", 1970. Each tier may refuse; a sample that is refused behind the device has been sent,
    and pays for that, too.

    Attributes:
        prices: prices[y][j] is the cost of the answer j where y is true, at least 0; a row a class,
            a column an answer. See `with_refusal`.

    Raises:
        ValueError: If prices are no finite numbers from 0 on, with a column a class and perhaps one
            more, of two classes or more.
    """

    prices: Sequence[Sequence[float]]

    name = "priced_classes"
    reported = "price"
    benefit_cost = "price"
    measure = COST

    def __post_init__(self) -> None:
        classes = len(self.prices)
        refuses = np.ndim(self.prices) == 2 and np.shape(self.prices)[1] == classes + 1
        prices = as_numbers(self.prices, "prices", classes + refuses)
        if classes < 2 or prices.min() < 0:
            raise ValueError(
                "prices: expected a row and a column for each of two or more classes, and perhaps "
                f"a column for no answer, numbers from 0 on; received shape {prices.shape}, from "
                f"{prices.min():g} on"
            )
        object.__setattr__(self, "prices", tuple(map(tuple, prices.tolist())))

    @classmethod
    def with_refusal(cls, prices: Sequence[Sequence[float]], refusal: float) -> "PricedClasses":
        """Return the task in which no answer costs the same whatever is true.

        Args:
            prices: A row and a column a class; 1 - np.eye(k) counts mistakes.
            refusal: Price of no answer, from 0 on.
        """
        return cls([[*row, refusal] for row in prices])

    @property
    def refusal(self) -> int | None:
        """The number that stands for no answer, behind that of the last class; None without."""
        classes, answers = self._matrix.shape
        return classes if answers > classes else None

    @cached_property
    def costs(self) -> Mapping[str, Cost]:
        """Those of classes, with "price" and, of the same answer, "zero_one"."""
        own: dict[str, Cost] = {
            "price": lambda outputs, targets: self._matrix[targets, self.answers(outputs)],
            "zero_one": lambda outputs, targets: 1.0 * (self.answers(outputs) != targets),
        }
        return MappingProxyType({**OF_LOGITS, **own})

    @property
    def bound(self) -> float:
        """The highest price."""
        return float(self._matrix.max())

    @cached_property
    def _matrix(self) -> np.ndarray:
        return np.array(self.prices)

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """Return the answer of the least expected price, int (n,); the lower number in a tie.

        Raises:
            ValueError: If logits have another number of classes than the prices.
        """
        if outputs.shape[1] != len(self.prices):
            raise ValueError(
                f"prices of {len(self.prices)} classes need as many logits; received "
                f"{outputs.shape[1]}"
            )
        return (softmax(outputs.astype(np.float64)) @ self._matrix).argmin(axis=1)

    def differ(self, stay: np.ndarray, go: np.ndarray) -> np.ndarray:
        """Return the most that the prices of two answers differ by for any truth, float64 (n,)."""
        prices = self._matrix
        return np.abs(prices[:, self.answers(stay)] - prices[:, self.answers(go)]).max(axis=0)

    def get_config(self) -> dict[str, Any]:
        """Return the prices as plain JSON."""
        return {"prices": [list(row) for row in self.prices]}
