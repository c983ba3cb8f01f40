"""Kill a training at random moments, start it again, and compare it with one that was not killed.

    python -m benchmarks.kills

The training is a process of its own that saves its state every second. It is killed without
notice, and what it had done since its last saved state is done again. At the end weights, history
and banks must be the same to the bit. What saving costs is also measured on the default network.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

LOG = "log"  # of all runs: lines of JSON, each [seconds since the machine started, event, step]
STATE = "state"
RESULT = tuple(f"{name}.npz" for name in ("weights", "history", "train", "val", "stages"))
EPOCHS = 24
# The network changes before its last epochs, when the bottleneck comes in.
RECIPE = {
    **{"local_filters": 8, "local_units": 8, "cloud_filters": ((4,), (4,)), "cloud_units": (8,)},
    **{"dropout": 0.2, "batch_size": 16, "augmentation": "crop_flip", "lambda_local": "random"},
    **{"precision": "float32", "stages": 3, "bottleneck": 4, "learning_rate": 0.01},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1.0, help="between two savings")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--train", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        _train(Path(options.train), options.seconds, options.epochs)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        measured = kill_trainings(
            Path(folder),
            options.kills,
            options.seed,
            seconds=options.seconds,
            epochs=options.epochs,
        )
    print(json.dumps(measured | {"default_network": _cost_of_a_save()}))
    late = any(kill["repeated_seconds"] > kill["bound_seconds"] for kill in measured["kills"])
    return 1 if late or not measured["same"] else 0


def kill_trainings(
    folder: Path, kills: int, seed: int = 0, *, seconds: float = 1.0, epochs: int = EPOCHS
) -> dict[str, Any]:
    """Train without a kill and with so many, each when a step drawn from the seed is done.

    Returns:
        `same`, whether both trainings end with the same bits; `steps` of the training; and of each
        of the `kills` the steps and the seconds that were repeated, and the most that may be: the
        interval, the longest step since the saved state, and the saving that was under way.
    """
    whole, killed = folder / "whole", folder / "killed"
    _start(whole, seconds, epochs).wait()
    steps = max(step for _, event, step in _log(whole) if event == "step")
    moments = []
    for target in sorted(random.Random(seed).sample(range(1, steps), kills)):
        before, training = len(_log(killed)), _start(killed, seconds, epochs)
        while not any(step >= target for _, event, step in _log(killed)[before:]):
            if training.poll() is not None:
                raise RuntimeError(f"the training ended with {training.returncode} too early")
            time.sleep(0.01)
        moments.append(time.monotonic())
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()
    if code := _start(killed, seconds, epochs).wait():
        raise RuntimeError(f"the training ended with {code}")
    return {
        "same": all(_same(whole / name, killed / name) for name in RESULT),
        "steps": steps,
        "kills": [_repeated(run, moments, seconds) for run in _pairs(killed)],
    }


def _start(folder: Path, seconds: float, epochs: int) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.kills", "--train", str(folder)]
    return subprocess.Popen(
        [*command, "--seconds", str(seconds), "--epochs", str(epochs)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        env=os.environ | threads | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def _log(folder: Path) -> list[tuple[float, str, int]]:
    """Return what is logged so far; a last line that is cut off is left out."""
    if not (folder / LOG).exists():
        return []
    text = (folder / LOG).read_text()
    return [tuple(json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def _pairs(folder: Path) -> Iterator[tuple[list, int]]:
    """Yield what each killed run has logged, and the step after which the next one went on."""
    runs: list[list] = []
    for line in _log(folder):
        if line[1] == "begin":
            runs.append([])
        runs[-1].append(line)
    for run, following in pairwise(runs):
        yield run, following[0][2]


def _repeated(run: tuple[list, int], moments: list[float], seconds: float) -> dict[str, float]:
    lines, place = run
    killed = min(moment for moment in moments if moment >= lines[-1][0])
    # From the end of the saving; of a run killed before its first, from its beginning.
    since = max(i for i, line in enumerate(lines) if line[1:] in _stands_at(place))
    steps, saves = [], [0.0]
    for (start, event, _), (end, *_) in pairwise([*lines[since:], (killed, "killed", 0)]):
        (saves if event == "saving" else steps).append(end - start)
    done = max((step for _, event, step in lines if event == "step"), default=place)
    return {
        "repeated_steps": done - place,
        "repeated_seconds": round(killed - lines[since][0], 3),
        "bound_seconds": round(seconds + max(steps) + max(saves), 3),
    }


def _stands_at(place: int) -> list[tuple[str, int]]:
    return [("begin", place), ("saved", place)]


def _same(one: Path, other: Path) -> bool:
    with np.load(one) as ours, np.load(other) as theirs:
        return ours.files == theirs.files and all(
            ours[name].tobytes() == theirs[name].tobytes() for name in ours.files
        )


def _train(folder: Path, seconds: float, epochs: int) -> None:
    import keras

    from keras_ddnn.training.checkpoint import Checkpoint, Place
    from keras_ddnn.training.fit import fit_ddnn
    from tests.conftest import toy_split

    log = open(folder / LOG, "a", buffering=1)  # noqa: SIM115 - until the process ends
    train, val = toy_split(768, 0), toy_split(96, 1)
    steps = -(-len(train) // RECIPE["batch_size"])

    def write(event: str, step: int) -> None:
        print(json.dumps([time.monotonic(), event, step]), file=log)

    class Logged(Checkpoint):
        def _save(self, place: Place) -> None:
            step = place.epoch * steps + place.step
            write("saving", step)
            super()._save(place)
            write("saved", step)

    class Steps(keras.callbacks.Callback):
        done, begun = 0, False

        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            if not self.begun:  # the state is taken up, and the first step not yet traced
                write("begin", self.done)
                self.begun = True

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            self.done += 1
            write("step", self.done)

        def get_state(self) -> dict[str, int]:
            return {"done": self.done}

        def set_state(self, state: dict[str, int]) -> None:
            self.done = state["done"]

    fitted = fit_ddnn(
        *(train, val),
        **{"config": "paper", "epochs": epochs, "verbose": 0, **RECIPE},
        callbacks=[Steps()],
        checkpoint=Logged(folder / STATE, seconds),
    )
    weights = fitted.model.get_weights()
    np.savez(folder / "weights.npz", *weights)
    np.savez(folder / "history.npz", **fitted.history)
    fitted.bank.save(folder / "train.npz")
    fitted.val_bank.save(folder / "val.npz")
    fitted.stages.save(folder / "stages.npz")


def _cost_of_a_save() -> dict[str, float]:
    """Save the state of the default network on CIFAR-10's shape five times; the median."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from keras_ddnn.config import resolve_config
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.training.checkpoint import Checkpoint, Place
    from keras_ddnn.training.joint import compile_ddnn

    config = resolve_config(None)
    model = build_ddnn((32, 32, 3), 10, config)
    compile_ddnn(model, config)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / STATE)
        checkpoint.begin(0, 1)
        checkpoint.around([])
        checkpoint.set_model(model)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            checkpoint._save(Place(0, 1))
            times.append(time.perf_counter() - start)
        size = checkpoint.path.stat().st_size
    return {
        "parameters": model.count_params(),
        "state_mb": round(size / 1e6, 1),
        "save_seconds": round(float(np.median(times)), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
