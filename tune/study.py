"""A study: searches whose test results stay in small files, so that a later run adds to them."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from keras_ddnn.data.datasets import Splits, load
from keras_ddnn.files.notices import CommandParser
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.labels.sources import require_samples
from tune.failures import grouped, run_command
from tune.space import SearchConfig
from tune.specs import NetworkSpec, Trial
from tune.stored import StoredNetwork
from tune.workspace import Workspace

GO_ON = "run the same command again to go on"


@dataclass(frozen=True, eq=False)
class Finished:
    """A search with all its trials finished, for what a study makes of it.

    Attributes:
        search: What was searched.
        splits: The data.
        heads: {Trial: its `HeadRule`}.
        backbone: λ → the `StoredNetwork` of the search's only seed.
    """

    search: SearchConfig
    splits: Splits
    heads: dict[Trial, object]
    backbone: Callable[[object], StoredNetwork]

    @classmethod
    def of(
        cls, search: SearchConfig, splits: Splits, workspace: Workspace, unfinished: list[dict]
    ) -> "Finished":
        """Read it; the arguments are those of `tune.report.write`.

        Raises:
            RuntimeError: If a trial has not finished.
        """
        if unfinished:
            reasons = grouped(row["reason"] for row in unfinished)
            raise RuntimeError(f"{len(unfinished)} trials did not finish: {reasons}")
        heads = {
            trial: workspace.head(trial, record)
            for trial, record in workspace.trials(search).items()
        }
        (seed,) = search.seed
        return cls(
            search,
            splits,
            heads,
            lambda weight: StoredNetwork.of(
                workspace, (NetworkSpec(search.backbone(weight, seed)),), splits
            ),
        )


def train_shared(options, wanted: Iterable[NetworkSpec]) -> None:
    """Train in one queue, on all cores, what several searches would train one after another.

    Args:
        options: Options of `study_parser`; the backbones go into `backbones` in `options.work`.
        wanted: In any order, some of them twice; those that are there are not trained again.

    Raises:
        ValueError: On bad data, or data that are too few for folds or intervals.
        RuntimeError: If the training of one fails.
    """
    from tune.driver import train_backbones

    # The longest first, so that no core is idle at the end.
    longest_first = sorted(set(wanted), key=lambda b: (b.along is None, -b.ddnn.epochs, b.name()))
    if longest_first:
        splits = load(options.dataset, options.data_dir)
        splits.require_measurable()
        if any(backbone.fold is not None for backbone in longest_first):
            require_samples(["cross_fitted"], splits.train.labels, splits.class_names)
        train_backbones(
            longest_first, splits, options.work / "backbones", num_cpus=options.num_cpus
        )


def run_search_of(options, name: str, search: SearchConfig, measure, backbones=None) -> None:
    """Run or resume one search of a study.

    Args:
        options: Options of `study_parser`.
        name: Folder of the search in `options.work`.
        search: What to search, on one seed.
        measure: `Finished` → None; writes what is kept.
        backbones: Folder of trained backbones; `backbones` in `options.work` by default.
    """
    from tune.driver import run_search

    run_search(
        search,
        options.work / name,
        data_dir=options.data_dir,
        backbones=backbones or options.work / "backbones",
        resume=True,
        num_cpus=options.num_cpus,
        write=lambda *finished: measure(Finished.of(*finished)),
    )


def run_study(run: Callable[[argparse.Namespace], object], options: argparse.Namespace) -> int:
    """Run a study on TensorFlow, which prints nothing but errors.

    Args:
        run: Does what the options ask for.
        options: Of its command line; `traceback` is one of them.

    Returns:
        The exit code; see `run_command`.
    """

    def quietly() -> None:
        import_tensorflow()
        run(options)

    return run_command(quietly, GO_ON, traceback=options.traceback)


def study_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a study, to which it adds options of its own."""
    parser = CommandParser(
        prog=f"python -m {prog}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    name = prog.rpartition(".")[-1]
    add("--output", type=Path, default=Path("results", name), help="small files, to keep")
    add("--work", type=Path, default=Path("runs", name), help="backbones and heads")
    add("--dataset", default="cifar10")
    add("--data-dir", help="folder of TensorFlow Datasets")
    add("--epochs", type=int, help="of every DDNN; default: the preset's")
    add("--num-cpus", type=int, help="cores of the local Ray; default: all")
    add("--traceback", action="store_true", help="where an error comes from, instead of one line")
    return parser
