"""What the tables of `tune.cameras` say to the claims of `docs/cameras.md`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from figures.cameras import KNOWS, LONG, MEAN, NETWORKS, PLAIN, SCHEMES, TIERS, read_table

BARS = {  # bar of `bars.csv` -> claim of the page, unit
    "over_best": ("over the best camera alone", " points"),
    "over_trained_on_others": ("one camera fails, over a network of the others", " points"),
    "gain_kept": ("one camera fails, share kept of the gain", "%"),
}
EXITS = {"local": "local exit", "system": "overall over the local exit", "overall": "overall"}
MET = (PLAIN, KNOWS, MEAN, LONG)  # networks that meet a camera that fails
LIKE_THE_PAPER = "max-concatenation, trained on the others"
OF_THE_PAPER = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # thresholds of its authors' files
ONE = " (1 seed)"


def say(results: Path) -> dict[str, str]:
    """Return what the tables of `tune.cameras` say to the claims of `docs/cameras.md`.

    Args:
        results: Folder of results; of tables that are not there nothing is said.

    Returns:
        Claim → our figures, means over seeds with 95% t intervals.
    """
    said: dict[str, str] = {}
    for name, of_table in SAYS.items():
        if len(table := read_table(results, name)):
            said |= of_table(table)
    return {claim: _once(text) for claim, text in said.items()}


def _once(text: str) -> str:
    """Say once that there is one seed, where none of several values has an interval."""
    several = text.count(ONE) > 1 and " … " not in text
    return text.replace(ONE, "") + ONE if several else text


def _value(row: Mapping, column: str, digits: int = 1, unit: str = "%", sign: str = "") -> str:
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    ends = f" ({low:.{digits}f} … {high:.{digits}f})" if low == low else ONE
    return f"{row[column]:{sign}.{digits}f}{unit}{ends}"


def _each(rows: pd.DataFrame, column: str, names: Sequence[str]) -> str:
    told = zip(names, rows.to_dict("records"), strict=True)
    return "; ".join(f"{name}: {_value(row, column)}" for name, row in told)


def _say_aggregation(table: pd.DataFrame) -> dict[str, str]:
    said = {}
    for end, column in (("cloud", "overall"), ("local", "local")):
        scheme = f"{end}_scheme"
        ranges = (
            f"{name}: {table.loc[table[scheme] == name, column].min():.1f} to "
            f"{table.loc[table[scheme] == name, column].max():.1f}%"
            for name in SCHEMES
            if name in set(table[scheme])
        )
        said[f"{TIERS[column].partition(',')[0]}, by aggregation"] = "; ".join(ranges)
    usual = (table["local_scheme"] == "max") & (table["cloud_scheme"] == "concatenation")
    for row in table[usual].to_dict("records"):
        values = "; ".join(_value(row, column) for column in ("local", "cloud"))
        said["accuracy of local exit; of cloud"] = values
        parts = _value(row, "local_percent"), _value(row, "overall"), _value(row, "bytes", 0, " B")
        said["best threshold"] = "; ".join(parts)
    return said


def _say_thresholds(table: pd.DataFrame) -> dict[str, str]:
    said = {}
    for row in table.to_dict("records"):
        if row["threshold"] in OF_THE_PAPER:
            parts = (_value(row, name) for name in ("local_percent", "accuracy"))
            said[f"T = {row['threshold']:.1f}"] = "; ".join((*parts, _value(row, "bytes", 0, " B")))
    ends = table.iloc[[0, -1]]
    times = ends["frame_bytes"] / ends["bytes"]
    said["frame against messages"] = "; ".join(
        f"{ratio:.1f} times at T = {at:g}" for ratio, at in zip(times, ends["threshold"])
    )
    return said


def _say_added(table: pd.DataFrame) -> dict[str, str]:
    said = {}
    alone = table[table["kind"] == "alone"].sort_values("local")
    if len(alone):
        names = [f"camera {camera}" for camera in alone["cameras"]]
        said["each camera alone, local exit"] = _each(alone, "local", names)
        said["each camera alone, overall"] = _each(alone, "overall", names)
    grown = table[table["kind"] == "added"]
    for tier in TIERS if len(grown) else ():
        said[f"cameras added, {TIERS[tier].partition(',')[0]}"] = _each(
            grown, tier, [*grown["cameras"]]
        )
    return said


def _say_failing(table: pd.DataFrame) -> dict[str, str]:
    said = {}
    for network, (trained, *_) in NETWORKS.items():
        rows = table[table["network"] == network]
        # The paper tells of a cloud alone, too: of the networks that may be of the same kind.
        tiers = [t for t in TIERS if t != "cloud" or network == LIKE_THE_PAPER]
        for tier in tiers if len(rows) else ():
            claim = f"one camera fails, {trained}: {TIERS[tier].partition(',')[0]}"
            said[claim] = _each(rows, tier, [f"camera {camera}" for camera in rows["failed"]])
    return said


def _say_missing(table: pd.DataFrame) -> dict[str, str]:
    said = {}
    two = table[(table["missing"] == 2) & table["network"].isin(MET)]
    for network, rows in two.groupby("network"):
        worst = rows.loc[rows["overall"].idxmin()]
        text = (
            f"mean of {len(rows)} pairs {rows['overall'].mean():.1f}%; worst, {worst['absent']}: "
        )
        said[f"two cameras fail, {NETWORKS[network][0]}: overall"] = text + _value(worst, "overall")
    return said


def _say_bars(table: pd.DataFrame) -> dict[str, str]:
    said = {}
    told = table[table["network"].isin(MET)]
    for (bar, exit, network), rows in told.groupby(["bar", "exit", "network"]):
        claim, unit = BARS[bar]
        said[f"{claim}, {NETWORKS[network][0]}: {EXITS[exit]}"] = "; ".join(_held(rows, unit))
    return said


def _held(rows: pd.DataFrame, unit: str) -> Iterator[str]:
    """Say a bar and whether it is met: with its whole interval, or missed so.

    Of several cameras that fail it is the mean; that of the worst follows.
    """
    each = rows[~rows["failed"].isin(["mean", "none"])]
    for row in rows[rows["failed"].isin(["mean", "none"])].to_dict("records"):
        verdict = "open"
        if row["value_low"] >= row["needed"]:
            verdict = "met"
        elif row["value_high"] < row["needed"]:
            verdict = "missed"
        yield f"{_change(row, unit)}, {verdict}"
    if len(each):
        worst = each.loc[each["value"].idxmin()].to_dict()
        yield f"worst, camera {worst['failed']}: {_change(worst, unit)}"


def _change(row: Mapping, unit: str) -> str:
    return _value(row, "value", 1, unit, "" if unit == "%" else "+")


SAYS: dict[str, Callable[[pd.DataFrame], dict[str, str]]] = {
    "aggregation": _say_aggregation,
    "thresholds": _say_thresholds,
    "added": _say_added,
    "failing": _say_failing,
    "missing": _say_missing,
    "bars": _say_bars,
}
