"""The shallow convolution head: accuracy by epoch and by depth, Figures 6 and 7."""

import pandas as pd
from matplotlib.figure import Figure

from figures.paper.curves import draw_epochs, ends
from figures.paper.results import seeds, summarise
from figures.style import TEST_COLOUR, TRAIN_COLOUR, VAL_COLOUR, label, new_figure


def draw_epochs_by_depth(history: pd.DataFrame) -> Figure:
    """Draw the accuracy by epoch, a panel a depth."""
    rules = sorted(set(history["rule"]))
    figure = new_figure(9.0, 6.6)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, rule in zip(panels, rules):
        draw_epochs(axes, history, [rule])
    return figure


def draw_depths(history: pd.DataFrame, rules: pd.DataFrame) -> Figure:
    """Draw what each depth ends at: accuracy on its labels, and what the system makes of it."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    heads = sorted(set(history["rule"]))
    last = history[history["epoch"] == history["epoch"].max()]
    for name, what, colour in (
        ("accuracy", "training", TRAIN_COLOUR),
        ("val_accuracy", "validation", VAL_COLOUR),
    ):
        _draw_line(left, summarise(last, ["rule"], [name]), heads, name, what, colour)
    label(left, "layers a block", "labels of b* right (%)", f"last epoch; {seeds(history)}")
    shown = [*heads, "entropy"]
    audc = summarise(rules[rules["rule"].isin(shown)], ["rule"], ["audc"]).set_index("rule")
    _draw_line(right, audc.loc[heads].reset_index(), heads, "audc", "conv head", TEST_COLOUR)
    right.axhline(100 * audc.loc["entropy", "audc"], color="#0072B2", linestyle="-.")
    right.text(1, 100 * audc.loc["entropy", "audc"], "entropy", va="bottom", fontsize=11)
    label(right, "layers a block", "AUDC on test data (%)", seeds(rules))
    for axes in (left, right):
        axes.set_xticks(range(1, len(heads) + 1))
    left.legend(fontsize=11, frameon=False)
    return figure


def _draw_line(axes, table, heads, value, name, colour):
    table = table.set_index("rule").loc[heads]
    axes.errorbar(
        range(1, len(heads) + 1),
        100 * table[value],
        yerr=ends(table, value),
        color=colour,
        marker="o",
        capsize=3,
        linewidth=1.6,
        label=name,
    )
