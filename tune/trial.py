"""Head trials, as they run in a Ray worker, a stack of them at a time. Keras is imported inside."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_ddnn.data.bank import Bank
from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.files.checksums import sealed_folder
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.labels.gates import two_ends
from keras_ddnn.rules.confidence import Gate, untrained_rules
from tune.space import SearchConfig
from tune.specs import Trial, audc_of
from tune.stored import StoredNetwork
from tune.workspace import Workspace

if TYPE_CHECKING:
    from keras_ddnn.heads.fit import HeadRule

RANKED_BY = "val_audc"  # what Tune is told of every trial; higher is better
GAINS_OVER = ("entropy", "margin", "width")  # confidence rules


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
        metrics = next(iter(recorded.values()))["metrics"]
        tune.report(metrics | {RANKED_BY: audc_of(metrics)})
        return

    import_tensorflow()
    import keras

    from keras_ddnn.training.tensorboard import write_hparams, write_scalars, write_text
    from tune.gates import fit_chains

    keras.backend.clear_session()  # the worker is reused
    start = time.perf_counter()
    members = next(iter(trials.values())).members
    backbone = StoredNetwork(workspace, members, images, num_classes)
    configs = [trial.head for trial in trials.values()]
    fitted, error = fit_chains(backbone, configs, search.target_fraction)
    heads = {key: gates for key, gates in zip(trials, fitted) if gates}
    measured = _measure(heads, backbone, search.target_fraction)
    seconds = (time.perf_counter() - start) / len(trials)
    for key, trial in trials.items():
        if key in recorded or key not in heads:
            continue
        (_, device), *others = heads[key].items()
        head, log = device.rule, workspace.log(trial)
        for tag, gate in (("head", device), *((f"head_{tier}", gate) for tier, gate in others)):
            history = gate.rule.history
            write_scalars(log, {f"{tag}/{name}": values for name, values in history.items()})
        write_hparams(log, log.name, trial.choices(), measured[key])
        networks = ", ".join(workspace.log(member).name for member in trial.members)
        write_text(log, "head", {"trial": key, "networks": networks} | trial.choices())
        with sealed_folder(records.weights(key)) as new:
            description, behind = head.save(new), {}
            for tier, gate in others:
                (new / tier).mkdir()
                behind[tier] = {"head": gate.rule.save(new / tier)}
                behind[tier]["threshold"] = gate.score_threshold
        records.write(
            key,
            {
                "choices": trial.choices(),
                # The plain choices above may be outside the space.
                "asked": config.get("choices", trial.choices()),
                "metrics": measured[key],
                "head": description,
                "behind": behind,
                "history": head.history,
                "seconds": seconds,
            },
        )
    if error:
        raise error
    best = max(measured.values(), key=audc_of)
    tune.report(best | {RANKED_BY: audc_of(best)})


def asked_trials(config: dict, stacks: list[list[Trial]], search: SearchConfig) -> list[Trial]:
    """Return each head trial that one Tune trial stands for."""
    return stacks[config["stack"]] if "stack" in config else [search.trial(config["choices"])]


def _measure(
    heads: Mapping[str, Mapping[str, Gate]], backbone: StoredNetwork, target_fraction: float
) -> dict[str, dict]:
    """Return the metrics of the gates of each trial on validation data, seen from the device."""
    groups, measured = {}, {}
    for key, gates in heads.items():  # of two tiers nothing is behind, and all are one group
        groups.setdefault(tuple([*gates.items()][1:]), []).append(key)
    for behind, keys in groups.items():
        first = next(iter(backbone.val_bank.tiers))
        bank = two_ends(backbone.val_bank, first, dict(behind), backbone.prices)
        rules = {key: heads[key][first].rule for key in keys}
        measured |= _compared(rules, bank, target_fraction)
    return {key: measured[key] for key in heads}


def _compared(rules: Mapping[str, "HeadRule"], bank: Bank, target_fraction: float) -> dict:
    """Return the metrics of heads of the device that have the same gates behind them."""
    measure, plain = bank.task.measure, untrained_rules(bank.edge)
    table = compare_rules({**rules, **plain}, bank, bank, target_fraction)[0].set_index("rule")
    told = (measure.area, "apgr", measure.name, "decision_accuracy")
    better, area = 1 if measure.higher_is_better else -1, table[measure.area]
    return {
        key: {
            **{f"val_{name}": float(table.loc[key, name]) for name in told},
            **{
                f"val_gain_over_{name}": float(better * (area[key] - area[name]))
                for name in GAINS_OVER
                if name in plain
            },
            "score_threshold": float(table.loc[key, "score_threshold"]),
            "head_multiply_adds": head.multiply_adds,
            "epochs_run": len(head.history["loss"]),
        }
        for key, head in rules.items()
    }
