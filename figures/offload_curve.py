"""Accuracy or mean cost against the local fraction, a line a rule: the product in one picture."""

from matplotlib.figure import Figure

from figures.style import colour, dash, new_figure
from keras_ddnn.evaluation.report import Report


def draw(report: Report) -> Figure:
    """Draw the curves of a report, the best rule first in the legend."""
    figure = new_figure()
    axes = figure.subplots()
    percent, measure = 100.0 * report.curves.index, report.measure
    in_percent = measure.higher_is_better
    scale, unit = (100.0, " (%)") if in_percent else (1.0, "")
    for _, row in report.table.iterrows():
        axes.plot(
            percent,
            scale * report.curves[row["rule"]],
            color=colour(row["rule"]),
            linestyle=dash(row["rule"]),
            linewidth=1.6,
            label=f"{row['rule']}  {scale * row[measure.area]:.2f}",
        )
    facts = report.facts
    axes.set_xlabel("samples kept local (%)")
    axes.set_ylabel("accuracy (%)" if in_percent else measure.title)
    axes.set_xlim(0, 100)
    # All curves begin at the cloud's value and end at the local network's.
    ends = dict(zip(("cloud", "local"), report.curves.iloc[[0, -1], 0]))
    values = (facts.get(f"{name}_{measure.name}", end) for name, end in ends.items())
    cloud, local = (f"{value:.1%}" if in_percent else f"{value:.4g}" for value in values)
    axes.set_title(
        f"{facts['dataset']}, {facts['samples']:,} samples: cloud {cloud}, local {local}",
        fontsize=11,
    )
    axes.grid(alpha=0.25)
    axes.legend(
        title=f"rule, mean {measure.name}{unit}", fontsize=9, frameon=False, loc="lower left"
    )
    return figure
