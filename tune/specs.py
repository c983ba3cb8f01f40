"""What is trained: the networks and the head trials of a search."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.files.checks import require_count, require_positive
from keras_ddnn.labels.sources import LABEL_SOURCES, fold_config
from keras_ddnn.tasks.task import ACCURACY, COST

CLASSES = ("classification",)  # the task that needs no words

# The fields of SearchConfig that hold choices. "network" is one name or several, "at" one layer or
# several; then come fields of DDNNConfig alone, and those of HeadConfig; "seed" is that of both.
OF_CONFIGS = ("lambda_local", "bottleneck")
OF_NETWORKS = ("network", "at", *OF_CONFIGS)
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


def audc_of(metrics: Mapping[str, float]) -> float:
    """Return the AUDC of the metrics of a trial, by which trials are ranked: higher is better.

    Metrics have it, or where costs are told the mean cost, which is 1 less it; see `Measure`.
    """
    told = next(measure for measure in (ACCURACY, COST) if f"val_{measure.area}" in metrics)
    return told.of_audc(metrics[f"val_{told.area}"])


@dataclass(frozen=True)
class Cut:
    """What a network is that is not the paper's, and where it is cut.

    Attributes:
        network: Its name; see `named_model`.
        at: Names of the layers whose outputs travel, with commas between them: an exit is put
            behind each. None for a network that is whole, one tier of a chain.
        recipe: Preset that was named for it; None for that of the search.
        task: What its answers are, in the words of `SearchConfig.task`.
    """

    network: str
    at: str | None
    recipe: str | None = None
    task: tuple[str, ...] = CLASSES

    def name(self) -> str:
        """Return the name as it was asked for."""
        return self.network if self.recipe is None else f"{self.network}@{self.recipe}"

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the layers of `at`, in order."""
        return () if self.at is None else tuple(self.at.split(","))


@dataclass(frozen=True)
class NetworkSpec:
    """A network to train: the paper's, one that is cut, or one that is a tier of a chain.

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

    def architecture(self) -> "NetworkSpec":
        """Return the same network by a plain recipe: what it computes and sends is the same."""
        ddnn = DDNNConfig(**asdict(self.ddnn.network), precision=self.ddnn.precision)
        return NetworkSpec(ddnn, cut=self.cut and replace(self.cut, recipe=None))

    def name(self) -> str:
        """Return what tells it from the other networks of a search, fit for a folder's name."""
        part = "" if self.fold is None else f"-fold{self.fold}"
        part += "-along" if self.along else ""
        return f"{_part(self)}-seed{self.ddnn.seed}{part}"


@dataclass(frozen=True)
class Trial:
    """One head at each gate of networks that are deployed together.

    Attributes:
        members: One network of two tiers or more, the paper's or a cut one; or several of a tier
            each, which are trained apart: from the device's to the cloud's.
        head: What decides on the device, and at every other tier but the last.
    """

    members: tuple[NetworkSpec, ...]
    head: HeadConfig

    @property
    def ddnn(self) -> DDNNConfig:
        """How the network on the device was trained."""
        return self.members[0].ddnn

    def backbones(self) -> list[NetworkSpec]:
        """Return the networks it needs: the deployed ones, and the folds its labels ask for."""
        folds = range(LABEL_SOURCES[self.head.labels].folds)
        return [*self.members, *(member.of_fold(fold) for member in self.members for fold in folds)]

    def choices(self) -> dict:
        """Return its choice in every dimension."""
        cuts = [member.cut for member in self.members if member.cut]
        of_networks = {
            "network": "+".join(cut.name() for cut in cuts) or None,
            "at": cuts[0].at if cuts else None,
        }
        return of_networks | {
            name: getattr(self.ddnn if name in OF_CONFIGS else self.head, name)
            for name in DIMENSIONS
            if name not in of_networks
        }


def _part(spec: NetworkSpec) -> str:
    """Return the part of a name that tells the choices of `OF_NETWORKS`."""
    ddnn, cut = spec.ddnn, spec.cut
    told = "-".join(filter(None, (cut.name(), cut.at))) + "-" if cut else ""
    part = "" if ddnn.bottleneck is None else f"-bottleneck{ddnn.bottleneck}"
    return f"{told.replace('/', '_')}lambda{ddnn.lambda_local}{part}"
