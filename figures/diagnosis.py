"""Will learning help? B_k on both banks, and how far each rule comes on the way to the oracle."""

from matplotlib.figure import Figure

from figures.style import TRAIN_COLOUR, VAL_COLOUR, colour, new_figure

UNITS = {"true_class": "probability", "zero_one": "right answers", "cross_entropy": "nats"}


def draw(diagnosis: dict) -> Figure:
    """Draw a diagnosis from its JSON, see `Diagnosis.as_json`."""
    rules = 2 + len(diagnosis["gains"])
    figure = new_figure(7.5, max(5.0, 0.8 * rules + 1.0))
    left, right = figure.subplots(1, 2)
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
    """Bars start at random ranking, the mean of both accuracies: zero would hide the gains."""
    audc, best = diagnosis["audc"], diagnosis["best_confidence"]
    gains = {**diagnosis["gains"], "oracle": diagnosis["headroom"]}
    facts = diagnosis["val"]
    start = 50 * (facts["local_accuracy"] + facts["cloud_accuracy"])
    names = [best, *diagnosis["gains"], "oracle"]
    for place, name in enumerate(names):
        mean, low, high = (100 * audc[name][key] for key in ("mean", "low", "high"))
        axes.barh(
            place,
            mean - start,
            left=start,
            height=0.4,
            color=colour(name),
            xerr=[[mean - low], [high - mean]],
            error_kw={"ecolor": "#666666", "capsize": 3, "linewidth": 1.4},
        )
        text = f"{name}  {mean:.2f}"
        if name in gains:
            text += f"  ({100 * gains[name]['mean']:+z.2f})"
        axes.text(start, place - 0.24, f" {text}", fontsize=12)
    axes.axvline(start, color="#999999", linewidth=1)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.65)
    axes.margins(x=0.02)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("AUDC (%), bars from random ranking", fontsize=12)
    axes.set_title(f"in brackets: points over {best}", fontsize=13)
    axes.tick_params(labelsize=11)
