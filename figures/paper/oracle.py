"""Figure 12: noise and border of the labels, accuracy and local share of the oracle."""

import pandas as pd
from matplotlib.figure import Figure

from figures.paper.curves import ends
from figures.paper.results import seeds, summarise
from figures.style import TEST_COLOUR, TRAIN_COLOUR, VAL_COLOUR, label, new_figure

SPLITS = {
    "train": ("training", TRAIN_COLOUR),
    "val": ("validation", VAL_COLOUR),
    "test": ("test", TEST_COLOUR),
}
SHARES = {
    "border": "border:\n|B_k| < 0.01",
    "oracle_accuracy": "oracle's\naccuracy",
    "oracle_local_fraction": "kept local\nby the oracle",
}


def draw(networks: pd.DataFrame) -> Figure:
    """Draw the noise of b* over L0, and what does not depend on L0, by split.

    Args:
        networks: One row a split, L0 and seed.
    """
    figure = new_figure(9.0, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    for place, (split, (name, colour)) in enumerate(SPLITS.items()):
        rows = networks[networks["split"] == split]
        noise = summarise(rows, ["local_fraction"], ["noise"]).sort_values("local_fraction")
        left.errorbar(
            100 * noise["local_fraction"],
            100 * noise["noise"],
            yerr=ends(noise, "noise"),
            color=colour,
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.6,
            label=name,
        )
        once = rows.drop_duplicates("seed").assign(all="")
        shares = summarise(once, ["all"], list(SHARES)).iloc[0]
        bars = right.bar(
            [x + (place - 1) * 0.27 for x in range(len(SHARES))],
            [100 * shares[value] for value in SHARES],
            width=0.25,
            color=colour,
            yerr=[
                [100 * (shares[v] - shares[f"{v}_low"]) for v in SHARES],
                [100 * (shares[f"{v}_high"] - shares[v]) for v in SHARES],
            ],
            error_kw={"ecolor": "#777777", "capsize": 3},
            label=name,
        )
        right.bar_label(bars, fmt="%.1f", fontsize=10)
    label(left, "share labelled easy, L0 (%)", "labels of b* against the oracle (%)", "noise")
    label(right, "", "share of samples (%)", seeds(networks))
    right.set_xticks(range(len(SHARES)), SHARES.values(), fontsize=11)
    right.grid(visible=False, axis="x")
    left.legend(fontsize=11, frameon=False)
    return figure
