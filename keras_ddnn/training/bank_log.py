"""What TensorBoard shows of the banks of a training: how good each exit is, and what gates gain."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.gate_costs import benefit, hard_labels, threshold_for_fraction
from keras_ddnn.data.rows.view import spread_rows
from keras_ddnn.data.splits import pictures
from keras_ddnn.training.tensorboard import write_benefit, write_projector, write_scalars

LOGGED_LOCAL_FRACTION = 0.5  # L0 of the b* shown in TensorBoard
PROJECTED = 1000  # samples in the projector of TensorBoard


def log_exits(folder: Path, banks: Mapping[str, Bank], loss: keras.losses.Loss) -> None:
    """Write how good each exit is: `exit/TIER_accuracy`, or `_cost`, and `exit/TIER_loss`.

    The epochs of Keras are of the network in training; these are of its banks, which gates see:
    folded, and with what travels in float16.

    Args:
        folder: Where the log of a training is.
        banks: Name of a part of the data, which is a folder there → what the tiers said of it.
        loss: That of one exit in training.
    """
    for part, bank in banks.items():
        measure, scalars = bank.task.measure, {}
        for (name, tier), costs in zip(bank.tiers.items(), bank.costs().T):
            scalars[f"exit/{name}_{measure.name}"] = measure.of(costs.sum(), len(bank))
            scalars[f"exit/{name}_loss"] = float(loss(bank.targets, tier.outputs))
        write_scalars(folder / part, scalars)


def log_gates(folder: Path, banks: Mapping[str, Bank], classes: Classes, images: bool) -> None:
    """Show B_k of all banks, and the local features coloured by the decision b* asks for.

    Of each gate: what it gains to send everything on, from there to the last tier.

    Args:
        folder, banks: See `log_exits`; the features are those of the bank "validation".
        classes: The user's labels.
        images: Whether the inputs are pictures, to be shown with the features.
    """
    bank = banks["validation"]
    gates = [*bank.tiers][:-1]
    tags = ["benefit", *(f"benefit_{tier}" for tier in gates[1:])]
    for name, samples in banks.items():
        everything = np.ones(len(samples), bool)
        for place, (tag, tier) in enumerate(zip(tags, gates), start=1):
            values = benefit(samples.gate(tier, [everything] * (len(gates) - place)))
            threshold = threshold_for_fraction(values, LOGGED_LOCAL_FRACTION)
            write_benefit(folder / name, values, threshold, tag=tag)
    benefits = benefit(bank)
    hard = hard_labels(benefits, LOGGED_LOCAL_FRACTION)
    rows = spread_rows(len(bank), PROJECTED)
    shown = bank.rows(rows)
    features = np.asarray(shown.edge.features)
    write_projector(
        folder / "validation",
        features.mean(axis=tuple(range(1, features.ndim - 1)), dtype=np.float32),
        {
            "decision": np.where(hard[rows], "hard", "easy"),
            "class": classes.decode(shown.labels),
            "B_k": benefits[rows].round(3),
        },
        pictures(shown.edge.inputs) if images else None,
    )
