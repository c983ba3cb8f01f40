"""Will learning help? B_k on both banks, and how far each rule comes on the way to the oracle."""

from matplotlib.figure import Figure

from figures.style import TRAIN_COLOUR, VAL_COLOUR, colour, new_figure

UNITS = {"true_class": "probability", "zero_one": "right answers", "cross_entropy": "nats"}


def draw(diagnosis: dict) -> Figure:
    """Draw a diagnosis from its JSON, see `Diagnosis.as_json`."""
    rules = 2 + len(diagnosis["gains"])
    figure = new_figure(10.0, max(4.4, 0.8 * rules + 1.0))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    _draw_benefits(left, diagnosis)
    _draw_rules(right, diagnosis)
    return figure


def _draw_benefits(axes, diagnosis):
    """Two banks of different sizes, so shares, in outline so that neither hides the other."""
    histogram = diagnosis["histogram"]
    for name, label, shade in (
        ("train", "training", TRAIN_COLOUR),
        ("val", "validation", VAL_COLOUR),
    ):
        counts = histogram[name]
        percent = [100 * count / sum(counts) for count in counts]
        axes.stairs(percent, histogram["edges"], color=shade, linewidth=1.8, label=label)
    axes.axvline(0, color="#999999", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"benefit of offloading $B_k$ ({UNITS[diagnosis['cost']]})", fontsize=12)
    axes.set_ylabel("share of samples (%)", fontsize=12)
    axes.set_title(f"Kolmogorov–Smirnov distance {diagnosis['benefit_distance']:.2f}", fontsize=13)
    axes.tick_params(labelsize=11)
    axes.legend(frameon=False, fontsize=12)


def _draw_rules(axes, diagnosis):
    """What decides: gains over the best confidence rule, each paired with it sample by sample."""
    best = diagnosis["best_confidence"]
    gains = {**diagnosis["gains"], "oracle": diagnosis["headroom"]}
    audc = diagnosis["audc"]
    for place, (name, gain) in enumerate(gains.items()):
        mean, low, high = (100 * gain[key] for key in ("mean", "low", "high"))
        axes.errorbar(
            mean, place, xerr=[[mean - low], [high - mean]], fmt="o", capsize=4, c=colour(name)
        )
        text = f"{name}  {100 * audc[name]['mean']:.2f}  ({mean:+.2f}, {low:+.2f} to {high:+.2f})"
        where = axes.get_yaxis_transform()  # from the left edge, whatever was gained
        axes.text(0.0, place - 0.2, text, fontsize=11, transform=where)
    axes.axvline(0.0, color="#999999", linewidth=1)
    axes.set_xscale("symlog", linthresh=0.1, linscale=1.0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks([])
    axes.set_ylim(len(gains) - 0.5, -0.65)
    axes.margins(x=0.1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("points gained (95%, paired; logarithmic beyond 0.1)", fontsize=12)
    axes.set_title(f"AUDC beside that of {best}, {100 * audc[best]['mean']:.2f}", fontsize=13)
    axes.tick_params(labelsize=11)
