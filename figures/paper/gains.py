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
    rows = []
    for heading, (rules, baseline, shown) in groups.items():
        rows.append((f"{heading}, over {baseline}", None))
        gained = gains(rules, baseline).set_index("rule").loc[shown]
        rows += [(name, row) for name, row in gained.iterrows()]
    figure = new_figure(7.0, 0.9 + 0.33 * len(rows))
    axes = figure.subplots()
    for place, (_, row) in enumerate(rows):
        if row is not None:
            axes.errorbar(
                row["gain"],
                place,
                xerr=[[row["gain"] - row["gain_low"]], [row["gain_high"] - row["gain"]]],
                fmt="o",
                color=OTHER_COLOUR,
                capsize=3,
            )
    axes.axvline(0, color="#999999", linewidth=1, zorder=0)
    label(axes, "gain on test data (points of AUDC)", "")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=11)
    for text, (_, row) in zip(axes.get_yticklabels(), rows):
        text.set_fontweight("bold" if row is None else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return figure
