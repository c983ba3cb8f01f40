"""Training a network of `tune.modern`, and what is kept of it: its logits and what it cost."""

import argparse
import json
import time
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ddnn.config.presets import resolve_config
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.quantisation import BOTTLENECK_CODES
from keras_ddnn.data.splits import Split
from keras_ddnn.evaluation.payload import SAMPLES, Payload, png_bytes
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.labels.sources import fold_config
from tune.modern_cases import CASES
from tune.modern_networks import DEVICES, RECIPES, Job, network_of, teacher_of, weights_file
from tune.modern_outputs import (
    AUGMENTED,
    OUTPUTS,
    PARTS,
    labels_name,
    mirrored_name,
    stored_name,
)

if TYPE_CHECKING:
    from keras_ddnn.networks.cascade import Cascade

VIEWS = "augmented"  # of six views, in names of what is kept
OPERATIONS = 6  # of a multiply-add in training: two forwards, four backwards


def output_file(options: argparse.Namespace, job: Job) -> Path:
    """Return where the logits of a network are kept."""
    return options.output / OUTPUTS / f"{job.name}.npz"


def _recipe(job: Job, options: argparse.Namespace) -> DDNNConfig:
    preset, given = RECIPES[job.network]
    given = {**given, "seed": job.seed, **(CASES[job.case].recipe or {})}
    if options.epochs is not None:
        given["epochs"] = options.epochs
    config = resolve_config(options.preset or preset, **given)
    return config if job.fold is None else fold_config(config)


def require_same_recipe(job: Job, options: argparse.Namespace) -> None:
    """Raise ValueError if a network is there that was trained by another recipe.

    Fields that its recipe has not yet known, and networks of folds, which keep none, pass.
    """
    path = output_file(options, job).with_suffix(".json")
    if job.fold is not None or not path.exists():
        return
    kept = json.loads(path.read_text()).get("recipe", {})
    asked = json.loads(json.dumps(asdict(_recipe(job, options).recipe)))  # lists for tuples
    for name in sorted({*asked} & {*kept}):
        if asked[name] != kept[name]:
            raise ValueError(
                f"{path} was trained with {name}={kept[name]!r}; received "
                f"{name}={asked[name]!r}: pass another --output, and another --work, or delete "
                "the file and its outputs"
            )


