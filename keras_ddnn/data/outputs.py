"""Outputs of networks that are not here: arrays of any framework, checked and made NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ddnn.tasks.task import Task

TIERS = ("local", "cloud")


def tier_names(count: int) -> tuple[str, ...]:
    """Return the names of so many tiers: "local", "tier1", … "cloud"; of one, "cloud"."""
    first, last = TIERS
    return (first, *(f"tier{number}" for number in range(1, count - 1)), last)[-count:]


def checked_outputs(
    outputs: Mapping[str, Any], targets: Any, task: Task
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the outputs of every tier and the targets, checked against each other by the task.

    Args:
        outputs: Tier → array of n rows: "local", "cloud", and what lies between them.
        targets: The truth, n rows.
        task: What they are; see `Task.checked`.

    Returns:
        Tier → outputs, float32 of n rows, from "local" to "cloud", those between in the order
        given; targets of n rows.

    Raises:
        ValueError: If one of the two ends is missing, an array is none of the task, or two of them
            do not fit each other.
    """
    given = _names(outputs)
    if given is None or not set(given) >= set(TIERS):
        received = type(outputs).__name__ if given is None else ", ".join(map(repr, given))
        what = task.output_name
        raise ValueError(
            f"outputs: expected the {what} of two tiers, or more between them, "
            f'{{"local": {what}, "cloud": {what}}}; received ' + (received or "none")
        )
    first, last = TIERS
    names = [first, *(tier for tier in outputs if tier not in TIERS), last]
    return task.checked({tier: outputs[tier] for tier in names}, targets)


def _names(outputs: object) -> list[Any] | None:
    """Return the names in a mapping; None of anything else, which a user may give as well."""
    return [*outputs] if isinstance(outputs, Mapping) else None
