"""The schedule of a joint training: its parts, and the learning rate of each."""

from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import keras

from keras_ddnn.config.training import DDNNConfig

WARM_UP = 0.2  # share of the steps


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of a training.

    Attributes:
        initial: What the optimizer is given: a number, or a Keras schedule over the steps.
        callbacks: Those that change it during training.
    """

    initial: float | keras.optimizers.schedules.LearningRateSchedule
    callbacks: list[keras.callbacks.Callback] = field(default_factory=list)


def learning_rate_of(
    config: DDNNConfig, steps: int, monitor: str, warm_up: float = WARM_UP
) -> LearningRate:
    """Return the learning rate of a configuration.

    Args:
        config: Names the schedule, its highest rate and the epochs.
        steps: Steps of an epoch.
        monitor: Metric that the plateau schedule watches.
        warm_up: Share of the steps in which "one_cycle" rises from 0.
    """
    rate, total = config.learning_rate, config.epochs * steps
    match config.schedule:
        case "plateau":
            reduce = keras.callbacks.ReduceLROnPlateau(monitor, factor=0.5, patience=2)
            return LearningRate(rate, [reduce])
        case "linear":
            falling = keras.optimizers.schedules.PolynomialDecay(rate, total, end_learning_rate=0.0)
            return LearningRate(falling)
        case "one_cycle" if not warm_up:
            return LearningRate(keras.optimizers.schedules.CosineDecay(rate, total))
        case "one_cycle":
            rising = max(1, round(warm_up * total))
            return LearningRate(
                keras.optimizers.schedules.CosineDecay(
                    initial_learning_rate=0.0,
                    warmup_target=rate,
                    warmup_steps=rising,
                    decay_steps=max(1, total - rising),
                )
            )
        case _:
            assert_never(config.schedule)


def parts_of(config: DDNNConfig) -> list[tuple[DDNNConfig, int, int]]:
    """Return the parts of a training, each with its first epoch and the one after its last.

    There are two if a bottleneck is put in on the way; the second goes on at the learning rate that
    the first has come to. Stages are counted over all of it, not in a part.
    """
    wide, whole = config.wide_epochs, config.epochs
    last = replace(config, stages=0), wide, whole
    return [(replace(last[0], bottleneck=None), 0, wide), last] if wide else [last]


class StopAfter(keras.callbacks.Callback):
    """Ends a fit early, whose callbacks are to know of all epochs, those of the next fit too."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop after the last epoch of the part."""
        self.model.stop_training = epoch + 1 >= self.epochs
