"""Which accelerators of this host a network is trained on."""

from functools import cache
from typing import Literal, assert_never

import tensorflow as tf

from keras_ddnn.files.notices import notice

Devices = Literal["auto", "one", "all"]


def strategy_of(devices: Devices = "auto") -> tf.distribute.Strategy:
    """Return how a network is spread over devices; each gets a part of every batch.

    Args:
        devices: "auto" takes all GPUs if there are several; "one" the first, or the strategy of the
            scope it is called in; "all" all GPUs, or all logical CPU devices if there are none.

    Raises:
        ValueError: If "all" finds one device alone, or on an unknown name.
    """
    gpus = tf.config.list_logical_devices("GPU")
    match devices:
        case "one":
            return tf.distribute.get_strategy()
        case "auto":
            if tf.distribute.has_strategy() or len(gpus) < 2:
                return tf.distribute.get_strategy()
            found = gpus
        case "all":
            found = gpus or tf.config.list_logical_devices("CPU")
            if len(found) < 2:
                raise ValueError(
                    "devices='all' expects several GPUs, or several logical CPU devices; received "
                    f"{len(found)}: pass devices='auto'"
                )
        case str():
            raise ValueError(f"unknown devices {devices!r}; known: auto, one, all")
        case _:
            assert_never(devices)
    notice(f"the network is trained on {len(found)} devices, each with its part of every batch")
    return _mirrored(tuple(device.name for device in found))


@cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """Return one strategy for all trainings of a process.

    A second one numbers its sums from the beginning again, and TensorFlow takes them for those of
    the first.
    """
    return tf.distribute.MirroredStrategy(names)
