"""Several cameras that see one object, after the DDNN of 2017: `python -m tune.cameras`.

It tells of nine pairs of aggregation schemes, of thresholds, of devices added one by one, and of a
device that fails. Every network and seed is trained once and leaves its logits in a small file; all
tables are made from these files. A run that is killed goes on where it was.

Source: Teerapittayanon et al., "Distributed Deep Neural Networks over the Cloud, the Edge and End
Devices", 2017.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import combinations, product

import pandas as pd

from keras_ddnn.data.datasets import Splits, load
from keras_ddnn.data.splits import InputType
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.checks import expect, require_choice
from keras_ddnn.files.notices import notice
from tune.cameras_tables import (
    Said,
    added,
    aggregation,
    bars,
    best_first,
    failing,
    knows_absences,
    missing,
    thresholds,
)
from tune.cameras_training import OUTPUTS, Network, is_trained, output_file, train_network
from tune.study import run_study, study_parser

SCHEMES = ("max", "mean", "concatenation")
PAIRS = tuple(Network(*pair) for pair in product(SCHEMES, SCHEMES))
# What meets a camera that fails: the pair of the source, without and with frames that are black in
# training; the pair that is best at the local exit on validation samples, with them; and the best
# of all these, trained for twice as long.
FAILING = (
    Network(),
    Network(absent=0.1),
    Network("mean", absent=0.1),
    Network("mean", absent=0.25),
    Network("mean", absent=0.1, epochs=40),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing and write the tables; see `run_study` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_study(_run, options)


def _run(options: argparse.Namespace) -> None:
    splits = load(options.dataset, options.data_dir)
    cameras = _cameras_of(splits)
    subsets = [s for k in range(1, cameras) for s in combinations(range(cameras), k)]
    every = (*PAIRS, *FAILING, *(like.of(s, cameras) for like in FAILING for s in subsets))
    known = dict.fromkeys(network.name for network in every)
    for name in options.networks or ():
        require_choice("network", name, known)
    jobs = _jobs(options, cameras, partial(_read, options, splits))
    for network, seed in () if options.tables_only else jobs:
        wanted = options.networks is None or network.name in options.networks
        if wanted and not is_trained(options, network, seed):
            train_network(network, seed, splits, options)
    if not options.no_tables:
        _tell(options, cameras, cache(partial(_read, options, splits)))


def _cameras_of(splits: Splits) -> int:
    images = splits.train.images
    cameras = InputType(tuple(images.shape[1:]), str(images.dtype)).cameras
    wanted = "images of several cameras, (n, camera, height, width, channels)"
    expect(cameras is not None and cameras > 1, splits.name, wanted, f"shape {images.shape}")
    return int(cameras or 0)


def _jobs(options: argparse.Namespace, cameras: int, read) -> Iterator[tuple[Network, int]]:
    """Return what is to be trained. Which cameras come first, those alone say."""
    alone = [Network().of([camera], cameras) for camera in range(cameras)]
    others = [
        like.of(chosen, cameras)
        for like in FAILING
        for chosen in combinations(range(cameras), cameras - 1)
    ]
    networks = dict.fromkeys((*FAILING, *PAIRS, *alone, *others))
    yield from product(networks, options.seeds)
    orders = [best_first(cameras, read, tier) or [] for tier in ("cloud", "local")]
    later = [Network().of(orders[0][:count], cameras) for count in range(2, len(orders[0]) - 1)]
    later += [like.of(order[:1], cameras) for like in FAILING for order in orders if order]
    yield from product(dict.fromkeys(later), options.seeds)


def _read(
    options: argparse.Namespace, splits: Splits, network: Network, absent: tuple[int, ...] = ()
) -> list[Said]:
    """Return what a network said, of those seeds that are there."""
    there = [seed for seed in options.seeds if is_trained(options, network, seed)]
    return [Said.read(output_file(options, network, s), splits, s, absent) for s in there]


def _tell(options: argparse.Namespace, cameras: int, read) -> None:
    """Write the tables of what is there."""
    tables = {
        "aggregation": aggregation(PAIRS, read),
        "thresholds": thresholds(Network(), read),
        "added": added(cameras, read),
        "failing": failing(cameras, FAILING, read),
        "missing": missing(cameras, FAILING, read),
        "absences": knows_absences(cameras, FAILING, read),
        "bars": bars(cameras, FAILING, read),
    }
    if not any(map(len, tables.values())):
        raise ValueError(
            f"expected outputs of the seeds {', '.join(map(str, options.seeds))} in "
            f"{options.output / OUTPUTS}; received none: run python -m tune.cameras --seeds "
            f"{' '.join(map(str, options.seeds))} first"
        )
    absent = [job for job in _jobs(options, cameras, read) if not is_trained(options, *job)]
    if absent:
        (network, seed), *_ = absent
        notice(
            f"{len(absent)} networks are not in {options.output / OUTPUTS}, as {network.name} of "
            f"seed {seed}: rows have fewer seeds without them"
        )
    for name, table in tables.items():
        path = options.output / f"{name}.csv"
        if len(table):
            with replacing_file(path) as file:
                pd.DataFrame(table).to_csv(file, index=False, float_format="%.6g")
        else:
            path.unlink(missing_ok=True)  # of other seeds, which this run does not tell of


def _parser() -> argparse.ArgumentParser:
    parser = study_parser("tune.cameras", __doc__)
    parser.set_defaults(dataset="cluttered_views")
    add = parser.add_argument
    add("--networks", nargs="+", help="names of networks, as max-mean or max-concatenation-of0+2")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add = parser.add_mutually_exclusive_group().add_argument
    add("--no-tables", action="store_true", help="train alone")
    add("--tables-only", action="store_true", help="train nothing: tables of what is there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
