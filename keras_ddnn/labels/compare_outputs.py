"""What rules make of the outputs of two classifiers: learned and chosen on val, told on test."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.diagnostics import RuleFindings, judge_rules
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.notices import notice
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.labels.rule_file import LOGIT_HEAD
from keras_ddnn.rules.calibration import Calibration, for_accuracy_drop, for_local_fraction
from keras_ddnn.rules.confidence import OffloadRule, untrained_rules

WORDS = ("val", "test")
LEAST = {"val": 2, "test": 1}  # samples of each class: val has two halves


@dataclass(frozen=True, eq=False)
class Parts:
    """The samples by what they may be used for.

    Attributes:
        first: Half of the validation samples: it teaches the learned rule, and chooses the rule.
        second: The other half: it chooses thresholds.
        test: What is reported.
    """

    first: Bank
    second: Bank
    test: Bank


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is found of the outputs.

    Attributes:
        findings: Findings on the first half of the validation samples.
        rule: The name of the rule that is kept.
        rules: Name → rule.
        calibrations: Name → threshold of that rule, and its promise.
        realised: Name → what the promise comes to on test samples.
        report: Report on the test samples.
    """

    findings: RuleFindings
    rule: str
    rules: Mapping[str, OffloadRule]
    calibrations: Mapping[str, Calibration]
    realised: Mapping[str, dict]
    report: Report


def split_parts(bank: Bank, split: np.ndarray | None, seed: int) -> Parts:
    """Part the samples by their words; without words, half of each class is drawn for "val".

    Args:
        bank: n samples.
        split: "val" or "test" for each, str (n,), or None.
        seed: Seed of the draws.

    Raises:
        ValueError: If a class has too few samples in a part.
    """
    if split is None:
        _require_classes(bank, np.arange(len(bank)), "labels", 2 * LEAST["val"])
        val, test = _halves(bank.labels, np.arange(len(bank)), seed)
        notice(
            f"no array 'split': {len(val):,} of {len(bank):,} samples are drawn as 'val' by seed "
            f"{seed}, class by class; the others are 'test'"
        )
    else:
        val, test = (np.flatnonzero(split == word) for word in WORDS)
        for word, rows in (("val", val), ("test", test)):
            _require_classes(bank, rows, word, LEAST[word])
    first, second = _halves(bank.labels, val, seed)
    return Parts(bank.rows(first), bank.rows(second), bank.rows(test))


def compare(
    parts: Parts,
    *,
    dataset: str,
    rule: str | None = None,
    local_fraction: float = 0.5,
    max_drop: float = 0.01,
    delta: float = 0.1,
    seed: int = 0,
) -> Outcome:
    """Fit the learned rule, choose a rule and its thresholds, and report on test samples.

    Args:
        parts: The samples.
        dataset: Its name in the report.
        rule: The rule to keep, a key of `RULES` or "logit_head"; None for the one that the first
            half recommends, see `judge_rules`.
        local_fraction: The share L0 of samples to keep local, in [0, 1].
        max_drop, delta: Limits of the certificate, see `for_accuracy_drop`.
        seed: Seed of the learned rule.

    Raises:
        ValueError: If the first half is too small to learn from, or an argument lies outside its
            range.
    """
    head = LogitHead.fit(parts.first, seed=seed)
    assert head.held_out_scores is not None  # it was fitted, and not read
    findings = judge_rules(parts.first, {LOGIT_HEAD: head.held_out_scores})
    rules = {**untrained_rules(), LOGIT_HEAD: head}
    name = rule or findings.recommended_rule
    scores, test_scores = (rules[name].score(bank.edge) for bank in (parts.second, parts.test))
    calibrations = {
        "local_fraction": for_local_fraction(scores, parts.second, local_fraction),
        "accuracy_drop": for_accuracy_drop(scores, parts.second, max_drop, delta),
    }
    realised = {
        promise: calibration.realised(test_scores, parts.test)
        for promise, calibration in calibrations.items()
    }
    table, curves = compare_rules(rules, parts.second, parts.test, local_fraction, intervals=True)
    facts = {
        "dataset": dataset,
        "samples": len(parts.test),
        "val_samples": [len(parts.first), len(parts.second)],
        "seed": seed,
        "local_accuracy": float(parts.test.local_correct.mean()),
        "cloud_accuracy": float(parts.test.cloud_correct.mean()),
        "either_correct": float((parts.test.local_correct | parts.test.cloud_correct).mean()),
        "local_fraction": local_fraction,
        "rule": name,
        "diagnosis": {"advice": findings.advice, "headroom": asdict(findings.headroom)},
        "calibrations": {
            promise: {"promise": calibration.promise, "realised": realised[promise]}
            for promise, calibration in calibrations.items()
        },
    }
    report = Report(facts, table, Report.sample(curves))
    return Outcome(findings, name, rules, calibrations, realised, report)


def _require_classes(bank: Bank, rows: np.ndarray, what: str, least: int) -> None:
    num_classes = bank.cloud_logits.shape[1]
    counts = np.bincount(bank.labels[rows], minlength=num_classes)
    if counts.min() < least:
        raise ValueError(
            f"{what}: expected at least {least} samples of each of the {num_classes} classes; "
            f"received {counts.min()} of class {counts.argmin()} among {len(rows):,} samples; add "
            "samples of it, or share them out otherwise"
        )


def _halves(labels: np.ndarray, rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """Share out rows, class by class, to two sorted halves."""
    from sklearn.model_selection import train_test_split

    halves = train_test_split(rows, test_size=0.5, stratify=labels[rows], random_state=seed)
    return [np.sort(half) for half in halves]
