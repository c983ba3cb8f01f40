"""Head trials in MLflow and Weights & Biases, a run each, by the callbacks of Ray Tune itself."""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, assert_never

from ray.tune import Callback
from ray.tune.logger import LoggerCallback

from tune.failures import reason_of
from tune.space import SearchConfig, Tracker
from tune.specs import Trial
from tune.trial import asked_trials
from tune.workspace import Workspace

PROJECT = "keras_ddnn"  # MLflow's experiment; the project of Weights & Biases


def open_loggers(trackers: Sequence[Tracker], name: str) -> dict[Tracker, LoggerCallback]:
    """Return Ray Tune's logger of each tracker, which has reached it; before anything is trained.

    Where a tracker is, its own variables say, such as MLFLOW_TRACKING_URI and WANDB_API_KEY.

    Args:
        trackers: Which ones.
        name: Of the search, by which its runs are found together.

    Raises:
        ModuleNotFoundError: If the library of one is not installed.
        ValueError: If Weights & Biases is given no key.
    """
    loggers = {}
    for tracker in dict.fromkeys(trackers):
        import_module(tracker)
        match tracker:
            case "mlflow":
                from ray.air.integrations.mlflow import MLflowLoggerCallback

                logger = MLflowLoggerCallback(
                    os.environ.get("MLFLOW_TRACKING_URI"),
                    experiment_name=PROJECT,
                    tags={"search": name},
                )
            case "wandb":
                from ray.air.integrations.wandb import WandbLoggerCallback

                logger = WandbLoggerCallback(project=PROJECT, group=name)
            case _:
                assert_never(tracker)
        logger.setup()
        loggers[tracker] = logger
    return loggers


@dataclass(frozen=True, eq=False)
class HeadRun:
    """A head trial as a logger of Ray Tune knows its trials.

    Attributes:
        trial_id: The key of its record.
        config: Its choice in every dimension.
        name: For people.
    """

    trial_id: str
    config: dict[str, Any]
    name: str

    def __str__(self) -> str:
        return self.name


class HeadRuns(Callback):
    """Logs each head trial that is recorded, once; for Tune itself, a stack of them is one trial.

    A tracker that fails costs no search: it is left, with one line.

    Args:
        loggers: Of `open_loggers`.
        stacks: As for `tune.trial.head_trials`.
        search: The search.
        workspace: Where its records are.
        logged: Trials of an earlier part of the search.
    """

    def __init__(
        self,
        loggers: dict[Tracker, LoggerCallback],
        stacks: list[list[Trial]],
        search: SearchConfig,
        workspace: Workspace,
        logged: Collection[Trial] = (),
    ):
        self.loggers = dict(loggers)
        self.stacks, self.search, self.workspace = stacks, search, workspace
        self.logged = set(logged)

    def __getstate__(self) -> dict:
        # Tune pickles its callbacks for a restore of its own, which a search does not use.
        return {}

    def on_trial_complete(self, iteration, trials, trial, **info) -> None:
        """Log what is recorded of a trial of Tune; one that was stopped early has no record."""
        for asked in asked_trials(trial.config, self.stacks, self.search):
            key = self.workspace.key(asked)
            record = None if asked in self.logged else self.workspace.records.read(key)
            if record is None:
                continue
            self.logged.add(asked)
            run = HeadRun(key, record["choices"], self.workspace.log(asked).name)
            result = record["metrics"] | {"seconds": record["seconds"]}
            result["training_iteration"] = record["metrics"]["epochs_run"]
            for tracker, logger in [*self.loggers.items()]:
                self._try(tracker, lambda: _log(logger, run, result))  # noqa: B023  called at once

    on_trial_error = on_trial_complete  # others of its stack may be recorded

    def on_experiment_end(self, trials, **info) -> None:
        """Wait until all is sent."""
        for tracker, logger in [*self.loggers.items()]:
            self._try(tracker, lambda: logger.on_experiment_end([]))  # noqa: B023

    def _try(self, tracker: Tracker, call) -> None:
        try:
            call()
        except Exception as error:  # each tracker has errors of its own
            del self.loggers[tracker]
            print(
                f"warning: {tracker} gets no more trials: {reason_of(error)}; results.csv has all",
                file=sys.stderr,
            )


def _log(logger: LoggerCallback, run: HeadRun, result: dict[str, Any]) -> None:
    logger.log_trial_start(run)
    logger.log_trial_result(1, run, result)
    logger.log_trial_end(run)
