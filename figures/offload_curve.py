"""Accuracy against the local fraction, a line a rule: the product in one picture."""

from matplotlib.figure import Figure

from figures.style import colour, dash, new_figure
from keras_ddnn.evaluation.report import Report


def draw(report: Report) -> Figure:
    """Draw the curves of a report, the best AUDC first in the legend."""
    figure = new_figure()
    axes = figure.subplots()
    percent = 100.0 * report.curves.index
    for row in report.table.itertuples():
        axes.plot(
            percent,
            100.0 * report.curves[row.rule],
            color=colour(row.rule),
            linestyle=dash(row.rule),
            linewidth=1.6,
            label=f"{row.rule}  {100 * row.audc:.2f}",
        )
    facts = report.facts
    axes.set_xlabel("samples kept local (%)")
    axes.set_ylabel("accuracy (%)")
    axes.set_xlim(0, 100)
    axes.set_title(
        f"{facts['dataset']}, {facts['samples']:,} samples: "
        f"cloud {facts['cloud_accuracy']:.1%}, local {facts['local_accuracy']:.1%}",
        fontsize=11,
    )
    axes.grid(alpha=0.25)
    axes.legend(title="rule, mean accuracy (%)", fontsize=9, frameon=False, loc="lower left")
    return figure
