"""Routed inference against asking the cloud about everything, over local fractions and batches.

    python -m benchmarks.routing [--precision float32] [--unpooled]
    python -m benchmarks.routing --chain modern_tiny modern_large

Each policy answers one stream of images of the size of CIFAR-10, batch by batch; the policies take
turns, and the fastest of their rounds counts. The networks are the paper's, or two that are known
by their names, untrained; the threshold of the margin rule keeps the asked share of the stream
local. The cloud is asked about everything as it was trained, and with its normalisation folded as a
policy folds it. The ideal is the device's time for all images and the folded cloud's for those that
are sent.
"""

import argparse
import json
import time
from typing import get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.config import DDNNConfig, Precision

FRACTIONS = (0.0, 0.3, 0.6, 0.9, 1.0)
STREAMS = {1: 200, 32: 1024, 256: 2048}  # batch -> images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--unpooled", action="store_true", help="the local network's map")
    parser.add_argument("--chain", nargs=2, metavar=("DEVICE", "CLOUD"), help="names of networks")
    parser.add_argument("--batches", type=int, nargs="+", choices=STREAMS, default=[*STREAMS])
    options = parser.parse_args()

    from keras_ddnn.data.gate_costs import threshold_for_fraction
    from keras_ddnn.deploy.policy import OffloadPolicy
    from keras_ddnn.networks.cascade import as_cascade
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.rules.confidence import Margin
    from keras_ddnn.training.capture import capture

    images = np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), dtype=np.uint8)
    if options.chain:
        model, config = _chained(options.chain, images, options.precision), None
    else:
        config = DDNNConfig(precision=options.precision, local_pool=not options.unpooled)
        model = as_cascade(build_ddnn((32, 32, 3), 10, config))
    for variable in model.model.trainable_variables:
        if len(variable.shape) == 1:  # of zeros and ones a graph of constants is free
            variable.assign(variable + 0.01)
    scores = Margin().score(capture(model, images, np.zeros(len(images), int)).edge)

    table = Table(
        *("batch", "local fraction", "always cloud, µs an image", "folded", "routed"),
        *("ratio", "ratio to folded", "of the ideal"),
    )
    rows = []
    for batch, n in ((batch, STREAMS[batch]) for batch in options.batches):
        thresholds = [threshold_for_fraction(scores[:n], fraction) for fraction in FRACTIONS]
        policies = [
            OffloadPolicy(model, config, Margin(), threshold, tuple("0123456789"))
            for threshold in thresholds
        ]
        clouds = [_cloud_alone(each.model) for each in (model, model.folded())]
        answers = [*clouds, *(policy.predict for policy in policies)]
        streams = [_stream(answer, images[:n], batch) for answer in answers]
        seconds = _take_turns(streams, options.rounds)
        trained, folded, *routed = seconds
        for fraction, own in zip(FRACTIONS, routed):
            row = {
                "batch": batch,
                "local_fraction": fraction,
                "always_cloud_us": round(1e6 * trained / n, 1),
                "folded_us": round(1e6 * folded / n, 1),
                "routed_us": round(1e6 * own / n, 1),
                "ratio": round(trained / own, 2),
                "ratio_to_folded": round(folded / own, 2),
                "of_the_ideal": round((routed[-1] + (1.0 - fraction) * folded) / own, 2),
            }
            rows.append(row)
            table.add_row(*map(str, row.values()))
    Console(width=100).print(table)
    print(json.dumps(vars(options) | {"routing": rows}))


def _chained(names, images, precision):
    """Return a device and a cloud of these names, untrained but for their whitening."""
    import keras

    from keras_ddnn.networks.architectures.named_models import NETWORKS
    from keras_ddnn.networks.compose import chain
    from keras_ddnn.training.trainable import start_whitening

    keras.utils.set_random_seed(0)
    local, cloud = (
        NETWORKS[name].build((32, 32, 3), 10, NETWORKS[name].options, precision) for name in names
    )
    network = chain({"local": local, "cloud": cloud})
    start_whitening(network.model, images)
    return network


def _cloud_alone(model):
    """Return what asks the cloud network alone, as one would without a local classifier."""
    import keras
    import tensorflow as tf

    cloud = keras.Model(model.input, model.output["cloud"])
    signature = [tf.TensorSpec(model.input_shape, tf.uint8)]
    step = tf.function(
        lambda images: cloud(images, training=False), input_signature=signature, autograph=False
    )
    return lambda images: step(images).numpy().argmax(axis=1)


def _stream(answer, images, batch):
    """Return what answers a stream of images, batch by batch."""

    def run():
        for start in range(0, len(images), batch):
            answer(images[start : start + batch])

    return run


def _take_turns(runs, rounds) -> list[float]:
    """Return the seconds of the fastest of several rounds of each run, after one to warm up."""
    best = [float("inf")] * len(runs)
    for number in range(rounds + 1):
        for place, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if number:
                best[place] = min(best[place], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
