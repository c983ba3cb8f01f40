"""What a search costs beyond its backbones: seconds and memory, by number of trials.

    python -m benchmarks.search --dataset cifar10 --preset fast --trials 40 160 360 640
    python -m benchmarks.search --dataset cifar10 --preset fast --trials 160 --samples 5000

The backbones of all searches, one a λ, are trained first and shared. A search then costs what its
heads and its report take. Training a DDNN for every trial is not tried but reckoned, from the time
of a round of backbones, one a core. Memory is that of this process and all that it has started,
shared pages counted once.
"""

import argparse
import json
import math
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
INPUTS = ("logits", "logits_plus", "logits_rich")
LOSSES = ("bce", "weighted_bce", "focal")
# Trials -> choices of the heads, all on five λ and eight L0
HEADS = {
    40: {},
    160: {"loss": LOSSES[:2], "input": INPUTS[1:]},
    360: {"loss": LOSSES, "input": INPUTS},
    640: {"loss": LOSSES[:2], "input": INPUTS[1:], "depth": (1, 2, 3, 4)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cluttered_digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--epochs", type=int, help="of a backbone; the preset's by default")
    parser.add_argument("--samples", type=int, help="of the training data; all by default")
    parser.add_argument("--trials", type=int, nargs="+", choices=HEADS, default=[*HEADS])
    parser.add_argument("--work", type=Path, help="keeps the backbones, and their seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.samples:
            options.dataset, options.data_dir = _smaller(options, Path(folder)), None
        _measure(options, options.work or Path(folder), Path(folder))


def _smaller(options, folder) -> str:
    """Write a dataset with fewer training images, and return its path."""
    import numpy as np

    from keras_ddnn.data.datasets import load

    splits = load(options.dataset, options.data_dir)
    arrays = {}
    for name in ("train", "val", "test"):
        split, rows = getattr(splits, name), slice(options.samples if name == "train" else None)
        arrays |= {f"x_{name}": split.images[rows], f"y_{name}": split.user_labels[rows]}
    path = folder / f"{options.dataset}.npz"
    np.savez(path, **arrays)
    return str(path)


def _measure(options, work, folder):
    from keras_ddnn.data.datasets import load
    from tune.driver import run_search, train_backbones

    searches = {trials: _search(options, trials) for trials in options.trials}
    backbones = next(iter(searches.values())).backbones()
    splits = load(options.dataset, options.data_dir)
    with _PeakMemory() as memory:
        start = time.perf_counter()
        train_backbones(backbones, splits, work / "backbones")
        training_s = _remembered(work / "seconds.json", time.perf_counter() - start)
        round_s = training_s / math.ceil(len(backbones) / os.cpu_count())
        table = Table(
            "trials", "heads and report, s", "search / backbones", "DDNN a trial / search"
        )
        rows = []
        for trials, search in searches.items():
            start = time.perf_counter()
            output, kept = folder / f"{trials}", work / "backbones"
            run_search(search, output, data_dir=options.data_dir, backbones=kept)
            heads_s = time.perf_counter() - start
            naive_s = round_s * math.ceil(trials / os.cpu_count())
            row = {
                "trials": trials,
                "heads_s": round(heads_s, 1),
                "ratio": round((training_s + heads_s) / training_s, 3),
                "saved": round(naive_s / (training_s + heads_s), 1),
            }
            rows.append(row)
            table.add_row(*map(str, row.values()))
    Console(width=100).print(table)
    summary = {
        "dataset": splits.name,
        "preset": options.preset,
        "samples": len(splits.train.labels),
        "backbones": len(backbones),
        "backbones_s": round(training_s, 1),
        "peak_gib": round(memory.peak / 2**30, 2),
        "searches": rows,
    }
    print(json.dumps(summary))


def _search(options, trials):
    from tune.space import SearchConfig

    search = SearchConfig(
        dataset=options.dataset,
        ddnn=options.preset,
        epochs=options.epochs,
        lambda_local=WEIGHTS,
        local_fraction=FRACTIONS,
        **HEADS[trials],
    )
    assert len(search.grid()) == trials
    return search


def _remembered(path: Path, seconds: float) -> float:
    """Return the seconds of the first run, which trained the backbones, and keep them."""
    if not path.exists():
        path.write_text(json.dumps(seconds))
    return json.loads(path.read_text())


class _PeakMemory:
    """Samples once a second the proportional set size of this process and its descendants."""

    def __enter__(self):
        self.peak, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def _watch(self):
        while not self.done.wait(1.0):
            own = psutil.Process()
            used = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    used += process.memory_full_info().pss
                except psutil.Error:  # it has just ended
                    continue
            self.peak = max(self.peak, used)


if __name__ == "__main__":
    main()
