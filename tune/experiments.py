"""The experiments of the paper: what each of them searches, and what is kept of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_ddnn.config import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.benefits import benefit, threshold_for_fraction
from keras_ddnn.evaluation.curves import compare_rules, decision_accuracy, routed_accuracy
from keras_ddnn.evaluation.diagnostics import BankFacts
from keras_ddnn.evaluation.oracle_gap import disagreement, examples, oracle_scores
from keras_ddnn.evaluation.report import Report
from keras_ddnn.labels.sources import STAGES
from keras_ddnn.rules.confidence import untrained_rules
from keras_ddnn.tasks.classification import COSTS
from tune.space import SearchConfig
from tune.specs import NetworkSpec, Trial
from tune.study import Finished

PAPER_FRACTION = 0.54  # L0 at which the paper counts noise, border and the oracle's decisions
TENTHS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
EPOCHS = 10  # of every head: all of them are shown, and the best is kept
MC_PASSES = (5, 20)
MC_DROPOUT = 0.25


@dataclass(frozen=True)
class Scale:
    """How much of the paper is repeated.

    Attributes:
        ddnn: Preset of all backbones but those of the sweep over λ, which are "fast".
        weights: λ of the sweep.
        fractions: L0 of the heads on features and images.
        seeds: Of all experiments but the sweep.
        sweep_seeds: Of the sweep.
        share: Whether the sweep's backbones are kept with the others, which then take the place of
            one of them. In full they take 70 GB, and are deleted seed by seed.
    """

    ddnn: str
    weights: tuple
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    sweep_seeds: tuple[int, ...]
    share: bool


FULL = Scale(
    "paper",
    weights=(*TENTHS, "random"),
    fractions=(*TENTHS, PAPER_FRACTION),
    seeds=tuple(range(5)),
    sweep_seeds=tuple(range(7)),
    share=False,
)
QUICK = Scale(
    "fast",
    weights=(0.1, 0.5, 0.9, "random"),
    fractions=(0.1, 0.3, PAPER_FRACTION, 0.7, 0.9),
    seeds=(0,),
    sweep_seeds=(0,),
    share=True,
)


@dataclass(frozen=True)
class Experiment:
    """One experiment, which is run seed by seed.

    Attributes:
        choices: `Scale` → the fields of its `SearchConfig` that are its own.
        measure: `Finished` → what is kept: stem of a file → table, or dictionary of arrays.
        further: Its search → backbones that it needs beside those of the search.
        sweep: Whether it is the sweep over λ.
    """

    choices: Callable[[Scale], dict]
    measure: Callable[[Finished], dict]
    further: Callable[[SearchConfig], tuple[NetworkSpec, ...]] = lambda search: ()
    sweep: bool = False

    def seeds(self, scale: Scale) -> tuple[int, ...]:
        """Return the seeds it is run on."""
        return scale.sweep_seeds if self.sweep else scale.seeds

    def search(self, scale: Scale, dataset: str, epochs: int | None, seed: int) -> SearchConfig:
        """Return what it searches on one seed; `epochs` are those of the DDNNs."""
        # Late epochs are of use to one experiment alone; with them all have the same backbone.
        shares = scale.share or not self.sweep
        common = {
            "ddnn": "fast" if self.sweep else scale.ddnn,
            "stages": min(STAGES, epochs or STAGES) if shares else 0,
            "patience": EPOCHS,
            "local_fraction": (PAPER_FRACTION,),
        }
        return SearchConfig(
            dataset=dataset, epochs=epochs, seed=(seed,), **common | self.choices(scale)
        )


# --- what is measured of a bank ------------------------------------------------------------------


def describe_networks(
    banks: Mapping[str, Bank], fractions: Iterable[float] = (PAPER_FRACTION,)
) -> pd.DataFrame:
    """Count what Figure 12 of the paper shows.

    Args:
        banks: Name of the split → its bank.
        fractions: L0 of b*, on which `noise` alone depends.

    Returns:
        One row a split and L0: the fields of `BankFacts`, and the accuracy and the local fraction
        of the oracle.
    """
    rows = []
    for split, bank in banks.items():
        offloaded = oracle_scores(bank) > 0
        oracle = {
            "oracle_accuracy": routed_accuracy(offloaded, bank),
            "oracle_local_fraction": 1.0 - offloaded.mean(),
        }
        for fraction in fractions:
            facts = vars(BankFacts.of(bank, local_fraction=fraction))
            rows.append({"split": split, "local_fraction": fraction, **facts, **oracle})
    return pd.DataFrame(rows)


def describe_decisions(head, banks: Mapping[str, Bank], local_fraction: float) -> pd.DataFrame:
    """Follow the decisions of a head at its own cut, one half, as section 6.1 of the paper does.

    Args:
        head: A `HeadRule` of the target "hard".
        banks: Name of the split → its bank; "train" makes b*.
        local_fraction: L0 of b*.

    Returns:
        One row a split: the share kept local, the accuracy, the share of decisions that are the
        oracle's, and how many of the samples kept local are easy: by b*, and by the L0 quantile of
        the split's own B_k.
    """
    threshold = threshold_for_fraction(benefit(banks["train"]), local_fraction)
    rows = []
    for split, bank in banks.items():
        offloaded, benefits = head.score(bank.edge) >= 0, benefit(bank)
        own_threshold = threshold_for_fraction(benefits, local_fraction)
        rows.append(
            {
                "split": split,
                "local_fraction": local_fraction,
                "kept": 1.0 - offloaded.mean(),
                "accuracy": routed_accuracy(offloaded, bank),
                "decision_accuracy": decision_accuracy(offloaded, bank),
                "kept_easy": _share(benefits[~offloaded] < threshold),
                "kept_easy_by_own_quantile": _share(benefits[~offloaded] < own_threshold),
            }
        )
    return pd.DataFrame(rows)


def _share(condition: np.ndarray) -> float:
    return float(condition.mean()) if len(condition) else float("nan")


# --- what is measured of a search ----------------------------------------------------------------


def _only_backbone(finished: Finished):
    (weight,) = finished.search.lambda_local
    return finished.backbone(weight)


def _banks(backbone) -> dict[str, Bank]:
    return {"train": backbone.bank, "val": backbone.val_bank, "test": backbone.test_bank}


def _compare(rules, backbone, local_fraction=PAPER_FRACTION):
    """Return table and curves, on test data, of rules, the untrained ones and the oracle."""
    rules = {**rules, **untrained_rules()}
    table, curves = compare_rules(rules, backbone.val_bank, backbone.test_bank, local_fraction)
    table.insert(1, "local_fraction", local_fraction)
    return table, Report.sample(curves).reset_index()


def _history(heads) -> pd.DataFrame:
    """Return one row a head and epoch, with what Keras logged."""
    return pd.concat(
        pd.DataFrame({"rule": name, "epoch": range(1, EPOCHS + 1), **head.history})
        for name, head in heads.items()
    )


def _heads(finished: Finished, name: Callable[[Trial], str], further=None) -> dict:
    """Compare the heads of a search, each under a name, and further rules."""
    backbone = _only_backbone(finished)
    heads = {name(trial): head for trial, head in finished.heads.items()}
    table, curves = _compare({**heads, **(further or {})}, backbone)
    networks = describe_networks(_banks(backbone))
    return {"rules": table, "curves": curves, "history": _history(heads), "networks": networks}


def _thresholds(finished):
    backbone = _only_backbone(finished)
    banks, tables, decisions, shown = _banks(backbone), [], [], {}
    for fraction in finished.search.local_fraction:
        heads = {
            trial.head.input: head
            for trial, head in finished.heads.items()
            if trial.head.local_fraction == fraction
        }
        table, curves = _compare(heads, backbone, fraction)
        tables.append(table)
        decisions += [
            describe_decisions(head, banks, fraction).assign(rule=name)
            for name, head in heads.items()
        ]
        if fraction == PAPER_FRACTION:
            shown = {"curves": curves, "history": _history(heads)}
    networks = describe_networks(banks, finished.search.local_fraction)
    return shown | {
        "rules": pd.concat(tables),
        "decisions": pd.concat(decisions),
        "networks": networks,
    }


def _logits(finished):
    measured = _heads(finished, lambda trial: trial.head.input)
    bank = _only_backbone(finished).test_bank
    head = next(h for trial, h in finished.heads.items() if trial.head.input == "logits_plus")
    threshold = measured["rules"].set_index("rule").loc["logits_plus", "score_threshold"]
    offloaded = head.score(bank.edge) >= threshold
    shown = examples(offloaded, bank)
    return measured | {
        "cells": disagreement(offloaded, bank, finished.splits.class_names),
        "examples": {cell: bank.edge.images[rows] for cell, rows in shown.items()},
    }


def _along(search: SearchConfig) -> tuple[NetworkSpec]:
    """Return the twin of a search's DDNN along which its plain head is trained."""
    plain = next(trial for trial in search.grid() if trial.head.labels == "final_epoch")
    return (NetworkSpec(plain.ddnn, along=plain.head),)


