"""Learning-rate schedules of a joint training."""

from dataclasses import dataclass, field
from typing import assert_never

import keras

from keras_ddnn.config import DDNNConfig

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
