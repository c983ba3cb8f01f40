"""How networks are trained: a recipe, and the paper's network together with it."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from keras_ddnn.config.network import PaperOptions
from keras_ddnn.files.checks import (
    ClassWeight,
    class_weight_pairs,
    is_integer,
    require_choice,
    require_count,
    require_fraction,
    require_positive,
    require_seed,
)

# Names whose implementations import Keras, which `--help` must not; a test compares the two.
Schedule = Literal["plateau", "one_cycle", "linear"]
Optimizer = Literal["adam", "muon"]
Augmentation = Literal["none", "crop", "flip", "crop_flip", "crop_flip_cutout", "shift_alternate"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

NARROW_EPOCH_SHARE = 0.5  # share of the epochs that are trained with a bottleneck


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Recipe of a joint training, of any network; the defaults are the paper's.

    Attributes:
        lambda_local: Weight of the local loss, in [0, 1]; the cloud's is 1 - λ. "random" draws λ
            uniformly at every step. Several exits before the last share λ evenly; or each has its
            own, in order, of a sum of 1 at most.
        epochs, batch_size: Of the training.
        optimizer: "adam", or "muon" for networks of normalised convolutions; see
            `ConvolutionalMuon`.
        learning_rate, schedule: "plateau" halves `learning_rate` when the validation loss stalls;
            "one_cycle" warms up to it over the first fifth of the steps, then follows a cosine to
            zero; "linear" falls from it to zero.
        label_smoothing: Share of each target that is spread evenly over the classes, in [0, 1].
        augmentation: "crop" pads by 4 pixels of reflection and crops at random; "flip" mirrors half
            of the images; "crop_flip" does both; "crop_flip_cutout" then hides a square of each;
            "shift_alternate" shifts by up to 2 pixels and mirrors each image every other epoch.
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

    lambda_local: float | tuple[float, ...] | Literal["random"] = 0.5
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Schedule = "plateau"
    augmentation: Augmentation = "none"
    precision: Precision = "auto"
    stages: int = 0
    class_weight: ClassWeight = None
    seed: int = 0
    optimizer: Optimizer = "adam"
    label_smoothing: float = 0.0

    def __post_init__(self):
        if isinstance(self.lambda_local, list | tuple):
            for weight in (*self.lambda_local, sum(self.lambda_local)):
                require_fraction("lambda_local, of each exit and in sum,", weight)
            own = tuple(map(float, self.lambda_local))
            # One exit has one λ: equal recipes are written alike.
            object.__setattr__(self, "lambda_local", own[0] if len(own) == 1 else own)
        elif self.lambda_local != "random":
            require_fraction("lambda_local", self.lambda_local)
            object.__setattr__(self, "lambda_local", float(self.lambda_local))
        require_count(epochs=self.epochs, batch_size=self.batch_size)
        if not is_integer(self.stages) or not 0 <= self.stages <= self.epochs:
            raise ValueError(
                f"stages must lie in 0..epochs={self.epochs}; received {self.stages!r}"
            )
        require_positive(learning_rate=self.learning_rate)
        require_choice("optimizer", self.optimizer, get_args(Optimizer))
        require_fraction("label_smoothing", self.label_smoothing)
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
