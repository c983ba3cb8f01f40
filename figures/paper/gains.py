"""The future work of the paper: what each proposal gains, in points of AUDC."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from figures.paper.results import gains
from figures.style import OTHER_COLOUR, label, new_figure


def draw(groups: Mapping[str, tuple[pd.DataFrame, str, list[str]]]) -> Figure:
    """Draw gains with their intervals, a block of rows a group.

    Args:
        groups: Heading → (one row a rule and seed, the baseline among them, the rules to show).
    """
    tables = {
        f"{heading}, over {baseline}": gains(rules, baseline).set_index("rule").loc[shown]
        for heading, (rules, baseline, shown) in groups.items()
    }
    heights = [len(table) + 1 for table in tables.values()]
    figure = new_figure(7.0, 1.0 + 0.5 * len(tables) + 0.3 * sum(heights))
    # A scale a group: the worst of one would hide what the others differ by.
    panels = figure.subplots(len(tables), height_ratios=heights, squeeze=False).flat
    for axes, (heading, table) in zip(panels, tables.items()):
        axes.errorbar(
            table["gain"],
            range(len(table)),
            xerr=[table["gain"] - table["gain_low"], table["gain_high"] - table["gain"]],
            fmt="o",
            color=OTHER_COLOUR,
            capsize=3,
        )
        axes.axvline(0, color="#999999", linewidth=1, zorder=0)
        label(axes, "", "", heading)
        axes.set_yticks(range(len(table)), table.index, fontsize=11)
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    axes.set_xlabel("gain on test data (points of AUDC)", fontsize=12)
    return figure
