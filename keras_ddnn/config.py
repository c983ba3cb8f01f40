"""What is built and how it is trained, as frozen, validated records, and the named presets."""

from dataclasses import dataclass, fields, replace
from itertools import chain
from numbers import Integral
from typing import Literal, get_args

from keras_ddnn.data.quantisation import BOTTLENECK_CODES, Quantisation
from keras_ddnn.files.checks import (
    ClassWeight,
    class_weight_pairs,
    require_choice,
    require_count,
    require_fraction,
    require_positive,
    require_seed,
)
from keras_ddnn.files.records import as_json as as_json
from keras_ddnn.labels.sources import LABEL_SOURCES
from keras_ddnn.labels.targets import LOSSES, TARGETS
from keras_ddnn.rules.inputs import HEAD_INPUTS, MAP_INPUTS
from keras_ddnn.tasks.classification import COSTS

# Names whose implementations import Keras, which `--help` must not; a test compares the two.
Schedule = Literal["plateau", "one_cycle"]
Augmentation = Literal["none", "crop", "flip", "crop_flip"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
HeadArchitecture = Literal["mlp", "paper_mlp", "conv"]

BOTTLENECK_BLOCK = 2  # side of the square of places that a bottleneck narrows together
NARROW_EPOCH_SHARE = 0.5  # share of the epochs that are trained with a bottleneck


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """Architecture of the networks of the paper, which are the defaults.

    Attributes:
        local_filters, local_pool, local_units: The local network: 3×3 convolution, optional 2×2
            max-pooling, then flatten → dense → logits.
        local_dropout: Share of the inputs of both these dense layers that is left out at random;
            the paper has none. `MCDropout` needs some.
        cloud_filters, cloud_units, dropout: The cloud network: one tuple of 3×3 convolution widths
            a block, each block ending in 2×2 pooling; then the dense widths. `dropout` acts after
            each block and each dense layer.
        bottleneck: Channels of the map that a device sends, an even number, of half the sides of
            the local feature map, in 4-bit codes it is trained with; see `feature_quantisation`
            and `DDNNConfig.wide_epochs`. None sends the whole local feature map.

    Raises:
        ValueError: If a field lies outside its range.
    """

    local_filters: int = 32
    local_pool: bool = True
    local_units: int = 64
    local_dropout: float = 0.0
    cloud_filters: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64, 128))
    cloud_units: tuple[int, ...] = (256, 64)
    dropout: float = 0.25
    bottleneck: int | None = None

    def __post_init__(self):
        # Normalise types so that equal configs hash alike.
        object.__setattr__(self, "cloud_filters", tuple(tuple(b) for b in self.cloud_filters))
        object.__setattr__(self, "cloud_units", tuple(self.cloud_units))
        require_fraction("local_dropout", self.local_dropout)
        require_fraction("dropout", self.dropout)
        require_count(local_filters=self.local_filters, local_units=self.local_units)
        if self.bottleneck is not None:
            require_count(bottleneck=self.bottleneck)
            most = BOTTLENECK_BLOCK**2 * self.local_filters
            if self.bottleneck % 2 or self.bottleneck > most:
                raise ValueError(
                    "bottleneck must be even, as two codes make a byte, and at most the "
                    f"{most} channels of {BOTTLENECK_BLOCK}×{BOTTLENECK_BLOCK} places; received "
                    f"{self.bottleneck}"
                )
        if not all(self.cloud_filters):
            raise ValueError(
                f"every block of cloud_filters needs a width; received {self.cloud_filters}"
            )
        for width in chain(*self.cloud_filters, self.cloud_units):
            require_count(cloud_width=width)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Recipe of a joint training, of any network; the defaults are the paper's.

    Attributes:
        lambda_local: Weight of the local loss, in [0, 1]; the cloud's is 1 - λ. "random" draws λ
            uniformly at every step.
        epochs, batch_size: Of Adam.
        learning_rate, schedule: "plateau" halves `learning_rate` when the validation loss stalls;
            "one_cycle" warms up to it over the first fifth of the steps, then follows a cosine to
            zero.
        augmentation: "crop" pads by 4 pixels of reflection and crops at random; "flip" mirrors half
            of the images; "crop_flip" does both.
        precision: Compute type; weights, logits and losses stay float32. "auto" takes bfloat16
            where the hardware multiplies it natively, float16 on older GPUs and float32 elsewhere.
        stages: Last epochs whose mean probabilities on the training data are kept, for the labels
            "stage_averaged"; 0 for none. Each costs one more pass over the training data.
        class_weight: What samples of a class count in the training loss. "balanced" is n / (k ·
            samples of the class) for k classes; of a mapping from labels, kept as pairs, others 1.
        seed: Seed of the weight initialisation and shuffling.

    Raises:
        ValueError: If a field lies outside its range or a name is unknown.
    """

    lambda_local: float | Literal["random"] = 0.5
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Schedule = "plateau"
    augmentation: Augmentation = "none"
    precision: Precision = "auto"
    stages: int = 0
    class_weight: ClassWeight = None
    seed: int = 0

    def __post_init__(self):
        if self.lambda_local != "random":
            require_fraction("lambda_local", self.lambda_local)
            object.__setattr__(self, "lambda_local", float(self.lambda_local))
        require_count(epochs=self.epochs, batch_size=self.batch_size)
        if not isinstance(self.stages, Integral) or not 0 <= self.stages <= self.epochs:
            raise ValueError(
                f"stages must lie in 0..epochs={self.epochs}; received {self.stages!r}"
            )
        require_positive(learning_rate=self.learning_rate)
        require_choice("schedule", self.schedule, get_args(Schedule))
        require_choice("augmentation", self.augmentation, get_args(Augmentation))
        require_choice("precision", self.precision, get_args(Precision))
        object.__setattr__(self, "class_weight", class_weight_pairs(self.class_weight))
        require_seed("seed", self.seed)


@dataclass(frozen=True, kw_only=True)
class DDNNConfig(TrainingConfig, PaperOptions):
    """The network of the paper and its recipe: all fields of `PaperOptions` and `TrainingConfig`.

    Of another network the recipe alone is used.
    """

    def __post_init__(self):
        PaperOptions.__post_init__(self)
        TrainingConfig.__post_init__(self)

    @property
    def network(self) -> PaperOptions:
        """Its architecture."""
        return _part(PaperOptions, self)

    @property
    def recipe(self) -> TrainingConfig:
        """Its recipe."""
        return _part(TrainingConfig, self)

    @property
    def wide_epochs(self) -> int:
        """First epochs, before a bottleneck is put in, see `start_bottleneck`; 0 without one."""
        if self.bottleneck is None:
            return 0
        return self.epochs - max(1, round(NARROW_EPOCH_SHARE * self.epochs))


def _part(kind: type, config: DDNNConfig):
    return kind(**{each.name: getattr(config, each.name) for each in fields(kind)})


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """An offload head: what it reads, what it is, and what it learns.

    Attributes:
        input: A key of `HEAD_INPUTS`.
        architecture: "mlp"; "paper_mlp", the same ending in (1 + tanh)/2 as in the paper; "conv",
            the shallow network of four convolution blocks, for the map inputs.
        depth: 1 to 4. Of an MLP on a vector, the first so many of the widths 256, 128, 64, 32; on a
            map, so many dense layers of 128; of "conv", the convolutions a block.
        target: A key of `TARGETS`, what is learned.
        loss: A key of `LOSSES` that fits the target; the target's first by default.
        cost: A key of `COSTS`, whose benefit is learned.
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
    target: str = "distilled"
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
        require_choice("target", self.target, TARGETS)
        if self.loss is None:
            object.__setattr__(self, "loss", TARGETS[self.target].losses[0])
        require_choice("head loss", self.loss, LOSSES)
        require_choice(
            f"loss of the target {self.target!r}", self.loss, TARGETS[self.target].losses
        )
        require_choice("cost", self.cost, COSTS)
        require_choice("label source", self.labels, LABEL_SOURCES)
        require_choice("precision", self.precision, get_args(Precision))
        require_seed("seed", self.seed)
        require_fraction("local_fraction", self.local_fraction)
        require_fraction("dropout", self.dropout)
        require_count(epochs=self.epochs, batch_size=self.batch_size, patience=self.patience)
        require_positive(learning_rate=self.learning_rate)
        reads_map = self.input in MAP_INPUTS
        if self.architecture == "conv" and not reads_map:
            raise ValueError(
                f"a conv head reads a map, one of {', '.join(MAP_INPUTS)}; received {self.input!r}"
            )
        if self.oversample and reads_map:
            raise ValueError(f"oversampling needs a vector input; received {self.input!r}")
        if self.oversample and self.target != "hard":
            raise ValueError(f"oversampling needs the target 'hard'; received {self.target!r}")

    def stack_key(self) -> tuple | None:
        """Return what heads that `fit_heads` trains together agree on; None if trained alone."""
        if self.architecture == "conv" or self.oversample:
            return None
        units = TARGETS[self.target].units
        return (units, *(getattr(self, name) for name in STACKED_ALIKE))


