"""The command line of the search: `python -m tune.search --preset quickstart`."""

import argparse
import sys
from dataclasses import replace
from functools import partial
from typing import get_args

from keras_ddnn.config.head import HeadArchitecture
from keras_ddnn.config.presets import PRESETS
from keras_ddnn.data.datasets import DATASET_HELP, DATASETS
from keras_ddnn.deploy.cuts_command import add_machines, machines_of
from keras_ddnn.files.manifest import hops_of, sign_artifact
from keras_ddnn.files.notices import CommandParser, add_forms, of_option, said_as
from keras_ddnn.files.signature import private_key
from keras_ddnn.labels.sources import LABEL_SOURCES
from keras_ddnn.labels.targets import LOSSES, TARGETS
from keras_ddnn.rules.inputs import HEAD_INPUTS
from keras_ddnn.tasks.known import COST_NAMES
from tune.config_file import read_config
from tune.failures import run_command
from tune.network_names import read_network
from tune.reading import add_reading, reading_of
from tune.space import ALONE, SEARCH_PRESETS, Scheduler, SearchConfig, Searcher, Tracker
from tune.specs import Training

# A device and a line as in the examples of `python -m keras_ddnn.cuts`.
LINK = {"device_gmacs": 2.0, "cloud_gmacs": 100.0, "bandwidth_mbps": 10.0, "round_trip_ms": 40.0}


def main(arguments=None) -> int:
    """Run the command line; return its exit code.

    After one line on standard error it is 2 for bad input, 1 for a search that failed, 130 for one
    that was interrupted, 143 for one that was terminated, and 129 for one whose terminal has gone.
    """
    options = _parser().parse_args(arguments)
    with said_as(options):
        return run_command(
            partial(_run, options), "pass --resume to go on", traceback=options.traceback
        )


def _run(options) -> None:
    search = _search_config(options)
    networks = len(search.backbones())
    # As Python writes them: a path may hold what no terminal can show.
    said = f"search of {search.dataset!r}, networks: {networks}, into {options.output!r}"
    print(said, flush=True)
    # Imported only now, so that --help, a misspelt option and the first line come at once.
    from tune import driver, report

    key, machines = _key(options.sign), machines_of(options)
    given = ("gpus_per_network", "save_seconds")
    training = Training(**{name: getattr(options, name) for name in given})
    if options.dry_run:
        report.show_plan(driver.plan_search(search, options.output, **_data(options)))
        return
    output = driver.run_search(
        search,
        options.output,
        **_data(options),
        resume=options.resume,
        overwrite=options.overwrite,
        address=options.address,
        num_cpus=options.num_cpus,
        training=training,
        write=partial(report.write, machines=machines),
        log_to=options.log_to,
    )
    if key is not None:
        for hop in hops_of(output / "artifact"):
            sign_artifact(hop, key)


def _key(path: str | None):
    """Return the private key of a PEM file, which is read before anything is trained."""
    try:
        return None if path is None else private_key(path)
    except OSError as error:
        raise ValueError(
            f"--sign {path}: {error.strerror}: name the PEM file of a private key"
        ) from None


def _search_config(options) -> SearchConfig:
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name in SearchConfig.__dataclass_fields__ and value is not None
    }
    networks = [read_network(name) for name in given.get("network", ())]
    if networks and all(len(cuts) > 1 for cuts in networks):
        given.setdefault("lambda_local", ALONE)  # those of the preset are not asked for
    if "task" in given:
        given.setdefault("cost", None)  # that of the preset is of another task
    start = read_config(options.config) if options.config else SEARCH_PRESETS[options.preset]
    return replace(start, **given)


