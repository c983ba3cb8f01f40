"""What local decisions about resources cost: mean cost against the share that stays local."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from figures.style import OTHER_COLOUR, colour, dash, label, new_figure

NAMES = {
    "head_of_window": "head, of the window",
    "head_of_quantiles": "head, of the quantiles",
    "head_of_truth": "the same, taught by the truth",
    "trees": "boosted trees",
    "learned_of_two": "trees, of two networks",
    "mc_dropout": "Monte-Carlo dropout",
    "ensemble": "ensemble of two",
    "best_of_device": "best that sees the device",
}
COLOURS = {
    "width": "#0072B2",
    "learned": "#332288",
    "head_of_window": OTHER_COLOUR,
    "head_of_quantiles": "#CC79A7",
    "head_of_truth": "#661100",
    "trees": "#B8A800",
    "learned_of_two": "#56B4E9",
    "mc_dropout": "#D55E00",
    "ensemble": "#E69F00",
    "best_of_device": "#44AA99",
}


def draw(curves: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the `curves.csv` and `table.csv` of `tune.traffic`: lower is better."""
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    rules = [name for name in curves if name != "local_fraction"]
    for rule in rules:
        shown = 100 * (curves[rule] - 1.0)
        style = {"c": COLOURS.get(rule, colour(rule)), "ls": dash(rule), "lw": 1.8}
        left.plot(100 * curves["local_fraction"], shown, label=NAMES.get(rule, rule), **style)
    left.axhline(0.0, c="#BBBBBB", lw=1)
    seen = 100 * (curves[[rule for rule in rules if rule != "oracle"]] - 1.0)
    left.set_ylim(1.1 * min(seen.min().min(), 0.0), 1.1 * seen.max().max())
    label(left, "decisions that stay local (%)", "mean cost above the cloud's (%)")
    lowest = 100 * (curves["oracle"].min() - 1.0)
    left.set_title(f"lower is better; the oracle goes down to {lowest:.0f}%", fontsize=11)
    marks = left.get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=5, frameon=False, fontsize=9)

    told = table[~table["rule"].isin(["learned", "oracle"])].iloc[::-1]
    middle = told["saved"]
    ends = [middle - told["saved_low"], told["saved_high"] - middle]
    places = range(len(told))
    for place, rule in zip(places, told["rule"]):
        style = {"c": COLOURS.get(rule, colour(rule)), "capsize": 3}
        error = [[float(end.iloc[place])] for end in ends]
        right.errorbar(float(middle.iloc[place]), place, xerr=error, fmt="o", **style)
    right.axvline(0.0, c="#BBBBBB", lw=1)
    right.set_yticks(places, [NAMES.get(rule, rule) for rule in told["rule"]])
    label(right, "cost saved by the learned rule (%)", "")
    right.set_title("over the curve, against …, 95% over seeds", fontsize=11)
    return figure


PENALTIES = (1, 2, 5)  # percent of the cloud's mean cost
RIVALS = ("random", "width", "mc_dropout", "ensemble")


def say(results: Path) -> dict[str, str]:
    """Return what a `table.csv` of `tune.traffic` says to the claims of `docs/traffic.md`.

    Args:
        results: Folder of results; of others nothing is said.

    Returns:
        Claim → our figures, means over seeds with 95% t intervals.
    """
    path = results / "table.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame({"rule": []})
    if "share_1" not in table:
        return {}
    rows = table.set_index("rule").to_dict("index")
    said = {f"learned over {rival}": _saved(rows[rival]) for rival in RIVALS}
    for claim, rule in (
        ("local share", "learned"),
        ("local share by dropout", "mc_dropout"),
        ("local share at the ceiling of a device", "best_of_device"),
        ("local share of the oracle", "oracle"),
    ):
        said[claim] = _shares(rows[rule])
    said["learned over head of truth"] = _saved(rows["head_of_truth"])
    for claim, rule in (
        ("trees over learned", "trees"),
        ("learned of two over learned", "learned_of_two"),
        ("ceiling of a device over learned", "best_of_device"),
        ("oracle over learned", "oracle"),
    ):
        said[claim] = _saved(rows[rule], -1)
    said["head of quantiles over ensemble"] = _saved(rows["ensemble"], column="cheap_saved")
    return said


def _shares(row: Mapping[str, float]) -> str:
    parts = (
        f"{row[f'share_{p}']:.0f}% {_interval(row, f'share_{p}', 1, 0)} for {p}%, which is "
        f"{row[f'penalty_{p}']:.1f}% on test data"
        for p in PENALTIES
    )
    return "; ".join(parts)


def _saved(row: Mapping[str, float], sign: int = 1, column: str = "saved") -> str:
    return f"{sign * row[column]:+.2f}% {_interval(row, column, sign, 2)}"


def _interval(row: Mapping[str, float], column: str, sign: int, digits: int) -> str:
    low, high = sorted(sign * row[f"{column}_{end}"] for end in ("low", "high"))
    return f"({low:.{digits}f} … {high:.{digits}f})" if low == low else "(1 seed)"
