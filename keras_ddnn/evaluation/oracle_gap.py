"""The oracle, and where a rule decides otherwise: which cases, which classes, how unsure it was."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import CostsAtGate, benefit

ALL = "all"  # the first "class" of the table: every sample


def oracle_scores(bank: CostsAtGate) -> np.ndarray:
    """Return the score of the paper's oracle; it offloads where the score is above zero.

    Only the cloud right: cloud. Only the local network right: local. Both right: whichever gives
    the true class the higher probability, local on a tie. Both wrong: cloud. Sorted by this score,
    samples that gain come first and samples that lose come last, so that its curve bounds every
    rule's from above.

    Where answers are numbers, it sends what costs less in the cloud, those that gain most first.
    Where the two costs are the same nothing is gained: it sends them if they are above 0.

    Args:
        bank: n samples with the outputs of both networks and the truth.

    Returns:
        float64 of shape (n,): for classes within (1, 3), (-3, -1) and [-1, 1] in the first three
        cases; 1 in the last. For numbers 2 + B_k, B_k - 2, and 0 or 1 where the costs tie.
    """
    gain, stay, go = benefit(bank), bank.stay, bank.go
    cases = [(stay == 0) & (go == 0), go < stay, stay < go]
    return np.select(cases, [gain, 2.0 + gain, -2.0 + gain], default=1.0)


def disagreement(
    offloaded: np.ndarray,
    bank: Bank,
    class_names: Sequence[str] | None = None,
    cost: str = "true_class",
) -> pd.DataFrame:
    """Count the decisions of a rule by class and by who is right, and those that are the oracle's.

    Section 7.4.2 of the paper, which leaves it to be done. The oracle offloads where
    `oracle_scores` is above zero: whom it sends is settled by the case, but where both networks are
    right it compares the probabilities of the true class, so that either decision can agree.

    Args:
        offloaded: What the rule decided, bool of shape (n,).
        bank: The n samples.
        class_names: One name a class; their numbers by default.
        cost: A key of `COSTS`, whose benefit is B_k.

    Returns:
        A row for each class ("all" first), case of `CASES` and decision of `DECISIONS`, in this
            order. Columns: `class`, `case`, `decision`; `count`; `share` of the samples of the
            class; `agreeing`, how many of `count` the oracle decides alike; and the means over
            `count` samples of `local_entropy` (normalised), `local_margin`, `p_local_true` and
            `p_cloud_true` (p[y] of either network) and `benefit` (B_k). NaN where there is no
            sample to divide by.

    Raises:
        ValueError: If `offloaded` is no bool array of shape (n,), `class_names` are not one
            different name a class, other than "all", or answers are no classes.
    """
    known = bank.edge.require("probabilities", "disagreement by class")
    _require_decisions(offloaded, bank)
    names = _class_names(class_names, bank.cloud_logits.shape[1])
    members = {ALL: np.ones(len(bank), bool)}
    members |= {name: bank.labels == number for number, name in enumerate(names)}
    oracle = oracle_scores(bank) > 0
    p_true = bank.costs("true_class")
    measured = {
        "local_entropy": known.entropy,
        "local_margin": known.margin,
        "p_local_true": 1.0 - p_true[:, 0],
        "p_cloud_true": 1.0 - p_true[:, 1],
        "benefit": benefit(bank, cost),
    }
    rows = []
    for name, of_class in members.items():
        for case, holds in CASES.items():
            for decision, sent in DECISIONS.items():
                cell = np.flatnonzero(of_class & holds(bank) & (offloaded == sent))
                rows.append(
                    {
                        "class": name,
                        "case": case,
                        "decision": decision,
                        "count": len(cell),
                        "share": len(cell) / of_class.sum() if of_class.any() else np.nan,
                        "agreeing": int(np.sum(oracle[cell] == sent)),
                        **{
                            column: values[cell].mean() if len(cell) else np.nan
                            for column, values in measured.items()
                        },
                    }
                )
    return pd.DataFrame(rows)


def examples(offloaded: np.ndarray, bank: Bank, per_cell: int = 8) -> dict[str, np.ndarray]:
    """Find the samples whose decision is not the oracle's, those that matter most first.

    Args:
        offloaded: What the rule decided, bool of shape (n,).
        bank: The n samples.
        per_cell: How many to return of each case and decision, at least 1.

    Returns:
        "case/decision" of each of `MISTAKES` → rows of the bank, int64, at most `per_cell`, by
            falling |B_k|, lower rows first where it ties.

    Raises:
        ValueError: If `offloaded` is no bool array of shape (n,), or `per_cell` is below 1.
    """
    _require_decisions(offloaded, bank)
    if per_cell < 1:
        raise ValueError(f"per_cell must be at least 1; received {per_cell}")
    disagreeing = offloaded != (oracle_scores(bank) > 0)
    weight = np.abs(benefit(bank))
    found = {}
    for case, decision in MISTAKES:
        mistaken = disagreeing & CASES[case](bank) & (offloaded == DECISIONS[decision])
        rows = np.flatnonzero(mistaken)
        order = np.argsort(-weight[rows], kind="stable")
        found[f"{case}/{decision}"] = rows[order[:per_cell]]
    return found


def _require_decisions(offloaded, bank):
    received = f"{getattr(offloaded, 'dtype', type(offloaded).__name__)} {np.shape(offloaded)}"
    if received != f"bool {(len(bank),)}":
        raise ValueError(
            f"offloaded must be a bool array of shape ({len(bank)},), a decision a sample of the "
            f"bank; received {received}"
        )


def _class_names(class_names, num_classes) -> list[str]:
    names = list(map(str, range(num_classes) if class_names is None else class_names))
    if len(names) != num_classes or len({*names, ALL}) != num_classes + 1:
        raise ValueError(
            f"class_names must be {num_classes} different names other than {ALL!r}; received "
            f"{names}"
        )
    return names


# Bank -> which of its samples, bool (n,); each sample is in one case.
CASES = {
    "only_local": lambda bank: bank.local_correct & ~bank.cloud_correct,
    "only_cloud": lambda bank: ~bank.local_correct & bank.cloud_correct,
    "both_right": lambda bank: bank.local_correct & bank.cloud_correct,
    "both_wrong": lambda bank: ~bank.local_correct & ~bank.cloud_correct,
}

# What became of a sample -> whether it was offloaded.
DECISIONS = {"kept": False, "sent": True}

# Where decisions can differ from the oracle's, which keeps "only_local" and sends "only_cloud" and
# "both_wrong".
MISTAKES = (
    ("only_local", "sent"),
    ("only_cloud", "kept"),
    ("both_right", "sent"),
    ("both_right", "kept"),
    ("both_wrong", "kept"),
)
