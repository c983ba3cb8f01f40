"""Offload heads: what they read, what they are and what they learn."""

from dataclasses import dataclass
from typing import Literal, get_args

from keras_ddnn.config.training import Precision
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import (
    require_choice,
    require_count,
    require_fraction,
    require_positive,
    require_seed,
    require_switch,
)
from keras_ddnn.labels.sources import LABEL_SOURCES
from keras_ddnn.labels.targets import LOSSES, PROBABILITY_TARGETS, TARGETS
from keras_ddnn.rules.inputs import HEAD_INPUTS, MAP_INPUTS
from keras_ddnn.tasks.known import COST_NAMES
from keras_ddnn.tasks.task import Task

HeadArchitecture = Literal["mlp", "paper_mlp", "conv"]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """An offload head: what it reads, what it is, and what it learns.

    Attributes:
        input: A key of `HEAD_INPUTS`.
        architecture: "mlp"; "paper_mlp", the same ending in (1 + tanh)/2 as in the paper; "conv",
            the shallow network of four convolution blocks, for the map inputs.
        depth: 1 to 4. Of an MLP on a vector, the first so many of the widths 256, 128, 64, 32; on a
            map, so many dense layers of 128; of "conv", the convolutions a block.
        target: A key of `TARGETS`, what is learned; by default that of `PROBABILITY_TARGETS` which
            a `LogitHead` of the validation samples chooses, where answers are right or wrong.
        loss: A key of `LOSSES` that fits the target; the target's first by default.
        cost: A cost of the task, whose benefit is learned; one of `COST_NAMES`.
        labels: A key of `LABEL_SOURCES`, which label the training samples.
        anchored: Whether the head corrects the best confidence rule, as far as validation data
            support it, or ranks alone; see `Anchor`.
        local_fraction: L0, the share of training samples labelled easy; in [0, 1].
        oversample: Whether to balance the labels by SMOTE (imbalanced-learn), on vectors only.
        dropout: Share of the hidden units of "mlp" that are left out at random.
        epochs, batch_size, learning_rate, patience: Training by Adam; it stops when the AUDC on the
            validation data has not risen for `patience` epochs.
        precision: As in `DDNNConfig`, for heads on maps; vectors are always read in float32.
        seed: Seed of the weight initialisation and shuffling.

    Raises:
        ValueError: If a field lies outside its range, a name is unknown, or a vector input is
            asked of "conv" or a map of `oversample`.
    """

    input: str = "logits_rich"
    architecture: HeadArchitecture = "mlp"
    depth: int = 1
    target: str | None = None
    loss: str | None = None
    cost: str = "true_class"
    labels: str = "final_epoch"
    anchored: bool = True
    local_fraction: float = 0.5
    oversample: bool = False
    dropout: float = 0.3
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 1e-3
    patience: int = 3
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self):
        require_choice("head input", self.input, HEAD_INPUTS)
        require_choice("head architecture", self.architecture, get_args(HeadArchitecture))
        require_choice("head depth", self.depth, (1, 2, 3, 4))
        require_choice("target", self.first_target, TARGETS)
        losses = TARGETS[self.first_target].losses
        if self.loss is None:
            object.__setattr__(self, "loss", losses[0])
        require_choice("head loss", self.loss, LOSSES)
        named = f"the target {self.target!r}"
        taught = "a head that names no target" if self.target is None else named
        require_choice(f"loss of {taught}", self.loss, losses)
        require_choice("cost", self.cost, COST_NAMES)
        require_choice("label source", self.labels, LABEL_SOURCES)
        require_choice("precision", self.precision, get_args(Precision))
        require_seed("seed", self.seed)
        require_fraction("local_fraction", self.local_fraction)
        require_fraction("dropout", self.dropout)
        require_count(epochs=self.epochs, batch_size=self.batch_size, patience=self.patience)
        require_positive(learning_rate=self.learning_rate)
        require_switch(anchored=self.anchored, oversample=self.oversample)
        reads_map = self.input in MAP_INPUTS
        if self.architecture == "conv" and not reads_map:
            raise ValueError(
                f"a conv head reads a map, one of {', '.join(MAP_INPUTS)}; received {self.input!r}"
            )
        if self.oversample and reads_map:
            raise ValueError(f"oversampling needs a vector input; received {self.input!r}")
        if self.oversample and self.target != "hard":
            raise ValueError(f"oversampling needs the target 'hard'; received {self.target!r}")

    @property
    def first_target(self) -> str:
        """The target, or the one that is learned where validation samples speak for no other.

        What fits the one fits the other: both have two outputs and the same loss.
        """
        return self.target or PROBABILITY_TARGETS[0]

    @classmethod
    def of_task(cls, task: Task) -> "HeadConfig":
        """Return the default head of a task: of plain classes that of no arguments.

        Where another cost counts, it learns from the outputs alone what a sample gains of that: as
        the cloud expects it, if its outputs are quantiles.
        """
        if task.benefit_cost == cls.cost:
            return cls()
        targets = ("expected_benefit", "benefit")
        target = next(name for name in targets if task.gives.issuperset(TARGETS[name].needs))
        return cls(input="logits", target=target, cost=task.benefit_cost)

    def require_fits(self, tier: TierOutputs) -> None:
        """Raise ValueError, in one line, unless a tier has what the head reads and learns.

        Args:
            tier: Any samples of it.
        """
        self.require_target(tier)
        require_choice("cost of a head", self.cost, tier.task.costs)
        HEAD_INPUTS[self.input](tier)

    def require_target(self, tier: TierOutputs) -> None:
        """Raise ValueError, in one line, unless a tier has what the target is made of."""
        for need in TARGETS[self.first_target].needs:
            tier.require(need, f"the target {self.first_target!r}")

    def stack_key(self) -> tuple | None:
        """Return what heads that `fit_heads` trains together agree on; None if trained alone."""
        if self.architecture == "conv" or self.oversample:
            return None
        units = TARGETS[self.first_target].units
        return (units, *(getattr(self, name) for name in STACKED_ALIKE))


# The members of a stack read the same batches, and do the same with them.
STACKED_ALIKE = (
    *("input", "architecture", "depth", "labels", "dropout", "epochs", "batch_size"),
    *("learning_rate", "precision", "seed"),
)
