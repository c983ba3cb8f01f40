"""Figure 4: accuracy over the weight of the local loss."""

import pandas as pd
from matplotlib.figure import Figure

from figures.paper.curves import ends
from figures.paper.results import seeds, summarise
from figures.style import CLOUD_COLOUR, LOCAL_COLOUR, RULE_COLOURS, label, new_figure

SYSTEM = "entropy"  # whose decisions make the system's accuracy, as in the paper


def draw(rules: pd.DataFrame, networks: pd.DataFrame) -> Figure:
    """Draw accuracies over λ, and of λ drawn at random apart from them.

    Args:
        rules: One row a λ, rule and seed.
        networks: One row a λ, split and seed.
    """
    figure = new_figure()
    axes = figure.subplots()
    test = networks[networks["split"] == "test"]
    system = rules[rules["rule"] == SYSTEM]
    kept = 100 * system["local_fraction"].iloc[0]
    for table, value, name, colour in (
        (test, "oracle_accuracy", "oracle", RULE_COLOURS["oracle"]),
        (test, "cloud_accuracy", "cloud", CLOUD_COLOUR),
        (system, "accuracy", f"{SYSTEM}, {kept:.0f}% kept local", RULE_COLOURS[SYSTEM]),
        (test, "local_accuracy", "local", LOCAL_COLOUR),
    ):
        points = summarise(table, ["lambda_local"], [value])
        numbers = points["lambda_local"] != "random"
        places = points["lambda_local"].where(numbers, "1.1").astype(float)
        options = {"color": colour, "marker": "o", "capsize": 3, "linewidth": 1.6}
        for part, line, text in ((numbers, "-", name), (~numbers, "", None)):
            axes.errorbar(
                places[part],
                100 * points.loc[part, value],
                yerr=ends(points[part], value),
                linestyle=line,
                label=text,
                **options,
            )
    weights = sorted(set(networks["lambda_local"]) - {"random"}, key=float)
    axes.set_xticks([*map(float, weights), 1.1], [*weights, "random\na step"])
    label(
        axes,
        "weight of the local loss λ",
        "accuracy on test data (%)",
        seeds(networks),
    )
    axes.legend(fontsize=11, frameon=False, ncols=2, loc="center", bbox_to_anchor=(0.45, 0.4))
    return figure
