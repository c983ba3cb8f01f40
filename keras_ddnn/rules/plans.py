"""Plans of a chain: one threshold a gate, all chosen together for a mean price."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from typing import TypeAlias

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import GateCosts
from keras_ddnn.rules.confidence import OffloadRule, offloads
from keras_ddnn.rules.sweep import RankedSamples

TRIES = 4096  # combinations of thresholds of the gates before the last, of more than three tiers
MOVES = 128  # thresholds near the one that a gate has, and as many others, that it may move to
CELLS = 1 << 19  # numbers of a block of combinations: a few megabytes an array
BUDGETS = 101  # of a frontier

# those of one gate that are tried
Thresholds: TypeAlias = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Plan:
    """A threshold for each gate of a chain, and what it did on the samples it was tried on.

    `dataclasses.asdict` of it is JSON-able but for infinite thresholds.

    Attributes:
        thresholds: One a gate, the first tier's first. A sample is sent on where its score is not
            below; -∞ sends everything on and ∞ nothing.
        cost: Mean cost of the answers; for classes the share of wrong ones.
        price: Mean price of a sample.
        shares: Share of the samples that end at each tier.
    """

    thresholds: tuple[float, ...]
    cost: float
    price: float
    shares: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """1 - mean cost: the accuracy where a wrong answer costs 1."""
        return 1.0 - self.cost


@dataclass(frozen=True, eq=False)
class ScoredChain:
    """A chain of K tiers, whose gates have scored n samples: all that plans are chosen from.

    Attributes:
        scores: One array a gate, float of shape (n,), finite: higher is sent on.
        costs: What the answer of each tier costs, float64 of shape (n, K); see `Bank.costs`.
        prices: What it adds to reach each tier and to be answered there, K numbers: the first is
            paid by every sample. Multiply-adds, bytes or seconds.

    Raises:
        ValueError: If shapes do not fit, a score or a cost is not finite, or a price is negative.
    """

    scores: Sequence[np.ndarray]
    costs: np.ndarray
    prices: Sequence[float]

    def __post_init__(self) -> None:
        costs = np.asarray(self.costs, np.float64)
        object.__setattr__(self, "costs", costs)
        if costs.ndim != 2 or not len(costs) or costs.shape[1] < 2 or not np.isfinite(costs).all():
            raise ValueError(
                "costs must be finite, of shape (n, tiers), of a sample and two tiers at least; "
                f"received shape {costs.shape} with {np.count_nonzero(~np.isfinite(costs))} NaN or "
                "infinite"
            )
        tiers = costs.shape[1]
        if len(self.scores) != tiers - 1 or len(self.prices) != tiers:
            raise ValueError(
                f"a chain of {tiers} tiers has {tiers - 1} gates with scores, and {tiers} prices; "
                f"received {len(self.scores)} and {len(self.prices)}"
            )
        for gate, scores in enumerate(self.scores):
            if np.shape(scores) != (len(costs),) or not np.isfinite(scores).all():
                raise ValueError(
                    f"gate {gate}: expected {len(costs)} finite scores, one a sample; received "
                    f"shape {np.shape(scores)}, or NaN or infinity among them"
                )
        for tier, price in enumerate(self.prices):
            if not 0 <= price < np.inf:
                raise ValueError(
                    f"prices must be finite and not negative: what each tier adds; received "
                    f"{price!r} for tier {tier}"
                )

    @classmethod
    def of(
        cls,
        bank: Bank,
        rules: Sequence[OffloadRule],
        prices: Sequence[float],
        cost: str | None = None,
    ) -> "ScoredChain":
        """Score the samples of a bank of K tiers by the rule of each gate.

        Args:
            bank: n samples.
            rules: One a gate, the first tier's first.
            prices: See the attribute.
            cost: A cost of the task of the bank, by default the one it reports.
        """
        scores = [rule.score(bank.at(name)) for rule, name in zip(rules, bank.tiers)]
        return cls(scores, bank.costs(cost), prices)

    def __len__(self) -> int:
        return len(self.costs)

    def rows(self, rows: np.ndarray) -> "ScoredChain":
        """Return the chain of some of the samples, int (m,), in that order."""
        return ScoredChain([scores[rows] for scores in self.scores], self.costs[rows], self.prices)

    def ends(self, thresholds: Sequence[float]) -> np.ndarray:
        """Return the place of the tier where each sample ends by these thresholds, int (n,)."""
        if len(thresholds) != len(self.scores):
            raise ValueError(
                f"expected {len(self.scores)} thresholds, one a gate; received {len(thresholds)}"
            )
        sent = [offloads(scores, t) for scores, t in zip(self.scores, thresholds)]
        return np.logical_and.accumulate(sent).sum(axis=0)

    def plan(self, thresholds: Sequence[float]) -> Plan:
        """Return what thresholds, one a gate, do on these samples."""
        ends, n = self.ends(thresholds), len(self)
        counts = np.bincount(ends, minlength=len(self.prices))
        reached = np.cumsum(counts[::-1])[::-1]
        paid = sum(count * price for count, price in zip(reached[1:], self.prices[1:]))
        return Plan(
            tuple(map(float, thresholds)),
            float(np.sum(self.costs[np.arange(n), ends]) / n),
            float(self.prices[0] + paid / n),
            tuple((counts / n).tolist()),
        )

    def anytime(self) -> list[Plan]:
        """Return the plans by which every sample ends at the same tier, the first tier's first.

        The protocol "anytime" of Huang et al., "Multi-Scale Dense Networks for Resource Efficient
        Image Classification", 2018: the answer that is there when time is up.
        """
        tiers = len(self.prices)
        return [self.plan([-np.inf] * k + [np.inf] * (tiers - 1 - k)) for k in range(tiers)]

    def frontier(self, budgets: Sequence[float] | None = None, *, tries: int = TRIES) -> list[Plan]:
        """Return the plans of least cost within rising budgets, those that none beats in both.

        The protocol "budgeted batch" of Huang et al., 2018: a set of samples shares one budget.

        Args:
            budgets: Mean prices of a sample; 101 of them by default, evenly from the price of the
                first tier to that of all.
            tries: See `for_budget`.

        Returns:
            By rising price, each of a lower cost than the one before. For three tiers 5,000 samples
            take a second or two, for four some minutes; fewer budgets and tries take less.

        Raises:
            ValueError: As `for_budget`.
        """
        if budgets is None:
            budgets = np.linspace(self.prices[0], sum(self.prices), BUDGETS).tolist()
        plans = sorted(
            self.for_budgets(budgets, tries=tries), key=lambda plan: (plan.price, plan.cost)
        )
        lowest = np.minimum.accumulate([np.inf, *(plan.cost for plan in plans)])
        return [plan for plan, before in zip(plans, lowest) if plan.cost < before]

    def for_budget(self, budget: float, *, tries: int = TRIES) -> Plan:
        """Choose all thresholds together: the least mean cost within a mean price.

        Of two and of three tiers the plan is the best of all. For each threshold of the first gate
        one pass over sorted scores and their sums tries all thresholds of the last: n² steps for n
        samples, a second for 5,000 and minutes for 50,000. Of more tiers, the gates before the last
        are first tried on a grid of `tries` combinations, evenly by rank; then each of them in turn
        takes the best of its nearest 128 thresholds and of 128 others, together with the last gate,
        until no plan gets better. That end may be a local one. Among plans of one cost the cheapest
        is taken.

        Args:
            budget: Mean price of a sample, in the unit of `prices`.
            tries: See above; a grid of all thresholds is the search of everything.

        Raises:
            ValueError: If even ending everything at the first tier exceeds the budget.
        """
        return self.for_budgets([budget], tries=tries)[0]

    def for_budgets(self, budgets: Sequence[float], *, tries: int = TRIES) -> list[Plan]:
        """Return the plan of each budget, as `for_budget` does, in little more time than one.

        It raises as that does.
        """
        for budget in budgets:
            if not self.prices[0] <= budget:
                raise ValueError(
                    f"budget must be at least {self.prices[0]}, the price of answering everything "
                    f"at the first tier; received {budget!r}"
                )
        early = [RankedSamples(s, self._last_costs).thresholds for s in self.scores[:-1]]
        a_gate = int(max(tries, len(self) + 1) ** (1 / max(len(early), 1)))
        grid = [_evenly(thresholds, a_gate) for thresholds in early]
        found = self._search(grid, np.asarray(budgets, np.float64))
        if sum(map(len, grid)) < sum(map(len, early)):
            found = [self._descend(plan, budget, early) for plan, budget in zip(found, budgets)]
        return found

    def _descend(self, plan: Plan, budget: float, early: Sequence[np.ndarray]) -> Plan:
        """Move one gate at a time, and the last with it, until no plan gets better."""
        better = True
        while better:
            better = False
            for gate, thresholds in enumerate(early):
                grid: list[Thresholds] = [[t] for t in plan.thresholds[:-1]]
                grid[gate] = _near(thresholds, plan.thresholds[gate])
                (moved,) = self._search(grid, np.array([budget]))
                if (moved.cost, moved.price) < (plan.cost, plan.price):
                    plan, better = moved, True
        return plan

    @cached_property
    def _last_costs(self) -> GateCosts:
        return GateCosts(*self.costs[:, -2:].T)

    @cached_property
    def _last_gate(self) -> RankedSamples:
        return RankedSamples(self.scores[-1], self._last_costs)

    def _search(self, grid: Sequence[Thresholds], budgets: np.ndarray) -> list[Plan]:
        """Return the best plan for each budget (G,), among early thresholds of a grid."""
        best = np.full((3, len(budgets)), np.inf)  # cost, price, and the last threshold
        chosen = np.full((len(budgets), len(grid)), np.inf)
        for early in _blocks(product(*grid), max(1, CELLS // len(self))):
            cost, price, last = self._sweep_last(early, budgets)
            cheapest = np.where(cost == cost.min(axis=0), price, np.inf).argmin(axis=0)
            found = np.stack([x[cheapest, np.arange(len(budgets))] for x in (cost, price, last)])
            better = (found[0] < best[0]) | ((found[0] == best[0]) & (found[1] < best[1]))
            best[:, better], chosen[better] = found[:, better], early[cheapest[better]]
        return [self.plan((*early, last)) for early, last in zip(chosen, best[2])]

    def _sweep_last(self, early: np.ndarray, budgets: np.ndarray) -> tuple[np.ndarray, ...]:
        """Try all thresholds of the last gate behind thresholds (b, K - 2) of those before it.

        Returns:
            Sum of the costs, mean price and last threshold of the best for each budget, (b, G); a
            cost is ∞ where nothing fits.
        """
        n, (*to_reach, to_last) = len(self), self.prices[1:]
        reach = np.ones((len(early), n), bool)
        ended, paid = np.zeros((len(early), 1)), np.zeros((len(early), 1))
        for scores, thresholds, cost, price in zip(self.scores, early.T, self.costs.T, to_reach):
            sent = reach & offloads(scores, thresholds[:, None])
            ended += ((reach & ~sent) @ cost)[:, None]
            paid += sent.sum(axis=1, keepdims=True) * price
            reach = sent
        kept, behind = self._last_gate.sweep(reach)
        # By falling threshold, so that the price rises.
        kept, costs = kept[:, ::-1], (ended + behind)[:, ::-1]
        prices = self.prices[0] + (paid + (kept[:, :1] - kept) * to_last) / n
        fits = np.stack([np.searchsorted(row, budgets, "right") for row in prices])
        place = np.take_along_axis(_places_of_lowest(costs), np.maximum(fits - 1, 0), axis=1)
        least = np.where(fits > 0, np.take_along_axis(costs, place, axis=1), np.inf)
        threshold = self._last_gate.thresholds[::-1][place]
        return least, np.take_along_axis(prices, place, axis=1), threshold


def _evenly(thresholds: np.ndarray, count: int) -> np.ndarray:
    """Return so many of the thresholds at most, evenly by their rank, both ends among them."""
    if count >= len(thresholds):
        return thresholds
    return thresholds[np.linspace(0, len(thresholds) - 1, max(count, 2)).round().astype(int)]


def _near(thresholds: np.ndarray, chosen: float) -> np.ndarray:
    """Return thresholds that a gate may move to from the one chosen, which is among them."""
    first = max(0, int(np.searchsorted(thresholds, chosen)) - MOVES // 2)
    return np.union1d(_evenly(thresholds, MOVES), thresholds[first : first + MOVES])


def _blocks(rows: Iterator[tuple[float, ...]], size: int) -> Iterator[np.ndarray]:
    while block := list(islice(rows, size)):
        yield np.array(block, np.float64).reshape(len(block), -1)


def _places_of_lowest(values: np.ndarray) -> np.ndarray:
    """Return where the lowest value up to each column stands first, int of the shape (b, m)."""
    lowest = np.minimum.accumulate(values, axis=1)
    falls = np.ones(values.shape, bool)
    falls[:, 1:] = values[:, 1:] < lowest[:, :-1]
    return np.maximum.accumulate(np.where(falls, np.arange(values.shape[1]), 0), axis=1)
