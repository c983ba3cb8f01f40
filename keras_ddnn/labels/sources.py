"""Where the labels of an offload head come from.

B_k of memorised samples is biased: the local network is nearly always right there. Each source
below makes, of the same training images, the bank that an offload head learns from.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit
from keras_ddnn.labels.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd

    from keras_ddnn.evaluation.diagnostics import BankFacts

VIEWS = 2
FOLDS = 3
HELD_OUT = 9  # one in so many: 5,000 of the 45,000 training images of CIFAR-10
STAGES = 5


@dataclass(frozen=True, eq=False)
class HeadTrainingData:
    """What an offload head is trained on.

    Attributes:
        bank: What the head sees.
        labels_bank: The same samples with the logits that make the labels.
    """

    bank: Bank
    labels_bank: Bank


class TrainedNetwork(Protocol):
    """A trained DDNN, in memory or on disk: what a label source is made from."""

    @property
    def bank(self) -> Bank:
        """The training images, by the final epoch."""

    @property
    def val_bank(self) -> Bank | None:
        """The validation images, or None."""

    @property
    def stages(self) -> Predictions | None:
        """`bank` by the mean over several late epochs, or None."""

    def augmented_bank(self, views: int) -> Bank:
        """Return the bank of augmented copies of the training images."""

    def fold(self, fold: int) -> Predictions:
        """Return what a DDNN trained without one of `FOLDS` folds says of that fold."""


@dataclass(frozen=True, eq=False)
class Banks:
    """A `TrainedNetwork` of which only the banks are left: it predicts nothing further."""

    bank: Bank
    val_bank: Bank | None
    stages: Predictions | None = None

    def augmented_bank(self, views: int) -> Bank:
        """Raise ValueError: there is no network to ask."""
        raise ValueError("these labels need a DDNN to ask; received its banks alone")

    fold = augmented_bank


@dataclass(frozen=True)
class LabelSource:
    """A way to label the training images.

    Attributes:
        training_data: Makes the training data of a head from a trained DDNN.
        folds: Further DDNNs to be trained, each without one of `FOLDS` folds.
        stages: Late epochs the DDNN must have kept; `DDNNConfig.stages`.
        samples: The fewest training samples it can choose from.
        of_images: Whether it makes new samples of images, and of nothing else.
    """

    training_data: Callable[[TrainedNetwork], HeadTrainingData]
    folds: int = 0
    stages: int = 0
    samples: int = 1
    of_images: bool = False


def final_epoch(backbone: TrainedNetwork) -> HeadTrainingData:
    """Label the training images by the networks trained on them, as the paper does."""
    return HeadTrainingData(backbone.bank, backbone.bank)


def augmented(backbone: TrainedNetwork) -> HeadTrainingData:
    """Label augmented views of the training images, each view a sample of its own.

    The views are those of the training augmentation, or crops and mirrored images where there was
    none.
    """
    bank = backbone.augmented_bank(VIEWS)
    return HeadTrainingData(bank, bank)


def stage_averaged(backbone: TrainedNetwork) -> HeadTrainingData:
    """Label the training images by the mean probabilities of several late epochs.

    The paper proposes it as future work.

    Raises:
        ValueError: If no stages were kept.
    """
    if backbone.stages is None:
        raise ValueError("stage_averaged needs a DDNNConfig with stages ≥ 1; received stages=0")
    return HeadTrainingData(backbone.bank, backbone.stages.apply_to(backbone.bank))


def cross_fitted(backbone: TrainedNetwork) -> HeadTrainingData:
    """Label each third of the training images by a DDNN trained on the other two.

    The channels of feature maps differ from network to network, so the head sees those of the
    deployed one: a first layer memorises little. Logits are comparable, and are the fold's.
    """
    return _folds(backbone, [backbone.fold(fold) for fold in range(FOLDS)])


def held_out(backbone: TrainedNetwork) -> HeadTrainingData:
    """Label a ninth of the training images by the first DDNN of `cross_fitted`.

    Control: out-of-fold labels for one ninth of the data.
    """
    fold = backbone.fold(0)
    few = np.random.default_rng(0).permutation(len(fold.rows))[: len(backbone.bank) // HELD_OUT]
    return _folds(backbone, [fold.take(few)])


def _folds(backbone: TrainedNetwork, folds: Sequence[Predictions]) -> HeadTrainingData:
    bank = Predictions.joined(folds).apply_to(backbone.bank)
    return HeadTrainingData(bank, bank)


LABEL_SOURCES = {
    "final_epoch": LabelSource(final_epoch),
    "augmented": LabelSource(augmented, of_images=True),
    "held_out": LabelSource(held_out, folds=1, samples=HELD_OUT),
    "cross_fitted": LabelSource(cross_fitted, folds=FOLDS),
    "stage_averaged": LabelSource(stage_averaged, stages=STAGES),
}


def staged_config(config, sources: Iterable[str]):
    """Return a `DDNNConfig` that keeps the stages which label sources ask for, at most every epoch.

    Args:
        config: A `DDNNConfig`; its own stages are kept if they are more.
        sources: Keys of `LABEL_SOURCES`, at least one.
    """
    asked = max(LABEL_SOURCES[source].stages for source in sources)
    return replace(config, stages=max(config.stages, min(asked, config.epochs)))


def fold_config(config):
    """Return the `DDNNConfig` of a fold's network: that of the deployed one, at half its epochs."""
    return replace(config, epochs=math.ceil(config.epochs / 2), stages=0)


