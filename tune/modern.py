"""Networks of today, each trained alone and paired afterwards: `python -m tune.modern`.

Every network and seed is trained once and leaves its logits on all images, of 16 bits, in a small
file; so K devices and M clouds cost K + M trainings, and all tables are made from these files. An
ensemble is the mean of what its members said. A run that is killed goes on where it was.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import product

import pandas as pd

from keras_ddnn.config.presets import PRESETS
from keras_ddnn.data.datasets import load
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.labels.sources import FOLDS
from tune.modern_cases import CASES, USUAL
from tune.modern_networks import RECIPES, Job
from tune.modern_outputs import (
    LABELS,
    OUTPUTS,
    Pair,
    labels_of,
    name_of,
    networks,
    require_same_labels,
    seeds_of,
)
from tune.modern_scores import Scored
from tune.modern_tables import accuracies, beside, certificates, gaps, pareto, points, table
from tune.modern_training import output_file, require_same_recipe, train_network, write_arrays
from tune.study import run_study, study_parser

# Device → cloud.
PAIRS = (
    ("paper", "paper"),
    ("strong", "strong"),
    ("bottleneck", "bottleneck"),
    ("modern_split", "modern_split"),
    ("modern_split-codes", "modern_split-codes"),
    ("modern_small", "modern_deep"),
    ("modern_small", "modern_ensemble"),
    ("modern_small-distilled", "modern_deep"),
    ("modern_small-distilled", "modern_ensemble"),
    ("modern_tiny", "modern_deep"),
    ("modern_tiny", "modern_ensemble"),
    ("modern_tiny", "modern_deep-codes"),
    ("modern_tiny", "modern_small"),
    ("modern_medium", "modern_deep"),
)
# The same in worlds that are not those of the data.
WORLDS = (
    ("modern_tiny", "modern_small-specialist"),
    ("modern_tiny-noise", "modern_small-noise"),
    ("modern_tiny-shift", "modern_small-shift"),
)
# What sends less → what sends the images themselves, or the feature map as it is.
BESIDE = {
    name_of("modern_tiny", "modern_deep-codes"): name_of("modern_tiny", "modern_deep"),
    name_of("bottleneck", "bottleneck"): name_of("strong", "strong"),
    name_of("modern_split-codes", "modern_split-codes"): name_of("modern_split", "modern_split"),
}
TABLES = {
    "table": table,
    "points": points,
    "gaps": gaps,
    "certificates": certificates,
    "accuracies": accuracies,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing and write the tables; see `run_study` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_study(_run, options)


def _run(options: argparse.Namespace) -> None:
    jobs = [*_jobs(options)]
    missing = [job for job in jobs if not output_file(options, job).exists()]
    for job in jobs:
        require_same_recipe(job, options)
    if missing:
        splits = load(options.dataset, options.data_dir)
        require_same_labels(options.output / OUTPUTS, splits)
        write_arrays(options.output / OUTPUTS / LABELS, labels_of(splits))
    for job in missing:
        train_network(job, splits, options)
    if not options.no_tables:
        _tell(options)


def _tell(options: argparse.Namespace) -> None:
    """Write the tables of all pairs whose outputs are there."""
    folder, found = options.output / OUTPUTS, {name: [] for name in TABLES}
    every = {}
    for device, cloud in PAIRS + WORLDS:
        pair = name_of(device, cloud)
        scored = {
            seed: Scored.of(Pair.read(folder, device, cloud, seed), seed)
            for seed in seeds_of(folder, device, cloud)
        }
        if scored:
            every[pair] = scored
        for name, make in TABLES.items() if scored else ():
            found[name].append(make(pair, [*scored.values()]))
    if every:
        of_the_data = {name_of(*pair) for pair in PAIRS} & {*every}
        found["pareto"] = [pareto({n: [*every[n].values()] for n in every if n in of_the_data})]
    found["beside"] = [
        beside(name, every[name], every[other])
        for name, other in BESIDE.items()
        if {*every.get(name, ())} & {*every.get(other, ())}
    ]
    if len(alone := networks(folder)):
        found["networks"] = [alone]
    for name, tables in found.items():
        if tables:
            with replacing_file(options.output / f"{name}.csv") as file:
                pd.concat(tables).to_csv(file, index=False, float_format="%.6g")


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    for seed, case, network in product(options.seeds, options.cases, options.networks):
        yield Job(network, seed, case=case)
    for seed, network in product(options.fold_seeds, options.networks):
        yield from (Job(network, seed, fold) for fold in range(FOLDS))


def _parser() -> argparse.ArgumentParser:
    parser = study_parser("tune.modern", __doc__)
    add = parser.add_argument
    paired = [name for name in RECIPES if any(name in pair for pair in PAIRS)]
    add("--networks", nargs="+", choices=RECIPES, default=paired)
    add("--preset", choices=PRESETS, help="recipe of all networks; default: that of each")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--fold-seeds", type=int, nargs="*", default=[], help="whose folds are trained, too")
    add("--cases", nargs="+", choices=CASES, default=[USUAL], help="worlds they are trained for")
    add("--no-tables", action="store_true", help="train alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
