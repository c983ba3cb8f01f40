"""What is trained: the networks and the head trials of a search."""

from dataclasses import dataclass

from keras_ddnn.config import DDNNConfig, HeadConfig
from keras_ddnn.files.checks import require_count, require_positive
from keras_ddnn.labels.sources import LABEL_SOURCES, fold_config

# The fields of SearchConfig that hold choices. "at" is a layer; then come fields of DDNNConfig
# alone, and those of HeadConfig; "seed" is that of both.
OF_CONFIGS = ("lambda_local", "bottleneck")
OF_NETWORKS = ("at", *OF_CONFIGS)
DIMENSIONS = (
    *OF_NETWORKS,
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
class Training:
    """What the training of a network takes and keeps; no part of what the network is found by.

    Attributes:
        gpus_per_network: GPUs of one host that each network is trained on, with a part of every
            batch on each. None is one where there are any.
        save_seconds: Between two savings of the state that a killed training goes on from.

    Raises:
        ValueError: If either is not positive.
    """

    gpus_per_network: int | None = None
    save_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.gpus_per_network is not None:
            require_count(gpus_per_network=self.gpus_per_network)
        require_positive(save_seconds=self.save_seconds)


DEFAULT_TRAINING = Training()


@dataclass(frozen=True)
class Cut:
    """Where a network that is not the paper's is cut.

    Attributes:
        network: Its name; see `named_model`.
        at: Name of the layer whose output travels.
    """

    network: str
    at: str


@dataclass(frozen=True)
class NetworkSpec:
    """A network to train.

    Attributes:
        ddnn: How; of a network with a cut its recipe alone counts.
        fold: The fold of the training data it is trained without, so as to judge it; `ddnn` is then
            that of `fold_config`. None for all data.
        along: A head to train along, from the middle epoch on; only the head is then kept.
        cut: None for the network of the paper.
    """

    ddnn: DDNNConfig
    fold: int | None = None
    along: HeadConfig | None = None
    cut: Cut | None = None

    @property
    def deployed(self) -> bool:
        """Whether it answers for itself, and does not only judge or teach."""
        return self.fold is None and self.along is None

    def of_fold(self, fold: int) -> "NetworkSpec":
        """Return the network that judges a fold of this one's training data."""
        return NetworkSpec(fold_config(self.ddnn), fold, cut=self.cut)

    def name(self) -> str:
        """Return what tells it from the other networks of a search, fit for a folder's name."""
        part = "" if self.fold is None else f"-fold{self.fold}"
        part += "-along" if self.along else ""
        return f"{_part(self.ddnn, self.cut)}-seed{self.ddnn.seed}{part}"


@dataclass(frozen=True)
class Trial:
    """One head on one network."""

    ddnn: DDNNConfig
    head: HeadConfig
    cut: Cut | None = None

    @property
    def network(self) -> NetworkSpec:
        """The network it is deployed on."""
        return NetworkSpec(self.ddnn, cut=self.cut)

    def backbones(self) -> list[NetworkSpec]:
        """Return the networks it needs: the deployed one, and the folds its labels ask for."""
        folds = range(LABEL_SOURCES[self.head.labels].folds)
        return [self.network, *map(self.network.of_fold, folds)]

    def name(self) -> str:
        """Return what tells it from the other trials of a search, fit for a folder's name."""
        head = self.head
        return (
            f"{_part(self.ddnn, self.cut)}-seed{head.seed}-{head.input}-{head.architecture}"
            f"{head.depth}-{head.target}-{head.loss}{'-oversampled' * head.oversample}"
            f"-{head.cost}-{head.labels}{'-anchored' * head.anchored}-L{head.local_fraction}"
        )

    def choices(self) -> dict:
        """Return its choice in every dimension."""
        return {"at": self.cut and self.cut.at} | {
            name: getattr(self.ddnn if name in OF_CONFIGS else self.head, name)
            for name in DIMENSIONS[1:]
        }


def _part(ddnn: DDNNConfig, cut: Cut | None) -> str:
    """Return the part of a name that tells the choices of `OF_NETWORKS`."""
    part = "" if ddnn.bottleneck is None else f"-bottleneck{ddnn.bottleneck}"
    layer = "" if cut is None else f"{cut.at.replace('/', '_')}-"
    return f"{layer}lambda{ddnn.lambda_local}{part}"
