"""Backbones in training: each made once, in a Ray worker, and kept in a folder."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from keras_ddnn.config.network import feature_quantisation
from keras_ddnn.data.datasets import Splits
from keras_ddnn.evaluation.payload import Payload
from keras_ddnn.files.atomic import write_json
from keras_ddnn.files.checksums import sealed_folder
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.files.records import as_json
from tune.networks import untrained
from tune.specs import NetworkSpec
from tune.workspace import Workspace

if TYPE_CHECKING:  # neither Keras nor Ray is loaded with this file
    from ray.util.queue import Queue

    from keras_ddnn.training.checkpoint import Checkpoint

WEIGHTS = "ddnn.weights.h5"
JUDGEMENT = "judgement.npz"
STAGES = "stages.npz"
RECORD = "backbone.json"
STATE = ".training"  # ends the name of the file of a training that is not finished


def train_backbone(
    splits: Splits,
    backbone: NetworkSpec,
    workspace: Workspace,
    epochs: "Queue",
    save_seconds: float,
) -> None:
    """Train one DDNN and keep in a folder what trials and the report need of it.

    Of the deployed DDNN that is its weights, its three banks and its TensorBoard log; of a fold
    what it says of the images it has not seen; of one with a head trained along, the head. The
    state of an unfinished training stays beside the folder, and a training that was killed goes on.
    That of one that has diverged is removed: it would diverge again.

    Args:
        splits: The data.
        backbone: What to train.
        workspace: Its folder there appears once everything in it is complete.
        epochs: Ray queue that is told (backbone, epoch, Keras logs) after each epoch, and
            (backbone, -1, None) when the training begins.
        save_seconds: Between two savings of the state.

    Raises:
        ValueError: If the training diverges.
    """
    epochs.actor.put_nowait.remote((backbone, -1, None))
    import_tensorflow()
    import keras

    from keras_ddnn.training.checkpoint import Checkpoint

    # Not `epochs.put`: while a worker waits for an answer Ray lends its core to the next backbone.
    announce = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.actor.put_nowait.remote(
            (backbone, epoch, dict(logs))
        )
    )
    shape, networks = splits.train.images.shape[1:], workspace.networks
    network = untrained(backbone, shape, len(splits.classes), networks)
    file = workspace.backbone(backbone).with_suffix(STATE)
    checkpoint = Checkpoint(file, save_seconds, keep=True)
    # The data carry their classes, or what reads their numbers.
    options = {"network": network, "num_classes": None, "verbose": 0}
    options["checkpoint"] = checkpoint
    with sealed_folder(workspace.backbone(backbone)) as new:
        record = {"ddnn": as_json(backbone.ddnn), "fold": backbone.fold}
        record["cut"] = backbone.cut and asdict(backbone.cut)
        train = _train_deployed if backbone.deployed else _train_fold
        if backbone.along:
            train = _train_along
        write_json(new / RECORD, record | train(splits, backbone, new, announce, options))
    checkpoint.remove()


def _require_finite_loss(history: Mapping[str, list[float]], checkpoint: "Checkpoint") -> None:
    """Raise ValueError if a training has diverged: what such a network says is of no use."""
    for epoch, loss in enumerate(history["loss"], start=1):
        if not np.isfinite(loss):
            checkpoint.remove()
            raise ValueError(f"the training has diverged: loss {loss} in epoch {epoch}")


def _train_deployed(splits, backbone, folder, announce, options) -> dict:
    from keras_ddnn.networks.costs.model_costs import multiply_adds
    from keras_ddnn.networks.paper import save_weights
    from keras_ddnn.training.fit import fit_ddnn

    fitted = fit_ddnn(
        splits.train,
        splits.val,
        backbone.ddnn,
        tensorboard=folder / "tensorboard",
        callbacks=[announce],
        **options,
    )
    _require_finite_loss(fitted.history, options["checkpoint"])
    save_weights(fitted.model, folder / WEIGHTS)
    fitted.bank.save(folder / "train.npz")
    fitted.val_bank.save(folder / "val.npz")
    # Captured once here, while the network is in memory; read once, by the report.
    fitted.capture(splits.test).save(folder / "test.npz")
    if fitted.stages:
        fitted.stages.save(folder / STAGES)
    edge, *behind = fitted.val_bank.tiers.values()
    tiers = fitted.cascade.tiers
    record = {"history": fitted.history, "seconds": fitted.seconds}
    record["multiply_adds"] = [multiply_adds(tier.model) for tier in tiers]
    if edge.features is None:  # a tier of a chain, which hands on its input if it is not the last
        return record
    first, *others = (
        {"shape": list(sent.shape[1:]), "dtype": str(sent.dtype), "inputs": tier.sends_inputs}
        for tier, sent in zip(tiers, (edge.features, *(said.features for said in behind[:-1])))
    )
    return record | {
        "sends": first,
        "sends_behind": others,
        # Measured here, while the network is in memory: its features are not kept.
        "payload": Payload.of(edge, feature_quantisation(backbone.ddnn)).as_json(),
    }


def _train_fold(splits, backbone, folder, announce, options) -> dict:
    from keras_ddnn.training.fit import fit_fold

    config, fold = backbone.ddnn, backbone.fold
    judgement = fit_fold(splits.train, splits.val, config, fold, callbacks=[announce], **options)
    judgement.save(folder / JUDGEMENT)
    return {}


def _train_along(splits, backbone, folder, announce, options) -> dict:
    from keras_ddnn.heads.co_training import CoTrainedHead
    from keras_ddnn.training.fit import fit_ddnn

    start = max(backbone.ddnn.epochs // 2, backbone.ddnn.wide_epochs)  # one set of features
    along = CoTrainedHead(splits.train, splits.val, backbone.along, start)
    fit_ddnn(splits.train, splits.val, backbone.ddnn, callbacks=[announce, along], **options)
    return {"head": along.head.save(folder)}