# The members of a stack read the same batches, and do the same with them.
STACKED_ALIKE = (
    *("input", "architecture", "depth", "labels", "dropout", "epochs", "batch_size"),
    *("learning_rate", "precision", "seed"),
)

# Super-convergence (Smith & Topin, 2018): a high learning rate, warmed up and annealed once.
_one_cycle = DDNNConfig(schedule="one_cycle", learning_rate=3e-3, batch_size=256, dropout=0.1)

PRESETS = {
    # The recipe of the paper.
    "paper": DDNNConfig(),
    # The paper's accuracies in half its epochs.
    "fast": replace(_one_cycle, epochs=10, augmentation="flip"),
    # Better than the paper on both networks; augmentation keeps the training bank unbiased.
    "strong": replace(_one_cycle, epochs=22, augmentation="crop_flip"),
    # For the embedded cluttered_digits, whose classes a mirror image would confuse.
    "quickstart": replace(_one_cycle, epochs=5, batch_size=128, augmentation="crop"),
}


def resolve_config(config: DDNNConfig | str | None = None, **overrides) -> DDNNConfig:
    """Return a preset (by name; "paper" when None) or the given config with fields replaced.

    Raises:
        ValueError: If the preset or a field is unknown, or a value lies outside its range.
    """
    if config is None or isinstance(config, str):
        name = config or "paper"
        require_choice("preset", name, PRESETS)
        config = PRESETS[name]
    known = [field.name for field in fields(config)]
    for name in overrides:
        require_choice("DDNNConfig field", name, known)
    return replace(config, **overrides)


def feature_quantisation(config: DDNNConfig) -> Quantisation | None:
    """Return the codes of the features of a DDNN that are sent without loss.

    With a bottleneck all features are values of these codes; without one None, and a
    `Quantisation` must be fitted to features, to half a step.
    """
    return None if config.bottleneck is None else BOTTLENECK_CODES
