"""What a search would do, before it does it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from keras_ddnn.data.datasets import Splits, load
from keras_ddnn.data.formats.archives import available_memory
from keras_ddnn.data.rows.view import in_memory
from keras_ddnn.data.series.load import EMBEDDED, load_series
from keras_ddnn.data.splits import InputType
from keras_ddnn.files.checks import expect
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.labels.sources import FOLDS, VIEWS, require_images, require_samples
from tune.cache import trained
from tune.networks import built
from tune.reading import require_of_series
from tune.space import SearchConfig
from tune.specs import NetworkSpec
from tune.workspace import Workspace

# For the estimate only. Measured on 2 cores in float32.
MULTIPLY_ADDS_PER_CORE_SECOND = 6e10
CORE_SECONDS_PER_STACK = 15.0  # of heads
START_SECONDS = 30.0
# Weights, their gradients and Adam's two slots, in float32.
BYTES_PER_TRAINED_PARAMETER = 16
# Of the maps of a batch: what is kept for the gradients, and the gradients.
MAPS_AT_ONCE = 2.0


@dataclass(frozen=True)
class Network:
    """What a network costs.

    Attributes:
        parameters: Their number.
        multiply_adds: Of one sample; None if they are unknown.
        map_bytes: Of the outputs of all layers, for one sample.
        bank_bytes: Of one sample in a `Bank`.
        tiers: Multiply-adds of one sample in each tier; None where they are unknown.
    """

    parameters: int
    multiply_adds: int | None
    map_bytes: int
    bank_bytes: int
    tiers: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The work of a search, what of it is done already, and what the rest may take.

    Attributes:
        backbones, backbones_to_train, trials, trials_to_run: Their numbers.
        estimated_seconds: Of the rest; None if the multiply-adds of a network are unknown.
        parameters: Of the largest network that is still to train; 0 if none is.
        disk_bytes: Of weights and banks that are still to be written.
        array_bytes: Of the images, and of what is in memory at once while backbones are trained.
    """

    backbones: int
    backbones_to_train: int
    trials: int
    trials_to_run: int
    estimated_seconds: float | None
    parameters: int
    disk_bytes: int
    array_bytes: int

    def warnings(self, backbones: Path) -> list[str]:
        """Return a line for what will not fit into the memory or on the disk of this machine."""
        existing = next(folder for folder in (backbones, *backbones.parents) if folder.exists())
        available, free = available_memory(), shutil.disk_usage(existing).free
        lines = []
        if self.array_bytes > available:
            lines.append(
                f"arrays of about {gigabytes(self.array_bytes)} will be in memory, of which "
                f"{gigabytes(available)} is available: smaller images, a smaller batch_size in the "
                "preset or --num-cpus 1 need less"
            )
        if self.disk_bytes > free:
            lines.append(
                f"weights and banks of about {gigabytes(self.disk_bytes)} will be written to "
                f"{backbones}, where {gigabytes(free)} is free: make room, or choose --backbones"
            )
        return lines


def load_data(search: SearchConfig, data_dir=None, reading: dict | None = None) -> Splits:
    """Load the data of a search; ValueError if they are bad, or too few for what is searched.

    Those of a task of numbers are series, see `load_series`.
    """
    task, reading = search.answers(), dict(reading or {})
    of_series = {name: reading.pop(name, None) for name in ("length", "horizon", "columns")}
    given = {name: value for name, value in of_series.items() if value is not None}
    if task.target_reader is None:
        expect(not given, "options of series", "a task of numbers", f"{', '.join(given)}")
        instead = f"the series {search.dataset!r}: pass --task regression, or --preset series"
        expect(search.dataset not in EMBEDDED, "a search of classes", "images", instead)
    else:
        require_of_series(reading | {"data_dir": data_dir})
    try:
        if task.target_reader is None:
            splits = load(search.dataset, data_dir, search.data_seed, **reading)
        else:
            splits = load_series(search.dataset, seed=search.data_seed, **given)
            splits = splits.read_by(task.target_reader)
    except OSError as error:
        raise ValueError(f"the dataset {search.dataset} cannot be read: {error}") from error
    splits.require_measurable()
    strata = task.strata(splits.train.labels)
    images = splits.train.images
    holds_images = InputType(tuple(images.shape[1:]), str(images.dtype)).holds_images
    require_images(search.labels, holds_images)
    require_samples(search.labels, strata, splits.class_names)
    return splits


