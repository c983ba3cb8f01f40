"""Processes that train are killed without notice, and what they leave is gone on with."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.durability import same_table, start_search, toy_data
from benchmarks.kills import kill_trainings
from keras_ddnn.training.checkpoint import Place
from keras_ddnn.training.saved_state import read_state
from tune.backbones import STATE

pytestmark = pytest.mark.slow


def test_a_training_killed_five_times_ends_as_one_that_was_not(tmp_path):
    measured = kill_trainings(tmp_path, kills=5, seconds=1.0)
    assert measured["same"]
    assert len(measured["kills"]) == 5
    for kill in measured["kills"]:
        assert kill["repeated_seconds"] <= kill["bound_seconds"]
        assert kill["repeated_steps"] < measured["steps"] / 2


# One backbone of 20 epochs, and one head.
SMALL = (
    *("--epochs", "20", "--lambda-local", "0.5", "--depth", "1", "--input", "logits"),
    *("--local-fraction", "0.5", "--loss", "bce", "--num-cpus", "1", "--save-seconds", "0.5"),
)


def saved_place(output: Path) -> Place | None:
    """Return where the saved training of the one backbone stands."""
    for path in (output.parent / "backbones").glob(f"*{STATE}"):
        with suppress(FileNotFoundError):  # finished just now
            return Place(*read_state(path)["place"])
    return None


def next_place(search: subprocess.Popen, output: Path, last: Place | None) -> Place:
    """Wait until another state is saved than the last one."""
    for _ in range(12_000):  # four minutes: Ray starts slowly on a machine that is busy
        assert search.poll() is None
        if (place := saved_place(output)) not in (None, last):
            return place
        time.sleep(0.02)
    raise TimeoutError


@contextmanager
def killed_at_the_end(search: subprocess.Popen) -> Iterator[None]:
    """Kill a search with all that it has started, if it still runs, or the test has failed."""
    try:
        yield
    finally:
        if search.poll() is None:
            os.killpg(search.pid, signal.SIGKILL)


def kill_trainer(search: subprocess.Popen) -> int:
    """Kill the worker of Ray that trains; return how many there were."""
    psutil = pytest.importorskip("psutil")
    killed = 0
    for process in psutil.Process(search.pid).children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::train_backbone"]:
                process.kill()
                process.wait()
                killed += 1
    return killed


def test_a_search_goes_on_with_the_training_that_was_killed(tmp_path):
    data = toy_data(tmp_path / "toy.npz")
    undisturbed, output = tmp_path / "undisturbed" / "out", tmp_path / "killed" / "out"
    assert start_search(data, undisturbed, *SMALL).wait() == 0

    with start_search(data, output, *SMALL) as search, killed_at_the_end(search):
        place = None
        while place is None or place.epoch < 4:
            place = next_place(search, output, place)
        assert kill_trainer(search) == 1
        place = saved_place(output)
        assert next_place(search, output, place) > place  # Ray has started it again
    place = saved_place(output)
    with start_search(data, output, *SMALL) as search, killed_at_the_end(search):
        assert next_place(search, output, place) > place
        assert search.wait() == 0

    assert same_table(undisturbed, output)
    assert not list((output.parent / "backbones").glob(f"*{STATE}*"))
