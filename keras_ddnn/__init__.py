"""Distributed deep neural networks (DDNN) in Keras 3.

Split a classifier between an edge device and a cloud, and decide, sample by sample, what is worth
sending. The names below are imported from their files when first used, so that importing the
package, or asking a command for `--help`, does not wait for TensorFlow.
"""

import warnings
from importlib import import_module

from keras_ddnn.files.extras import extras_named

__version__ = "0.2.0"

# Public name -> file
_FILE_OF = {
    "Anchor": "evaluation.blend",
    "Bank": "data.bank",
    "Banks": "labels.sources",
    "Calibration": "rules.calibration",
    "CaptureBank": "training.capture",
    "Cascade": "networks.cascade",
    "CertifiedPlan": "rules.chain_certificate",
    "Classes": "data.classes",
    "CoTrainedHead": "heads.co_training",
    "DDNNConfig": "config.training",
    "Diagnosis": "evaluation.diagnostics",
    "EdgeRuntime": "serve.edge.runtime",
    "Ensemble": "heads.ensemble",
    "ExitScore": "labels.exit_score",
    "FittedDDNN": "training.fit",
    "Gate": "rules.confidence",
    "GateCosts": "data.gate_costs",
    "HeadConfig": "config.head",
    "HeadRule": "heads.fit",
    "Interval": "evaluation.statistics",
    "LogitHead": "labels.logit_head",
    "MCDropout": "heads.mc_dropout",
    "OffloadCurve": "evaluation.curves",
    "OffloadPolicy": "deploy.policy",
    "OffloadRule": "rules.confidence",
    "Patience": "rules.confidence",
    "Plan": "rules.plans",
    "PricedClasses": "tasks.prices",
    "Regression": "tasks.regression",
    "Report": "evaluation.report",
    "SavedRule": "labels.rule_file",
    "ScoredChain": "rules.plans",
    "Series": "data.series.series",
    "SeriesSplits": "data.series.windows",
    "Split": "data.datasets",
    "Splits": "data.datasets",
    "Teacher": "training.recipe.teacher",
    "TierOutputs": "data.tier_outputs",
    "ViewsOptions": "networks.architectures.views",
    "add_onnx": "deploy.onnx_graphs",
    "audc_gain": "evaluation.statistics",
    "benefit": "data.gate_costs",
    "build_ddnn": "networks.paper",
    "build_head": "heads.architectures",
    "build_views": "networks.architectures.views",
    "chain": "networks.compose",
    "compare_plans": "evaluation.chains",
    "compare_rules": "evaluation.curves",
    "ensemble": "networks.compose",
    "fit_ddnn": "training.fit",
    "fit_gates": "labels.gates",
    "fit_head": "heads.fit",
    "fit_heads": "heads.stack",
    "for_accuracy_drop": "rules.calibration",
    "for_budget": "rules.calibration",
    "for_chain_drop": "rules.chain_certificate",
    "for_cost_increase": "rules.calibration",
    "for_local_fraction": "rules.calibration",
    "for_price": "rules.prices",
    "hard_labels": "data.gate_costs",
    "hierarchical_gain": "evaluation.statistics",
    "leakage_report": "labels.sources",
    "load": "data.datasets",
    "load_policy": "deploy.artifact",
    "load_rule": "labels.rule_file",
    "load_series": "data.series.load",
    "load_tiers": "deploy.tiers",
    "missing_views": "evaluation.missing_views",
    "multiply_adds": "networks.costs.model_costs",
    "oracle_scores": "evaluation.oracle_gap",
    "over_seeds": "evaluation.statistics",
    "read_milano": "data.series.files",
    "recalibrate": "deploy.recalibration",
    "run": "pipeline",
    "save_policy": "deploy.artifact",
    "save_tiers": "deploy.tiers",
    "sign_artifact": "files.manifest",
    "split": "networks.compose",
    "split_ddnn": "networks.paper",
    "threshold_for_fraction": "data.gate_costs",
    "violation_rate": "rules.certificate",
    "with_codes": "networks.compose",
}
_KERAS_ROOMS = {"networks", "training", "heads", "deploy", "pipeline"}  # they import TensorFlow
_RENAMED = {"EdgeOutputs": "TierOutputs"}  # former public name -> name
__all__ = sorted(_FILE_OF)


def __getattr__(name):
    if name in _RENAMED:
        warnings.warn(
            f"{__name__}.{name} is now {__name__}.{_RENAMED[name]}; the old name will go",
            DeprecationWarning,
            stacklevel=2,
        )
        name = _RENAMED[name]
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = _FILE_OF[name]
    with extras_named():
        if file.partition(".")[0] in _KERAS_ROOMS:
            import_module(f"{__name__}.files.quiet").import_tensorflow()
        return getattr(import_module(f"{__name__}.{file}"), name)


def __dir__():
    return sorted([*__all__, "__version__"])
