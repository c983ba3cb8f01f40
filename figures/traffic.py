"""What local decisions about resources cost: mean cost against the share that stays local."""

import pandas as pd
from matplotlib.figure import Figure

from figures.style import OTHER_COLOUR, colour, dash, label, new_figure

NAMES = {
    "head_of_window": "head, of the window",
    "head_of_quantiles": "head, of the quantiles",
    "mc_dropout": "Monte-Carlo dropout",
    "ensemble": "ensemble of two",
    "best_of_device": "best that sees the device",
}
COLOURS = {
    "width": "#0072B2",
    "learned": "#332288",
    "head_of_window": OTHER_COLOUR,
    "head_of_quantiles": "#CC79A7",
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
    highest = 100 * (curves[rules].iloc[-1].max() - 1.0)
    left.set_ylim(-0.6 * highest, 1.1 * highest)
    label(left, "decisions that stay local (%)", "mean cost above the cloud's (%)")
    lowest = 100 * (curves["oracle"].min() - 1.0)
    left.set_title(f"lower is better; the oracle goes down to {lowest:.0f}%", fontsize=11)
    left.legend(frameon=False, fontsize=10, loc="lower center")

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