def _stages(finished):
    (twin,) = _along(finished.search)
    head = _only_backbone(finished).co_trained_head(twin.along)
    return _heads(finished, lambda trial: trial.head.labels, {"co_trained": head})


def _mc_dropout(finished):
    from keras_ddnn.heads.mc_dropout import MEASURES, MCDropout

    model = _only_backbone(finished).model()
    rules = {
        f"mc_{measure}_{passes}": MCDropout(model, passes, measure)
        for measure in MEASURES
        for passes in MC_PASSES
    }
    return _heads(finished, lambda trial: "default", rules)


def _weights(finished):
    tables, networks = [], []
    for weight in finished.search.lambda_local:
        backbone = finished.backbone(weight)
        (head,) = (h for trial, h in finished.heads.items() if trial.ddnn == backbone.ddnn)
        tables.append(_compare({"default": head}, backbone)[0].assign(lambda_local=str(weight)))
        networks.append(describe_networks(_banks(backbone)).assign(lambda_local=str(weight)))
    return {"rules": pd.concat(tables), "networks": pd.concat(networks)}


# --- the experiments -----------------------------------------------------------------------------

# The head of Figure 9, which the future work starts from, and ours, for what is not about heads.
_PAPER = {"input": ("logits_plus",), "architecture": ("paper_mlp",), "depth": (4,)}
_OURS = {name: (getattr(HeadConfig(), name),) for name in ("input", "target", "anchored")}

