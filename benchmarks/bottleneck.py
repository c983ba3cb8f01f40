"""What a bottleneck costs in accuracy, and saves in bytes of an offloaded sample.

    python -m benchmarks.bottleneck --dataset cifar10 --preset fast --seeds 0 1 2 --channels 0 32

Trains the networks of every seed with each number of channels, 0 without a bottleneck; those that
are in --backbones already are not trained again. Accuracies are those of the test data. Differences
are paired by seed, to the first number of channels, with 95% t intervals over seeds. Keeps the
table and all numbers in --output.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from keras_ddnn.config import PRESETS, feature_quantisation, resolve_config
from keras_ddnn.data.datasets import load
from keras_ddnn.evaluation.payload import FORMS, Payload
from keras_ddnn.evaluation.statistics import over_seeds
from keras_ddnn.files.atomic import replacing_file, write_json
from tune.driver import train_backbones
from tune.specs import NetworkSpec
from tune.stored import StoredNetwork
from tune.workspace import Workspace

NETWORKS = ("local", "cloud")


def main() -> None:
    options = _parser().parse_args()
    configs = {
        (channels, seed): resolve_config(
            options.preset,
            seed=seed,
            bottleneck=channels or None,
            **({"epochs": options.epochs} if options.epochs else {}),
        )
        for seed in options.seeds
        for channels in options.channels
    }
    splits = load(options.dataset, options.data_dir)
    train_backbones(
        map(NetworkSpec, configs.values()), splits, options.backbones, num_cpus=options.num_cpus
    )
    workspace = Workspace(splits.fingerprint(), Path(options.backbones))
    rows = []
    for (channels, seed), config in configs.items():
        backbone = StoredNetwork.of(workspace, (NetworkSpec(config),), splits)
        bank = backbone.test_bank
        payload = Payload.of(bank.edge, feature_quantisation(config))
        correct = {"local": bank.local_correct, "cloud": bank.cloud_correct}
        rows.append(
            {"channels": channels, "seed": seed}
            | {name: round(100 * float(correct[name].mean()), 2) for name in NETWORKS}
            | {f"bytes_{form}": round(getattr(payload, form), 1) for form in FORMS}
        )
    seeds = pd.DataFrame(rows)
    with replacing_file(options.output / f"{options.dataset}_{options.preset}.csv") as file:
        seeds.to_csv(file, index=False)
    summary = [
        _summary(seeds, channels, options.channels[0])
        | _multiply_adds(splits, configs[channels, options.seeds[0]])
        for channels in options.channels
    ]
    result = {
        "dataset": options.dataset,
        "preset": options.preset,
        "epochs": config.epochs,
        "seeds": options.seeds,
        "channels": summary,
    }
    write_json(options.output / f"{options.dataset}_{options.preset}.json", result)
    Console(width=140).print(_table(seeds, summary))
    print(json.dumps(result))


def _summary(seeds: pd.DataFrame, channels: int, first: int) -> dict:
    """Return means over the seeds, and differences to the first number of channels in points."""
    these, those = (
        seeds[seeds["channels"] == number].set_index("seed") for number in (channels, first)
    )
    row = {"channels": channels}
    for name in NETWORKS:
        row[name] = round(float(these[name].mean()), 2)
        gains = these[name] - those[name]
        if channels != first:
            interval = over_seeds(gains) if len(gains) > 1 else None
            ends = (interval.low, interval.high) if interval else (np.nan, np.nan)
            row[f"{name}_gain"] = [
                None if np.isnan(end) else round(float(end), 2) for end in (gains.mean(), *ends)
            ]
    return row | {f"bytes_{form}": float(these[f"bytes_{form}"].mean()) for form in FORMS}


def _multiply_adds(splits, config) -> dict:
    from keras_ddnn.networks.costs.model_costs import multiply_adds
    from keras_ddnn.networks.paper import build_ddnn, split_ddnn

    halves = split_ddnn(build_ddnn(splits.train.images.shape[1:], splits.num_classes, config))
    return {f"{name}_multiply_adds": multiply_adds(half) for name, half in zip(NETWORKS, halves)}


def _table(seeds: pd.DataFrame, summary: list[dict]) -> Table:
    """Return a row for each number of channels; accuracies of the seeds in brackets."""
    table = Table("channels", "local %", "cloud %", "cloud, difference")
    for heading in ("bytes", "codes", "zlib", "image", "PNG", "local MACs"):
        table.add_column(heading, justify="right")
    for row in summary:
        each = seeds[seeds["channels"] == row["channels"]]
        table.add_row(
            str(row["channels"] or "none"),
            *(f"{row[n]:.2f} ({', '.join(f'{a:.2f}' for a in each[n])})" for n in NETWORKS),
            _interval(row.get("cloud_gain")),
            *(f"{row[f'bytes_{form}']:,.0f}" for form in FORMS),
            f"{row['local_multiply_adds']:,}",
        )
    return table


def _interval(gain: list | None) -> str:
    if gain is None:
        return ""
    mean, low, high = gain
    return f"{mean:+.2f}" + (f" ({low:.2f} … {high:.2f})" if low is not None else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--dataset", default="cluttered_digits")
    add("--data-dir")
    add("--preset", choices=PRESETS, default="quickstart")
    add("--epochs", type=int, help="default: the preset's")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--channels", type=int, nargs="+", default=[0, 32], help="of the bottleneck; 0 for none")
    add("--num-cpus", type=int, help="cores of the local Ray; default: all")
    add("--backbones", type=Path, default=Path("runs", "backbones"))
    add("--output", type=Path, default=Path("results", "bottleneck"))
    return parser


if __name__ == "__main__":
    main()
