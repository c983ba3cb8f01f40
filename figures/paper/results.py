"""What the experiments of the paper have kept, joined over seeds."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from keras_ddnn.evaluation.statistics import over_seeds


def read(folder: Path, experiment: str, table: str) -> pd.DataFrame:
    """Return a table of an experiment, with a column "seed".

    Raises:
        FileNotFoundError: If no seed has left it.
    """
    paths = sorted((Path(folder) / experiment).glob(f"seed*/{table}.csv"))
    if not paths:
        raise FileNotFoundError(f"no {table}.csv of the experiment {experiment!r}")
    seeds = {int(path.parent.name.removeprefix("seed")): path for path in paths}
    return pd.concat(pd.read_csv(path).assign(seed=seed) for seed, path in sorted(seeds.items()))


def summarise(table: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Return means over seeds with 95% t intervals.

    Args:
        table: With a column "seed" and one row a seed in each group.
        by: Columns that make a group.
        values: Columns to summarise.

    Returns:
        One row a group, in the order of the table: `by`, "seeds", and of each value its mean under
        its own name, "_low" and "_high", which are the mean where there is one seed alone.
    """
    rows = []
    for group, part in table.groupby(list(by), sort=False):
        row = dict(zip(by, group)) | {"seeds": len(part)}
        for value in values:
            numbers = part[value].to_numpy(float)
            row[value] = row[f"{value}_low"] = row[f"{value}_high"] = numbers.mean()
            if len(numbers) > 1:
                interval = over_seeds(numbers)
                row |= {f"{value}_low": interval.low, f"{value}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def gains(table: pd.DataFrame, baseline: str, value: str = "audc") -> pd.DataFrame:
    """Return how much more each rule has of a value than a baseline, paired by seed.

    Args:
        table: One row a rule and seed.
        baseline: A rule of the table.
        value: Its column.

    Returns:
        `summarise` of "gain", a row a rule, in points if the value is a share.
    """
    wide = table.pivot(index="seed", columns="rule", values=value)
    wide = wide[list(dict.fromkeys(table["rule"]))]
    gained = 100 * wide.sub(wide[baseline], axis=0)
    long = gained.melt(ignore_index=False, value_name="gain").reset_index()
    return summarise(long, ["rule"], ["gain"])


def seeds(table: pd.DataFrame) -> str:
    """Return in words how many seeds a table has."""
    count = table["seed"].nunique()
    return f"{count} seeds, 95% intervals" if count > 1 else "1 seed"
