"""Which network for which link: accuracy against mean latency, and against mean bytes, a sample."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from figures.style import LOCAL_COLOUR, label, new_figure

OTHER, OPTIMAL = "#999999", "#0072B2"
WIDE = 8.0  # times the least is the most of an axis that is logarithmic
MOST_NAMES = 14  # beside the panels; of more networks the optimal ones are named alone


def draw(table: pd.DataFrame, machines: str = "") -> Figure:
    """Draw the table of `tune.tradeoff.compared`; `machines` says for which link."""
    figure = new_figure(10.0, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    numbered = table if len(table) <= MOST_NAMES else table[table["pareto"].astype(bool)]
    numbers = {place: number for number, place in enumerate(numbered.index, start=1)}
    _draw_panel(left, table.dropna(subset="mean_ms"), "mean_ms", 1.0, numbers)
    label(left, "mean latency of a sample (ms)", "accuracy (%), validation data")
    _draw_panel(right, table, "mean_bytes", 1e3, numbers)
    label(right, "mean bytes of a sample (kB)", "")
    figure.suptitle(machines, fontsize=11)
    style = {"frameon": False, "fontsize": 10}
    marks = right.get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=3, **style)
    names = [f"{number}  {table.loc[place, 'network']}" for place, number in numbers.items()]
    figure.legend(
        [Line2D([], [], ls="")] * len(names),
        names,
        handlelength=0,
        loc="outside right center",
        **style,
    )
    return figure


def _draw_panel(
    axes: Axes, table: pd.DataFrame, column: str, unit: float, numbers: Mapping[int, int]
) -> None:
    x, y = table[column] / unit, 100 * table["accuracy"]
    optimal, chosen = (table[name].astype(bool) for name in ("pareto", "recommended"))
    axes.plot(x[~optimal], y[~optimal], "o", ms=6, c=OTHER, mfc="none", label="network")
    axes.plot(x[optimal], y[optimal], "o", ms=7, c=OPTIMAL, label="Pareto-optimal")
    ring = {"ms": 14, "c": LOCAL_COLOUR, "mfc": "none", "mew": 2}
    axes.plot(x[chosen], y[chosen], "o", label="recommended", **ring)
    if len(x) and x.min() > 0 and x.max() > WIDE * x.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.15)
    for place in table.index.intersection([*numbers]):
        axes.annotate(
            str(numbers[place]),
            (x[place], y[place]),
            xytext=(9, 6),
            textcoords="offset points",
            fontsize=10,
            color=OPTIMAL if optimal[place] else "#444444",
        )
