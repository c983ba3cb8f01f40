"""How rules of a whole chain compare: accuracy and mean price, by plans chosen on other samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.rules.confidence import OffloadRule, Patience, untrained_rules
from keras_ddnn.rules.plans import Plan, ScoredChain
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Measure, Task


def untrained_chain_rules(tiers: int, task: Task = CLASSIFICATION) -> dict[str, list[OffloadRule]]:
    """Return the rules that need no training, each at every gate of a chain, and patience."""
    rules = untrained_rules(task)
    if task.gives.issuperset(Patience.needs):
        rules["patience"] = Patience()
    return {name: [rule] * (tiers - 1) for name, rule in rules.items()}


def compare_plans(
    rules: Mapping[str, Sequence[OffloadRule]],
    calibration: Bank,
    test: Bank,
    prices: Sequence[float],
    budgets: Sequence[float],
) -> pd.DataFrame:
    """Evaluate the gates of a chain on `test`, with all thresholds chosen on `calibration`.

    Args:
        rules: Name → a rule for each gate, the first tier's first.
        calibration: Validation samples of K tiers; they choose the plans, see
            `ScoredChain.for_budget`.
        test: Samples to report on.
        prices: What it adds to reach each tier, K numbers; see `ScoredChain`.
        budgets: Mean prices of a sample.

    Returns:
        A row for each budget and rule, the best of a budget first: `rule`, `budget`, `accuracy`, or
        `cost` where the task reports that, and `price` on test samples, `share_…` of each tier, the
        samples that end there, and `threshold_…` of each gate. The first K rows are the exits
        alone, the protocol
        "anytime": their `rule` is "exit" and the tier, and their budget what it costs.

    Raises:
        ValueError: If prices or rules do not fit the tiers, or a budget is below the price of the
            first tier.
    """
    names, measure = [*test.tiers], test.task.measure
    rows: list[dict[str, Any]] = []
    for name, gates in rules.items():
        chosen_on, told_on = (ScoredChain.of(bank, gates, prices) for bank in (calibration, test))
        if not rows:
            alone = zip(names, told_on.anytime())
            rows += [_row(f"exit {tier}", plan.price, plan, names, measure) for tier, plan in alone]
        for budget, chosen in zip(budgets, chosen_on.for_budgets(budgets)):
            rows.append(_row(name, budget, told_on.plan(chosen.thresholds), names, measure))
    table = pd.DataFrame(rows)
    order = table[len(names) :].sort_values(
        ["budget", measure.name], ascending=[True, not measure.higher_is_better], kind="stable"
    )
    return pd.concat([table[: len(names)], order], ignore_index=True)


def _row(
    rule: str, budget: float, plan: Plan, names: Sequence[str], measure: Measure
) -> dict[str, Any]:
    return {
        "rule": rule,
        "budget": budget,
        measure.name: float(measure.of(np.asarray(plan.cost), 1)),
        "price": plan.price,
        **{f"share_{name}": share for name, share in zip(names, plan.shares)},
        **{f"threshold_{name}": threshold for name, threshold in zip(names, plan.thresholds)},
    }
