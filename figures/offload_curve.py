"""Accuracy or mean cost against what is saved, a line a rule: the product in one picture."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import colour, dash, new_figure
from keras_ddnn.evaluation.report import Report

CONFIDENCE = ("entropy", "max_prob", "margin", "width", "second_look")
FAR = ("oracle", "random")  # lines beside which the others could not be told apart


def draw(report: Report) -> Figure:
    """Draw the curves of a report, the best rule first in the legend, and what they gain.

    The lower panel has the difference from the best confidence rule at each local fraction.
    """
    known = [rule for rule in report.table["rule"] if rule in CONFIDENCE]
    others = [rule for rule in report.table["rule"] if rule not in (*FAR, *known[:1])]
    gains = bool(known and others)
    figure = new_figure(7.0, 6.2 if gains else 4.6)
    axes, *below = figure.subplots(
        2 if gains else 1, 1, squeeze=False, sharex=True, height_ratios=[3, 1.4][: 1 + gains]
    )[:, 0]
    _draw_curves(axes, report)
    if gains:
        _draw_gains(below[0], report, known[0], others)
    (below or [axes])[-1].set_xlabel(f"{report.facts.get('saved', 'samples kept local')} (%)")
    return figure


def _draw_gains(axes: Axes, report: Report, best: str, others: list[str]) -> None:
    """Draw what each rule gains over the best confidence rule; better is up."""
    better = report.measure.higher_is_better
    scale = 100.0 if better else -1.0
    for rule in others:
        gain = scale * (report.curves[rule] - report.curves[best])
        style = {"color": colour(rule), "linestyle": dash(rule), "linewidth": 1.4}
        axes.plot(100.0 * report.curves.index, gain, **style)
    axes.axhline(0.0, color="#999999", linewidth=0.8, zorder=0)
    axes.set_ylabel(f"{'points' if better else 'cost saved'} over\n{best} (higher is better)")
    axes.grid(alpha=0.25)


def _draw_curves(axes: Axes, report: Report) -> None:
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
    axes.set_ylabel("accuracy (%), higher is better" if in_percent else measure.title)
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
