"""Which network for which link: accuracy against latency and bytes, each with its best head."""

from collections.abc import Mapping, Sequence

import pandas as pd

from figures import tradeoff as figure
from keras_ddnn.data.splits import Splits
from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.cut_latency import Machines, dominated
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.labels.gates import two_ends
from tune.plan import measure_networks
from tune.specs import OF_NETWORKS, NetworkSpec, Trial
from tune.stored import StoredNetwork
from tune.workspace import Workspace

WITHIN = 0.01  # of the best accuracy is what a faster network may have less
ALIKE = 0.01  # of a latency is what nobody notices
TABLE, FIGURE = "tradeoff.csv", "tradeoff.png"


def write(
    ranked: Mapping[Trial, dict],
    splits: Splits,
    workspace: Workspace,
    machines: Machines,
    local_fraction: float,
) -> str | None:
    """Compare the networks of a search on validation data for a link; draw and keep it.

    Args:
        ranked: The finished trials with their records, the best validation AUDC first. The first of
            a network is its head.
        splits: The data, of which those of validation are read.
        workspace: Where networks and heads are.
        machines: The device, the cloud and the line between them.
        local_fraction: What the device is to answer; the threshold is chosen for it.

    Returns:
        The recommendation in one sentence; None, and nothing is written, where all networks send
        the same and compute the same.
    """
    if len({_architecture(trial) for trial in ranked}) < 2:
        return None
    table = compared(_points(ranked, splits, workspace, local_fraction), machines)
    with replacing_file(workspace.output / TABLE) as file:
        table.to_csv(file, index=False, float_format="%.8g")
    figure.draw(table, str(machines)).savefig(workspace.output / FIGURE)
    return recommendation(table, machines, local_fraction)


def _points(
    ranked: Mapping[Trial, dict], splits: Splits, workspace: Workspace, local_fraction: float
) -> list[dict]:
    best: dict[tuple[NetworkSpec, ...], Trial] = {}
    for trial in ranked:
        best.setdefault(trial.members, trial)
    plain = [part for trial in best.values() for part in _architecture(trial)]
    costs = measure_networks(splits.train.images.shape[1:], len(splits.classes), plain)
    points = []
    for members, trial in best.items():
        device, *others = (work for part in _architecture(trial) for work in costs[part].tiers)
        # Behind the line all tiers are one machine here, and what is sent passes all of them.
        cloud = None if None in others else sum(others)
        stored = StoredNetwork.of(workspace, members, splits)
        head, behind = (read(trial, ranked[trial]) for read in (workspace.head, workspace.behind))
        bank = stored.val_bank
        bank = two_ends(bank, next(iter(bank.tiers)), behind)
        rules, _ = compare_rules({"head": head}, bank, bank, local_fraction)
        row = rules.set_index("rule").loc["head"]
        choices = trial.choices()
        points.append(
            {name: choices[name] for name in (*OF_NETWORKS, "seed")}
            | {
                "trial": workspace.key(trial),
                "accuracy": float(row["accuracy"]),
                "local_fraction": float(row["realised_local_fraction"]),
                "device_multiply_adds": device,
                "head_multiply_adds": head.multiply_adds,
                "cloud_multiply_adds": cloud,
                "sent_bytes": stored.payload.sent,
            }
        )
    return points


def _architecture(trial: Trial) -> tuple[NetworkSpec, ...]:
    """Return its networks without what makes no difference to what they compute and send."""
    return tuple(member.architecture() for member in trial.members)


