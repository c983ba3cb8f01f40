"""Outputs of networks that are not here: arrays of any framework, checked and made NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ddnn.tasks.task import Task

TIERS = ("local", "cloud")


def checked_outputs(
    outputs: Mapping[str, Any], targets: Any, task: Task
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the outputs of every tier and the targets, checked against each other by the task.

    Args:
        outputs: Tier → array of n rows: "local" and "cloud".
        targets: The truth, n rows.
        task: What they are; see `Task.checked`.

    Returns:
        Tier → outputs, float32 of n rows, in the order of `TIERS`; targets of n rows.

    Raises:
        ValueError: If a tier is missing or unknown, an array is none of the task, or two of them
            do not fit each other.
    """
    if not isinstance(outputs, Mapping) or set(outputs) != set(TIERS):
        received = (
            ", ".join(map(repr, outputs))
            if isinstance(outputs, Mapping)
            else type(outputs).__name__
        )
        what = task.output_name
        raise ValueError(
            f"outputs: expected the {what} of exactly two tiers, "
            f'{{"local": {what}, "cloud": {what}}}; received ' + (received or "none")
        )
    return task.checked({tier: outputs[tier] for tier in TIERS}, targets)
