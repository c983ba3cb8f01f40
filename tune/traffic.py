"""How many decisions about resources stay local, at what cost: `python -m tune.traffic`.

The question of Spyropoulos et al. (2022, 2025): a device predicts the traffic of a radio cell with
a small network, a cloud with a large one, and a rule says which predictions are worth asking for.
Each seed draws the traffic of `cell_traffic`, trains both networks and the heads, and leaves a
small file, so that a later run adds to them. The cost is ours: theirs is not public.

All rules rank the same decisions of the same two networks. Monte-Carlo dropout and the second
member of the ensemble are device networks trained beside them, which rank and do not answer.
`best_of_device` is as near as we get to the best rule that sees what a device sees: trees on B_k of
more series of the same kind than any user has. `oracle` also sees the truth.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import threshold_for_fraction
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import Interval, over_seeds
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.files.notices import CommandParser
from keras_ddnn.rules.confidence import offloads, untrained_rules
from keras_ddnn.tasks.regression import Regression
from tune.study import run_study

if TYPE_CHECKING:
    from keras_ddnn.training.fit import FittedDDNN

# In units of the mean traffic of a cell: what is provided and not used costs 1 a unit; what is
# missing 4 a unit, and an agreement that is broken 0.5.
TASK = Regression(over=1.0, under=4.0, penalty=0.5, quantiles=(0.1, 0.5, 0.9), level=0.9)
DEVICE, CLOUD = "tcn_small", "tcn_large"
THINNED = "tcn_small_dropout"  # the device network for Monte-Carlo dropout
PASSES = 20
MEMBER_SEEDS = 10_000  # added to the seed of what ranks and does not answer
MORE = 2  # series that `best_of_device` learns from
TRAINING = {"epochs": 20, "batch_size": 256, "learning_rate": 3e-3, "schedule": "one_cycle"}
LENGTH = 24  # hours of a window
LEARNED = "learned"  # the better head on validation data
HEADS = {
    "head_of_window": HeadConfig(input="features", depth=2, target="benefit", cost=TASK.reported),
    "head_of_quantiles": HeadConfig(input="logits", target="benefit", cost=TASK.reported),
}
CEILINGS = ("best_of_device", "oracle")
RULES = ("random", "width", "mc_dropout", "ensemble", *HEADS, LEARNED, *CEILINGS)
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
            write_json(path, run_seed(seed, options.epochs))
            print(f"seed {seed} done", flush=True)
    seeds = [json.loads(path.read_text()) for path in sorted(options.output.glob("seed*.json"))]
    for name, table in (("table", table_of(seeds)), ("curves", curves_of(seeds))):
        with replacing_file(options.output / f"{name}.csv") as file:
            table.to_csv(file, index=False, float_format="%.6g")


def settings(seed: int, epochs: int | None = None) -> dict[str, Any]:
    """Return what a seed is run with, as plain JSON; see `run_seed`."""
    training = TRAINING | {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    task = asdict(TASK) | {"quantiles": list(TASK.quantiles)}
    return {"task": task, "training": training, "told": list(RULES)}


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


def run_seed(seed: int, epochs: int | None = None) -> dict[str, Any]:
    """Train the networks and the heads of a seed, and return what each rule costs on test data.

    Args:
        seed: Of the traffic, the networks and the heads.
        epochs: Of the networks; those of the study by default.
    """
    import keras

    from keras_ddnn.data.series.load import load_series
    from keras_ddnn.heads.ensemble import Ensemble
    from keras_ddnn.heads.fit import fit_head
    from keras_ddnn.heads.mc_dropout import MCDropout
    from keras_ddnn.networks.architectures.named_models import named_model
    from keras_ddnn.networks.compose import chain
    from keras_ddnn.networks.costs.model_costs import multiply_adds
    from keras_ddnn.training.capture import capture
    from keras_ddnn.training.fit import fit_ddnn

    run_with = settings(seed, epochs)
    splits = load_series("cell_traffic", length=LENGTH, seed=seed)
    shape, outputs = splits.train.images.shape[1:], len(TASK.quantiles)

    def trained(local: str, cloud: str, seed: int) -> tuple["FittedDDNN", dict[str, int]]:
        models = {
            tier: named_model(name, shape, outputs, seed)
            for tier, name in (("local", local), ("cloud", cloud))
        }
        options = run_with["training"] | {"seed": seed}
        network = chain(models, task=TASK)
        fitted = fit_ddnn(splits.train, splits.val, network=network, verbose=0, **options)
        return fitted, {tier: multiply_adds(model) for tier, model in models.items()}

    fitted, costs = trained(DEVICE, CLOUD, seed)
    val, test = fitted.val_bank, fitted.capture(splits.test)
    heads = {name: fit_head(fitted, head) for name, head in HEADS.items()}
    # Two device networks that rank and do not answer; neither reads what the other says.
    members, _ = trained(THINNED, DEVICE, seed + MEMBER_SEEDS)
    second = keras.Model(members.model.input, members.model.output["cloud"])
    rules = {
        **untrained_rules(TASK),
        "mc_dropout": MCDropout(members.cascade, PASSES, "deviation", seed),
        "ensemble": Ensemble([second], "deviation"),
        **heads,
    }
    scores = {name: [rule.score(bank.edge) for bank in (val, test)] for name, rule in rules.items()}
    best = min(HEADS, key=lambda name: OffloadCurve.from_scores(scores[name][0], val).area)
    scores[LEARNED] = scores[best]
    others = [
        capture(fitted.cascade, np.asarray(part.images), part.labels)
        for number in range(MORE)
        for drawn in [load_series("cell_traffic", length=LENGTH, seed=_other(seed, number))]
        for part in (drawn.train, drawn.val, drawn.test)
    ]
    scores["best_of_device"] = best_of_device(others, [val, test])
    scores["oracle"] = [oracle_scores(bank) for bank in (val, test)]
    added = {name: rule.multiply_adds for name, rule in rules.items()}
    added[LEARNED] = added[best]
    return run_with | {
        "samples": {part: len(getattr(splits, part)) for part in ("train", "val", "test")},
        "multiply_adds": costs | added,
        "train_costs": fitted.bank.costs().mean(axis=0).tolist(),
        "best_head": best,
        "rules": {name: _told(*scores[name], val, test) for name in RULES},
    }


def best_of_device(others: Sequence[Bank], banks: Sequence[Bank]) -> list[np.ndarray]:
    """Return scores of trees that have learned B_k from what a device sees of other samples.

    Args:
        others: Samples to learn from, which trained no network.
        banks: Samples to score.

    Returns:
        The B_k that is expected of each sample, float64 (n,) a bank: an estimate, so that the best
        rule may be a little better than this one.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    def seen(bank: Bank) -> np.ndarray:
        windows = np.asarray(bank.edge.inputs)
        # The traffic of all steps, the clock of the last, and what the device predicts.
        return np.hstack([windows[:, :, 0], windows[:, -1, 1:], bank.edge.outputs])

    trees = HistGradientBoostingRegressor(early_stopping=True, random_state=0)
    trees.fit(
        np.concatenate([seen(bank) for bank in others]),
        np.concatenate([bank.stay - bank.go for bank in others]),
    )
    return [trees.predict(seen(bank)) for bank in banks]


