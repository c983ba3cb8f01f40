"""Head trials become runs of MLflow and of Weights & Biases, by the loggers of Ray Tune."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.logger import LoggerCallback

from tune import driver
from tune.search import main
from tune.space import SearchConfig
from tune.tracking import HeadRun, HeadRuns, _log, open_loggers


class Recorder(LoggerCallback):
    """A logger that keeps what it is told."""

    def __init__(self):
        self.told = []

    def log_trial_start(self, trial):
        self.told.append(("start", trial.trial_id, trial.config))

    def log_trial_result(self, iteration, trial, result):
        self.told.append(("result", trial.trial_id, result))

    def log_trial_end(self, trial, failed=False):
        self.told.append(("end", trial.trial_id))


class Failing(Recorder):
    """A logger whose tracker has gone."""

    def log_trial_start(self, trial):
        raise ConnectionError("nobody answers")


SEARCH = SearchConfig(lambda_local=(0.5,), input=("logits", "features"))
STACK = SEARCH.sample()
KEYS = {trial: f"key{place}" for place, trial in enumerate(STACK)}


def workspace(*finished):
    """Return the workspace of a search in which some trials have finished."""
    records = {
        KEYS[trial]: {
            "choices": trial.choices(),
            "metrics": {"val_audc": 0.5, "epochs_run": 3},
            "seconds": 2.0,
        }
        for trial in finished
    }
    return SimpleNamespace(
        key=KEYS.__getitem__,
        log=lambda trial: Path("tensorboard", f"head-{KEYS[trial]}"),
        records=SimpleNamespace(read=records.get),
    )


def completed(runs: HeadRuns) -> None:
    runs.on_trial_complete(1, [], SimpleNamespace(config={"stack": 0}))


def test_each_head_of_a_stack_is_a_run_of_its_own():
    assert len(STACK) == 2
    recorder = Recorder()
    completed(HeadRuns({"mlflow": recorder}, [STACK], SEARCH, workspace(*STACK)))
    result = {"val_audc": 0.5, "epochs_run": 3, "seconds": 2.0, "training_iteration": 3}
    assert recorder.told == [
        each
        for trial, key in KEYS.items()
        for each in (("start", key, trial.choices()), ("result", key, result), ("end", key))
    ]


def test_only_new_finished_trials_are_logged_and_each_once():
    recorder = Recorder()
    runs = HeadRuns({"mlflow": recorder}, [STACK], SEARCH, workspace(STACK[0]))
    completed(runs)  # the other head of the stack has failed
    completed(runs)
    assert [each[:2] for each in recorder.told if each[0] == "start"] == [("start", "key0")]
    recorder = Recorder()
    completed(HeadRuns({"mlflow": recorder}, [STACK], SEARCH, workspace(*STACK), STACK[:1]))
    assert {each[1] for each in recorder.told} == {"key1"}


def test_a_tracker_that_fails_is_left_with_one_line_and_the_other_goes_on(capsys):
    recorder = Recorder()
    loggers = {"mlflow": Failing(), "wandb": recorder}
    completed(HeadRuns(loggers, [STACK], SEARCH, workspace(*STACK)))
    assert len(recorder.told) == 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "mlflow gets no more trials: ConnectionError: nobody answers" in said


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_a_library_that_is_missing_is_named_in_one_line_before_the_data_are_read(
    tracker, monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(sys.modules, tracker, None)
    monkeypatch.setattr(driver, "load_data", lambda *_: pytest.fail("the data were read"))
    assert main(["--log-to", tracker, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tracker} is not installed: pip install 'keras_ddnn[{tracker}]'" in said


def test_mlflow_itself_keeps_choices_metrics_and_the_search(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    loggers = open_loggers(["mlflow", "mlflow"], "my-search")
    run = HeadRun("key", {"input": "logits", "depth": 1}, "a head")
    _log(loggers["mlflow"], run, {"val_audc": 0.5, "training_iteration": 3})
    import mlflow

    (kept,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert kept.data.params == {"input": "logits", "depth": "1"}
    assert kept.data.metrics["val_audc"] == 0.5
    assert kept.data.tags["search"] == "my-search"
    assert kept.info.status == "FINISHED"
