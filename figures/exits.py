"""What exits save: accuracy, or mean cost, against the mean multiply-adds of a sample."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from figures.style import label, new_figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = "os^Dvph"
TOLD = {"accuracy": 100, "cost": 1}  # of a plan, and its factor; see `Measure`
SHOWN = ("logit_head", "margin")  # the learned rule and the plain one


def draw(plans: pd.DataFrame, shown: Sequence[str] = SHOWN, unit: str = "multiply-adds") -> Figure:
    """Draw the `plans.csv` of `tune.exits` or of a search: a line a chain and rule.

    Args:
        plans: See `compare_plans`, with the name of each network in `chain`. Means over seeds are
            drawn where there are several.
        shown: Rules, those that are learned in full lines; the last is a plain one.
        unit: What prices are counted in.
    """
    scale, of = (1e6, " (millions)") if plans["price"].max() >= 1e6 else (1, "")
    told, percent = next((name, f) for name, f in TOLD.items() if name in plans)
    figure = new_figure(8.0, 4.8)
    axes = figure.subplots()
    for colour, (chain, rows) in zip(COLOURS, plans.groupby("chain", sort=False)):
        name = chain.replace("modern_", "").replace("+", " → ")
        for marker, rule in zip(MARKERS, shown):
            mean = rows[rows["rule"] == rule].groupby("budget")[["price", told]].mean()
            label_of = f"{name}, {rule.replace('_', ' ')}"
            x, y = mean["price"] / scale, percent * mean[told]
            dash = "--" if rule == shown[-1] else "-"
            axes.plot(x, y, marker + dash, ms=3.5, lw=1.4, c=colour, label=label_of)
    alone = plans[plans["rule"].str.startswith("exit ")]
    last = alone[alone["rule"] == "exit cloud"].groupby("chain", sort=False)[told].mean()
    best = last.max() if told == "accuracy" else last.min()
    axes.axhline(percent * best, c="#888888", lw=1, ls=":")
    axes.set_xscale("log")
    title = "dotted: the last network alone"
    y_label = "accuracy (%), test data" if told == "accuracy" else "mean cost, lower is better"
    label(axes, f"mean {unit} of a sample{of}", y_label, title)
    axes.legend(frameon=False, fontsize=9)
    return figure
