"""What a search would do, before it does it."""

import os
from dataclasses import dataclass
from pathlib import Path

from keras_ddnn.datasets import Splits
from keras_ddnn.labels import FOLDS
from tune.cache import Records, backbone_key, trained, trial_key
from tune.space import SearchConfig

# For the estimate only. Measured on 2 cores in float32.
MULTIPLY_ADDS_PER_CORE_SECOND = 6e10
CORE_SECONDS_PER_STACK = 15.0  # of heads
START_SECONDS = 30.0


@dataclass(frozen=True)
class Plan:
    """The work of a search, what of it is done already, and how long the rest may take."""

    backbones: int
    backbones_to_train: int
    trials: int
    trials_to_run: int
    estimated_seconds: float


def make_plan(search: SearchConfig, splits: Splits, backbones, output) -> Plan:
    """Plan a search from its configuration, its data and what its folders already hold.

    Args:
        search: What to search.
        splits: The loaded data.
        backbones: Folder of trained backbones.
        output: Folder of the search.
    """
    from keras_ddnn.model_costs import multiply_adds
    from keras_ddnn.models import build_ddnn

    fingerprint = splits.fingerprint()
    missing = [
        backbone
        for backbone in search.backbones()
        if not trained(Path(backbones) / backbone_key(fingerprint, backbone))
    ]
    done = Records(Path(output) / "trials").all(search, fingerprint)
    if search.searcher == "optuna":
        trials, left = search.trials, [1] * (search.trials - len(done))
    else:
        trials = len(search.sample())
        left = [
            sum(trial_key(fingerprint, trial) not in done for trial in stack)
            for stack in search.stacks()
        ]

    # Forward, gradient of the inputs, gradient of the weights: three passes' worth a step.
    work = sum(
        3.0 * samples * config.epochs * multiply_adds(build_ddnn(shape, splits.num_classes, config))
        for shape in [splits.train.images.shape[1:]]
        for backbone in missing
        for config, samples in [(backbone.ddnn, _samples(backbone, len(splits.train)))]
    )
    core_seconds = work / MULTIPLY_ADDS_PER_CORE_SECOND
    core_seconds += sum(map(bool, left)) * CORE_SECONDS_PER_STACK
    return Plan(
        len(search.backbones()),
        len(missing),
        trials,
        sum(left),
        START_SECONDS + core_seconds / os.cpu_count(),
    )


def _samples(backbone, samples: int) -> float:
    return samples if backbone.fold is None else samples * (1 - 1 / FOLDS)
