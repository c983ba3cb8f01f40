"""A training that goes on after a kill, with the result that it would have had without."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ddnn.files.checksums import set_aside
from keras_ddnn.files.notices import notice
from keras_ddnn.training.capture import CaptureStages
from keras_ddnn.training.saved_state import read_state, write_state

SECONDS = 300.0

# What callbacks that cannot say it themselves know of the epochs behind them. Others have
# `get_state() -> dict` and `set_state(dict)`, of plain values and arrays, or begin anew.
KNOWN = {
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.EarlyStopping: (
        *("wait", "best", "best_epoch", "best_weights", "stopped_epoch"),
    ),
    keras.callbacks.ModelCheckpoint: ("best",),
    CaptureStages: ("means",),
}


class Place(NamedTuple):
    """Where a training stands: epochs that are done, and steps that are done of the next."""

    epoch: int
    step: int = 0


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of a training every few minutes, and goes on from it.

    The state is weights, optimizer, metrics of the epoch, random streams, history and what
    callbacks know. It is one file that appears whole or not at all. A file of another
    configuration, other data or other code is set aside with a notice, as is a damaged one.
    `keras.callbacks.BackupAndRestore` keeps weights and optimizer alone, repeats an epoch it was
    saved in with the weights of its middle, and knows no plateau, no history and no place in an
    endless stream of batches.

    It is the last callback of a fit, so that it saves what the others know after an epoch.

    Args:
        path: The file; None keeps nothing.
        seconds: How much work is repeated at most; what callbacks do at the end of an epoch, and
            the capture after the last, comes on top.
        keep: Whether the file stays when the training ends, until `remove`: whoever calls
            `fit_ddnn` has then something left to do.

    Attributes:
        history: Metric name → one value an epoch, of all that is done.
    """

    def __init__(
        self, path: str | Path | None = None, seconds: float = SECONDS, keep: bool = False
    ):
        super().__init__()
        self.path, self.seconds, self.keep = path and Path(path), seconds, keep
        # Keras waits for the numbers of each step before the next one, unless it is told not to.
        self.async_safe = self.path is None
        self.history: dict[str, list[float]] = {}
        self._address, self._saved = "", None

    @classmethod
    def of(cls, path: "str | Path | Checkpoint | None") -> "Checkpoint":
        """Return a checkpoint itself, or that of a path."""
        return path if isinstance(path, Checkpoint) else cls(path)

    def find(self, address: str) -> None:
        """Read the file, if there is one of a training of this address; see `address_of_training`.

        Raises:
            ValueError: If the file is there and cannot be read.
        """
        self.history, self._address, self._saved = {}, address, None
        if self.path is None or not self.path.exists():
            return
        try:
            saved = read_state(self.path)
            place, history = Place(*saved["place"]), saved["history"]
            wrong = (
                None if saved["address"] == address else "of other data, options, callbacks or code"
            )
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error
        except Exception as error:  # there is no end to what damage can bring a reader to
            wrong = f"damaged ({type(error).__name__})"
        if wrong:
            aside = set_aside(self.path).name
            notice(f"the training saved in {self.path} is {wrong}: set aside as {aside}, begun new")
            return
        self._saved, self.history = saved, history
        notice(f"the training goes on after {place.epoch} epochs and {place.step} steps")

    def begin(self, first: int, end: int, rate: float | None = None) -> float | None:
        """Begin a part of a training, from one epoch to before another.

        Args:
            first, end: The epochs.
            rate: Learning rate that the part before has come to.

        Returns:
            That rate; the one that was saved, if the training goes on in this part.
        """
        self._first, self._end = first, end
        here = self._saved and first <= self.place.epoch
        self._rate = self._saved["rate"] if here else rate
        return self._rate

    @property
    def place(self) -> Place:
        """Where this part of the training begins."""
        return Place(*self._saved["place"]) if self._saved else Place(self._first)

    @property
    def done(self) -> bool:
        """Whether this part was finished before the training was interrupted."""
        return self.place.epoch >= self._end

    def steps_done(self, steps: int) -> int:
        """Return how many batches of this part are behind, given the steps of an epoch."""
        return (self.place.epoch - self._first) * steps + self.place.step

    def around(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        """Return the callbacks of a fit: those given, and what shortens its first epoch."""
        self._others = list(callbacks)
        shorten = [_FirstEpoch(self.place.step)] if self._saved else []
        return [*shorten, *self._others, self]

    def remove(self) -> None:
        """Remove the file: what it was kept for is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def end(self) -> None:
        """End the training: remove the file, unless it is to be kept."""
        if not self.keep:
            self.remove()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take up the state that was saved, after the other callbacks have begun."""
        self._before, self._metrics = self.place.step, None
        if self._saved is not None:
            self._restore(self._saved)
            self._saved = None
        elif self.path is not None and self._first == 0:
            _tell_who_begins_anew(self._others)
        self._last = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Give the metrics of a resumed epoch what they had added up; Keras has just reset them."""
        self._epoch = epoch
        if self._metrics is not None:
            _assign(self.model.metrics_variables, self._metrics)
            self._metrics = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the state if it is time."""
        step = self._before + batch + 1
        if self._due() and step < self.params["steps"]:
            self._save(Place(self._epoch, step))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the history, and save the state if it is time."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._before = 0
        if self._due() and epoch + 1 < self._end:
            self._save(Place(epoch + 1))

    def _due(self) -> bool:
        return self.path is not None and time.monotonic() - self._last >= self.seconds

    def _save(self, place: Place) -> None:
        state = {
            "address": self._address,
            "place": list(place),
            "rate": self._rate,
            "history": self.history,
            "variables": _values(_variables(self.model)),
            "metrics": _values(self.model.metrics_variables) if place.step else None,
            "callbacks": [_state_of(callback) for callback in self._others],
            "python": random.getstate(),
            "numpy": list(np.random.get_state()),  # noqa: NPY002 - what others draw from,
        }
        try:
            write_state(self.path, state)
        except OSError as error:  # a full disk may have room again in five minutes
            notice(f"the state of the training cannot be saved in {self.path}: {error}")
        self._last = time.monotonic()

    def _restore(self, state: dict[str, Any]) -> None:
        _assign(_variables(self.model), state["variables"])
        self._metrics = state["metrics"]
        for callback, known in zip(self._others, state["callbacks"], strict=True):
            _give_state(callback, known)
            if isinstance(callback, keras.callbacks.TensorBoard):
                for epoch in range(self.place.epoch):  # its folder may be a new one
                    logs = {name: values[epoch] for name, values in self.history.items()}
                    callback.on_epoch_end(epoch, logs)
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002


class _FirstEpoch(keras.callbacks.Callback):
    """Ends the first epoch of a fit when so many steps are left out of it.

    Keras has no epoch that begins in its middle. What stops a training stops the epoch at once,
    and the training only after `on_epoch_end`: before that it is told to go on.

    Args:
        steps: Steps that were done before.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps, self.stopped = steps, False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.steps and batch + 1 == self.params["steps"] - self.steps:
            self.model.stop_training = self.stopped = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.stopped:
            self.model.stop_training = self.stopped = False
        self.steps = 0


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Return what training changes: weights, seeds of dropout, the optimizer's slots."""
    return [*model.variables, *model.optimizer.variables]


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        if value.dtype.kind == "V":  # NumPy's files know no bfloat16
            value = value.view(keras.ops.convert_to_numpy(variable).dtype)
        variable.assign(value)


def _attributes_of(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((KNOWN[kind] for kind in type(callback).__mro__ if kind in KNOWN), ())


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: getattr(callback, name) for name in _attributes_of(callback)}


def _give_state(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


# They know nothing of the epochs behind them, or are told again.
STATELESS = (
    keras.callbacks.LambdaCallback,
    keras.callbacks.TensorBoard,
    keras.callbacks.TerminateOnNaN,
    keras.callbacks.LearningRateScheduler,
)


def _tell_who_begins_anew(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    for callback in callbacks:
        own = type(callback).__module__.startswith("keras_ddnn.")
        known = own or hasattr(callback, "get_state") or _attributes_of(callback)
        if not (known or isinstance(callback, STATELESS)):
            name = type(callback).__name__
            notice(f"{name} has no get_state and set_state: it begins anew after a kill")
