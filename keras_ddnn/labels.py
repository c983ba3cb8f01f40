"""Where honest labels come from.

B_k of samples that the networks have memorised describes another world than the one a device meets:
there the local network is nearly always right. Each source below makes, of the same training
images, the bank that an offload head learns from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.model_selection import StratifiedKFold

from keras_ddnn.bank import Bank, EdgeOutputs
from keras_ddnn.batches import augmented_views
from keras_ddnn.capture import capture
from keras_ddnn.costs import benefit
from keras_ddnn.datasets import Split
from keras_ddnn.diagnostics import HONEST, MEMORISED, BankFacts
from keras_ddnn.training import FittedDDNN, fit_ddnn

VIEWS = 2
FOLDS = 3
HELD_OUT_FOLDS = 9  # one fold of so many: 5,000 of the 45,000 images of CIFAR-10


@dataclass(frozen=True, eq=False)
class Lesson:
    """What an offload head is trained on.

    Attributes:
        bank: What the head sees.
        judge: The same samples with the logits that decide what is to be learned of them.
    """

    bank: Bank
    judge: Bank


def final_epoch(fitted: FittedDDNN, train: Split) -> Lesson:
    """Judge the training images by the networks trained on them, as the paper does."""
    return Lesson(fitted.bank, fitted.bank)


def augmented(fitted: FittedDDNN, train: Split) -> Lesson:
    """Judge augmented views of the training images, each view a sample of its own.

    The views are those of the training augmentation, or crops and mirrored images where there was
    none. Features of two views of 45,000 images take 1.5 GB.
    """
    name = "crop_flip" if fitted.config.augmentation == "none" else fitted.config.augmentation
    views = augmented_views(train.images, name, VIEWS, fitted.config.seed)
    bank = capture(fitted.model, views, np.tile(train.labels, VIEWS))
    return Lesson(bank, bank)


def stage_averaged(fitted: FittedDDNN, train: Split) -> Lesson:
    """Judge the training images by the mean probabilities of several late epochs.

    The paper proposes it as future work. Needs `fit_ddnn(..., stages=…)`.

    Raises:
        ValueError: If no stages were kept.
    """
    if fitted.stage_bank is None:
        raise ValueError("stage_averaged needs a DDNN fitted with stages ≥ 1; received stages=0")
    return Lesson(fitted.bank, fitted.stage_bank)


def held_out(fitted: FittedDDNN, train: Split) -> Lesson:
    """Judge a ninth of the training images by networks trained on the others."""
    return cross_fit(fitted, train, HELD_OUT_FOLDS, only=1)


def cross_fitted(fitted: FittedDDNN, train: Split) -> Lesson:
    """Judge each third of the training images by networks trained on the other two."""
    return cross_fit(fitted, train, FOLDS, only=FOLDS)


def cross_fit(fitted: FittedDDNN, train: Split, folds: int, only: int) -> Lesson:
    """Train a DDNN without each of the first `only` of `folds` folds, and let it judge that fold.

    Args:
        fitted: The DDNN to be deployed; its configuration trains the others.
        train: Its training data.
        folds: Parts of the training data, stratified by class.
        only: Parts to judge.
    """
    banks = []
    for rest, held in fold_rows(train.labels, folds, fitted.config.seed)[:only]:
        fold = fit_ddnn(
            Split(train.images[rest], train.labels[rest]),
            None,
            fitted.config,
            num_classes=fitted.model.output["local"].shape[-1],
            verbose=0,
        )
        banks.append((held, fold.capture(Split(train.images[held], train.labels[held]))))
    return join_folds(fitted.bank, banks)


def fold_rows(labels: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each fold, the sorted rows outside and inside it, stratified by class."""
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels))


def join_folds(bank: Bank, folds: list[tuple[np.ndarray, Bank]]) -> Lesson:
    """Join what networks say of samples they have not seen to the features of the deployed one.

    Feature maps of two networks do not speak of the same features, so those of `bank` are kept: a
    first layer memorises little. Logits do, so that the head sees the fold's logits.

    Args:
        bank: All samples, by the network to be deployed.
        folds: (rows of `bank`, bank of those rows by a network that has not seen them).
    """
    rows = np.concatenate([rows for rows, _ in folds])
    edge = EdgeOutputs(
        np.concatenate([fold.edge.local_logits for _, fold in folds]),
        bank.edge.features[rows],
        bank.edge.images[rows],
    )
    cloud_logits = np.concatenate([fold.cloud_logits for _, fold in folds])
    joined = Bank(edge, cloud_logits, bank.labels[rows], bank.index[rows])
    return Lesson(joined, joined)


def leakage_report(judges: Mapping[str, Bank], val_bank: Bank) -> pd.DataFrame:
    """Compare what each label source says of training data with validation data.

    Args:
        judges: Name of the source → its `Lesson.judge`.
        val_bank: Validation samples, by the network to be deployed.

    Returns:
        One row a source, and "validation" last: accuracies, recovery P(cloud right, local wrong),
        breakage P(local right, cloud wrong), mean and deciles of B_k, the Kolmogorov–Smirnov
        distance of B_k from validation data, and a verdict in plain language.
    """
    rows = {name: _describe(bank, val_bank) for name, bank in judges.items()}
    rows["validation"] = _describe(val_bank, val_bank) | {"verdict": "the world a device meets"}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source").reset_index()


def _describe(bank: Bank, val_bank: Bank) -> dict:
    benefits = benefit(bank)
    low, middle, high = np.quantile(benefits, [0.1, 0.5, 0.9])
    facts, val_facts = BankFacts.of(bank), BankFacts.of(val_bank)
    return {
        "samples": facts.samples,
        "local_accuracy": facts.local_accuracy,
        "cloud_accuracy": facts.cloud_accuracy,
        "recovery": facts.recovery,
        "breakage": facts.breakage,
        "benefit_mean": benefits.mean(),
        "benefit_p10": low,
        "benefit_p50": middle,
        "benefit_p90": high,
        "ks_distance": ks_2samp(benefits, benefit(val_bank)).statistic,
        "verdict": _verdict(facts, val_facts),
    }


def _verdict(facts: BankFacts, val_facts: BankFacts) -> str:
    optimism = facts.local_accuracy - val_facts.local_accuracy
    if optimism > MEMORISED["local_gap"]:
        return (
            f"memorised: the local network is {100 * optimism:.0f} points better here than on "
            f"validation data, and the cloud would rescue {facts.recovery:.0%} instead of "
            f"{val_facts.recovery:.0%}; do not learn from it"
        )
    if abs(optimism) > HONEST["local_gap"]:
        better = "better" if optimism > 0 else "worse"
        return f"usable: the local network is {100 * abs(optimism):.0f} points {better} here"
    return "honest: accuracies as on validation data"


# (fitted DDNN, its training data) -> Lesson
LABEL_SOURCES = {
    "final_epoch": final_epoch,
    "augmented": augmented,
    "held_out": held_out,
    "cross_fitted": cross_fitted,
    "stage_averaged": stage_averaged,
}