EXPERIMENTS = {
    # Figures 2, 3 and 12, section 6.1: the paper's head on features and on images.
    "thresholds": Experiment(
        lambda scale: {
            "input": ("features", "image"),
            "architecture": ("paper_mlp",),
            "local_fraction": scale.fractions,
        },
        _thresholds,
    ),
    # Figures 6 to 8: the shallow convolution head, by layers a block.
    "conv": Experiment(
        lambda scale: {"input": ("features",), "architecture": ("conv",), "depth": (1, 2, 3, 4)},
        lambda finished: _heads(finished, lambda trial: f"conv{trial.head.depth}"),
    ),
    # Figures 10 and 11, section 7.4.2: logits and logits+; where logits+ and the oracle differ.
    "logits": Experiment(lambda scale: _PAPER | {"input": ("logits", "logits_plus")}, _logits),
    # Future work, each beside the plain head: losses and oversampling,
    "losses": Experiment(
        lambda scale: (
            _PAPER | {"loss": ("bce", "weighted_bce", "focal"), "oversample": (False, True)}
        ),
        lambda finished: _heads(
            finished, lambda trial: trial.head.loss + "_smote" * trial.head.oversample
        ),
    ),
    # refined costs,
    "costs": Experiment(
        lambda scale: _PAPER | {"cost": tuple(COSTS)},
        # "margin" is a rule too
        lambda finished: _heads(finished, lambda trial: f"cost_{trial.head.cost}"),
    ),
    # B_k averaged over stages, and co-training.
    "stages": Experiment(
        lambda scale: _PAPER | {"labels": ("final_epoch", "stage_averaged")}, _stages, _along
    ),
    # What the introduction names as the alternative: Monte-Carlo dropout of the local network.
    "mc_dropout": Experiment(
        lambda scale: _OURS | {"local_dropout": MC_DROPOUT, "stages": 0}, _mc_dropout
    ),
    # Figure 4: the weight of the local loss.
    "weights": Experiment(
        lambda scale: _OURS | {"lambda_local": scale.weights}, _weights, sweep=True
    ),
}