def train_network(job: Job, splits: Splits, options: argparse.Namespace) -> None:
    """Train a network and write its logits, and what it cost."""
    from keras_ddnn.training.capture import capture, mirrored_outputs
    from keras_ddnn.training.fit import fit_fold

    config, case = _recipe(job, options), CASES[job.case]
    train = case.trained(splits, job.seed).train
    print(f"{job.name}: {config.epochs} epochs", flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    given = {
        "teacher": teacher_of(job, splits, options),
        "network": network_of(job, splits, options),
        "callbacks": [clock()],
        "checkpoint": options.work / f"{job.name}.training",
        "verbose": 2,
    }
    if job.fold is not None:
        said = fit_fold(train, None, config, job.fold, splits.num_classes, **given)
        arrays = {stored_name("train", tier, said.outputs): o for tier, o in said.outputs.items()}
        write_arrays(output_file(options, job), arrays | {"rows": said.rows})
        return
    cascade, bank, facts = _trained(job, train, config, options, given)
    world = case.met(splits, job.seed)
    banks = {"train": bank} if bank and world.train is train else {}  # captured already
    for part in PARTS:
        split = getattr(world, part)
        banks[part] = banks.get(part) or capture(cascade, split.images, split.labels)
    banks[AUGMENTED] = _augmented(cascade, world.train, job.seed)
    banks |= {f"{p}_{VIEWS}": _of_six_views(cascade, getattr(world, p)) for p in PARTS[1:]}
    arrays = {
        stored_name(part, tier, bank.tiers): said.outputs
        for part, bank in banks.items()
        for tier, said in bank.tiers.items()
    }
    if job.network in DEVICES:  # which may look twice
        network = replace(cascade, second_look=True)
        views = {part: getattr(world, part).images for part in PARTS}
        views[AUGMENTED] = _view(world.train, job.seed)
        for part, images in views.items():
            second = mirrored_outputs(network.folded(), images)
            arrays[mirrored_name(part)] = np.asarray(second)
    if world is not splits:
        arrays |= {labels_name(part): getattr(world, part).labels for part in PARTS}
    facts |= _costs(cascade, banks["val"], splits) | {"recipe": asdict(config.recipe)}
    for part in ("val", f"val_{VIEWS}"):
        facts[f"{part}_accuracy"] = 100 * float(banks[part].cloud_correct.mean())
    print(json.dumps({name: facts[name] for name in facts if name != "recipe"}), flush=True)
    write_json(output_file(options, job).with_suffix(".json"), facts)
    write_arrays(output_file(options, job), arrays)


def _trained(
    job: Job, train: Split, config: DDNNConfig, options: argparse.Namespace, given: dict
) -> "tuple[Cascade, Bank | None, dict[str, Any]]":
    """Return a network trained on its data, its bank of these, and what that took.

    There is no bank of a network that is not trained.
    """
    from keras_ddnn.networks.paper import save_weights
    from keras_ddnn.training.fit import fit_ddnn

    if CASES[job.case].recipe is None:
        return given["network"], None, {}
    fitted = fit_ddnn(train, None, config, num_classes=len(train.classes), **given)
    save_weights(fitted.model, weights_file(job, options))
    seconds = sum(fitted.history["seconds"])
    operations = sum(multiply_adds_of(fitted.cascade)) * len(train) * config.epochs
    facts = {
        "minutes": round(seconds / 60, 2),
        "petaflop": round(OPERATIONS * operations / 1e15, 4),
    }
    return fitted.cascade, fitted.bank, facts


def multiply_adds_of(cascade: "Cascade") -> list[int]:
    """Return the multiply-adds of each tier for one sample."""
    from keras_ddnn.networks.costs.model_costs import multiply_adds

    return [multiply_adds(tier.model) for tier in cascade.tiers]


def _costs(cascade: "Cascade", bank: Bank, splits: Splits) -> dict[str, Any]:
    """Return what a network costs to run and to send to, its first tier's first.

    Where it is a cloud that reads codes, the device makes them.
    """
    import keras

    from keras_ddnn.networks.codes import CODES
    from keras_ddnn.networks.costs.model_costs import multiply_adds

    counts = multiply_adds_of(cascade)
    images, coding = splits.val.images[:SAMPLES], 0
    sent = Payload.of(bank.edge, cascade.quantisation).sent if len(counts) > 1 else None
    if not cascade.sent and CODES in {layer.name for layer in cascade.model.layers}:
        codes = cascade.model.get_layer(CODES)
        coding = multiply_adds(keras.Model(cascade.model.input, codes.output))
        sent = prod(codes.output.shape[1:]) * BOTTLENECK_CODES.bits // 8
    return {
        "multiply_adds": counts[0] - coding,
        "coding_multiply_adds": coding,
        "all_multiply_adds": sum(counts),
        "parameters": cascade.model.count_params(),
        "sent_bytes": sent,
        "png_bytes": float(np.mean([png_bytes(np.asarray(image)) for image in images])),
    }


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write logits in 16 bits, and whole numbers in 32."""
    arrays = {
        name: array.astype(np.float16 if array.dtype.kind == "f" else np.int32)
        for name, array in arrays.items()
    }
    with replacing_file(path) as file:
        np.savez_compressed(file, **arrays)


def _augmented(cascade: "Cascade", train: Split, seed: int) -> Bank:
    """Return the bank of a view of each training image, the same one for all networks of a seed."""
    from keras_ddnn.training.capture import capture

    return capture(cascade, _view(train, seed), train.labels)


def _view(train: Split, seed: int) -> Any:
    from keras_ddnn.training.batches import augmented_views

    return augmented_views(train.images, "crop_flip", 1, seed)


def _of_six_views(cascade: "Cascade", split: Split) -> Bank:
    """Return the bank of the mean logits of six views: mirrored, and shifted by a pixel.

    Those that are not shifted count twice (Jordan, 2024).
    """
    from keras_ddnn.training.capture import capture

    totals, images = {}, np.asarray(split.images)
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    for place, weight in ((1, 0.25), (0, 0.125), (2, 0.125)):
        view = padded[:, place : place + height, place : place + width]
        for each in (view, view[:, :, ::-1]):
            bank = capture(cascade, np.ascontiguousarray(each), split.labels)
            for tier, said in bank.tiers.items():
                totals[tier] = totals.get(tier, 0.0) + weight * said.outputs
    return bank.with_outputs(totals)


def clock() -> Any:
    """Return a callback that notes the seconds of each epoch among the metrics."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self._start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            logs["seconds"] = time.perf_counter() - self._start

        def get_state(self) -> dict[str, Any]:
            return {}

        def set_state(self, state: dict[str, Any]) -> None:
            pass

    return Clock()
