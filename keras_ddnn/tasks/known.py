"""The tasks that files name, and the names of all their costs."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_ddnn.files.checks import require_choice
from keras_ddnn.tasks import regression
from keras_ddnn.tasks.classification import CLASSIFICATION, COSTS
from keras_ddnn.tasks.prices import PricedClasses
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.tasks.task import Task

# Name in a file -> (what `Task.get_config` returns) -> task
TASKS: dict[str, Callable[..., Task]] = {
    CLASSIFICATION.name: lambda: CLASSIFICATION,
    PricedClasses.name: PricedClasses,
    Regression.name: Regression,
}
COST_NAMES = (*COSTS, PricedClasses.reported, *regression.COSTS)


def task_as_json(task: Task) -> dict[str, Any]:
    """Return a task as plain JSON, from which `task_from_json` makes it.

    Raises:
        ValueError: If it is no task of `TASKS`.
    """
    require_choice("task", task.name, TASKS)
    return {"name": task.name, "config": task.get_config()}


def task_from_json(content: Mapping[str, Any]) -> Task:
    """Return the task that `task_as_json` has described.

    Raises:
        ValueError: If it is unknown, or its arguments are bad.
    """
    require_choice("task", content["name"], TASKS)
    return TASKS[content["name"]](**content["config"])
