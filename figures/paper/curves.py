"""Accuracy against the share kept local: Figures 2, 3, 8, 10 and 11."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from figures.paper.results import seeds, summarise
from figures.style import colour, dash, label, new_figure

KEPT = "samples kept local (%)"
ACCURACY = "accuracy on test data (%)"
ENDS = ((0.0, "cloud_accuracy"), (1.0, "local_accuracy"))


def draw_decisions(rules: pd.DataFrame, networks: pd.DataFrame, shown: Sequence[str]) -> Figure:
    """Draw accuracy where each rule decides, a point an L0, thresholds of validation data.

    Heads that have died give every sample one score, so that no threshold keeps a share of them:
    they are counted in the title and left out of the means.

    Args:
        rules: Rules of an experiment: one row a rule, L0 and seed.
        networks: Accuracies of both networks of the same, with which every line ends.
        shown: Rules to draw.
    """
    figure = new_figure()
    axes = figure.subplots()
    rules = rules[rules["rule"].isin(shown)]
    dead = rules["realised_local_fraction"] == 0
    rules, told = rules[~dead], f"a head an L0; {seeds(rules)}"
    if dead.any():
        told += f"; dead heads left out: {dead.sum()}"
    test = networks[networks["split"] == "test"].drop_duplicates("seed").set_index("seed")
    for rule in shown:
        rows = rules[rules["rule"] == rule]
        whole = pd.concat([rows, *(_end(test, *end) for end in ENDS)])
        points = summarise(whole, ["local_fraction"], ["realised_local_fraction", "accuracy"])
        points = points.sort_values("local_fraction")
        axes.errorbar(
            100 * points["realised_local_fraction"],
            100 * points["accuracy"],
            yerr=ends(points, "accuracy"),
            color=colour(rule),
            linestyle=dash(rule),
            marker="o",
            markersize=4,
            capsize=2.5,
            linewidth=1.6,
            label=rule,
        )
    label(axes, KEPT, ACCURACY, told)
    axes.legend(fontsize=11, frameon=False)
    return figure


def draw_curves(axes, curves: pd.DataFrame, shown: Sequence[str]) -> None:
    """Draw whole curves, a line a rule and a band where seeds vary.

    Args:
        axes: Matplotlib axes.
        curves: One row a local fraction and seed, a column a rule.
        shown: Rules to draw.
    """
    for rule in shown:
        line = summarise(curves, ["local_fraction"], [rule])
        kept = 100 * line["local_fraction"]
        axes.plot(
            kept,
            100 * line[rule],
            color=colour(rule),
            linestyle=dash(rule),
            linewidth=1.6,
            label=rule,
        )
        axes.fill_between(
            kept,
            100 * line[f"{rule}_low"],
            100 * line[f"{rule}_high"],
            color=colour(rule),
            alpha=0.15,
            linewidth=0,
        )
    label(axes, KEPT, ACCURACY, seeds(curves))
    axes.set_xlim(0, 100)
    axes.legend(fontsize=11, frameon=False, loc="lower left")


def draw_epochs(axes, history: pd.DataFrame, shown: Sequence[str]) -> None:
    """Draw the accuracy of a head's labels by epoch: on training data solid, validation dashed."""
    for rule in shown:
        rows = history[history["rule"] == rule]
        for name, line in (("accuracy", "-"), ("val_accuracy", "--")):
            by_epoch = summarise(rows, ["epoch"], [name])
            what = "training" if name == "accuracy" else "validation"
            axes.plot(
                by_epoch["epoch"],
                100 * by_epoch[name],
                line,
                color=colour(rule),
                linewidth=1.6,
                label=f"{rule}, {what}",
            )
            axes.fill_between(
                by_epoch["epoch"],
                100 * by_epoch[f"{name}_low"],
                100 * by_epoch[f"{name}_high"],
                color=colour(rule),
                alpha=0.15,
                linewidth=0,
            )
    label(axes, "epoch of the head", "labels of b* right (%)", seeds(history))
    axes.legend(fontsize=10, frameon=False)


def draw_curves_and_epochs(curves, history, shown, heads) -> Figure:
    """Draw `draw_curves` of all rules shown beside `draw_epochs` of the heads among them."""
    figure = new_figure(10.5, 4.8)
    left, right = figure.subplots(1, 2)
    draw_curves(left, curves, shown)
    draw_epochs(right, history, heads)
    return figure


def _end(networks: pd.DataFrame, kept: float, accuracy: str) -> pd.DataFrame:
    """Return the decisions that need no rule: all samples sent, or all kept."""
    return pd.DataFrame(
        {
            "seed": networks.index,
            "local_fraction": kept,
            "realised_local_fraction": kept,
            "accuracy": networks[accuracy].to_numpy(),
        }
    )


def ends(points: pd.DataFrame, value: str):
    """Return the lengths of both halves of an interval, in percent."""
    mean = points[value]
    return [100 * (mean - points[f"{value}_low"]), 100 * (points[f"{value}_high"] - mean)]
