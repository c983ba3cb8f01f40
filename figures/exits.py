"""What exits save: accuracy against the mean multiply-adds of a sample."""

import pandas as pd
from matplotlib.figure import Figure

from figures.style import label, new_figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
SHOWN = ("margin", "logit_head")  # the plain rule and the learned one
DASHES = {"margin": "--", "logit_head": "-"}


def draw(plans: pd.DataFrame) -> Figure:
    """Draw the `plans.csv` of `tune.exits`: a line a chain and rule, means over seeds."""
    figure = new_figure(8.0, 4.8)
    axes = figure.subplots()
    for colour, (chain, rows) in zip(COLOURS, plans.groupby("chain", sort=False)):
        name = chain.replace("modern_", "").replace("+", " → ")
        for rule in SHOWN:
            mean = rows[rows["rule"] == rule].groupby("budget")[["price", "accuracy"]].mean()
            label_of = f"{name}, {rule.replace('_', ' ')}"
            x, y = mean["price"] / 1e6, 100 * mean["accuracy"]
            axes.plot(x, y, "o" + DASHES[rule], ms=3.5, lw=1.4, c=colour, label=label_of)
    alone = plans[plans["rule"].str.startswith("exit ")]
    last = alone[alone["rule"] == "exit cloud"].groupby("chain", sort=False)["accuracy"].mean()
    axes.axhline(100 * last.max(), c="#888888", lw=1, ls=":")
    axes.set_xscale("log")
    title = "dotted: the last network alone"
    label(axes, "mean multiply-adds of a sample (millions)", "accuracy (%), test data", title)
    axes.legend(frameon=False, fontsize=9)
    return figure
