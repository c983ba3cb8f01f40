"""What runs in a Ray worker: one backbone, or one head trial. Keras is imported inside."""

import time
from pathlib import Path

from keras_ddnn.atomic import replacing_folder, write_json
from keras_ddnn.bank import Bank
from keras_ddnn.config import DDNNConfig, as_json
from keras_ddnn.datasets import Splits
from keras_ddnn.evaluation import compare_rules
from keras_ddnn.rules import untrained_rules
from tune.cache import Records, backbone_key, trial_key
from tune.space import SearchConfig

BACKBONE_WEIGHTS = "ddnn.weights.h5"
HEAD_WEIGHTS = "head.weights.h5"


def train_backbone(splits: Splits, config: DDNNConfig, folder: str, epochs) -> None:
    """Train one DDNN and keep its weights, its three banks and its TensorBoard log in a folder.

    Args:
        splits: The data.
        config: What to train.
        folder: Appears once everything in it is complete.
        epochs: Ray queue that is told (config, epoch, Keras logs) after each epoch.
    """
    import keras

    from keras_ddnn.training import fit_ddnn

    # Not `epochs.put`: while a worker waits for an answer Ray lends its core to the next backbone.
    announce = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.actor.put_nowait.remote((config, epoch, dict(logs)))
    )
    with replacing_folder(folder) as new:
        fitted = fit_ddnn(
            splits.train,
            splits.val,
            config,
            num_classes=splits.num_classes,
            tensorboard=new / "tensorboard",
            callbacks=[announce],
            verbose=0,
        )
        fitted.model.save_weights(new / BACKBONE_WEIGHTS)
        fitted.bank.save(new / "train.npz")
        fitted.val_bank.save(new / "val.npz")
        # Captured once here, while the network is in memory; read once, by the report.
        fitted.capture(splits.test).save(new / "test.npz")
        write_json(
            new / "backbone.json",
            {"ddnn": as_json(config), "history": fitted.history, "seconds": fitted.seconds},
        )


def head_trial(
    config: dict,
    search: SearchConfig,
    fingerprint: str,
    backbones: str,
    output: str,
    images: dict,
) -> None:
    """Train one head, measure it on validation data and record it: a Ray Tune trainable.

    Args:
        config: {"choices": one choice in every dimension of the space}.
        search: The search the trial belongs to.
        fingerprint: Of the dataset.
        backbones: Folder of the trained backbones.
        output: Folder of the search.
        images: {"train", "val"} → uint8 images, shared between the trials.
    """
    from ray import tune

    trial = search.trial(config["choices"])
    key = trial_key(fingerprint, trial)
    records = Records(Path(output) / "trials")
    if record := records.read(key):  # optuna may ask for the same trial twice
        tune.report(record["metrics"])
        return

    import keras

    from keras_ddnn.heads import fit_head
    from keras_ddnn.tensorboard import write_hparams, write_scalars

    keras.backend.clear_session()  # the worker is reused
    start = time.perf_counter()
    folder = Path(backbones) / backbone_key(fingerprint, trial.ddnn)
    bank, val_bank = (Bank.load(folder / f"{name}.npz", images[name]) for name in ("train", "val"))
    report_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: tune.report({"val_audc": logs["val_audc"]})
    )
    head = fit_head(bank, val_bank, trial.head, callbacks=[report_epoch])

    table = compare_rules(
        {"head": head, **untrained_rules()},
        val_bank,
        val_bank,
        search.target_fraction,
    )[0].set_index("rule")
    row = table.loc["head"]
    metrics = {
        "val_audc": float(row["audc"]),
        "val_apgr": float(row["apgr"]),
        "val_accuracy": float(row["accuracy"]),
        "val_decision_accuracy": float(row["decision_accuracy"]),
        "val_gain_over_entropy": float(row["audc"] - table.loc["entropy", "audc"]),
        "val_gain_over_margin": float(row["audc"] - table.loc["margin", "audc"]),
        "score_threshold": float(row["score_threshold"]),
        "head_multiply_adds": head.multiply_adds,
        "epochs_run": len(head.history["loss"]),
    }
    log = Path(output) / "tensorboard" / trial.name()
    write_scalars(log, {f"head/{name}": values for name, values in head.history.items()})
    write_hparams(log, key, trial.choices(), metrics)
    with replacing_folder(records.weights(key)) as new:
        head.model.save_weights(new / HEAD_WEIGHTS)
    records.write(
        key,
        {
            "choices": trial.choices(),
            "asked": config["choices"],  # the plain choices above may be outside the space
            "metrics": metrics,
            "input_shape": list(head.model.input_shape[1:]),
            "seconds": time.perf_counter() - start,
        },
    )
    tune.report(metrics)
