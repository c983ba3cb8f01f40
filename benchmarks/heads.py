"""Heads trained together against one by one: seconds, and the AUDC of each beside its twin's.

    python -m benchmarks.heads --dataset cifar10 --members 27

One DDNN is trained first; its heads differ in L0, loss and target, and take turns.
"""

import argparse
import json
import time
from itertools import islice, product

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.config import PRESETS, HeadConfig
from keras_ddnn.data.datasets import load
from keras_ddnn.rules.inputs import HEAD_INPUTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cluttered_digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--preset", choices=PRESETS, default="quickstart")
    parser.add_argument("--epochs", type=int, default=5, help="of the DDNN")
    parser.add_argument("--inputs", nargs="+", choices=HEAD_INPUTS, default=["logits_plus"])
    parser.add_argument("--members", type=int, default=27)
    options = parser.parse_args()

    from keras_ddnn.heads.fit import fit_head
    from keras_ddnn.heads.stack import fit_heads
    from keras_ddnn.training.fit import fit_ddnn

    splits = load(options.dataset, options.data_dir)
    ddnn = fit_ddnn(splits.train, splits.val, options.preset, epochs=options.epochs, verbose=2)
    table = Table(
        "input", "members", "one by one s", "together s", "ratio", "AUDC apart", "in the mean"
    )
    rows = []
    for name in options.inputs:
        configs = list(islice(_configs(name), options.members))
        start = time.perf_counter()
        together = fit_heads(ddnn, configs)
        middle = time.perf_counter()
        alone = [fit_head(ddnn, config) for config in configs]
        end = time.perf_counter()
        audc = [[max(h.history["val_audc"]) for h in heads] for heads in (together, alone)]
        apart = 100 * np.subtract(*audc)
        row = {
            "input": name,
            "members": len(configs),
            "one_by_one_s": round(end - middle, 1),
            "together_s": round(middle - start, 1),
            "ratio": round((end - middle) / (middle - start), 2),
            "audc_points_apart": round(float(np.abs(apart).mean()), 3),
            "audc_points": round(float(apart.mean()), 3),
        }
        rows.append(row)
        table.add_row(*map(str, row.values()))
    Console(width=110).print(table)
    print(json.dumps({"dataset": options.dataset, "heads": rows}))


def _configs(name):
    """Yield heads of one stack, none anchored: the anchor is chosen apart from the training."""
    for fraction, loss, cost in product(
        np.linspace(0.1, 0.9, 9), ("bce", "weighted_bce", "focal"), ("true_class", "zero_one")
    ):
        yield HeadConfig(
            input=name,
            target="hard",
            loss=loss,
            cost=cost,
            local_fraction=round(float(fraction), 2),
            anchored=False,
        )


if __name__ == "__main__":
    main()
