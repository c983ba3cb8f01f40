"""The gates of a chain: scores learned from the last to the first, thresholds chosen together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import share_paid
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.labels.sources import TrainedNetwork
from keras_ddnn.rules.confidence import Gate, MaxProb, OffloadRule, Random, Width
from keras_ddnn.rules.plans import ScoredChain
from keras_ddnn.tasks.task import Task


@dataclass(frozen=True, eq=False)
class GateOfNetwork:
    """A `TrainedNetwork` of the two tiers that one gate of a longer chain sees.

    Attributes:
        network: The chain.
        tier: Whose gate.
        behind: Name of a tier → its gate, for all gates behind this one: they are fixed.
    """

    network: TrainedNetwork
    tier: str
    behind: Mapping[str, Gate]

    @cached_property
    def bank(self) -> Bank:
        """The training samples, by the final epoch."""
        return self._two_ends(self.network.bank)

    @cached_property
    def val_bank(self) -> Bank | None:
        """The validation samples, or None."""
        known = self.network.val_bank
        return None if known is None else self._two_ends(known)

    @property
    def stages(self) -> Predictions | None:
        """What the mean over late epochs says of the training samples, or None."""
        return self.network.stages and self._predicted(self.network.stages)

    def augmented_bank(self, views: int) -> Bank:
        """Return the bank of augmented copies of the training samples."""
        return self._two_ends(self.network.augmented_bank(views))

    def fold(self, fold: int) -> Predictions:
        """Return what a network trained without a fold says of that fold."""
        return self._predicted(self.network.fold(fold))

    def _predicted(self, said: Predictions) -> Predictions:
        bank = said.apply_to(self.network.bank)  # in the order of the bank
        return Predictions.of(np.sort(said.rows), self._two_ends(bank))

    def _two_ends(self, bank: Bank) -> Bank:
        return two_ends(bank, self.tier, self.behind)


def two_ends(
    bank: Bank, tier: str, behind: Mapping[str, Gate], prices: Sequence[float] | None = None
) -> Bank:
    """Return the two ends that the gate of a tier sees, once the gates behind it are fixed.

    Args:
        bank: n samples of K tiers.
        tier: Whose gate; see `Bank.gate`.
        behind: Name of a tier → its gate, for all gates behind this one, in order.
        prices: What it adds to reach each of the K tiers; see `ScoredChain`. A curve then tells
            costs against mean prices, see `GateCosts.paid`; by default against local fractions. Of
            two tiers these are the same.
    """
    sent_on = [gate.sends_on(bank.at(name)) for name, gate in behind.items()]
    seen = bank.gate(tier, sent_on)
    if prices is None:
        return seen
    of_tiers = prices[-len(sent_on) - 1 :]
    return replace(seen, paid=share_paid(of_tiers, [np.ones(len(bank), bool), *sent_on]))


def fit_gates(
    fit: Callable[[TrainedNetwork], OffloadRule],
    network: TrainedNetwork,
    prices: Sequence[float],
    budget: float,
    *,
    start: OffloadRule | None = None,
) -> tuple[Gate, ...]:
    """Learn a rule for each gate of a chain, and choose all thresholds within a budget.

    Once the gates behind a gate are fixed, it is the gate of two tiers, see `Bank.gate`, and any
    code that learns one learns it. Each rule is learned where all thresholds are the best for the
    budget with the rules that are there: those behind are learned already, those before are
    `start`, whose ranking therefore matters. Thresholds are chosen anew, all together, after each.
    A rule ranks by what is gained behind its gate, and not by what is paid there, which differs
    where a chain is long.

    Args:
        fit: Makes a rule from a network of two tiers: `lambda gate: fit_head(gate, config)`, or
            `lambda gate: LogitHead.fit(gate.bank)`, whose samples trained no network.
        network: K tiers: a `FittedDDNN`, or `Banks`. Its `bank` is what is learned from, other
            samples, `val_bank`, choose thresholds.
        prices: What it adds to reach each tier; see `ScoredChain`.
        budget: Mean price of a sample.
        start: The rule of gates that are not learned yet; by default `MaxProb()` of classes,
            `Width()` of quantiles, and `Random()` of a number alone.

    Returns:
        One gate for each tier but the last, the first tier's first: the first rule and threshold of
        an `OffloadPolicy`, and its `later`.

    Raises:
        ValueError: If there are no validation samples, the prices do not fit the tiers, or the
            budget is below the price of the first tier.
    """
    if network.val_bank is None:
        raise ValueError(
            "thresholds are chosen on samples that taught no rule; received no val_bank: give "
            "Banks(bank, val_bank), two halves of the validation samples if there are no others"
        )
    names = [*network.bank.tiers][:-1]
    rules: list[OffloadRule] = [start or _first_rule(network.val_bank.task)] * len(names)
    # It raises before anything is learned.
    gates = choose_gates(network.val_bank, rules, prices, budget)
    for place, name in reversed([*enumerate(names)]):
        behind = dict(zip(names[place + 1 :], gates[place + 1 :]))
        rules[place] = fit(GateOfNetwork(network, name, behind))
        gates = choose_gates(network.val_bank, rules, prices, budget)
    return gates


def _first_rule(task: Task) -> OffloadRule:
    rules = MaxProb(), Width(), Random()
    return next(rule for rule in rules if task.gives.issuperset(rule.needs))


def choose_gates(
    bank: Bank, rules: Sequence[OffloadRule], prices: Sequence[float], budget: float
) -> tuple[Gate, ...]:
    """Return rules, one a gate, with the best thresholds for a budget; see `ScoredChain`."""
    plan = ScoredChain.of(bank, rules, prices).for_budget(budget)
    return tuple(map(Gate, rules, plan.thresholds))
