"""Distributed deep neural networks (DDNN) in Keras 3.

Split a classifier between an edge device and a cloud, and decide, sample by sample, what is worth
sending. The names below are imported from their files when first used, so that importing the
package, or asking a command for `--help`, does not wait for TensorFlow.
"""

from importlib import import_module

__version__ = "0.1.0"

__all__ = [
    "Anchor",
    "Bank",
    "Banks",
    "Calibration",
    "CaptureBank",
    "Classes",
    "CoTrainedHead",
    "DDNNConfig",
    "Diagnosis",
    "EdgeOutputs",
    "FittedDDNN",
    "HeadConfig",
    "HeadRule",
    "Interval",
    "LogitHead",
    "MCDropout",
    "OffloadCurve",
    "OffloadPolicy",
    "OffloadRule",
    "Report",
    "SavedRule",
    "Split",
    "Splits",
    "audc_gain",
    "benefit",
    "build_ddnn",
    "build_head",
    "compare_rules",
    "fit_ddnn",
    "fit_head",
    "fit_heads",
    "for_accuracy_drop",
    "for_budget",
    "for_local_fraction",
    "hard_labels",
    "hierarchical_gain",
    "leakage_report",
    "load",
    "load_policy",
    "load_rule",
    "multiply_adds",
    "oracle_scores",
    "over_seeds",
    "run",
    "save_policy",
    "split_ddnn",
    "threshold_for_fraction",
    "violation_rate",
]

_FILES = {
    "evaluation.blend": ("Anchor",),
    "deploy.artifact": ("load_policy", "save_policy"),
    "data.bank": ("Bank", "EdgeOutputs"),
    "rules.calibration": ("Calibration", "for_accuracy_drop", "for_budget", "for_local_fraction"),
    "training.capture": ("CaptureBank",),
    "rules.certificate": ("violation_rate",),
    "data.classes": ("Classes",),
    "heads.co_training": ("CoTrainedHead",),
    "config": ("DDNNConfig", "HeadConfig"),
    "data.benefits": ("benefit", "hard_labels", "threshold_for_fraction"),
    "evaluation.oracle_gap": ("oracle_scores",),
    "data.datasets": ("Split", "Splits", "load"),
    "evaluation.diagnostics": ("Diagnosis",),
    "evaluation.curves": ("OffloadCurve", "compare_rules"),
    "heads.stack": ("fit_heads",),
    "heads.fit": ("HeadRule", "build_head", "fit_head"),
    "labels.sources": ("Banks", "leakage_report"),
    "labels.logit_head": ("LogitHead",),
    "heads.mc_dropout": ("MCDropout",),
    "networks.model_costs": ("multiply_adds",),
    "networks.paper": ("build_ddnn", "split_ddnn"),
    "pipeline": ("run",),
    "deploy.policy": ("OffloadPolicy",),
    "evaluation.report": ("Report",),
    "labels.rule_file": ("SavedRule", "load_rule"),
    "rules.confidence": ("OffloadRule",),
    "evaluation.statistics": ("Interval", "audc_gain", "hierarchical_gain", "over_seeds"),
    "training.fit": ("FittedDDNN", "fit_ddnn"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name):
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)


def __dir__():
    return sorted([*__all__, "__version__"])
