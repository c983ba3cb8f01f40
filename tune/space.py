"""What is searched: the choices of every dimension, and the backbones and trials they make."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal, get_args

import numpy as np

from keras_ddnn.config import (
    ADDED,
    PRESETS,
    DDNNConfig,
    HeadConfig,
    resolve_config,
)
from keras_ddnn.files.checks import require_choice, require_count, require_fraction, require_seed
from keras_ddnn.labels.sources import LABEL_SOURCES, fold_config, staged_config
from keras_ddnn.labels.targets import LOSSES, TARGETS
from keras_ddnn.rules.inputs import MAP_INPUTS

MEMBERS = 16  # most heads of a stack, so that two workers are busy

Searcher = Literal["grid", "random", "optuna"]
Scheduler = Literal["fifo", "asha"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A search: a dataset, the recipe of its backbones, and the choices of every dimension.

    Attributes:
        dataset, data_seed: As for `keras_ddnn.load`.
        ddnn: Preset of the backbones; `epochs` and `local_dropout` replace what it says of them.
        stages: Late epochs every backbone keeps, if the labels do not ask for more.
        lambda_local, bottleneck, seed: One backbone is trained for each three of them. A bottleneck
            of None is none.
        local_fraction, input, architecture, depth, target, loss, cost, labels, anchored,
            oversample: Choices of `HeadConfig`. Where a choice has no meaning (a convolution on a
            vector, oversampling of a map, a loss that does not fit the target, an L0 of a target
            that has no b*) the plain one takes its place.
        patience: Patience of every head, as in `HeadConfig`.
        target_fraction: The local fraction at which decisions are reported.
        searcher: "grid" runs every combination, "random" draws `trials` of them without
            replacement, "optuna" chooses `trials` one after another by their results.
        scheduler: "asha" stops weak heads early.
        trials: Number of head trials; for a grid, everything.

    Raises:
        ValueError: If a choice is unknown, out of range or missing, or `trials` does not fit.
    """

    dataset: str = "cluttered_digits"
    data_seed: int = 0
    ddnn: str = "quickstart"
    epochs: int | None = None
    local_dropout: float | None = None
    stages: int = 0
    lambda_local: tuple = (0.5,)
    bottleneck: tuple[int | None, ...] = field(default=(None,), metadata=ADDED)
    seed: tuple[int, ...] = (0,)
    local_fraction: tuple[float, ...] = (0.5,)
    input: tuple[str, ...] = ("logits_plus",)
    architecture: tuple[str, ...] = ("mlp",)
    depth: tuple[int, ...] = (1,)
    target: tuple[str, ...] = ("hard",)
    loss: tuple[str, ...] = ("bce",)
    cost: tuple[str, ...] = ("true_class",)
    labels: tuple[str, ...] = ("final_epoch",)
    anchored: tuple[bool, ...] = (False,)
    oversample: tuple[bool, ...] = (False,)
    patience: int = HeadConfig.patience
    target_fraction: float = 0.5
    searcher: Searcher = "grid"
    scheduler: Scheduler = "fifo"
    trials: int | None = None

    def __post_init__(self):
        for name in DIMENSIONS:
            choices = tuple(dict.fromkeys(getattr(self, name)))
            if not choices:
                raise ValueError(f"{name} needs at least one choice; received none")
            object.__setattr__(self, name, choices)
        require_choice("preset", self.ddnn, PRESETS)
        for labels in self.labels:
            require_choice("label source", labels, LABEL_SOURCES)
        require_choice("searcher", self.searcher, get_args(Searcher))
        require_choice("scheduler", self.scheduler, get_args(Scheduler))
        require_fraction("target_fraction", self.target_fraction)
        require_seed("data_seed", self.data_seed)
        if self.trials is not None:
            require_count(trials=self.trials)
        # Every combination is built once here, so that a wrong choice ends before any training.
        combinations = len(self.grid())
        if self.searcher == "grid" and self.trials not in (None, combinations):
            raise ValueError(
                f"a grid runs all its {combinations} combinations; received trials={self.trials}: "
                "choose the random or the optuna searcher to run fewer"
            )
        if self.searcher != "grid" and self.trials is None:
            raise ValueError(f"the {self.searcher} searcher needs a number of trials")

    def backbone(self, lambda_local, seed: int, bottleneck: int | None = None) -> DDNNConfig:
        """Return the configuration of the DDNN of a λ, a seed and a bottleneck."""
        fields = {"epochs": self.epochs, "local_dropout": self.local_dropout}
        replaced = {name: value for name, value in fields.items() if value is not None}
        replaced |= {"lambda_local": lambda_local, "seed": seed, "bottleneck": bottleneck}
        config = resolve_config(self.ddnn, stages=self.stages, **replaced)
        return staged_config(config, self.labels)

    def backbones(self) -> list["NetworkSpec"]:
        """Return every network to train: the deployed ones, and the folds labels ask for."""
        folds = range(max(LABEL_SOURCES[labels].folds for labels in self.labels))
        deployed = [
            NetworkSpec(self.backbone(*choices))
            for choices in product(self.lambda_local, self.seed, self.bottleneck)
        ]
        return deployed + [backbone.of_fold(fold) for backbone in deployed for fold in folds]

    def trial(self, choices: Mapping) -> "Trial":
        """Return the trial of one choice in every dimension of `DIMENSIONS`.

        Records from before there were bottlenecks name none.
        """
        head = {name: choices[name] for name in DIMENSIONS if name not in OF_BACKBONES}
        reads_map = head["input"] in MAP_INPUTS
        if head["architecture"] == "conv" and not reads_map:
            head["architecture"] = "mlp"
        if reads_map or head["target"] != "hard":
            head["oversample"] = False
        require_choice("target", head["target"], TARGETS)
        for name in {"cost", "local_fraction"} - set(TARGETS[head["target"]].reads):
            head[name] = getattr(HeadConfig, name)
        require_choice("head loss", head["loss"], LOSSES)
        if head["loss"] not in TARGETS[head["target"]].losses:
            head["loss"] = None
        bottleneck = choices.get("bottleneck")
        backbone = self.backbone(choices["lambda_local"], choices["seed"], bottleneck)
        return Trial(backbone, HeadConfig(**head, patience=self.patience))

    def grid(self) -> list["Trial"]:
        """Return every distinct trial, in the order of the dimensions."""
        combinations = product(*(getattr(self, name) for name in DIMENSIONS))
        trials = (self.trial(dict(zip(DIMENSIONS, values))) for values in combinations)
        return list(dict.fromkeys(trials))

    def stacks(self) -> list[list["Trial"]]:
        """Return the trials of `sample` in the stacks that are trained together.

        They do not depend on what is done already or on the machine: a head comes out the same.
        """
        groups = {}
        for number, trial in enumerate(self.sample()):
            key = trial.head.stack_key() if self.scheduler == "fifo" else None
            groups.setdefault((trial.ddnn, key) if key else number, []).append(trial)
        stacks = []
        for group in groups.values():
            count = math.ceil(len(group) / MEMBERS)
            stacks += [group[first::count] for first in range(count)]
        return stacks

    def sample(self) -> list["Trial"]:
        """Return the trials of the grid or the random searcher, decided before any is run."""
        grid = self.grid()
        if self.searcher == "grid" or self.trials >= len(grid):
            return grid
        rng = np.random.default_rng(self.seed[0])
        return [grid[i] for i in np.sort(rng.choice(len(grid), self.trials, replace=False))]


