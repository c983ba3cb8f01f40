"""The gates of a chain: scores learned from the last to the first, thresholds chosen together."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.labels.sources import Banks
from keras_ddnn.rules.confidence import Gate, MaxProb, OffloadRule
from keras_ddnn.rules.plans import ScoredChain


def fit_gates(
    fit: Callable[[Banks], OffloadRule],
    banks: Banks,
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
        fit: Makes a rule from the banks of two tiers: `lambda banks: fit_head(banks, config)`, or
            `lambda banks: LogitHead.fit(banks.bank)`, whose samples trained no network.
        banks: What the K tiers said of samples to learn from, `bank`, and of others that choose
            thresholds, `val_bank`.
        prices: What it adds to reach each tier; see `ScoredChain`.
        budget: Mean price of a sample.
        start: The rule of gates that are not learned yet; `MaxProb()` by default.

    Returns:
        One gate for each tier but the last, the first tier's first: the first rule and threshold of
        an `OffloadPolicy`, and its `later`.

    Raises:
        ValueError: If there are no validation samples, the prices do not fit the tiers, or the
            budget is below the price of the first tier.
    """
    if banks.val_bank is None:
        raise ValueError(
            "thresholds are chosen on samples that taught no rule; received no val_bank: give "
            "Banks(bank, val_bank), two halves of the validation samples if there are no others"
        )
    names = [*banks.bank.tiers][:-1]
    rules: list[OffloadRule] = [start or MaxProb()] * len(names)
    gates = choose_gates(banks.val_bank, rules, prices, budget)  # raises before anything is learned
    for place, name in reversed([*enumerate(names)]):
        behind = dict(zip(names[place + 1 :], gates[place + 1 :]))
        rules[place] = fit(
            Banks(*(_two_ends(bank, name, behind) for bank in (banks.bank, banks.val_bank)))
        )
        gates = choose_gates(banks.val_bank, rules, prices, budget)
    return gates


def choose_gates(
    bank: Bank, rules: Sequence[OffloadRule], prices: Sequence[float], budget: float
) -> tuple[Gate, ...]:
    """Return rules, one a gate, with the best thresholds for a budget; see `ScoredChain`."""
    plan = ScoredChain.of(bank, rules, prices).for_budget(budget)
    return tuple(map(Gate, rules, plan.thresholds))


def _two_ends(bank: Bank, name: str, behind: dict[str, Gate]) -> Bank:
    sent_on: list[np.ndarray] = [gate.sends_on(bank.at(tier)) for tier, gate in behind.items()]
    return bank.gate(name, sent_on)
