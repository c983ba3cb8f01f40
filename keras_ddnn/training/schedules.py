"""Learning-rate schedules of a joint training."""

from dataclasses import dataclass, field

import keras

WARM_UP = 0.2  # share of the steps


@dataclass(frozen=True)
class _Schedule:
    learning_rate: object
    callbacks: list = field(default_factory=list)


def _plateau(config, steps, monitor, warm_up=0.0):
    reduce = keras.callbacks.ReduceLROnPlateau(monitor, factor=0.5, patience=2)
    return _Schedule(config.learning_rate, [reduce])


def _one_cycle(config, steps, monitor, warm_up=WARM_UP):
    total = config.epochs * steps
    if not warm_up:
        return _Schedule(keras.optimizers.schedules.CosineDecay(config.learning_rate, total))
    warm_up = max(1, round(warm_up * total))
    return _Schedule(
        keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=config.learning_rate,
            warmup_steps=warm_up,
            decay_steps=max(1, total - warm_up),
        )
    )


SCHEDULES = {"plateau": _plateau, "one_cycle": _one_cycle}
