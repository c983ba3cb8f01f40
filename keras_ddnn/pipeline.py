"""The whole order, from data to report; the only file that knows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.config.presets import resolve_config
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.series.windows import SeriesSplits
from keras_ddnn.deploy.artifact import require_keepable, save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.missing_views import missing_views
from keras_ddnn.evaluation.payload import FORMS, Payload
from keras_ddnn.evaluation.per_class import by_class
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.atomic import require_writable
from keras_ddnn.files.checks import require_fraction, require_utf8
from keras_ddnn.files.records import as_json
from keras_ddnn.heads.fit import HeadRule, fit_head
from keras_ddnn.labels.gates import two_ends
from keras_ddnn.labels.sources import (
    LABEL_SOURCES,
    require_images,
    require_samples,
    staged_config,
)
from keras_ddnn.networks.architectures.named_models import as_network
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.rules.confidence import Gate, untrained_rules
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.task import Task
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.recipe.teacher import NO_FOLDS, Teacher


def run(
    splits: Splits | SeriesSplits,
    ddnn: DDNNConfig | str = "paper",
    heads: Mapping[str, HeadConfig] | None = None,
    *,
    network: Cascade | keras.Model | str | None = None,
    at: str | Sequence[str] | None = None,
    task: Task = CLASSIFICATION,
    teacher: Teacher | Cascade | keras.Model | None = None,
    local_fraction: float = 0.5,
    artifact: str | Path | None = None,
    tensorboard: str | Path | None = None,
    verbose: str | int = "auto",
) -> tuple[Report, OffloadPolicy]:
    """Train a DDNN and its heads, choose the best head on validation data, and report on test data.

    The DDNN keeps the stages, and the folds are trained, that the heads' labels need.

    Args:
        splits: Training, validation and test data; of numbers those of `load_series`.
        ddnn: Configuration of the DDNN, or a preset's name.
        heads: Name → `HeadConfig`; one default head of the task if None, see `HeadConfig.of_task`.
        network, at: What to train instead of the network of the paper; see `fit_ddnn`.
        task: What the answers are, such as a `Regression`. A `Cascade` has its own.
        teacher: A trained network whose probabilities are learned; see `fit_ddnn`.
        local_fraction: The share L0 of samples to keep local.
        artifact: Folder to save the policy to, with all that serving it needs; see `save_policy`.
        tensorboard: Folder to log to.
        verbose: Keras progress: "auto", 0, 1 or 2.

    Returns:
        The report, and the policy of the best head with its threshold chosen on validation data. Of
        several cameras the report has the fact `missing_views`, see there.

    Raises:
        ValueError: On a bad configuration, bad data, heads or a network that do not fit the task,
            or a network that an artefact cannot keep, before any training.
    """
    require_fraction("local_fraction", local_fraction)
    task = network.task if isinstance(network, Cascade) else task
    heads = heads or {"head": HeadConfig.of_task(task)}
    if taken := sorted({*untrained_rules(task), "oracle"} & set(heads)):
        raise ValueError(f"heads need names of their own; received {', '.join(taken)}")
    names = _output_names(splits, task)
    splits.require_measurable()
    require_utf8("the name of the splits", splits.name)  # which an artefact keeps
    config = resolve_config(ddnn)
    shape, count = splits.train.images.shape[1:], len(names)
    network = as_network(network, at, shape=shape, classes=count, seed=config.seed, task=task)
    if network is None and task is not CLASSIFICATION:
        raise ValueError(
            f"the network of the paper learns plain classes; received the task {task.name!r}: pass "
            "network=, such as keras_ddnn.chain(models, task=task)"
        )
    if network is not None and len(tiers := network.model.output) > 2:
        raise ValueError(
            f"run trains and reports a network of two tiers; received {', '.join(tiers)}: use "
            "fit_ddnn, fit_gates and OffloadPolicy for a longer chain"
        )
    sources = {head.labels for head in heads.values()}
    if teacher is not None and any(LABEL_SOURCES[source].folds for source in sources):
        raise ValueError(NO_FOLDS)
    require_samples(sources, task.strata(splits.train.labels), names)
    if network is not None:
        require_images(sources, network.reads.holds_images)
        for head in heads.values():
            head.require_fits(network.blank_device())
    if artifact is not None:
        require_writable(artifact)
        if network is not None:
            require_keepable(network)
    fitted = fit_ddnn(
        splits.train,
        splits.val,
        staged_config(config, sources),
        network=network,
        num_classes=count if task.target_reader is None else None,
        teacher=teacher,
        tensorboard=tensorboard,
        verbose=verbose,
    )
    heads = {name: fit_head(fitted, config, verbose=verbose) for name, config in heads.items()}
    validation, _ = compare_rules(heads, fitted.val_bank, fitted.val_bank, local_fraction)
    best = validation.loc[validation["rule"].isin(heads)].iloc[0]
    report = make_report(
        splits.name,
        fitted.cascade,
        fitted.config,
        heads,
        fitted.val_bank,
        fitted.capture(splits.test),
        local_fraction,
        class_names=names,
    )
    if fitted.cascade.reads.cameras:
        missing = missing_views(fitted.capture, splits.test)
        report.facts["missing_views"] = missing.to_dict("records")
    policy = OffloadPolicy(
        fitted.model if network is None else fitted.cascade,
        fitted.config if network is None else None,
        heads[best["rule"]],
        float(best["score_threshold"]),
        names,
        classes=fitted.classes,
        reading=splits.reading,
    )
    if artifact is not None:
        told = (task.measure.area, "apgr", task.measure.name)
        metrics = {f"val_{name}": float(best[name]) for name in told}
        save_policy(policy, artifact, metrics, val_bank=fitted.val_bank, dataset=splits.name)
    return report, policy


def _output_names(splits: Splits | SeriesSplits, task: Task) -> tuple[str, ...]:
    """Return a name an output; ValueError, in one line, unless the data are of the task."""
    reader, of_series = task.target_reader, isinstance(splits, SeriesSplits)
    if of_series != (reader is not None):
        kinds = ("numbers", "classes") if of_series else ("classes", "numbers")
        raise ValueError(
            f"the data {splits.name!r} are of {kinds[0]}, the task {task.name!r} is of {kinds[1]}: "
            "pass task= of the data, such as keras_ddnn.Regression() for load_series(...)"
        )
    return splits.class_names if reader is None else reader.names


def make_report(
    dataset: str,
    network: keras.Model | Cascade,
    config: DDNNConfig,
    heads: Mapping[str, HeadRule],
    val_bank: Bank,
    test_bank: Bank,
    local_fraction: float,
    *,
    class_names: Sequence[str] | None = None,
    behind: Mapping[str, Gate] | None = None,
    prices: Sequence[float] | None = None,
) -> Report:
    """Compare heads, confidence rules and the oracle on test data, thresholds by validation data.

    Balanced accuracy, macro F1 and the classes one by one are told of all rules but the oracle,
    where answers are right or wrong. The fact `better` says of each column whether higher or lower
    is better; of costs, whose columns `compare_rules` names, it is lower. The
    columns `bytes_…` of its table are the mean over all samples, of which the local ones send
    nothing; the fact `payload` is that of an offloaded sample. See `Payload` for the forms. Of a
    chain of more than two tiers the table and the curves tell of its two ends, and the fact `exits`
    of every tier; for plans of the whole chain see `compare_plans`.

    Args:
        dataset: Its name.
        network: The DDNN.
        config: What it was trained with.
        heads: Name → trained head.
        val_bank: Validation samples.
        test_bank: Test samples.
        local_fraction: The share L0 of samples to keep local.
        class_names: In the order of the logits; their numbers by default.
        behind: The gates behind the first tier, which end what it sends on, by names of tiers in
            order. By default the last tier answers all of it.
        prices: What it adds to reach each tier; see `two_ends`.
    """
    rules = untrained_rules(test_bank.edge) | dict(heads)
    val, test = val_bank, test_bank
    if behind is not None:
        val, test = (two_ends(b, next(iter(b.tiers)), behind, prices) for b in (val, test))
    table, curves = compare_rules(rules, val, test, local_fraction, intervals=True)
    measure, classes = test_bank.task.measure, None
    if measure.higher_is_better:
        class_names = class_names or list(map(str, range(test_bank.cloud_logits.shape[1])))
        told = table[table["rule"].isin(rules)].set_index("rule")["score_threshold"]
        means, classes = by_class(rules, told.to_dict(), test, class_names)
        table = table.join(means, on="rule")
    cascade = as_cascade(network)
    exits = {tier.name: multiply_adds(tier.model) for tier in cascade.tiers}
    local, *others = exits.values()
    n, costs = len(test_bank), test_bank.costs()
    means = dict(zip(exits, measure.of(costs.sum(axis=0), n).tolist()))
    least = measure.of(costs.min(axis=1).sum(), n)
    payload = Payload.of(test_bank.edge, cascade.quantisation)
    for form in FORMS:
        table[f"bytes_{form}"] = (1.0 - table["realised_local_fraction"]) * getattr(payload, form)
    facts = {
        "dataset": dataset,
        "ddnn": as_json(config),
        "heads": {name: as_json(head.config) for name, head in heads.items()},
        "local_fraction": local_fraction,
        "samples": n,
        "better": {
            measure.area: measure.better,
            measure.name: measure.better,
            "apgr": "higher",
            "decision_accuracy": "higher",
        },
        f"local_{measure.name}": float(measure.of(test_bank.stay.sum(), n)),
        f"cloud_{measure.name}": float(measure.of(test_bank.go.sum(), n)),
        measure.least: float(least),
        "local_multiply_adds": local,
        "cloud_multiply_adds": None if None in others else sum(others),
        "exits": {
            name: {measure.name: means[name], "multiply_adds": own} for name, own in exits.items()
        },
        "payload": payload.as_json(),
    }
    if behind:
        facts["saved"] = "price behind the device saved"
    return Report(facts, table, Report.sample(curves), classes)
