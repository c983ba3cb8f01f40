"""Whether a training is as fast as before, from arrays in memory and from a mapped file.

    python -m benchmarks.inputs --before COMMIT --rounds 5 --output results/speed
    python -m benchmarks.inputs --before COMMIT --dataset cifar10 --output results/speed

Noise of ten classes, 32×32, or a named data set, trained by a preset. Each run is a process of its
own, and those of a round follow one another, so that all of them meet the same machine. Counted is
the median epoch but the first, in images a second; a ratio is the median over the rounds. The
losses of all runs are told, too: the same ones mean the same training, to the last digit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLASSES, SIDE = 10, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", metavar="COMMIT", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--dataset", help="a named data set, in place of noise")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", type=Path, help="folder of inputs.json")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)  # one of them, in this process
    options = parser.parse_args()
    if options.run:
        print(json.dumps(_rate(*options.run, options)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "before"
        tree.mkdir()
        archive = ["git", "archive", options.before]
        content = subprocess.run(archive, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", tree], input=content, check=True)
        file = Path(scratch) / "images.npy"
        for array, path in zip(_data(options), (file, _labels_beside(file))):
            np.save(path, array)
        versions = {"before": (tree, "array"), "now": (ROOT, "array"), "now_mapped": (ROOT, "map")}
        rates: dict[str, list[float]] = {name: [] for name in versions}
        losses: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, (root, kind) in versions.items():
                rate, losses[name] = _measured(root, kind, file, options)
                rates[name].append(rate)
                print(name, round(rate), flush=True)
    result = {
        "images_per_s": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "now_over_before": _ratio(rates["now"], rates["before"]),
        "mapped_over_now": _ratio(rates["now_mapped"], rates["now"]),
        "losses": losses,
        "dataset": options.dataset or "noise",
        "preset": options.preset,
    }
    print(json.dumps(result))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"inputs_{result['dataset']}.json").write_text(
            json.dumps(result, indent=1) + "\n"
        )


def _data(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    if options.dataset:
        from keras_ddnn.data.datasets import load

        train = load(options.dataset).train
        return np.asarray(train.images), train.labels
    rng = np.random.default_rng(0)
    labels = np.arange(options.images) % CLASSES
    noise = rng.integers(0, 100, (options.images, SIDE, SIDE, 3), np.uint8)
    return noise + 15 * labels.astype(np.uint8)[:, None, None, None], labels


def _labels_beside(file: Path) -> Path:
    return file.with_name("labels.npy")


def _ratio(rates: list[float], others: list[float]) -> float:
    return round(median(rate / other for rate, other in zip(rates, others)), 3)


def _measured(
    root: Path, kind: str, file: Path, options: argparse.Namespace
) -> tuple[float, list[float]]:
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--run", kind, str(file)]
    command += ["--before", options.before, "--preset", options.preset]
    command += ["--epochs", str(options.epochs)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(
        command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    rate, *losses = json.loads(run.stdout.splitlines()[-1])
    return rate, losses


def _rate(kind: str, file: str, options: argparse.Namespace) -> list[float]:
    import keras

    from keras_ddnn.training.fit import fit_ddnn

    images = np.load(file, mmap_mode="r" if kind == "map" else None)
    labels = np.load(_labels_beside(Path(file)))
    seconds, begun = [], [0.0]
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - begun[-1]),
    )
    train = images, labels
    given = {"epochs": options.epochs, "callbacks": [clock], "verbose": 0}
    fitted = fit_ddnn(train, None, options.preset, **given)
    return [len(images) / median(seconds[1:]), *fitted.history["loss"]]


if __name__ == "__main__":
    main()
