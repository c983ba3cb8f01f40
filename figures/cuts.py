"""Where to cut: latency of an offloaded sample and bytes sent, against the work of the device."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from figures.style import LOCAL_COLOUR, label, new_figure

OTHER, OPTIMAL = "#999999", "#0072B2"
ENDS = {"cloud only": "s", "cloud only, as PNG": "D", "device only": "^"}  # markers


def draw(table: pd.DataFrame) -> Figure:
    """Draw the table of `python -m keras_ddnn.cuts --csv`; rows with unknowns are left out."""
    table = table.dropna(subset=["device_multiply_adds", "sent_bytes", "offloaded_ms"])
    figure = new_figure(7.0, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_panel(upper, table, table["offloaded_ms"])
    label(upper, "", "latency offloaded (ms)")
    upper.set_ylim(bottom=0)
    # Nothing is sent where the device answers all, which a logarithm cannot show.
    sent = table[table["sent_bytes"] > 0]
    _draw_panel(lower, sent, sent["sent_bytes"] / 1e3)
    label(lower, "multiply-adds of the device (millions)", "sent (kB)")
    lower.set_yscale("log")
    lower.margins(y=0.12)
    _name_optimal(lower, sent)
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(
        *upper.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=11,
    )
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, values: pd.Series) -> None:
    x = table["device_multiply_adds"] / 1e6
    inner = ~table["layer"].isin(ENDS)
    optimal = table["pareto"].astype(bool)
    axes.plot(
        x[inner & ~optimal], values[inner & ~optimal], "o", ms=5, c=OTHER, mfc="none", label="cut"
    )
    axes.plot(
        x[inner & optimal],
        values[inner & optimal],
        "o",
        ms=6,
        c=OPTIMAL,
        label="Pareto-optimal cut",
    )
    for name, marker in ENDS.items():
        here = table["layer"] == name
        if here.any():
            axes.plot(x[here], values[here], marker, ms=8, c=LOCAL_COLOUR, label=name)
    axes.margins(x=0.03)


def _name_optimal(axes: Axes, table: pd.DataFrame) -> None:
    """Write the names of optimal cuts beside them, of several at one place the last."""
    optimal = table[table["pareto"].astype(bool) & ~table["layer"].isin(ENDS)]
    places = optimal.drop_duplicates(["device_multiply_adds", "sent_bytes"], keep="last")
    middle = table["device_multiply_adds"].max() / 2
    for row in places.itertuples():
        on_the_left = row.device_multiply_adds > middle
        axes.annotate(
            row.layer,
            (row.device_multiply_adds / 1e6, row.sent_bytes / 1e3),
            xytext=(-6 if on_the_left else 6, -10),
            textcoords="offset points",
            ha="right" if on_the_left else "left",
            fontsize=7,
            color=OPTIMAL,
        )
