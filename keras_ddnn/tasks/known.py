"""The tasks that files name, and the names of all their costs."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any

import numpy as np

from keras_ddnn.files.checks import expect, require_choice
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
WORDS = "regression under=4 quantiles=0.1,0.5,0.8"
REFUSED = "no answer"  # in words
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
        ValueError: In one line, if it is unknown, or its arguments are bad.
    """
    name = content["name"]
    require_choice("task", name, TASKS)
    try:
        return TASKS[name](**content["config"])
    except (TypeError, ValueError) as error:  # TypeError of arguments that it does not have
        raise ValueError(f"task {name!r}: {error}") from None


def as_words(given: object) -> tuple[str, ...]:
    """Return the words of a task, of one text with blanks or of several texts.

    Raises:
        ValueError: If it is anything else, or no word.
    """
    words = given.split() if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or not words:
        raise ValueError(f"task: expected words such as {WORDS!r}, received {given!r}")
    odd = [word for word in words if not isinstance(word, str)]
    told = f"{odd[:1]}: put quotes around a word with commas"
    expect(not odd, "task", f"texts such as {WORDS.split()}", told)
    return tuple(words)


def task_from_words(words: str | Sequence[str]) -> Task:
    """Return the task that a person has named on a command line or in a file of a search.

    Args:
        words: Its name, then arguments of it: ("regression", "under=4", "quantiles=0.1,0.5,0.9"),
            or the same as one text.

    Raises:
        ValueError: In one line, if the task is unknown, a word is none of these or comes twice, or
            as the task.
    """
    name, *given = as_words(words)
    require_choice("task", name, TASKS)
    known, subject = [*signature(TASKS[name]).parameters], f"task {name!r}"
    wanted = f"arguments among {', '.join(known)}" if known else "no arguments"
    config: dict[str, Any] = {}
    for word in given:
        field, _, text = word.partition("=")
        expect(bool(text), subject, "arguments as FIELD=VALUE", repr(word))
        expect(field in known, subject, wanted, repr(word))
        expect(field not in config, subject, f"one {field}", f"{word!r} as well")
        config[field] = _value(text)
    return task_from_json({"name": name, "config": config})


def _value(text: str) -> Any:
    """Return what a text stands for: JSON, numbers with commas between them, or itself."""
    for content in (text, f"[{text}]"):
        with suppress(ValueError):
            return json.loads(content)
    return text


def task_of(manifest: Mapping[str, Any]) -> Task:
    """Return the task of an artefact, that of plain classes where its manifest names none.

    Raises:
        ValueError: As `task_from_json`.
    """
    content = manifest.get("task")
    return CLASSIFICATION if content is None else task_from_json(content)


def in_words(task: Task, outputs: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return what outputs (n, ...) answer, for people to read: class names, or numbers.

    Args:
        task: What they are.
        outputs: Of a network.
        names: One a column.
    """
    answers = task.answers(outputs).tolist()
    if task.target_reader is not None:
        return [f"{number:.6g}" for number in answers]
    return [REFUSED if number == task.refusal else names[number] for number in answers]
