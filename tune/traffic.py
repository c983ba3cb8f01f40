"""How many decisions about resources stay local, at what cost: `python -m tune.traffic`.

The question of Spyropoulos et al. (2022, 2025): a device predicts the traffic of a radio cell with
a small network, a cloud with a large one, and a rule says which predictions are worth asking for.
Each seed draws the traffic of `cell_traffic`, trains both networks and the heads, and leaves a
small file, so that a later run adds to them. What the networks say is kept in `--work`, so that
other rules can be tried without training. The cost is ours: theirs is not public.

All rules rank the same decisions of the same two networks. Monte-Carlo dropout and the second
member of the ensemble are device networks trained beside them, which rank and do not answer.
`best_of_device` is as near as we get to the best rule that sees what a device sees: trees on more
series of the same kind than any user has. `oracle` also sees the truth.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit, threshold_for_fraction
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import Interval, over_seeds
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.files.notices import CommandParser
from keras_ddnn.labels.sources import Banks
from keras_ddnn.labels.targets import TARGETS
from keras_ddnn.rules.confidence import offloads, untrained_rules
from tune import traffic_networks
from tune.study import run_study
from tune.traffic_networks import SECOND, TASK, said_by_networks

LEARNED = "learned"  # the better of both heads on validation data
_head = partial(
    HeadConfig, cost=TASK.reported, target="expected_benefit", epochs=60, patience=10, dropout=0.0
)
HEADS = {
    "head_of_quantiles": _head(input="logits"),
    "head_of_window": _head(input="outputs_inputs", depth=2, batch_size=512),
}
CHEAP = "head_of_quantiles"
# As the first one, taught by what happened and not by what the cloud expects.
OF_TRUTH = {"head_of_truth": _head(input="logits", target="benefit")}
CEILINGS = ("best_of_device", "oracle")
RULES = (
    *("random", "width", "mc_dropout", "ensemble", *OF_TRUTH, *HEADS, LEARNED),
    *("trees", "learned_of_two", *CEILINGS),
)
HALF = 50  # percent of the decisions
FRACTIONS = np.linspace(0.0, 1.0, 101)
PENALTIES = (0.01, 0.02, 0.05)  # of the cloud's mean cost


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds that are missing and write the tables; see `run_study` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_study(_run, options)


def _run(options: argparse.Namespace) -> None:
    for path in sorted(options.output.glob("seed*.json")):
        _require_same(path, options.epochs)
    for seed in options.seeds:
        if not (path := options.output / f"seed{seed}.json").exists():
            write_json(path, run_seed(seed, options.epochs, options.work))
            print(f"seed {seed} done", flush=True)
    seeds = [json.loads(path.read_text()) for path in sorted(options.output.glob("seed*.json"))]
    for name, table in (("table", table_of(seeds)), ("curves", curves_of(seeds))):
        with replacing_file(options.output / f"{name}.csv") as file:
            table.to_csv(file, index=False, float_format="%.6g")


def settings(seed: int, epochs: int | None = None) -> dict[str, Any]:
    """Return what a seed is run with, as plain JSON; see `run_seed`."""
    return traffic_networks.settings(seed, epochs) | {"told": list(RULES)}


def _require_same(path: Path, epochs: int | None) -> None:
    """Raise ValueError, in one line, if a seed was run with other settings than these."""
    kept = json.loads(path.read_text())
    expected = settings(int(path.stem.removeprefix("seed")), epochs)
    other = [name for name, value in expected.items() if kept.get(name) != value]
    if other:
        raise ValueError(
            f"{path}: expected a seed that was run with today's settings; received another "
            f"{' and '.join(other)}: give another --output, or remove the file"
        )


def run_seed(seed: int, epochs: int | None, work: Path) -> dict[str, Any]:
    """Train the networks and the rules of a seed, and return what each costs on test data.

    Args:
        seed: Of the traffic, the networks and the heads.
        epochs: Of the networks; those of the study by default.
        work: Folder of what networks say, a folder a seed.
    """
    from keras_ddnn.heads.fit import fit_head

    said = said_by_networks(seed, work / f"seed{seed}", epochs)
    train, val, test = (said.banks[part] for part in ("train", "val", "test"))
    backbone = Banks(train, val)
    heads = {name: fit_head(backbone, head) for name, head in {**OF_TRUTH, **HEADS}.items()}
    rules = {**untrained_rules(TASK), **heads}
    scores = {name: [rule.score(bank.edge) for bank in (val, test)] for name, rule in rules.items()}
    scores["mc_dropout"] = [said.dropout[part] for part in ("val", "test")]
    scores["ensemble"] = [distance(bank) for bank in (val, test)]
    best = min(HEADS, key=lambda name: OffloadCurve.from_scores(scores[name][0], val).area)
    scores[LEARNED] = scores[best]
    scores["trees"] = trees_on([train], [val, test], seen)
    scores["learned_of_two"] = trees_on([train], [val, test], seen_by_two)
    scores["best_of_device"] = trees_on(said.others, [val, test], seen, of_truth=True)
    scores["oracle"] = [oracle_scores(bank) for bank in (val, test)]
    added = {name: rule.multiply_adds for name, rule in rules.items()}
    added |= {LEARNED: added[best], "trees": 0}  # trees compare and do not multiply
    added |= dict.fromkeys(("ensemble", "learned_of_two"), said.multiply_adds[SECOND])
    return settings(seed, epochs) | {
        "samples": {part: len(bank) for part, bank in said.banks.items()},
        "multiply_adds": {**said.multiply_adds, **added},
        "train_costs": train.costs()[:, [0, -1]].mean(axis=0).tolist(),
        "best_head": best,
        "rules": {name: _told(*scores[name], val, test) for name in RULES},
    }


def distance(bank: Bank) -> np.ndarray:
    """Return how far the answers of two device networks lie apart, float64 (n,).

    It ranks as the measure "deviation" of `Ensemble`, which is half of it.
    """
    first, second = (TASK.answers(bank.tiers[tier].outputs) for tier in ("local", SECOND))
    return np.abs(first - second)


def seen(bank: Bank) -> np.ndarray:
    """Return what a device sees: the traffic of all steps, the clock of the last, its quantiles."""
    windows = np.asarray(bank.edge.inputs)
    return np.hstack([windows[:, :, 0], windows[:, -1, 1:], bank.edge.outputs])


def seen_by_two(bank: Bank) -> np.ndarray:
    """Return what a device sees that runs both networks of the ensemble."""
    return np.hstack([seen(bank), bank.tiers[SECOND].outputs])


def trees_on(
    learned_from: Sequence[Bank],
    banks: Sequence[Bank],
    read: Callable[[Bank], np.ndarray],
    *,
    of_truth: bool = False,
) -> list[np.ndarray]:
    """Return scores of boosted trees that have learned the expected B_k of samples.

    Args:
        learned_from: Samples to learn from.
        banks: Samples to score.
        read: Bank → what trees read (n, d).
        of_truth: Whether further trees learn by how much B_k itself is more than that, on samples
            that trained no network: the cloud's quantiles may be wrong.

    Returns:
        Float64 (n,) a bank.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    inputs = np.concatenate([read(bank) for bank in learned_from])
    expects = TARGETS["expected_benefit"].values
    expected = np.concatenate([expects(bank, TASK.reported, 0.5)[:, 0] for bank in learned_from])
    targets = [expected]
    if of_truth:
        targets.append(np.concatenate([benefit(bank) for bank in learned_from]) - expected)
    options = {"learning_rate": 0.05, "max_iter": 500, "early_stopping": True, "random_state": 0}
    trees = [HistGradientBoostingRegressor(**options).fit(inputs, each) for each in targets]
    return [sum(each.predict(read(bank)) for each in trees) for bank in banks]


