"""The networks of `tune.modern`: which there are, their recipes, and how each is made."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.datasets import Splits
from tune.modern_cases import CASES, ITSELF, TEACHER, USUAL, name_in

if TYPE_CHECKING:
    from keras_ddnn.networks.cascade import Cascade
    from keras_ddnn.training.recipe.teacher import Teacher

# Network → the fields of its configuration, and its preset.
RECIPES = {
    "modern_deep": ("modern", {"epochs": 20, "augmentation": "crop_flip_cutout"}),
    "modern_wide": ("modern", {"epochs": 15, "augmentation": "shift_alternate"}),
    "modern_large": ("modern", {}),
    "modern_medium": ("modern", {}),
    "modern_small": ("modern_long", {"epochs": 40}),
    "modern_tiny": ("modern_long", {}),
    "modern_split": (
        "modern",
        {"epochs": 12, "augmentation": "crop_flip_cutout", "lambda_local": 0.3},
    ),
    # The network of the paper, which has both tiers.
    "paper": ("paper", {}),
    "strong": ("strong", {}),
    "bottleneck": ("strong", {"bottleneck": 8}),
}
# What is cut → key of `NETWORKS`, the layer whose output travels, and the groups of its exit.
SPLITS = {"modern_split": ("modern_strided", "activation_0_2", {"widths": (64, 80)})}
NETWORKS_OF_TODAY = tuple(name for name in RECIPES if name.startswith("modern_"))
DEVICES = ("modern_tiny", "modern_small", "modern_medium")
CLOUD = "cloud"  # the tier of a network that is trained alone
TEACHER_SEED = 0  # one network teaches those of all seeds


Made = TypeVar("Made")


@dataclass(frozen=True)
class Job:
    """A network to train.

    Attributes:
        network: Key of `NETWORKS`.
        seed: Of its weights, its batches and its folds.
        fold: The fold of the training images it is trained without, at half the epochs; None for
            the network itself.
        case: Key of `CASES`, the world it is trained for.
    """

    network: str
    seed: int
    fold: int | None = None
    case: str = USUAL

    @property
    def name(self) -> str:
        """Stem of its files."""
        part = "" if self.fold is None else f"-fold{self.fold}"
        return f"{name_in(self.case, self.network)}-seed{self.seed}{part}"


def weights_file(job: Job, options: argparse.Namespace) -> Path:
    """Return where the weights of a network are kept."""
    return options.work / f"{job.name}.weights.h5"


def network_of(job: Job, splits: Splits, given: argparse.Namespace) -> "Cascade | None":
    """Return a network to train: a tier of a chain, a split, or None for that of the paper."""
    if job.network not in NETWORKS_OF_TODAY:
        return None
    from keras_ddnn.networks.compose import chain, with_codes

    case = CASES[job.case]
    network = new_model(lambda: _untrained(job, splits), job.seed)
    if case.goes_on:
        _read_weights(network, job, replace(job, case=USUAL), given)
    if case.codes is None:
        return network
    if network.sent:
        return with_codes(network, case.codes)
    return chain({CLOUD: network.model}, codes=case.codes)


def _untrained(job: Job, splits: Splits) -> "Cascade":
    """Make a network of today for a case, and cut it where it is a split."""
    from keras_ddnn.networks.architectures.modern import ModernOptions, modern_exit
    from keras_ddnn.networks.architectures.named_models import NETWORKS
    from keras_ddnn.networks.compose import chain, split

    case, (name, at, widths) = CASES[job.case], SPLITS.get(job.network, (job.network, None, None))
    row, classes = NETWORKS[name], splits.num_classes
    options = replace(row.options, **case.options)
    model = row.build(splits.train.images.shape[1:], classes, options, DDNNConfig.precision)
    if case.prepared:
        case.prepared(model)
    if at is None:
        return chain({CLOUD: model})
    return split(model, at, modern_exit(classes, ModernOptions(**widths, strided=True)))


def teacher_of(job: Job, splits: Splits, given: argparse.Namespace) -> "Teacher | None":
    """Return what a network learns from; None for the labels."""
    case = CASES[job.case]
    if case.teacher is None:
        return None
    from keras_ddnn.training.recipe.teacher import Teacher

    teaching = Job(case.teacher, TEACHER_SEED, case=TEACHER)
    if case.teacher == ITSELF:
        teaching = replace(job, case=USUAL)
    network = network_of(teaching, splits, given)
    _read_weights(network, job, teaching, given)
    return Teacher(network, case.temperature)


def _read_weights(network: "Cascade", job: Job, before: Job, given: argparse.Namespace) -> None:
    """Give a network the weights of one that a job needs to be trained before."""
    path = weights_file(before, given)
    if not path.exists():
        raise ValueError(
            f"{job.name} goes on from {path}; received no such file: train it first, with "
            f"--networks {before.network} --seeds {before.seed} --cases {before.case}"
        )
    network.model.load_weights(path)


def new_model(make: Callable[[], Made], seed: int) -> Made:
    """Return a model that is made from a seed, behind whatever was made before."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return make()
