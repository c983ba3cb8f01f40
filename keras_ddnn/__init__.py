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
    "MCDropout",
    "OffloadCurve",
    "OffloadPolicy",
    "OffloadRule",
    "Report",
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
    "anchored": ("Anchor",),
    "artifact": ("load_policy", "save_policy"),
    "bank": ("Bank", "EdgeOutputs"),
    "calibration": ("Calibration", "for_accuracy_drop", "for_budget", "for_local_fraction"),
    "capture": ("CaptureBank",),
    "certificate": ("violation_rate",),
    "classes": ("Classes",),
    "co_training": ("CoTrainedHead",),
    "config": ("DDNNConfig", "HeadConfig"),
    "costs": ("benefit", "hard_labels", "oracle_scores", "threshold_for_fraction"),
    "datasets": ("Split", "Splits", "load"),
    "diagnostics": ("Diagnosis",),
    "evaluation": ("OffloadCurve", "compare_rules"),
    "head_stack": ("fit_heads",),
    "heads": ("HeadRule", "build_head", "fit_head"),
    "labels": ("Banks", "leakage_report"),
    "mc_dropout": ("MCDropout",),
    "model_costs": ("multiply_adds",),
    "models": ("build_ddnn", "split_ddnn"),
    "pipeline": ("run",),
    "policy": ("OffloadPolicy",),
    "report": ("Report",),
    "rules": ("OffloadRule",),
    "statistics": ("Interval", "audc_gain", "hierarchical_gain", "over_seeds"),
    "training": ("FittedDDNN", "fit_ddnn"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name):
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)


def __dir__():
    return sorted([*__all__, "__version__"])
