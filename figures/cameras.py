"""Several cameras that see one object: aggregation, thresholds, more cameras, and fewer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import CLOUD_COLOUR, LOCAL_COLOUR, label, new_figure

TIERS = {"local": "local exit", "cloud": "cloud", "overall": "overall, by a threshold"}
TIER_STYLES = {  # where all samples go to the cloud, overall lies on the cloud: it is hollow
    "local": {"c": LOCAL_COLOUR, "marker": "o"},
    "cloud": {"c": CLOUD_COLOUR, "marker": "s"},
    "overall": {"c": "#000000", "marker": "o", "mfc": "none", "ms": 9},
}
# Of those that know absences with the mean, the one that validation samples choose.
PLAIN, KNOWS, MEAN, LONG = (
    "max-concatenation",
    "max-concatenation-absent10",
    "mean-concatenation-absent10",
    "mean-concatenation-40epochs-absent10",
)
NETWORKS = {
    PLAIN: ("max, without absences", "#0072B2", "o"),
    KNOWS: ("max, with absences", "#D55E00", "s"),
    MEAN: ("mean, with absences", "#009E73", "^"),
    LONG: ("mean, with absences, 40 epochs", "#CC79A7", "v"),
    "max-concatenation, trained on the others": ("max, trained on the others", "#000000", "D"),
    "mean-concatenation, trained on the others": ("mean, trained on the others", "#888888", "D"),
    "mean-concatenation-40epochs, trained on the others": (
        "mean, trained on the others, 40 epochs",
        "#56B4E9",
        "D",
    ),
}
SCHEMES = {"max": "max", "mean": "mean", "concatenation": "concat"}
ACCURACY = "accuracy (%), test data"
ACROSS = 3  # panels beside each other
WORDS = {"cameras": str, "absent": str, "failed": str}  # numbers of cameras, which are names


def draw(results: Path) -> Figure:
    """Draw the tables of `tune.cameras` that are there; bars are 95% t intervals over seeds."""
    found = [
        (table, panel) for name, panel in PANELS.items() if len(table := read_table(results, name))
    ]
    rows = [found[at : at + ACROSS] for at in range(0, len(found), ACROSS)]
    figure = new_figure(14.0, 4.9 * len(rows))
    for part, row in zip(np.atleast_1d(figure.subfigures(len(rows), 1, hspace=0.03)), rows):
        for axes, (table, panel) in zip(np.atleast_1d(part.subplots(1, len(row))), row):
            panel(axes, table)
    return figure


def read_table(results: Path, name: str) -> pd.DataFrame:
    """Return a table of a folder of results; an empty one if it is not there.

    Raises:
        ValueError: If it cannot be read.
    """
    path = results / f"{name}.csv"
    try:
        return pd.read_csv(path, dtype=WORDS) if path.exists() else pd.DataFrame()
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error})") from None


def _points(axes: Axes, x, table: pd.DataFrame, value: str, **style) -> None:
    """Draw means with intervals, where there are several seeds."""
    ends = [table[value] - table[f"{value}_low"], table[f"{value}_high"] - table[value]]
    known = np.nan_to_num(np.array(ends, float)) if (table["seeds"] > 1).any() else None
    axes.errorbar(x, table[value], yerr=known, **({"capsize": 3, "ls": "none", "lw": 1.4} | style))


def _tiers(axes: Axes, x, table: pd.DataFrame, ls: str = "none", named: bool = True) -> None:
    """Draw the accuracy of each exit, and overall beside that of the cloud."""
    for tier, name in TIERS.items():
        shift = 0.15 if tier == "overall" else 0.0
        style = TIER_STYLES[tier] | {"ls": "none" if tier == "overall" else ls}
        _points(axes, x + shift, table, tier, label=name if named else None, **style)


def _head(axes: Axes, at: float, text: str) -> None:
    """Write above a group of points what they have in common."""
    axes.text(at, 1.01, text, ha="center", transform=axes.get_xaxis_transform(), fontsize=10)


def _aggregation(axes: Axes, table: pd.DataFrame) -> None:
    wide = len(SCHEMES) + 1
    x = wide * table["cloud_scheme"].map([*SCHEMES].index)
    x += table["local_scheme"].map([*SCHEMES].index)
    _tiers(axes, x, table)
    axes.set_xticks(x, table["local_scheme"].map(SCHEMES), rotation=45)
    for place, scheme in enumerate(SCHEMES.values()):
        _head(axes, wide * place + 1, f"cloud: {scheme}")
    label(axes, "local aggregation", ACCURACY)
    axes.set_title(f"How cameras are combined{_seeds(table)}", fontsize=12, pad=20)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower center", columnspacing=1)


def _thresholds(axes: Axes, table: pd.DataFrame) -> None:
    style = {"c": "#000000", "marker": "o", "ls": "-", "ms": 4}
    _points(axes, table["local_percent"], table, "accuracy", **style)
    for row in table[table["threshold"] >= 0.3].to_dict("records"):
        at = row["local_percent"], row["accuracy"]
        axes.annotate(f"{row['threshold']:g}", at, (5, 4), textcoords="offset points", fontsize=9)
    # Bytes fall evenly with the share: c + (1 - l) · f.
    most, least = table["bytes"].max(), table["bytes"].min()
    low, high = table["local_percent"].min(), table["local_percent"].max()
    if high > low:
        slope = (least - most) / (high - low)
        ways = (lambda x: most + slope * (x - low), lambda b: low + (b - most) / slope)
        axes.secondary_xaxis("top", functions=ways).set_xlabel(
            f"bytes of a device and sample; a frame: {table['frame_bytes'].iloc[0]:,}"
        )
    label(axes, "samples kept local (%)", ACCURACY)
    axes.set_title(f"Thresholds of the entropy{_seeds(table)}", fontsize=12)


def _added(axes: Axes, table: pd.DataFrame) -> None:
    grown, alone = table[table["kind"] == "added"], table[table["kind"] == "alone"]
    wide = len(alone)
    ticks = dict(enumerate(alone["cameras"]))
    _tiers(axes, np.arange(wide), alone)
    if len(grown):
        x = wide + grown["count"]
        added = ["+" * (count > 1) + c[-1] for count, c in zip(grown["count"], grown["cameras"])]
        ticks |= dict(zip(x, added))
        _tiers(axes, x, grown, ls="-", named=False)
        _head(axes, (x.min() + x.max()) / 2, "added, the best first")
    axes.set_xticks([*ticks], [*ticks.values()])
    _head(axes, (wide - 1) / 2, "each alone")
    label(axes, "camera", ACCURACY)
    axes.set_title(f"One camera and more{_seeds(table)}", fontsize=12, pad=20)
    axes.legend(frameon=False, fontsize=9)


def _failing(axes: Axes, table: pd.DataFrame) -> None:
    shown = [name for name in NETWORKS if name in set(table["network"])]
    for place, network in enumerate(shown):
        name, colour, marker = NETWORKS[network]
        rows = table[table["network"] == network]
        x = rows["failed"].astype(int) + 0.75 / len(shown) * (place - (len(shown) - 1) / 2)
        _points(axes, x, rows, "overall", label=name, c=colour, marker=marker)
    cameras = sorted(set(table["failed"]))
    axes.set_xticks([int(camera) for camera in cameras], [f"camera {c}" for c in cameras])
    label(axes, "which fails", f"overall {ACCURACY}")
    axes.set_title(f"One camera fails{_seeds(table)}", fontsize=12)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.25 * (high - low))  # room for the names
    axes.legend(frameon=False, fontsize=9, loc="lower right", ncols=2)


def _missing(axes: Axes, table: pd.DataFrame) -> None:
    """Each choice of cameras is a small mark; the line is the mean over choices."""
    table = table[table["network"].isin(NETWORKS)]
    for place, (network, rows) in enumerate(table.groupby("network", sort=False)):
        name, colour, marker = NETWORKS[network]
        shift = 0.16 * (place - 1)
        x = rows["missing"] + shift
        _points(axes, x, rows, "overall", c=colour, marker=marker, ms=3.5, alpha=0.6, lw=0.9)
        mean = rows.groupby("missing")["overall"].mean()
        axes.plot(mean.index + shift, mean, c=colour, lw=1.8, label=f"{name}: mean of choices")
        for row in rows[rows["missing"] == 1].to_dict("records"):
            at = row["missing"] + shift, row["overall"]
            side = {"xytext": (-5, -3), "ha": "right"} if place == 0 else {"xytext": (5, -3)}
            axes.annotate(
                row["absent"], at, textcoords="offset points", fontsize=8, color=colour, **side
            )
    axes.set_xticks(sorted(set(table["missing"])))
    label(axes, "cameras that are absent", f"overall {ACCURACY}")
    axes.set_title(f"None, one and two cameras absent{_seeds(table)}", fontsize=12)
    axes.legend(frameon=False, fontsize=9)


def _seeds(table: pd.DataFrame) -> str:
    """Return in words how many seeds a table has."""
    least, most = table["seeds"].min(), table["seeds"].max()
    count = f"{least}" if least == most else f"{least} to {most}"
    return f" ({count} seed{'s' if most > 1 else ''})"


PANELS: dict[str, Callable[[Axes, pd.DataFrame], None]] = {
    "aggregation": _aggregation,
    "thresholds": _thresholds,
    "added": _added,
    "failing": _failing,
    "missing": _missing,
}
