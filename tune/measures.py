"""What the experiments of the paper measure of banks and of finished searches."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit, threshold_for_fraction
from keras_ddnn.evaluation.curves import compare_rules, decision_accuracy, routed_accuracy
from keras_ddnn.evaluation.diagnostics import BankFacts
from keras_ddnn.evaluation.oracle_gap import disagreement, examples, oracle_scores
from keras_ddnn.evaluation.report import Report
from keras_ddnn.rules.confidence import untrained_rules
from keras_ddnn.tasks.classification import CLASSIFICATION
from tune.space import SearchConfig
from tune.specs import NetworkSpec, Trial
from tune.study import Finished

PAPER_FRACTION = 0.54  # L0 at which the paper counts noise, border and the oracle's decisions
EPOCHS = 10  # of every head: all of them are shown, and the best is kept
MC_PASSES = (5, 20)


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


def measure_heads(finished: Finished, name: Callable[[Trial], str], further=None) -> dict:
    """Compare the heads of a search, each under a name, and further rules."""
    backbone = _only_backbone(finished)
    heads = {name(trial): head for trial, head in finished.heads.items()}
    table, curves = _compare({**heads, **(further or {})}, backbone)
    networks = describe_networks(_banks(backbone))
    return {"rules": table, "curves": curves, "history": _history(heads), "networks": networks}


def measure_thresholds(finished: Finished) -> dict:
    """Compare heads at every L0 of a search, and follow their own decisions."""
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


def measure_logits(finished: Finished) -> dict:
    """Compare heads on logits, and show where the better one and the oracle differ."""
    measured = measure_heads(finished, lambda trial: trial.head.input)
    bank = _only_backbone(finished).test_bank
    head = next(h for trial, h in finished.heads.items() if trial.head.input == "logits_plus")
    threshold = measured["rules"].set_index("rule").loc["logits_plus", "score_threshold"]
    offloaded = head.score(bank.edge) >= threshold
    shown = examples(offloaded, bank)
    return measured | {
        "cells": disagreement(offloaded, bank, finished.splits.class_names),
        "examples": {cell: bank.edge.inputs[rows] for cell, rows in shown.items()},
    }


def co_trained_network(search: SearchConfig) -> tuple[NetworkSpec]:
    """Return the twin of a search's DDNN along which its plain head is trained."""
    plain = next(trial for trial in search.grid() if trial.head.labels == "final_epoch")
    return (NetworkSpec(plain.ddnn, along=plain.head),)


def measure_stages(finished: Finished) -> dict:
    """Compare heads on labels of stages, with the head that is trained beside the DDNN."""
    (twin,) = co_trained_network(finished.search)
    head = _only_backbone(finished).co_trained_head(twin.along)
    return measure_heads(finished, lambda trial: trial.head.labels, {"co_trained": head})


def measure_mc_dropout(finished: Finished) -> dict:
    """Compare the default head with Monte-Carlo dropout of the local network."""
    from keras_ddnn.heads.ensemble import measures_of
    from keras_ddnn.heads.mc_dropout import MCDropout

    model = _only_backbone(finished).model()
    rules = {
        f"mc_{measure}_{passes}": MCDropout(model, passes, measure)
        for measure in measures_of(CLASSIFICATION)
        for passes in MC_PASSES
    }
    return measure_heads(finished, lambda trial: "default", rules)


def measure_weights(finished: Finished) -> dict:
    """Compare one head on the networks of every λ."""
    tables, networks = [], []
    for weight in finished.search.lambda_local:
        backbone = finished.backbone(weight)
        (head,) = (h for trial, h in finished.heads.items() if trial.ddnn == backbone.ddnn)
        tables.append(_compare({"default": head}, backbone)[0].assign(lambda_local=str(weight)))
        networks.append(describe_networks(_banks(backbone)).assign(lambda_local=str(weight)))
    return {"rules": pd.concat(tables), "networks": pd.concat(networks)}
