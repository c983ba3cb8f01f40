"""What is searched: the choices of every dimension, and the networks and trials they make."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Literal, get_args

import numpy as np

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.presets import PRESETS, resolve_config
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.files.checks import (
    ClassWeight,
    class_weight_pairs,
    expect,
    require_choice,
    require_count,
    require_fraction,
    require_seed,
)
from keras_ddnn.labels.sources import LABEL_SOURCES, staged_config
from keras_ddnn.labels.targets import LOSSES, TARGETS
from keras_ddnn.rules.inputs import MAP_INPUTS
from keras_ddnn.tasks.known import as_words, task_from_words
from keras_ddnn.tasks.task import Task
from tune.network_names import parts_of, read_network, require_inputs, require_layers
from tune.specs import CLASSES, DIMENSIONS, OF_NETWORKS, NetworkSpec, Trial

ALONE = (DDNNConfig.lambda_local,)  # λ of networks that have no exit to weigh
MEMBERS = 16  # of a stack at most: two cores want two stacks

Searcher = Literal["grid", "random", "optuna"]
Tracker = Literal["mlflow", "wandb"]  # not of a search: where its trials are logged
Scheduler = Literal["fifo", "asha"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A search: a dataset, the recipe of its backbones, and the choices of every dimension.

    Attributes:
        dataset, data_seed: As of `keras_ddnn.load`; of a task of numbers as of `load_series`.
        task: What the answers are, see `task_from_words`.
        ddnn: Preset of the backbones; `epochs` and `local_dropout` replace what it says of them.
        class_weight: Of every backbone, as of `DDNNConfig`.
        stages: Late epochs every backbone keeps, if the labels do not ask for more.
        network: Names of networks, see `read_network`; None is the paper's. Of `ddnn` the others
            take the recipe alone. The two of a chain are trained apart, and each once however many
            chains it is in.
        at: Where networks are cut, a backbone for each: a layer, or several with commas between
            them, behind each of which is an exit.
        lambda_local, bottleneck, seed: One backbone is trained for each three of them. A bottleneck
            of None is none. Networks of a chain have a seed alone.
        local_fraction, input, architecture, depth, target, loss, cost, labels, anchored,
            oversample: Choices of `HeadConfig`. A cost of None is that of the task. Where a choice
            has no meaning (a convolution on a vector, oversampling of a map, a loss that does not
            fit the target, an L0 of a target that has no b*) the plain one takes its place. Of more
            tiers than two every gate has a head of the same choices.
        patience: Of every head, as of `HeadConfig`.
        target_fraction: The local fraction at which decisions are reported. The thresholds of gates
            behind the device are those of the plan whose mean price is that of keeping as much at
            every gate of what reaches it.
        searcher: "grid" runs every combination, "random" draws `trials` of them without
            replacement, "optuna" chooses `trials` one after another by their results.
        scheduler: "asha" stops weak heads early.
        trials: Number of head trials; for a grid, everything.

    Raises:
        ValueError: If a choice is unknown, out of range or missing, or `trials` does not fit.
    """

    dataset: str = "cluttered_digits"
    data_seed: int = 0
    task: tuple[str, ...] = CLASSES
    ddnn: str = "quickstart"
    epochs: int | None = None
    local_dropout: float | None = None
    class_weight: ClassWeight = None
    stages: int = 0
    network: tuple[str | None, ...] = (None,)
    at: tuple[str | None, ...] = (None,)
    lambda_local: tuple = (0.5,)
    bottleneck: tuple[int | None, ...] = (None,)
    seed: tuple[int, ...] = (0,)
    local_fraction: tuple[float, ...] = (0.5,)
    input: tuple[str, ...] = ("logits_plus",)
    architecture: tuple[str, ...] = ("mlp",)
    depth: tuple[int, ...] = (1,)
    target: tuple[str, ...] = ("hard",)
    loss: tuple[str, ...] = ("bce",)
    cost: tuple[str, ...] | None = None
    labels: tuple[str, ...] = ("final_epoch",)
    anchored: tuple[bool, ...] = (False,)
    oversample: tuple[bool, ...] = (False,)
    patience: int = HeadConfig.patience
    target_fraction: float = 0.5
    searcher: Searcher = "grid"
    scheduler: Scheduler = "fifo"
    trials: int | None = None

    def __post_init__(self):
        if self.network is None or isinstance(self.network, str):
            object.__setattr__(self, "network", (self.network,))
        object.__setattr__(self, "task", as_words(self.task))
        task = self.answers()  # raises where the words are of no task
        if self.cost is None:
            object.__setattr__(self, "cost", (task.benefit_cost,))
        for name in DIMENSIONS:
            choices = tuple(dict.fromkeys(getattr(self, name)))
            if not choices:
                raise ValueError(f"{name} needs at least one choice; received none")
            object.__setattr__(self, name, choices)
        object.__setattr__(self, "class_weight", class_weight_pairs(self.class_weight))
        require_choice("preset", self.ddnn, PRESETS)
        of_classes = task.target_reader is None
        said, wanted = " ".join(self.task), "a task of classes"
        expect(of_classes or self.class_weight is None, "class_weight", wanted, f"{said!r}")
        self._require_networks()
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

    def _require_networks(self) -> None:
        """Raise ValueError unless all names can be read, and each choice is of some network."""
        networks = [*map(read_network, self.network)]
        layers = (at if at is None else ",".join(parts_of(at, ",")) for at in self.at)
        object.__setattr__(self, "at", tuple(dict.fromkeys(layers)))
        if self.task != CLASSES and () in networks:
            raise ValueError(
                f"the network of the paper learns plain classes; received the task "
                f"{' '.join(self.task)}: name other networks, such as tcn_small+tcn_large"
            )
        require_inputs(networks, self.at, self.input)
        names = ("+".join(cut.name() for cut in cuts) or None for cuts in networks)
        object.__setattr__(self, "network", tuple(dict.fromkeys(names)))
        require_layers(networks, self.at)
        named = "+".join(cut.network for cut in networks[0])
        for name, plain in (("bottleneck", (None,)), ("local_dropout", None)):
            if (value := getattr(self, name)) != plain and () not in networks:
                raise ValueError(
                    f"{name} is put into the network of the paper alone; received {value} for "
                    f"{named!r}: leave it out"
                )
        if all(len(cuts) > 1 for cuts in networks) and self.lambda_local != ALONE:
            raise ValueError(
                f"λ is no dimension of a chain, whose networks are trained alone; received "
                f"lambda_local={self.lambda_local} for {named!r}: leave it out"
            )

    def answers(self) -> Task:
        """Return the task."""
        return task_from_words(self.task)

    def members(self, choices: Mapping) -> tuple[NetworkSpec, ...]:
        """Return what is trained for a choice in every dimension of `OF_NETWORKS`, and a seed.

        A choice that has no meaning for a network is not made. Older records name neither a
        network nor a layer nor a bottleneck.
        """
        cuts = read_network(choices.get("network", self.network[0]))
        cuts = tuple(replace(cut, task=self.task) for cut in cuts)
        weight, seed = choices["lambda_local"], choices["seed"]
        if not cuts:
            return (NetworkSpec(self.backbone(weight, seed, choices.get("bottleneck"))),)
        if len(cuts) == 1:
            cuts = (replace(cuts[0], at=choices["at"]),)
        else:
            (weight,) = ALONE
        return tuple(
            NetworkSpec(self.backbone(weight, seed, recipe=cut.recipe), cut=cut) for cut in cuts
        )

    def backbone(
        self, lambda_local, seed: int, bottleneck: int | None = None, recipe: str | None = None
    ) -> DDNNConfig:
        """Return the configuration of the DDNN of a λ, a seed, a bottleneck and a preset."""
        names = ("epochs", "local_dropout", "class_weight")
        fields = {name: getattr(self, name) for name in names}
        replaced = {name: value for name, value in fields.items() if value is not None}
        replaced |= {"lambda_local": lambda_local, "seed": seed, "bottleneck": bottleneck}
        config = resolve_config(recipe or self.ddnn, stages=self.stages, **replaced)
        return staged_config(config, self.labels)

    def networks(self) -> list[tuple[NetworkSpec, ...]]:
        """Return the members of each network that is deployed; see `Trial`."""
        names = ("network", "at", "lambda_local", "seed", "bottleneck")
        combinations = product(*(getattr(self, name) for name in names))
        return [*dict.fromkeys(self.members(dict(zip(names, each))) for each in combinations)]

    def backbones(self) -> list[NetworkSpec]:
        """Return every network to train: the deployed ones, and the folds labels ask for."""
        folds = range(max(LABEL_SOURCES[labels].folds for labels in self.labels))
        deployed = list(dict.fromkeys(chain(*self.networks())))
        return deployed + [backbone.of_fold(fold) for backbone in deployed for fold in folds]

    def trial(self, choices: Mapping) -> Trial:
        """Return the trial of one choice in every dimension of `DIMENSIONS`; see `members`."""
        head = {name: choices[name] for name in DIMENSIONS if name not in OF_NETWORKS}
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
        return Trial(self.members(choices), HeadConfig(**head, patience=self.patience))

    def grid(self) -> list[Trial]:
        """Return every distinct trial, in the order of the dimensions."""
        combinations = product(*(getattr(self, name) for name in DIMENSIONS))
        trials = (self.trial(dict(zip(DIMENSIONS, values))) for values in combinations)
        return list(dict.fromkeys(trials))

    def stacks(self) -> list[list[Trial]]:
        """Return the trials of `sample` in the stacks that are trained together.

        They do not depend on what is done already or on the machine: a head comes out the same.
        """
        groups = {}
        for number, trial in enumerate(self.sample()):
            key = trial.head.stack_key() if self.scheduler == "fifo" else None
            groups.setdefault((trial.members, key) if key else number, []).append(trial)
        stacks = []
        for group in groups.values():
            count = math.ceil(len(group) / MEMBERS)
            stacks += [group[first::count] for first in range(count)]
        return stacks

    def sample(self) -> list[Trial]:
        """Return the trials of the grid or the random searcher, decided before any is run."""
        grid = self.grid()
        if self.searcher == "grid" or self.trials >= len(grid):
            return grid
        rng = np.random.default_rng(self.seed[0])
        return [grid[i] for i in np.sort(rng.choice(len(grid), self.trials, replace=False))]


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
    # Of series: how much is to be provided, by a network on the device and one in the cloud.
    "series": SearchConfig(
        dataset="cell_traffic",
        task=("regression", "under=4", "penalty=0.5", "quantiles=0.1,0.5,0.9", "level=0.9"),
        ddnn="series",
        network=("tcn_small+tcn_large",),
        lambda_local=ALONE,
        input=("logits", "outputs_inputs"),
        depth=(1, 2, 3),
        target=("expected_benefit",),
        loss=("mse", "huber"),
        anchored=(False, True),
    ),
    # The paper's own networks, recipe and heads.
    "paper": replace(_cifar10, ddnn="paper", architecture=("paper_mlp",), loss=("bce",)),
}