def compared(points: Sequence[Mapping], machines: Machines) -> pd.DataFrame:
    """Add to each point what a sample costs on average, and which points are worth choosing.

    Args:
        points: Of each network its choices, accuracy, local fraction, multiply-adds and bytes.
        machines: The device, the cloud and the line between them.

    Returns:
        One row a network, the fastest first: further `network`, its name; `mean_bytes` and
        `mean_ms` of a sample; `pareto`, whether no other network is at least as good in accuracy,
        latency and bytes, and better in one; `recommended`. Where multiply-adds are unknown
        `mean_ms` is NaN, and it is neither.
    """
    rows = [_timed(point, machines) for point in points]
    known = {
        place: (-row["accuracy"], row["mean_ms"], row["mean_bytes"])
        for place, row in enumerate(rows)
        if row["mean_ms"] is not None
    }
    chosen = _recommended([rows[place] for place in known])
    names = _names(points)
    for place, row in enumerate(rows):
        row["network"] = names[place]
        row["pareto"] = place in known and not dominated(known[place], [*known.values()])
        row["recommended"] = row is chosen
    table = pd.DataFrame(rows)
    table["mean_ms"] = table["mean_ms"].astype(float)
    first = ["network", "accuracy", "mean_ms", "mean_bytes", "pareto", "recommended"]
    table = table[[*first, *table.columns.difference(first, sort=False)]]
    return table.sort_values(["mean_ms", "network"]).reset_index(drop=True)


def _timed(point: Mapping, machines: Machines) -> dict:
    kept, sent = point["local_fraction"], point["sent_bytes"]
    row = {**point, "kept_ms": None, "offloaded_ms": None, "mean_ms": None}
    row["mean_bytes"] = (1.0 - kept) * sent
    work = [point[f"{part}_multiply_adds"] for part in ("device", "head", "cloud")]
    if None in work:
        return row
    device, head, cloud = work
    row["kept_ms"], row["offloaded_ms"] = machines.latencies_ms(device + head, cloud, sent)
    row["mean_ms"] = kept * row["kept_ms"] + (1.0 - kept) * row["offloaded_ms"]
    return row


def _recommended(rows: Sequence[dict]) -> dict | None:
    """Return the fastest within `WITHIN` of the best accuracy; of those alike the most accurate."""
    if not rows:
        return None
    enough = max(row["accuracy"] for row in rows) - WITHIN
    good = [row for row in rows if row["accuracy"] >= enough]
    soon = (1.0 + ALIKE) * min(row["mean_ms"] for row in good)
    fast = [row for row in good if row["mean_ms"] <= soon]
    return max(fast, key=lambda row: (row["accuracy"], -row["mean_ms"]))


def _names(points: Sequence[Mapping]) -> list[str]:
    """Return a name for each network, of the choices in which they differ."""
    words = {
        "network": "{}",
        "at": "cut behind {}",
        "bottleneck": "bottleneck {}",
        "lambda_local": "λ {}",
        "seed": "seed {}",
    }
    told = [name for name in words if len({point[name] for point in points}) > 1]
    names = []
    for point in points:
        said = [words[name].format(point[name]) for name in told if point[name] is not None]
        if point["network"] is None and "network" in told:
            said.insert(0, "paper")
        elif point["bottleneck"] is None and "bottleneck" in told and "network" not in told:
            said.insert(0, "no bottleneck")
        names.append(", ".join(said))
    return names


def recommendation(table: pd.DataFrame, machines: Machines, local_fraction: float) -> str:
    """Say in one sentence which network to take for a link, why, and what the most accurate is.

    Args:
        table: See `compared`.
        machines, local_fraction: See `write`.
    """
    known = table.dropna(subset="mean_ms")
    if known.empty:
        return f"no recommendation for {machines}: the multiply-adds of all networks are unknown"
    best = known.sort_values(["accuracy", "mean_ms"], ascending=[False, True]).iloc[0]
    row = known[known["recommended"]].iloc[0]
    less = "" if row.name == best.name else f" (best: {best['network']}, {_said(best)})"
    left_out = len(table) - len(known)
    unknown = f"; {left_out} with unknown multiply-adds left out" if left_out else ""
    return (
        f"recommended for {machines}: {row['network']}, {_said(row)}, the fastest of {len(known)} "
        f"networks within {100 * WITHIN:g} point of the best accuracy{less}; latencies within "
        f"{ALIKE:.0%} count as equal; validation data, thresholds for {local_fraction:g} local"
        f"{unknown}"
    )


def _said(row: pd.Series) -> str:
    return (
        f"{row['accuracy']:.2%} at {row['mean_ms']:.3g} ms and {row['mean_bytes']:,.0f} bytes a "
        "sample"
    )