def _told(val_scores: np.ndarray, test_scores: np.ndarray, val: Bank, test: Bank) -> dict[str, Any]:
    """Return the curve on test data, and what thresholds do there that validation data chose."""
    on_val, on_test = (
        OffloadCurve.from_scores(scores, bank)
        for scores, bank in ((val_scores, val), (test_scores, test))
    )
    told = {"mean_cost": on_test.area, "curve": on_test.at(FRACTIONS).tolist()}
    for penalty in PENALTIES:
        within = on_val.values <= (1.0 + penalty) * on_val.values[0]
        share = float(on_val.local_fraction[np.flatnonzero(within)[-1]])
        kept = ~offloads(test_scores, threshold_for_fraction(val_scores, share))
        cost = np.where(kept, test.stay, test.go).mean()
        told[f"share_{100 * penalty:.0f}"] = float(kept.mean())
        told[f"penalty_{100 * penalty:.0f}"] = float(cost / on_test.values[0] - 1.0)
    return told


def table_of(seeds: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row a rule, with 95% intervals over seeds.

    Returns:
        `mean_cost` over local fractions; what the learned rule saves of it (`saved`), and what the
        head of quantiles does (`cheap_saved`), in percent of the cloud's cost, paired by seed; the
        penalty with half of the decisions local (`at_50`); and for each penalty that validation
        data foresee, the share that stays local and the
        penalty that this has on test data; `multiply_adds` a sample on top of the device's network,
        empty for the ceilings. All but costs are in percent. Intervals are of Student's t; those of
        shares end at 0 and 100%, beyond which no share is. Lower is better of costs and
        penalties, higher of shares; `saved` is above 0 where the learned rule is better.
    """
    rows = []
    for rule in seeds[0]["rules"]:
        told = [seed["rules"][rule] for seed in seeds]
        added = seeds[0]["multiply_adds"].get(rule)
        row = {"rule": rule, "seeds": len(seeds), "multiply_adds": added}
        for column, values in (
            ("cloud", [own["curve"][0] for own in told]),
            ("local", [own["curve"][-1] for own in told]),
            ("mean_cost", [own["mean_cost"] for own in told]),
            ("saved", _saved(seeds, LEARNED, rule)),
            ("cheap_saved", _saved(seeds, CHEAP, rule)),
            (f"at_{HALF}", [100 * (own["curve"][HALF] / own["curve"][0] - 1) for own in told]),
            *(
                (
                    f"{what}_{100 * penalty:.0f}",
                    [100 * own[f"{what}_{100 * penalty:.0f}"] for own in told],
                )
                for penalty in PENALTIES
                for what in ("share", "penalty")
            ),
        ):
            several = len(values) > 1
            interval = over_seeds(values) if several else Interval(values[0], np.nan, np.nan)
            ends = np.array([interval.low, interval.high])
            low, high = np.clip(ends, 0, 100) if column.startswith("share") else ends
            row |= {column: interval.mean, f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _saved(seeds: Sequence[Mapping[str, Any]], rule: str, other: str) -> list[float]:
    """Return what a rule saves of the mean cost of another, in percent of the cloud's, a seed."""
    pairs = ((seed["rules"][rule], seed["rules"][other]) for seed in seeds)
    return [100 * (b["mean_cost"] - a["mean_cost"]) / b["curve"][0] for a, b in pairs]


def curves_of(seeds: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the mean cost of each rule over seeds, in units of the cloud's, at local fractions."""
    columns = {
        rule: np.mean(
            [np.array(s["rules"][rule]["curve"]) / s["rules"][rule]["curve"][0] for s in seeds], 0
        )
        for rule in seeds[0]["rules"]
    }
    return pd.DataFrame({"local_fraction": FRACTIONS} | columns)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m tune.traffic", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=list(range(10)))
    add("--epochs", type=int, help="of the networks")
    add("--output", type=Path, default=Path("results/traffic"))
    add("--work", type=Path, default=Path("runs/traffic"), help="folder of what networks say")
    add("--traceback", action="store_true", help="show where an error comes from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
