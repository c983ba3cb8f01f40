"""What one, two and three exits save, as BranchyNet asks: `python -m tune.exits`.

It reads what `python -m tune.modern` has kept of each network, and trains nothing: every sample
passes a chain of networks until a gate is sure. Gates are those of BranchyNet (entropy), the scores
of EENet, and others; all thresholds are chosen together on validation data, and test data are read
to report. Rules that are taught are taught on one half of the validation data.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.evaluation.chains import compare_plans, untrained_chain_rules
from keras_ddnn.evaluation.statistics import Interval, over_seeds
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.notices import CommandParser
from keras_ddnn.labels.exit_score import ExitScore
from keras_ddnn.labels.gates import fit_gates
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.labels.sources import Banks
from keras_ddnn.rules.chain_certificate import for_chain_drop
from keras_ddnn.rules.confidence import OffloadRule
from keras_ddnn.rules.plans import ScoredChain
from tune.failures import run_command
from tune.modern_outputs import OUTPUTS, Chain, seeds_of
from tune.study import GO_ON

CHAINS = (
    ("modern_small", "modern_deep"),
    ("modern_tiny", "modern_deep"),
    ("modern_tiny", "modern_small", "modern_deep"),
)
BUDGETS = 12
DROP, DELTA = 0.005, 0.1  # of accuracy, below the last exit; probability of a larger one
LEARNED = "logit_head"
EENET = "eenet"
TAUGHT = (LEARNED, EENET)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `plans.csv` and `savings.csv`; see `run_command` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_command(partial(_run, options), GO_ON, traceback=options.traceback)


def _run(options: argparse.Namespace) -> None:
    folder, plans, savings = options.modern / OUTPUTS, [], []
    for names in CHAINS:
        for seed in seeds_of(folder, *names):
            chain = Chain.read(folder, names, seed)
            about = {"chain": "+".join(names), "exits": len(names), "seed": seed}
            budgets, rules, choose = _prepared(chain, seed)
            found = compare_plans(rules, choose, chain.test_bank, chain.multiply_adds, budgets)
            plans.append(found.assign(**about))
            for name, gates in rules.items():
                certify = choose if name in TAUGHT else chain.val_bank
                savings.append(about | _saved(chain, gates, name, certify))
    if not plans:
        raise ValueError(
            f"expected outputs of {' and '.join(CHAINS[0])} in {folder}; received none: run "
            "python -m tune.modern first"
        )
    tables = {"plans": pd.concat(plans), "savings": over_all_seeds(pd.DataFrame(savings))}
    for name, table in tables.items():
        with replacing_file(options.output / f"{name}.csv") as file:
            table.to_csv(file, index=False, float_format="%.6g")
    print(tables["savings"].to_string(index=False))


def _prepared(chain: Chain, seed: int) -> tuple[np.ndarray, dict[str, Sequence[OffloadRule]], Bank]:
    """Return budgets, rules at every gate, and the half of the validation data that chooses."""
    prices, val = chain.multiply_adds, chain.val_bank
    budgets = np.geomspace(prices[0], sum(prices), BUDGETS)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(val)), 2)
    teach, choose = (val.rows(np.sort(half)) for half in halves)
    rules = dict(untrained_chain_rules(len(prices))) | {EENET: ExitScore.fit(teach)}
    middle = float(np.sqrt(prices[0] * sum(prices)))
    gates = fit_gates(
        lambda gate: LogitHead.fit(gate.bank, seed=seed), Banks(teach, choose), prices, middle
    )
    rules[LEARNED] = [gate.rule for gate in gates]
    return budgets, rules, choose


def _saved(
    chain: Chain, rules: Sequence[OffloadRule], name: str, certify: Bank
) -> dict[str, object]:
    """Return what the cheapest plan saves that loses `DROP` at most by its certificate."""
    prices = chain.multiply_adds
    known, told_on = (ScoredChain.of(bank, rules, prices) for bank in (certify, chain.test_bank))
    plan = for_chain_drop(known, DROP, DELTA).plan
    told, alone = told_on.plan(plan.thresholds), told_on.anytime()[-1]
    return {
        "rule": name,
        "accuracy": 100 * told.accuracy,
        "drop": 100 * (alone.accuracy - told.accuracy),
        "multiply_adds": told.price,
        "times_fewer": prices[-1] / told.price,
        **{f"share_{k}": share for k, share in enumerate(told.shares)},
    }


def over_all_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a chain and rule: means over seeds, with 95% t intervals where it matters."""
    rows = []
    for (chain, rule), seeds in table.groupby(["chain", "rule"], sort=False):
        row = {"chain": chain, "rule": rule, "seeds": len(seeds), "exits": seeds["exits"].iloc[0]}
        for column in ("accuracy", "drop", "multiply_adds", "times_fewer"):
            values = seeds[column].tolist()
            one = Interval(values[0], np.nan, np.nan)
            interval = over_seeds(values) if len(values) > 1 else one
            row |= {column: interval.mean, f"{column}_low": interval.low}
            row[f"{column}_high"] = interval.high
        rows.append(row | seeds.filter(like="share_").mean().to_dict())
    return pd.DataFrame(rows)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m tune.exits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--modern", type=Path, default=Path("results/modern"))
    parser.add_argument("--output", type=Path, default=Path("results/exits"))
    parser.add_argument("--traceback", action="store_true", help="where an error comes from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
