"""Is there anything left to learn? `python -m tune.ceiling`, after `python -m tune.modern`.

Heads of growing size and input, on honest labels of growing numbers of training images: each third
of them is labelled by networks that were trained on the other two. How far they get from the margin
towards trees that also see the cloud's logits, and where that would end with images without number,
tells how far the default is from the best rule that sees what a device sees.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits, load
from keras_ddnn.data.rows.view import Array
from keras_ddnn.evaluation.statistics import audc_replicates
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.labels.sources import Banks, cross_fitted
from tune.modern_outputs import OUTPUTS, Pair, name_of, require_same_labels, seeds_of
from tune.modern_scores import DEFAULT, RESAMPLES, SEES_BOTH, scores_of
from tune.modern_tables import share_of_gap
from tune.study import run_study, study_parser

PAIR = ("modern_tiny", "modern_deep")
HEADS = {
    "logits": HeadConfig(),
    "logits, three layers": HeadConfig(depth=3),
    "image": HeadConfig(input="image", architecture="conv"),
    "image, twice as deep": HeadConfig(input="image", architecture="conv", depth=2),
}
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the training images


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the heads and write `ceiling.csv`; see `run_study` for exit codes."""
    options = _parser().parse_args(arguments)
    return run_study(_run, options)


def _run(options: argparse.Namespace) -> None:
    folder = options.output / OUTPUTS
    pairs = {seed: Pair.read(folder, *PAIR, seed) for seed in seeds_of(folder, *PAIR)}
    pairs = {seed: pair for seed, pair in pairs.items() if pair.folds and seed in options.seeds}
    if not pairs:
        raise ValueError(
            f"expected networks of each fold in {folder} for {' and '.join(PAIR)}; received none: "
            f"run python -m tune.modern --networks {' '.join(PAIR)} --seeds 0 --fold-seeds 0 first"
        )
    splits = load(options.dataset, options.data_dir)
    require_same_labels(folder, splits)
    table = ceiling({seed: audc_of(pair, splits, seed) for seed, pair in pairs.items()})
    with replacing_file(options.output / "ceiling.csv") as file:
        table.to_csv(file, index=False, float_format="%.5g")
    print(table.to_string(index=False))


def audc_of(pair: Pair, splits: Splits, seed: int) -> dict[tuple[str, int], np.ndarray]:
    """Return the AUDC on test images, and resamples of it, of each head and number of images.

    Args:
        pair: What both networks said, and those of each fold.
        splits: The images, for heads that read them.
        seed: Of the heads, and of which images they learn from.
    """
    from keras_ddnn.heads.fit import fit_head

    honest = cross_fitted(pair).labels_bank
    train, val, test = (
        _with_images(bank, split.images)
        for bank, split in zip(
            (honest, pair.val_bank, pair.test_bank), (splits.train, splits.val, splits.test)
        )
    )
    order, found = np.random.default_rng(seed).permutation(len(train)), {}
    for name, config in HEADS.items():
        for share in SHARES:
            rows = np.sort(order[: round(share * len(train))])
            head = fit_head(Banks(train.rows(rows), val), config)
            found[name, len(rows)] = audc_replicates(head.score(test.edge), test, RESAMPLES)
    scores, _ = scores_of(pair, seed)
    for name in ("margin", DEFAULT, SEES_BOTH):
        found[name, 0] = audc_replicates(scores[name], test, RESAMPLES)
    return found


def _with_images(bank: Bank, images: Array) -> Bank:
    """Return a bank of two tiers with the images of its device."""
    said = {name: tier.outputs for name, tier in bank.tiers.items()}
    inputs = np.asarray(images)[bank.index]
    return Bank.from_outputs(said, bank.labels, inputs=inputs, mirrored=bank.edge.mirrored)


def ceiling(seeds: Mapping[int, Mapping[tuple[str, int], np.ndarray]]) -> pd.DataFrame:
    """Return a row a head and number of images, with 95% intervals over seeds and samples.

    Args:
        seeds: Seed → what `audc_of` returns.

    Returns:
        `share`, the percentage of the gap between the margin and the trees that see both networks
        which a head closes; NaN where that gap may be 0. The rows with `images` of infinity are
        extrapolations: the constant of share = a - b/√images, as the error of what is learned of
        noisy labels falls.
    """
    gap = np.mean([seed[SEES_BOTH, 0] - seed["margin", 0] for seed in seeds.values()], axis=0)

    def share(key: tuple[str, int]) -> np.ndarray:
        gains = [seed[key] - seed["margin", 0] for seed in seeds.values()]
        return 100 * share_of_gap(np.mean(gains, axis=0), gap)

    keys = next(iter(seeds.values()))
    rows = [_row(DEFAULT, np.nan, share((DEFAULT, 0)), len(seeds))]
    for name in HEADS:
        counts = np.array([count for head, count in keys if head == name])
        shares = np.stack([share((name, count)) for count in counts])
        rows += [_row(name, n, each, len(seeds)) for n, each in zip(counts, shares)]
        design = np.stack([np.ones(len(counts)), -1 / np.sqrt(counts)], axis=1)
        constant = np.linalg.lstsq(design, shares)[0][0]
        rows.append(_row(name, np.inf, constant, len(seeds)))
    return pd.DataFrame(rows)


def _row(name: str, images: float, share: np.ndarray, seeds: int) -> dict[str, object]:
    low, high = np.quantile(share[1:], [0.025, 0.975])
    row = {"pair": name_of(*PAIR), "head": name, "seeds": seeds, "images": images}
    return row | {"share": float(share[0]), "share_low": float(low), "share_high": float(high)}


def _parser() -> argparse.ArgumentParser:
    parser = study_parser("tune.ceiling", __doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.set_defaults(output=Path("results/modern"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