def _data(options) -> dict:
    series = {name: getattr(options, name) for name in ("length", "horizon", "columns")}
    reading = reading_of(options) | series
    return {"data_dir": options.data_dir, "reading": reading, "backbones": options.backbones}


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m tune.search",
        description="Search DDNNs and offload heads; report accuracy against the local fraction.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=None,
    )
    add = parser.add_argument
    start = parser.add_mutually_exclusive_group()
    known = {"choices": SEARCH_PRESETS, "default": "quickstart"}
    start.add_argument("--preset", **known, help="where the search starts")
    start.add_argument("--config", metavar="FILE", help="a search.json, or YAML, in its place")
    add("--output", default="runs/search", help="folder of the results")
    add("--resume", action="store_true", help="go on with an interrupted search in --output")
    add("--overwrite", action="store_true", help="delete an older search in --output first")
    add("--sign", metavar="KEY", help="PEM file of the private key that signs the artefact")
    add(
        "--log-to",
        nargs="+",
        choices=get_args(Tracker),
        default=[],
        help="where each head trial becomes a run too, beside results.csv",
    )
    add_forms(parser)
    add("--dry-run", action="store_true", help="print the plan and stop")
    add("--traceback", action="store_true", help="where an error comes from, instead of one line")

    group = parser.add_argument_group("data and backbones (default: the preset's)")
    add = group.add_argument
    add("--dataset", help=f"{', '.join(DATASETS)}, {DATASET_HELP}")
    add_reading(group)
    add("--length", type=int, help="steps of a window of series; 24 if not given")
    add("--horizon", type=int, help="steps from a window to what is predicted; 1 if not given")
    add("--columns", nargs="+", metavar="NAME", help="the series that are wanted of a table")
    add(
        "--task",
        nargs="+",
        metavar="WORD",
        help="what the answers are, such as regression under=4 quantiles=0.1,0.5,0.9",
    )
    add("--data-seed", type=int, help="seed of splits that are drawn and of generated data")
    add("--ddnn", choices=PRESETS, help="training recipe of the backbones")
    add("--epochs", type=int, help="epochs of each backbone")
    add("--class-weight", choices=("balanced",), help="what the samples of a class count")
    add("--local-dropout", type=float, help="of each local network")
    add("--backbones", help="folder of trained backbones, shared by searches; beside --output")

    group = parser.add_argument_group("another network than the paper's")
    add = group.add_argument
    add(
        "--network",
        nargs="+",
        metavar="NAME",
        help="package.module:function, a .keras file, a model of keras.applications or paper; or "
        "several in a chain, DEVICE+CLOUD or DEVICE+FOG+CLOUD; NAME@PRESET has a recipe of its own",
    )
    add(
        "--at",
        nargs="+",
        metavar="LAYER",
        help="where a network is cut, a backbone for each; LAYER,LAYER has an exit behind each",
    )

    group = parser.add_argument_group("choices of each dimension (default: the preset's)")
    add = group.add_argument
    add("--lambda-local", type=_lambda, nargs="+", metavar="λ", help='numbers or "random"')
    add(
        "--bottleneck",
        type=_channels,
        nargs="+",
        metavar="CHANNELS",
        help='of the map that is sent, or "none"',
    )
    add("--seed", type=int, nargs="+", metavar="SEED")
    add("--local-fraction", type=float, nargs="+", metavar="L0", help="share labelled easy")
    add("--input", choices=HEAD_INPUTS, nargs="+")
    add("--architecture", choices=get_args(HeadArchitecture), nargs="+")
    add("--depth", type=int, nargs="+", metavar="DEPTH", help="1 to 4")
    add("--target", choices=TARGETS, nargs="+", help="what a head learns")
    add("--loss", choices=LOSSES, nargs="+")
    add("--cost", choices=COST_NAMES, nargs="+", help="whose difference is the benefit B_k")
    add("--labels", choices=LABEL_SOURCES, nargs="+", help="what labels the training samples")
    add("--anchored", type=_boolean, nargs="+", metavar="yes|no", help="correct a confidence rule")
    add("--oversample", type=_boolean, nargs="+", metavar="yes|no")
    add("--patience", type=int, help="epochs without a better AUDC after which a head stops")
    add("--target-fraction", type=float, help="local fraction at which decisions are reported")

    group = parser.add_argument_group("the link for which one of several networks is recommended")
    add_machines(group, LINK)

    group = parser.add_argument_group("search")
    add = group.add_argument
    add("--searcher", choices=get_args(Searcher))
    add("--scheduler", choices=get_args(Scheduler))
    add("--trials", type=int, help="head trials of the random and optuna searchers")
    add("--address", help="of a running Ray cluster; default: Ray on this machine")
    add("--num-cpus", type=int, help="cores of the local Ray; default: all")
    add(
        "--gpus-per-network",
        type=int,
        metavar="GPUS",
        help="of one host, for each backbone; default: one where there are any",
    )
    add(
        "--save-seconds",
        type=float,
        metavar="SECONDS",
        default=Training.save_seconds,
        help="how often a backbone in training saves the state that it goes on from after a kill",
    )
    return parser


@of_option('a number or "random"')
def _lambda(text: str):
    return text if text == "random" else float(text)


@of_option('an integer or "none"')
def _channels(text: str) -> int | None:
    return None if text == "none" else int(text)


@of_option("yes or no")
def _boolean(text: str) -> bool:
    return ("no", "yes").index(text) == 1


if __name__ == "__main__":
    sys.exit(main())