# The fields of SearchConfig that hold choices. These are fields of DDNNConfig alone, the others of
# HeadConfig; "seed" is that of both.
OF_BACKBONES = ("lambda_local", "bottleneck")
DIMENSIONS = (
    *OF_BACKBONES,
    "seed",
    "local_fraction",
    "input",
    "architecture",
    "depth",
    "target",
    "loss",
    "cost",
    "labels",
    "anchored",
    "oversample",
)


@dataclass(frozen=True)
class NetworkSpec:
    """A network to train.

    Attributes:
        ddnn: How.
        fold: The fold of the training data it is trained without, and predicts; `ddnn` is then
            that of `fold_config`. None for all data.
        along: A head to train beside it, from the middle epoch on; only the head is then kept.
    """

    ddnn: DDNNConfig
    fold: int | None = None
    along: HeadConfig | None = None

    @property
    def deployed(self) -> bool:
        """Whether it is deployed, and does not only predict a fold or train a head."""
        return self.fold is None and self.along is None

    def of_fold(self, fold: int) -> "NetworkSpec":
        """Return the network that predicts a fold of this one's training data."""
        return NetworkSpec(fold_config(self.ddnn), fold)

    def name(self) -> str:
        """Return what tells it from the other backbones of a search."""
        part = "" if self.fold is None else f"-fold{self.fold}"
        part += "-along" if self.along else ""
        return f"{_part(self.ddnn)}-seed{self.ddnn.seed}{part}"


@dataclass(frozen=True)
class Trial:
    """One head on one backbone."""

    ddnn: DDNNConfig
    head: HeadConfig

    def backbones(self) -> list[NetworkSpec]:
        """Return the networks it needs: the deployed one, and the folds its labels ask for."""
        deployed = NetworkSpec(self.ddnn)
        folds = range(LABEL_SOURCES[self.head.labels].folds)
        return [deployed, *map(deployed.of_fold, folds)]

    def name(self) -> str:
        """Return what tells it from the other trials of a search, fit for a folder's name."""
        head = self.head
        return (
            f"{_part(self.ddnn)}-seed{head.seed}-{head.input}-{head.architecture}"
            f"{head.depth}-{head.target}-{head.loss}{'-oversampled' * head.oversample}"
            f"-{head.cost}-{head.labels}{'-anchored' * head.anchored}-L{head.local_fraction}"
        )

    def choices(self) -> dict:
        """Return its choice in every dimension."""
        return {
            name: getattr(self.ddnn if name in OF_BACKBONES else self.head, name)
            for name in DIMENSIONS
        }


def _part(ddnn: DDNNConfig) -> str:
    """Return the part of a name that tells the choices of `OF_BACKBONES`."""
    part = "" if ddnn.bottleneck is None else f"-bottleneck{ddnn.bottleneck}"
    return f"lambda{ddnn.lambda_local}{part}"


_cifar10 = SearchConfig(
    dataset="cifar10",
    ddnn="strong",
    lambda_local=(0.3, 0.5, 0.7),
    local_fraction=(0.3, 0.5, 0.7),
    input=("features", "image", "logits", "logits_plus"),
    depth=(1, 2),
    loss=("bce", "weighted_bce"),
)

SEARCH_PRESETS = {
    # What the paper teaches a head beside what serves best, alone and as a correction.
    "quickstart": SearchConfig(
        lambda_local=(0.3, 0.7),
        input=("features", "logits_plus", "logits_rich"),
        target=("hard", "distilled"),
        anchored=(False, True),
    ),
    "cifar10": _cifar10,
    # The paper's own networks, recipe and heads.
    "paper": replace(_cifar10, ddnn="paper", architecture=("paper_mlp",), loss=("bce",)),
}
