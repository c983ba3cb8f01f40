"""Section 7.4.2: where the head and the oracle disagree, in numbers and in images."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.paper.results import seeds, summarise
from figures.style import OTHER_COLOUR, label, new_figure

# Cells of `disagreement` in which the oracle always decides otherwise, or sometimes, in words
CELLS = {
    ("only_local", "sent"): "only local right,\nsent",
    ("only_cloud", "kept"): "only the cloud right,\nkept",
    ("both_right", "sent"): "both right,\nsent",
    ("both_right", "kept"): "both right,\nkept",
    ("both_wrong", "kept"): "both wrong,\nkept",
}
MEANS = {
    "local_entropy": "entropy",
    "local_margin": "margin",
    "p_local_true": "p_local[y]",
    "p_cloud_true": "p_cloud[y]",
    "benefit": "B_k",
}


def draw(cells: pd.DataFrame) -> Figure:
    """Draw how often each disagreement occurs, and its mean measures.

    Args:
        cells: Tables of `disagreement`, one row a class, case, decision and seed.
    """
    every = _disagreeing(cells[cells["class"] == "all"])
    names = [f"{case}/{decision}" for case, decision in CELLS]
    table = summarise(every, ["cell"], ["disagreeing", *MEANS]).set_index("cell").loc[names]
    figure = new_figure(10.0, 4.8)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    places = np.arange(len(names))
    shares = 100 * table["disagreeing"]
    errors = [
        shares - 100 * table["disagreeing_low"],
        100 * table["disagreeing_high"] - shares,
    ]
    bars = left.barh(places, shares, xerr=errors, color=OTHER_COLOUR, error_kw={"capsize": 3})
    left.bar_label(bars, fmt=" %.1f", fontsize=10)
    left.margins(x=0.15)
    label(left, "samples on which they disagree (%)", "", seeds(every))
    left.set_yticks(places, CELLS.values(), fontsize=11)
    left.invert_yaxis()
    left.grid(visible=False, axis="y")
    means = table[list(MEANS)].to_numpy(float)
    right.imshow(means, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    for row, column in np.ndindex(means.shape):
        light = abs(means[row, column]) > 0.7
        text = f"{means[row, column]:.2f}"
        colour = "white" if light else "black"
        right.text(column, row, text, ha="center", va="center", fontsize=11, color=colour)
    right.set_xticks(range(len(MEANS)), MEANS.values(), fontsize=11)
    right.set_yticks([])
    right.set_title("means of all samples of the cell", fontsize=12)
    return figure


def draw_by_class(cells: pd.DataFrame) -> Figure:
    """Draw how often each disagreement occurs in each class; `cells` as for `draw`."""
    classes = _disagreeing(cells[cells["class"] != "all"]).dropna(subset="disagreeing")
    table = summarise(classes, ["class", "cell"], ["disagreeing"])
    wide = 100 * table.pivot(index="class", columns="cell", values="disagreeing")
    wide = wide[[f"{case}/{decision}" for case, decision in CELLS]]
    wide = wide.loc[wide.sum(axis=1).sort_values(ascending=False).index]
    figure = new_figure(9.0, 1.6 + 0.36 * len(wide))
    axes = figure.subplots()
    axes.imshow(wide, cmap="Greys", vmin=0, vmax=1.4 * wide.to_numpy().max(), aspect="auto")
    for (row, column), share in np.ndenumerate(wide.to_numpy()):
        axes.text(column, row, f"{share:.1f}", ha="center", va="center", fontsize=11)
    label(axes, "", "", f"samples of the class on which they disagree (%); {seeds(cells)}")
    axes.set_xticks(range(len(CELLS)), CELLS.values(), fontsize=11)
    axes.set_yticks(range(len(wide)), wide.index, fontsize=11)
    axes.grid(visible=False)
    return figure


def _disagreeing(cells: pd.DataFrame) -> pd.DataFrame:
    share = cells["share"] * (1 - cells["agreeing"] / cells["count"].clip(lower=1))
    return cells.assign(cell=cells["case"] + "/" + cells["decision"], disagreeing=share)


def draw_examples(examples: Mapping[str, np.ndarray]) -> Figure:
    """Draw images of each disagreement, the largest |B_k| first.

    Args:
        examples: "case/decision" → images (k, height, width, channels) uint8.
    """
    most = max(len(images) for images in examples.values())
    figure = new_figure(2.2 + 0.95 * most, 0.4 + 1.05 * len(CELLS))
    grid = figure.subplots(len(CELLS), most, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, (cell, words) in zip(grid, CELLS.items()):
        row[0].text(
            -0.15, 0.5, words, transform=row[0].transAxes, ha="right", va="center", fontsize=11
        )
        for axes, image in zip(row, examples["/".join(cell)]):
            axes.imshow(image.squeeze(), cmap="gray")
    return figure
