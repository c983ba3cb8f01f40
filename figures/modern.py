"""What networks of today reach: accuracy against the device's multiply-adds, and bytes sent."""

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from figures.style import label, new_figure

# Of pairs, in their order in the table; with more of them the colours begin again.
COLOURS = (
    *("#999999", "#0072B2", "#009E73", "#D55E00", "#CC79A7"),
    *("#E69F00", "#56B4E9", "#000000", "#882255", "#44AA99", "#332288"),
)
# Pairs that are drawn along the share kept local, where they are → colours and words.
SHARES = {
    "modern_small-distilled+modern_ensemble": (
        "#009E73",
        "taught small device, two deep networks in the cloud",
    ),
    "modern_small-distilled+modern_deep": (
        "#0072B2",
        "taught small device, a deep network in the cloud",
    ),
    "modern_tiny+modern_deep": ("#D55E00", "tiny device, a deep network in the cloud"),
    "strong": ("#999999", "the paper's network, by our best recipe"),
}
SHOWN = (0.5, 0.7, 0.8, 1.0)  # local fractions of the left panel


def draw(table: pd.DataFrame) -> Figure:
    """Draw the `pareto.csv` of `tune.modern`: a line a pair, along rising local fractions.

    Filled points have no other with more accuracy for as little, on the left at their local
    fraction.
    """
    figure = new_figure(10.0, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for colour, (name, rows) in zip(cycle(COLOURS), table.groupby("pair", sort=False)):
        few = rows[rows["local_fraction"].isin(SHOWN)]
        _line(left, few["device_multiply_adds"] / 1e6, few, "of_multiply_adds", colour, name)
        _line(right, rows["bytes"] / 1e3, rows, "of_bytes", colour, name)
    left.set_xscale("log")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(NullFormatter())
    right.set_xscale("symlog", linthresh=0.1)  # nothing is sent at the left end
    right.set_xlim(-0.01, 1.3e-3 * table["bytes"].max())
    right.set_xticks(ticks := (0, 0.1, 1, 10), [f"{tick:g}" for tick in ticks])
    label(left, "multiply-adds of the device (millions)", "accuracy (%), test data")
    label(right, "mean bytes sent of a sample (kB)", "")
    kept = ", ".join(f"{fraction:.0%}" for fraction in SHOWN)
    left.set_title(f"from above: {kept} kept local", fontsize=10)
    right.set_title("from the right: 0% to 100% kept local", fontsize=10)
    marks = right.get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def draw_shares(table: pd.DataFrame) -> Figure:
    """Draw the `accuracies.csv` of `tune.modern`: the pairs of `SHARES`, or else all there are."""
    pairs = dict(zip(table["pair"], zip(cycle(COLOURS), table["pair"])))
    figure = new_figure(7.0, 4.4)
    axes = figure.subplots()
    for name, (colour, words) in ({n: SHARES[n] for n in SHARES if n in pairs} or pairs).items():
        rows = table[table["pair"] == name]
        axes.plot(100 * rows["local_fraction"], rows["accuracy"], c=colour, lw=2, label=words)
    label(axes, "samples kept local (%)", "accuracy (%), test data")
    axes.legend(frameon=False, fontsize=10, loc="lower left")
    axes.margins(x=0.01)
    return figure


def _line(
    axes: Axes, x: pd.Series, rows: pd.DataFrame, column: str, colour: str, name: str
) -> None:
    y, best = rows["accuracy"], rows[column].astype(bool)
    axes.plot(x, y, "-", c=colour, lw=1.2, label=name)
    axes.plot(x[~best], y[~best], "o", ms=5, c=colour, mfc="white")
    axes.plot(x[best], y[best], "o", ms=6, c=colour)
    axes.margins(x=0.08, y=0.08)
