"""Head trials, as they run in a Ray worker, a stack of them at a time. Keras is imported inside."""

import time

from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.files.checksums import sealed_folder
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.rules.confidence import untrained_rules
from tune.space import SearchConfig
from tune.specs import Trial
from tune.stored import StoredNetwork
from tune.workspace import Workspace


def head_trials(
    config: dict,
    stacks: list[list[Trial]],
    search: SearchConfig,
    workspace: Workspace,
    images: dict,
    num_classes: int,
) -> None:
    """Train heads of one backbone together, measure them on validation data and record each.

    A Ray Tune trainable. What is recorded already is trained again with its stack, so that the
    others come out as they would have, but it is not recorded again.

    Args:
        config: {"stack": which of `stacks`}, or {"choices": those of one head}.
        stacks: The trials of each stack.
        search: The search they belong to.
        workspace: Where its networks and its results are.
        images: {"train", "val"} → uint8 images, shared between the trials.
        num_classes: Of the data.
    """
    from ray import tune

    trials = {workspace.key(trial): trial for trial in asked_trials(config, stacks, search)}
    records = workspace.records
    recorded = {key: record for key in trials if (record := records.read(key))}
    if recorded.keys() == trials.keys():  # optuna may ask for the same trial twice
        tune.report(next(iter(recorded.values()))["metrics"])
        return

    import_tensorflow()
    import keras

    from keras_ddnn.training.tensorboard import write_hparams, write_scalars, write_text

    keras.backend.clear_session()  # the worker is reused
    start = time.perf_counter()
    members = next(iter(trials.values())).members
    backbone = StoredNetwork(workspace, members, images, num_classes)
    fitted, error = _fit(backbone, [trial.head for trial in trials.values()])
    heads = {key: head for key, head in zip(trials, fitted) if head}
    measured = _measure(heads, backbone.val_bank, search.target_fraction) if heads else {}
    seconds = (time.perf_counter() - start) / len(trials)
    for key, trial in trials.items():
        if key in recorded or key not in heads:
            continue
        history = heads[key].history
        log = workspace.log(trial)
        write_scalars(log, {f"head/{name}": values for name, values in history.items()})
        write_hparams(log, log.name, trial.choices(), measured[key])
        networks = ", ".join(workspace.log(member).name for member in trial.members)
        write_text(log, "head", {"trial": key, "networks": networks} | trial.choices())
        with sealed_folder(records.weights(key)) as new:
            description = heads[key].save(new)
        records.write(
            key,
            {
                "choices": trial.choices(),
                # The plain choices above may be outside the space.
                "asked": config.get("choices", trial.choices()),
                "metrics": measured[key],
                "head": description,
                "history": history,
                "seconds": seconds,
            },
        )
    if error:
        raise error
    tune.report(max(measured.values(), key=lambda metrics: metrics["val_audc"]))


def asked_trials(config: dict, stacks: list[list[Trial]], search: SearchConfig) -> list[Trial]:
    """Return each head trial that one Tune trial stands for."""
    return stacks[config["stack"]] if "stack" in config else [search.trial(config["choices"])]


def _fit(backbone, configs):
    """Return a head of each configuration, or None, and the last error if there was one."""
    import keras
    from ray import tune

    from keras_ddnn.heads.fit import fit_head
    from keras_ddnn.heads.stack import fit_heads

    if len(configs) == 1:
        report_epoch = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: tune.report({"val_audc": logs["val_audc"]})
        )
        return [fit_head(backbone, configs[0], callbacks=[report_epoch])], None
    try:
        return fit_heads(backbone, configs), None
    except Exception:  # one that fails must not cost the others
        heads, last = [], None
        for config in configs:
            try:
                heads.append(fit_head(backbone, config))
            except Exception as error:
                heads.append(None)
                last = error
        return heads, last


def _measure(heads: dict, val_bank, target_fraction: float) -> dict[str, dict]:
    """Return the metrics of each head on validation data."""
    rules = {**heads, **untrained_rules()}
    table = compare_rules(rules, val_bank, val_bank, target_fraction)[0].set_index("rule")
    return {
        key: {
            "val_audc": float(table.loc[key, "audc"]),
            "val_apgr": float(table.loc[key, "apgr"]),
            "val_accuracy": float(table.loc[key, "accuracy"]),
            "val_decision_accuracy": float(table.loc[key, "decision_accuracy"]),
            "val_gain_over_entropy": float(table.loc[key, "audc"] - table.loc["entropy", "audc"]),
            "val_gain_over_margin": float(table.loc[key, "audc"] - table.loc["margin", "audc"]),
            "score_threshold": float(table.loc[key, "score_threshold"]),
            "head_multiply_adds": head.multiply_adds,
            "epochs_run": len(head.history["loss"]),
        }
        for key, head in heads.items()
    }
