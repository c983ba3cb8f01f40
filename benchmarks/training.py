"""Training of the default DDNN against a plain Keras `fit` and against PyTorch.

    pip install -e '.[benchmarks]'
    python -m benchmarks.training [--nets modern]

The networks are the paper's, or the cloud network of today. The same network, batch, optimiser and
noise for all, in processes of their own that take turns; the fastest epoch of each counts. Plain
Keras is what one writes without this package: layers as published, float32, arrays in memory, with
XLA as Keras compiles unless told not to, and without. PyTorch runs channels_last under bfloat16
autocast, and in float32, which is the faster where a CPU has no matrix units for bfloat16. Last
come as many of ours at once as there are cores, on one thread each, as a search trains its
backbones.
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

from benchmarks.training_nets import IMAGES, MODERN, PAPER_NETS, data, keras_model, torch_networks

BATCH, EPOCHS = 256, 3
NETS = (*PAPER_NETS, MODERN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=[*PAPER_NETS])
    parser.add_argument("--run", help=argparse.SUPPRESS)  # one of them, in this process
    options = parser.parse_args()
    if options.run:
        print(min(CONTESTANTS[options.run](options.threads, *options.nets)))
        return

    table = Table("net", *(f"{name}, images/s" for name in options.contestants))
    rows = {}
    for net in options.nets:
        seconds = dict.fromkeys(options.contestants, float("inf"))
        for _ in range(options.rounds):
            for name in options.contestants:
                (took,) = _at_once(1, name, options.threads, net)
                seconds[name] = min(seconds[name], took)
        rows[net] = {name: round(IMAGES[net] / best) for name, best in seconds.items()}
        table.add_row(net, *map(str, rows[net].values()))
        print(net, json.dumps(rows[net]), flush=True)
    Console(width=120).print(table)
    slowest = min(
        max(_at_once(options.threads, "ours", 1, options.nets[0])) for _ in range(options.rounds)
    )
    at_once = round(options.threads * IMAGES[options.nets[0]] / slowest)
    print(f"{options.threads} at once on a thread each: {at_once} images/s in all")
    ratios = {
        net: {name: round(speed["ours"] / other, 2) for name, other in speed.items()}
        for net, speed in rows.items()
        if "ours" in speed
    }
    summary = {"threads": options.threads, "images_per_s": rows, "ours_over": ratios}
    print(json.dumps(summary | {"at_once": at_once}))


def _at_once(count, name, threads, net) -> list[float]:
    """Return the seconds of the fastest epoch of a contestant in each of several processes."""
    command = [sys.executable, "-m", "benchmarks.training", "--run", name, "--nets", net]
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


def _ours(precision):
    def run(threads, net):
        from keras_ddnn import fit_ddnn

        epochs = _epoch_timer()
        fit_ddnn(
            data(net),
            network=_modern(precision) if net == MODERN else None,
            num_classes=10,
            callbacks=[epochs],
            verbose=0,
            epochs=EPOCHS,
            batch_size=BATCH,
            local_pool=net == "pooled",
            precision=precision,
        )
        return epochs.seconds

    return run


def _modern(precision):
    from keras_ddnn import chain
    from keras_ddnn.networks.architectures.named_models import NETWORKS

    row = NETWORKS["modern_large"]
    return chain({"cloud": row.build((32, 32, 3), 10, row.options, precision)})


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
    return lambda threads, net: _fit_plain_keras(net, jit_compile)


def _fit_plain_keras(net, jit_compile):
    import keras

    model = keras_model(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    exits = [*model.output]
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=dict.fromkeys(exits, loss),
        loss_weights=dict.fromkeys(exits, 1 / len(exits)),
        metrics={name: ["accuracy"] for name in exits},
        jit_compile=jit_compile,
    )
    images, labels = data(net)
    epochs = _epoch_timer()
    model.fit(
        images.astype(np.float32),
        dict.fromkeys(exits, labels),
        batch_size=BATCH,
        epochs=EPOCHS,
        callbacks=[epochs],
        verbose=0,
    )
    return epochs.seconds


def _pytorch(autocast):
    def run(threads, net):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        before, *exits = torch_networks(net)
        networks = torch.nn.ModuleList([before, *exits])
        networks.to(memory_format=torch.channels_last)
        trained = [weight for weight in networks.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(trained, 1e-3, foreach=True)
        images, labels = map(torch.from_numpy, data(net))
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        cross_entropy = torch.nn.functional.cross_entropy
        seconds = []
        for _ in range(EPOCHS):
            start, right = time.perf_counter(), 0
            for rows in torch.randperm(IMAGES[net]).split(BATCH):
                batch, target = images[rows].float() / 127.5 - 1, labels[rows]
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    features = before(batch)
                    answers = [answer(features) for answer in exits]
                losses = [cross_entropy(answer.float(), target) for answer in answers]
                optimizer.zero_grad(set_to_none=True)
                (sum(losses) / len(losses)).backward()
                optimizer.step()
                right = right + sum((answer.argmax(1) == target).sum() for answer in answers)
            seconds.append(time.perf_counter() - start)
        return seconds

    return run


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