def require_images(sources: Iterable[str], holds_images: bool) -> None:
    """Raise ValueError if a label source is of images, and the samples are none."""
    for source in sources:
        if LABEL_SOURCES[source].of_images and not holds_images:
            raise ValueError(
                f"the labels {source!r} expect images; received other samples: choose other "
                "labels, like 'final_epoch'"
            )


def require_samples(
    sources: Iterable[str], labels: np.ndarray, class_names: Sequence[str] | None = None
) -> None:
    """Raise ValueError if there are too few training samples for a label source.

    Args:
        sources: Keys of `LABEL_SOURCES`.
        labels: Class numbers of the training samples, of shape (n,).
        class_names: One name a class; their numbers by default.
    """
    counts = np.bincount(labels)
    rarest = int(np.where(counts, counts, len(labels) + 1).argmin())  # what is absent needs none
    for source in sources:
        row, few = LABEL_SOURCES[source], None
        if row.folds and counts[rarest] < FOLDS:
            name = class_names[rarest] if class_names else rarest
            few = f"{FOLDS} training images a class; received {counts[rarest]} of class {name}"
        elif len(labels) < row.samples:
            few = f"{row.samples} training images; received {len(labels)}"
        if few:
            remedy = "add some, or choose labels without folds, like 'augmented'"
            raise ValueError(f"the labels {source!r} need {few}: {remedy}")


def fold_rows(labels: np.ndarray, seed: int, gap: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each of `FOLDS` folds, the sorted rows outside and inside it.

    Every class is shared out evenly; numbers are drawn.

    Args:
        labels: Class numbers or numbers (n,).
        seed: Draws the folds.
        gap: Of `Split`. If there is one, folds are blocks of rows, and rows fewer than `gap` away
            from a block are in none of its two parts.

    Raises:
        ValueError: If a gap leaves no row outside a block.
    """
    if gap:
        rows, folds = np.arange(len(labels)), []
        for block in np.array_split(rows, FOLDS):
            rest = rows[(rows <= block[0] - gap) | (rows >= block[-1] + gap)]
            if not len(rest):
                raise ValueError(
                    f"folds of series expect rows beyond a gap of {gap:,}; received {len(rows):,} "
                    "rows: give longer series, or choose labels without folds"
                )
            folds.append((rest, block))
        return folds
    # Here, as `config` imports this file, and `--help` should not wait for it.
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    strata = labels if labels.dtype.kind in "iu" else np.zeros(len(labels), int)
    return list(splitter.split(np.zeros(len(labels)), strata))


def leakage_report(judges: Mapping[str, Bank], val_bank: Bank) -> "pd.DataFrame":
    """Compare what each label source says of training data with validation data.

    Args:
        judges: Name of the source → its `HeadTrainingData.labels_bank`.
        val_bank: Validation samples, by the network to be deployed.

    Returns:
        One row a source, and "validation" last: accuracies, recovery P(cloud right, local wrong),
        breakage P(local right, cloud wrong), mean and deciles of B_k, the Kolmogorov–Smirnov
        distance of B_k from validation data, and a verdict in plain language.
    """
    import pandas as pd

    rows = {name: _describe(bank, val_bank) for name, bank in judges.items()}
    # Recorded studies have this verdict.
    rows["validation"] = _describe(val_bank, val_bank) | {"verdict": "the world a device meets"}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source").reset_index()


def _describe(bank: Bank, val_bank: Bank) -> dict:
    # Not at the top: a command asks for the names of all sources before it says its first word.
    from scipy.stats import ks_2samp

    from keras_ddnn.evaluation.diagnostics import BankFacts

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


def _verdict(facts: "BankFacts", val_facts: "BankFacts") -> str:
    from keras_ddnn.evaluation.diagnostics import HONEST, MEMORISED

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
