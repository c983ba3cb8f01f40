"""Accuracy and wall time of the training presets, one after another on one dataset.

    python -m benchmarks.presets --dataset cifar10 --presets paper fast strong

Accuracies are those of the test data, with 95% Wilson intervals.
"""

import argparse
import json
import time

from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from keras_ddnn.config import PRESETS
from keras_ddnn.data.datasets import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument(
        "--presets", nargs="+", choices=PRESETS, default=["paper", "fast", "strong"]
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from keras_ddnn.training.fit import fit_ddnn

    splits = load(options.dataset, options.data_dir)
    table = Table("preset", "epochs", "seconds", "local %", "cloud %", "either %", "gap")
    rows = []
    for preset in options.presets:
        start = time.perf_counter()
        fitted = fit_ddnn(splits.train, splits.val, preset, seed=options.seed, verbose=2)
        seconds = time.perf_counter() - start
        test = fitted.capture(splits.test)
        outcomes = {
            "local": test.local_correct,
            "cloud": test.cloud_correct,
            "either": test.local_correct | test.cloud_correct,
        }
        row = {"preset": preset, "epochs": fitted.config.epochs, "seconds": round(seconds, 1)}
        for name, correct in outcomes.items():
            interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
            row[name] = [round(100 * float(p), 2) for p in (correct.mean(), *interval)]
        rows.append(row)
        table.add_row(
            preset,
            str(row["epochs"]),
            f"{seconds:.0f}",
            *("{} ({}–{})".format(*row[name]) for name in outcomes),
            f"{row['cloud'][0] - row['local'][0]:.1f}",
        )
    Console(width=120).print(table)
    print(json.dumps({"dataset": options.dataset, "seed": options.seed, "presets": rows}))


if __name__ == "__main__":
    main()
