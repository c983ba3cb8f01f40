"""Training of the default DDNN against a plain Keras `fit` and against PyTorch.

    pip install -e '.[benchmarks]'
    python -m benchmarks.training

The same network, batch, optimiser and noise for all, in processes of their own that take turns; the
fastest epoch of each counts. Plain Keras is what one writes without this package: layers as
published, float32, arrays in memory, with XLA as Keras compiles unless told not to, and without.
PyTorch runs channels_last under bfloat16 autocast, and in float32, which is the faster where a CPU
has no matrix units for bfloat16. Last come as many of ours at once as there are cores, on one
thread each, as a search trains its backbones.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

IMAGES, BATCH, EPOCHS = 10_240, 256, 3
DROPOUT, SLOPE, MOMENTUM = 0.25, 0.1, 0.9
NETS = {"pooled": [], "unpooled": ["--unpooled"]}  # the local network's map; flags of a run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=[*NETS])
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one of them, in this process
    parser.add_argument("--unpooled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(min(CONTESTANTS[options.run](options.threads, not options.unpooled)))
        return

    table = Table("net", *(f"{name}, images/s" for name in options.contestants))
    rows = {}
    for net in options.nets:
        seconds = dict.fromkeys(options.contestants, float("inf"))
        for _ in range(options.rounds):
            for name in options.contestants:
                (took,) = _at_once(1, name, options.threads, NETS[net])
                seconds[name] = min(seconds[name], took)
        rows[net] = {name: round(IMAGES / best) for name, best in seconds.items()}
        table.add_row(net, *map(str, rows[net].values()))
        print(net, json.dumps(rows[net]), flush=True)
    Console(width=120).print(table)
    slowest = min(max(_at_once(options.threads, "ours", 1)) for _ in range(options.rounds))
    at_once = round(options.threads * IMAGES / slowest)
    print(f"{options.threads} at once on a thread each: {at_once} images/s in all")
    ratios = {
        net: {name: round(speed["ours"] / other, 2) for name, other in speed.items()}
        for net, speed in rows.items()
        if "ours" in speed
    }
    summary = {"threads": options.threads, "images_per_s": rows, "ours_over": ratios}
    print(json.dumps(summary | {"at_once": at_once}))


def _at_once(count, name, threads, flags=()) -> list[float]:
    """Return the seconds of the fastest epoch of a contestant in each of several processes."""
    command = [sys.executable, "-m", "benchmarks.training", "--run", name, *flags]
    environment = os.environ | {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    started = [
        subprocess.Popen(
            [*command, "--threads", str(threads)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    seconds = []
    for process in started:
        output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{name} ended with {process.returncode}: {errors[-2000:]}")
        seconds.append(float(output.splitlines()[-1]))
    return seconds


def _data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, IMAGES)


def _ours(precision):
    def run(threads, pooled):
        from keras_ddnn import fit_ddnn

        epochs = _epoch_timer()
        fit_ddnn(
            _data(),
            num_classes=10,
            callbacks=[epochs],
            verbose=0,
            epochs=EPOCHS,
            batch_size=BATCH,
            local_pool=pooled,
            precision=precision,
        )
        return epochs.seconds

    return run


def _epoch_timer():
    import keras

    class EpochTimer(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)

    return EpochTimer()


def _plain_keras(jit_compile):
    return lambda threads, pooled: _fit_plain_keras(pooled, jit_compile)


def _fit_plain_keras(pooled, jit_compile):
    import keras
    from keras import layers

    def activation():
        return layers.LeakyReLU(negative_slope=SLOPE)

    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = activation()(layers.Conv2D(32, 3, padding="same")(x))
    features = layers.MaxPooling2D()(x) if pooled else x
    x = activation()(layers.Dense(64)(layers.Flatten()(features)))
    local = layers.Dense(10, name="local")(x)
    x = features
    for widths in ((32, 32), (64, 64, 128)):
        for width in widths:
            x = layers.Conv2D(width, 3, padding="same")(x)
            x = activation()(layers.BatchNormalization(momentum=MOMENTUM)(x))
        x = layers.Dropout(DROPOUT)(layers.MaxPooling2D()(x))
    x = layers.Flatten()(x)
    for width in (256, 64):
        x = layers.Dropout(DROPOUT)(activation()(layers.Dense(width)(x)))
    cloud = layers.Dense(10, name="cloud")(x)
    model = keras.Model(images, {"local": local, "cloud": cloud})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={"local": loss, "cloud": loss},
        loss_weights={"local": 0.5, "cloud": 0.5},
        metrics={"local": ["accuracy"], "cloud": ["accuracy"]},
        jit_compile=jit_compile,
    )
    images, labels = _data()
    epochs = _epoch_timer()
    model.fit(
        images.astype(np.float32),
        {"local": labels, "cloud": labels},
        batch_size=BATCH,
        epochs=EPOCHS,
        callbacks=[epochs],
        verbose=0,
    )
    return epochs.seconds


def _pytorch(autocast):
    def run(threads, pooled):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        device_side, local, cloud = _torch_networks(pooled)
        networks = torch.nn.ModuleList([device_side, local, cloud])
        networks.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(networks.parameters(), 1e-3, foreach=True)
        images, labels = map(torch.from_numpy, _data())
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        cross_entropy = torch.nn.functional.cross_entropy
        seconds = []
        for _ in range(EPOCHS):
            start, right = time.perf_counter(), 0
            for rows in torch.randperm(IMAGES).split(BATCH):
                batch, target = images[rows].float() / 127.5 - 1, labels[rows]
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    features = device_side(batch)
                    answers = local(features), cloud(features)
                losses = [cross_entropy(answer.float(), target) for answer in answers]
                optimizer.zero_grad(set_to_none=True)
                (0.5 * losses[0] + 0.5 * losses[1]).backward()
                optimizer.step()
                right = right + sum((answer.argmax(1) == target).sum() for answer in answers)
            seconds.append(time.perf_counter() - start)
        return seconds

    return run


def _torch_networks(pooled):
    from torch import nn

    def block(*layers):
        return nn.Sequential(*layers)

    def pool(active=True):
        return nn.MaxPool2d(2) if active else nn.Identity()

    device_side = block(nn.Conv2d(3, 32, 3, padding=1), nn.LeakyReLU(SLOPE), pool(pooled))
    side = 16 if pooled else 32
    local = block(nn.Flatten(), nn.Linear(32 * side**2, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, 10))
    layers, channels = [], 32
    for widths in ((32, 32), (64, 64, 128)):
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width, momentum=1 - MOMENTUM),
                nn.LeakyReLU(SLOPE),
            ]
            channels = width
        layers += [pool(), nn.Dropout(DROPOUT)]
    width = channels * (side // 4) ** 2
    layers.append(nn.Flatten())
    for units in (256, 64):
        layers += [nn.Linear(width, units), nn.LeakyReLU(SLOPE), nn.Dropout(DROPOUT)]
        width = units
    return device_side, local, block(*layers, nn.Linear(width, 10))


CONTESTANTS = {
    "ours": _ours("auto"),
    "ours, float32": _ours("float32"),
    "ours, bfloat16": _ours("bfloat16"),
    "Keras": _plain_keras("auto"),
    "Keras, no XLA": _plain_keras(jit_compile=False),
    "PyTorch, bfloat16": _pytorch(autocast=True),
    "PyTorch, float32": _pytorch(autocast=False),
}


if __name__ == "__main__":
    main()
