"""What labels are worth: gain of every label source and head input over the margin rule."""

import pandas as pd
from matplotlib.figure import Figure

from figures.style import colour, new_figure

BASELINE = "margin"
LINEAR = 0.2  # the scale is linear up to here and logarithmic beyond
TICKS = (-3, -1, -0.3, -0.1, 0, 0.1, 0.3)


def draw(table: pd.DataFrame) -> Figure:
    """Draw the table of the study of label sources, a panel a preset.

    Args:
        table: Table in the form of `results/honest_labels/table.csv`; rules of the form
            "source/input" are drawn.
    """
    heads = table[table["rule"].str.count("/") == 1].copy()
    heads[["source", "input"]] = heads["rule"].str.split("/", expand=True)
    presets = list(dict.fromkeys(heads["preset"]))
    figure = new_figure(5.0 * len(presets))
    panels = figure.subplots(1, len(presets), sharey=True, squeeze=False)[0]
    for axes, preset in zip(panels, presets):
        _draw_panel(axes, heads[heads["preset"] == preset], preset)
    names = panels[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=4, frameon=False, fontsize=11)
    return figure


def _draw_panel(axes, heads, preset):
    sources, inputs = (list(dict.fromkeys(heads[name])) for name in ("source", "input"))
    step = 0.7 / len(inputs)
    for place, name in enumerate(inputs):
        rows = heads[heads["input"] == name].set_index("source").loc[sources]
        gain, low, high = (
            rows.get(column, rows[BASELINE]).to_numpy(float)  # one seed alone has no interval
            for column in (BASELINE, f"{BASELINE}_low", f"{BASELINE}_high")
        )
        axes.errorbar(
            gain,
            [row + (place - (len(inputs) - 1) / 2) * step for row in range(len(sources))],
            xerr=[gain - low, high - gain],
            fmt="o",
            markersize=5,
            capsize=3,
            color=colour(name),
            label=name,
        )
    axes.axvline(0, color="#999999", linewidth=1, zorder=0)
    axes.set_yticks(range(len(sources)), sources, fontsize=11)
    axes.set_ylim(len(sources) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=LINEAR)  # harm is tenfold what help is
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"gain over {BASELINE} (points of AUDC)", fontsize=11)
    fewest, most = heads["seeds"].min(), heads["seeds"].max()
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    alone = "" if fewest > 1 else "; without an interval: 1 seed"
    axes.set_title(f"{preset}, {seeds}{alone}", fontsize=12)
    axes.grid(axis="x", alpha=0.25)