def gigabytes(count: float) -> str:
    """Return a number of bytes as a person reads it."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def measure_networks(
    shape: tuple, num_classes: int, specs: list[NetworkSpec]
) -> dict[NetworkSpec, Network]:
    """Build each network once, without training, and measure it; the recipe makes no difference."""
    import_tensorflow()
    from keras_ddnn.networks.costs.model_costs import multiply_adds
    from keras_ddnn.networks.costs.trace import Trace

    networks = {}
    for spec in specs:
        if spec not in networks:
            cascade = built(spec, shape, num_classes)
            sent = [tier.model.output.get("features") for tier in cascade.tiers]
            features = sum(prod(tensor.shape[1:]) for tensor in sent if tensor is not None)
            steps = Trace.of(cascade.model).steps
            networks[spec] = Network(
                cascade.model.count_params(),
                multiply_adds(cascade.model),
                sum(prod(x.shape[1:]) * _itemsize(x) for step in steps for x in step.outputs),
                2 * features + 4 * max(len(sent), 2) * num_classes + 16,
                tuple(multiply_adds(tier.model) for tier in cascade.tiers),
            )
    return networks


def _itemsize(tensor) -> int:
    return 4 if tensor.dtype == "float32" else 2


def make_plan(
    search: SearchConfig,
    splits: Splits,
    workspace: Workspace,
    *,
    measure: Callable = measure_networks,
    workers: int | None = None,
) -> Plan:
    """Plan a search from its configuration, its data and what its folders already hold.

    Args:
        search: What to search.
        splits: The loaded data.
        workspace: Where its networks and its results are.
        measure: `measure_networks`, here or elsewhere.
        workers: How many backbones are trained at once; one a core by default.
    """
    missing = [
        backbone for backbone in search.backbones() if not trained(workspace.backbone(backbone))
    ]
    done = workspace.trials(search)
    if search.searcher == "optuna":
        trials, left = search.trials, [1] * (search.trials - len(done))
    else:
        trials = len(search.sample())
        left = [sum(trial not in done for trial in stack) for stack in search.stacks()]

    specs = [backbone.architecture() for backbone in missing]
    networks = measure(splits.train.images.shape[1:], len(splits.classes), specs) if missing else {}
    to_train = [(backbone, networks[spec]) for backbone, spec in zip(missing, specs)]
    # Forward, gradient of the inputs, gradient of the weights: three passes' worth a step.
    work = [
        network.multiply_adds
        and 3.0
        * _samples(backbone, len(splits.train))
        * backbone.ddnn.epochs
        * network.multiply_adds
        for backbone, network in to_train
    ]
    seconds = None
    if None not in work:
        core_seconds = sum(work) / MULTIPLY_ADDS_PER_CORE_SECOND
        core_seconds += sum(map(bool, left)) * CORE_SECONDS_PER_STACK
        seconds = START_SECONDS + core_seconds / os.cpu_count()
    return Plan(
        len(search.backbones()),
        len(missing),
        trials,
        sum(left),
        seconds,
        max((network.parameters for _, network in to_train), default=0),
        _disk_bytes(search, splits, to_train),
        _array_bytes(splits, to_train, workers or os.cpu_count()),
    )


def _samples(backbone, samples: int) -> float:
    return samples if backbone.fold is None else samples * (1 - 1 / FOLDS)


def _disk_bytes(search, splits, to_train) -> int:
    """Of a network that only judges or teaches, next to nothing is kept."""
    samples = sum(len(split) for split in (splits.train, splits.val, splits.test))
    deployed = [network for backbone, network in to_train if backbone.deployed]
    written = sum(4 * network.parameters + samples * network.bank_bytes for network in deployed)
    if "augmented" in search.labels:
        views = VIEWS * len(splits.train)
        image = splits.train.images[0].nbytes
        written += sum(views * (network.bank_bytes + image) for network in deployed)
    return written


def _array_bytes(splits, to_train, workers: int) -> int:
    arrays = [split.images for split in (splits.train, splits.val, splits.test)]
    images = sum(array.nbytes for array in arrays if in_memory(array))
    samples = sum(len(split) for split in (splits.train, splits.val, splits.test))
    trainings = sorted(
        BYTES_PER_TRAINED_PARAMETER * network.parameters
        + int(MAPS_AT_ONCE * min(backbone.ddnn.batch_size, len(splits.train)) * network.map_bytes)
        + samples * network.bank_bytes
        for backbone, network in to_train
    )
    return images + sum(trainings[-workers:])