def _other(seed: int, number: int) -> int:
    """Return the seed of a series that belongs to no seed of the study."""
    return 1_000_000 + MORE * seed + number


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
        `mean_cost` over local fractions; what the learned rule saves of it (`saved`), in percent of
        the cloud's cost, paired by seed; the penalty with half of the decisions local (`at_50`);
        and for each penalty that validation data foresee, the share that stays local and the
        penalty that this has on test data; `multiply_adds` a sample on top of the device's network,
        empty for the ceilings. All but costs are in percent. Lower is better of costs and
        penalties, higher of shares; `saved` is above 0 where the learned rule is better.
    """
    rows = []
    for rule in seeds[0]["rules"]:
        told = [seed["rules"][rule] for seed in seeds]
        saved = [
            100 * (own["mean_cost"] - seed["rules"][LEARNED]["mean_cost"]) / own["curve"][0]
            for own, seed in zip(told, seeds)
        ]
        added = seeds[0]["multiply_adds"].get(rule)
        row = {"rule": rule, "seeds": len(seeds), "multiply_adds": added}
        for column, values in (
            ("cloud", [own["curve"][0] for own in told]),
            ("local", [own["curve"][-1] for own in told]),
            ("mean_cost", [own["mean_cost"] for own in told]),
            ("saved", saved),
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
            row |= {column: interval.mean, f"{column}_low": interval.low}
            row[f"{column}_high"] = interval.high
        rows.append(row)
    return pd.DataFrame(rows)


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
    add("--traceback", action="store_true", help="show where an error comes from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
