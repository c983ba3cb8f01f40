"""One head trial, as it runs in a Ray worker. Keras is imported inside."""

import time
from pathlib import Path

from keras_ddnn.evaluation import compare_rules
from keras_ddnn.rules import untrained_rules
from keras_ddnn.seal import sealed_folder
from tune.backbones import StoredBackbone
from tune.cache import Records, trial_key
from tune.space import SearchConfig


def head_trial(
    config: dict,
    search: SearchConfig,
    fingerprint: str,
    backbones: str,
    output: str,
    images: dict,
    num_classes: int,
) -> None:
    """Train one head, measure it on validation data and record it: a Ray Tune trainable.

    Args:
        config: {"choices": one choice in every dimension of the space}.
        search: The search the trial belongs to.
        fingerprint: Of the dataset.
        backbones: Folder of the trained backbones.
        output: Folder of the search.
        images: {"train", "val"} → uint8 images, shared between the trials.
        num_classes: Of the data.
    """
    from ray import tune

    trial = search.trial(config["choices"])
    key = trial_key(fingerprint, trial)
    records = Records(Path(output) / "trials")
    if record := records.read(key):  # optuna may ask for the same trial twice
        tune.report(record["metrics"])
        return

    import keras

    from keras_ddnn.artifact import save_head
    from keras_ddnn.heads import fit_head
    from keras_ddnn.tensorboard import write_hparams, write_scalars

    keras.backend.clear_session()  # the worker is reused
    start = time.perf_counter()
    backbone = StoredBackbone(Path(backbones), fingerprint, trial.ddnn, images, num_classes)
    report_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: tune.report({"val_audc": logs["val_audc"]})
    )
    head = fit_head(backbone, trial.head, callbacks=[report_epoch])

    table = compare_rules(
        {"head": head, **untrained_rules()},
        backbone.val_bank,
        backbone.val_bank,
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
    with sealed_folder(records.weights(key)) as new:
        description = save_head(head, new)
    records.write(
        key,
        {
            "choices": trial.choices(),
            "asked": config["choices"],  # the plain choices above may be outside the space
            "metrics": metrics,
            "head": description,
            "history": head.history,
            "seconds": time.perf_counter() - start,
        },
    )
    tune.report(metrics)
