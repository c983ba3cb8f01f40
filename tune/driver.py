"""The order of a search: train each backbone once, try heads on its bank, report on test data."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from keras_ddnn.data.datasets import Splits
from keras_ddnn.files.checks import require_count, require_utf8
from tune import cluster, report
from tune.asking import asked_of_tune
from tune.cache import set_damaged_aside, trained
from tune.failures import grouped, reason_of
from tune.networks import addresses
from tune.output import alone_in, check_output, prepare_output, tidied
from tune.plan import Plan, load_data, make_plan, measure_networks
from tune.rekeying import rekey
from tune.space import SearchConfig, Tracker
from tune.specs import DEFAULT_TRAINING, NetworkSpec, Training, Trial
from tune.tracking import HeadRuns, open_loggers
from tune.workspace import Workspace

RAY_STATE = "ray"  # Tune's own; what is kept of a trial is its record


def run_search(
    search: SearchConfig,
    output,
    *,
    data_dir=None,
    reading: dict | None = None,
    backbones=None,
    resume: bool = False,
    overwrite: bool = False,
    address: str | None = None,
    num_cpus: int | None = None,
    training: Training = DEFAULT_TRAINING,
    write=report.write,
    log_to: Sequence[Tracker] = (),
) -> Path:
    """Run a search and write its results.

    Args:
        search: What to search.
        output: Folder of the results: `search.json`, `results.csv`, `results.parquet`, `curve.png`,
            `report/`, `artifact/`, `tensorboard/` and `trials/`.
        data_dir: As of `keras_ddnn.load`.
        reading: Its other keywords, such as `background` and `scale`.
        backbones: Folder of trained backbones, shared between searches; beside `output` by default.
        resume: Go on with an interrupted search in `output`; finished trials are not repeated.
        overwrite: Delete an older search in `output` first.
        address: Of a running Ray cluster, which must share the folders; a local one by default.
        num_cpus: Of the local Ray; all by default.
        training: GPUs of each network, and how often its state is saved.
        write: What is made of the finished trials, with the arguments of `tune.report.write`.
        log_to: Where each head trial becomes a run too; see `tune.tracking`.

    Returns:
        The output folder.

    Raises:
        ModuleNotFoundError: If the library of a tracker is not installed.
        ValueError: On bad data, or an output folder that holds something else, cannot be written,
            or exists without `resume` or `overwrite`; if no host has the GPUs that `training`
            asks for; before any training.
        RuntimeError: If the training of all backbones fails, or no trial finishes.
    """
    if num_cpus is not None:
        require_count(num_cpus=num_cpus)
    output, backbones = _absolute(output, backbones)
    check_output(search, output, resume, overwrite)
    loggers = open_loggers(log_to, output.name)
    splits = load_data(search, data_dir, reading)
    workspace = _workspace(search, splits, backbones, output)
    with alone_in(output), tidied(output, backbones):
        prepare_output(search, output, overwrite)
        rekey(workspace, search)
        cluster.start(address, num_cpus)
        if address is None:
            _warn(search, splits, workspace, num_cpus)
        failed = _train_backbones(search.backbones(), splits, workspace, training)
        unfinished = _run_trials(search, splits, workspace, failed, loggers)
        write(search, splits, workspace, unfinished)
        shutil.rmtree(output / RAY_STATE, ignore_errors=True)
    return output


def plan_search(
    search: SearchConfig, output, *, data_dir=None, reading: dict | None = None, backbones=None
) -> Plan:
    """Return what `run_search` would do with the same arguments; raises ValueError on bad data."""
    output, backbones = _absolute(output, backbones)
    splits = load_data(search, data_dir, reading)
    workspace = _workspace(search, splits, backbones, output)
    rekey(workspace, search)
    return make_plan(search, splits, workspace)


def _warn(search, splits, workspace, num_cpus) -> None:
    """Say what will not fit into memory or on the disk of this machine."""
    # In this process TensorFlow would take the memory of a GPU.
    measure = partial(cluster.in_worker, measure_networks)
    workers = num_cpus or os.cpu_count()
    plan = make_plan(search, splits, workspace, measure=measure, workers=workers)
    for line in plan.warnings(workspace.backbones):
        print(f"warning: {line}", file=sys.stderr)


def train_backbones(
    wanted: Iterable[NetworkSpec], splits: Splits, backbones, *, num_cpus: int | None = None
) -> None:
    """Train the backbones that several searches will share, all in one queue.

    Args:
        wanted: Those that are in `backbones` already are not trained again.
        splits: The data.
        backbones: Folder of trained backbones.
        num_cpus: Of the local Ray; all by default.

    Raises:
        RuntimeError: If the training of a backbone fails.
    """
    folder = Path(backbones).absolute()
    with tidied(None, folder):
        cluster.start(None, num_cpus)
        workspace = Workspace(splits.fingerprint(), folder)
        rekey(workspace)
        if failed := _train_backbones([*wanted], splits, workspace):
            raise _failure_of(failed)


def _workspace(search, splits, backbones, output) -> Workspace:
    return Workspace(splits.fingerprint(), backbones, output, addresses(search, splits))


def _absolute(output, backbones) -> tuple[Path, Path]:
    """Return both folders absolute: a Ray worker runs in another folder."""
    output = Path(output).absolute()
    backbones = Path(backbones or output.parent / "backbones").absolute()
    for what, folder in (("--output", output), ("--backbones", backbones)):
        require_utf8(f"the path of {what}", str(folder))
    return output, backbones


def _train_backbones(
    wanted: list[NetworkSpec],
    splits: Splits,
    workspace: Workspace,
    training: Training = DEFAULT_TRAINING,
) -> dict[NetworkSpec, str]:
    """Train what is missing; return the reason of each backbone whose training failed.

    Raises:
        ValueError: If no host has the GPUs that one of them is to have.
        RuntimeError: If all of them failed.
    """
    import ray
    from ray.util.queue import Queue

    from tune.backbones import train_backbone

    missing = [backbone for backbone in wanted if not trained(workspace.backbone(backbone))]
    missing = list({workspace.backbone(backbone): backbone for backbone in missing}.values())
    if not missing:
        return {}
    for backbone in missing:
        set_damaged_aside(workspace.backbone(backbone))
    shared = ray.put(splits)
    epochs = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": cluster.here()})
    cluster.bounded_get(epochs.actor.__ray_ready__.remote())
    hosts = [node["Resources"] for node in ray.nodes()]
    resources = cluster.resources_of(len(wanted), hosts, training.gpus_per_network)
    task = ray.remote(max_retries=1, **resources)(train_backbone)
    rest = (workspace, epochs, training.save_seconds)
    running = {task.remote(shared, backbone, *rest): backbone for backbone in missing}
    failed, started = {}, set()
    watch = cluster.Watch("training")
    with report.BackboneProgress(missing) as progress:
        while running:
            done, _ = ray.wait(list(running), timeout=0.5)
            while not epochs.empty():
                backbone, epoch, logs = epochs.get()
                started.add(backbone)
                if logs:  # else it has begun
                    progress.update(backbone, epoch, logs)
            watch.look(bool(done) or not started.isdisjoint(running.values()))
            for result in done:
                backbone = running.pop(result)
                try:
                    ray.get(result)
                except ray.exceptions.RayError as error:
                    failed[backbone] = reason_of(error)
    if len(failed) == len(wanted):
        raise _failure_of(failed)
    return failed


def _failure_of(failed: dict[NetworkSpec, str]) -> RuntimeError:
    names = ", ".join(backbone.name() for backbone in failed)
    return RuntimeError(f"training the backbone {names} failed: {grouped(failed.values())}")


def _run_trials(search, splits, workspace, failed, loggers) -> list[dict]:
    """Run what is not recorded yet; return a row for each trial that did not finish.

    Trials that need one of the failed backbones are not run.
    """
    from ray import tune

    from tune.trial import asked_trials, head_trials

    workspace.records.set_damaged_aside()
    done = workspace.trials(search)
    unfinished = _without_backbone(search, workspace, failed)
    space, algorithm, todo, stacks = asked_of_tune(search, done, unfinished)
    if todo <= 0:
        return list(unfinished.values())
    trainable = tune.with_parameters(
        head_trials,
        stacks=stacks,
        search=search,
        workspace=workspace,
        images={"train": splits.train.images, "val": splits.val.images},
        num_classes=len(splits.classes),
    )
    runs = HeadRuns(loggers, stacks, search, workspace, done)
    with report.TrialProgress(stacks or [[None] * todo]) as progress:
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="val_audc",
                mode="max",
                search_alg=algorithm,
                scheduler=cluster.scheduler(search.scheduler),
                num_samples=todo if algorithm else 1,  # of the grid of stacks
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=RAY_STATE,
                storage_path=str(workspace.output),
                verbose=0,
                callbacks=[progress, runs],
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        ).fit()
    recorded, measure = workspace.trials(search), search.answers().measure
    for asked, result in zip(progress.trials, results, strict=True):
        for trial in asked_trials(asked.config, stacks, search):
            if trial not in recorded:
                status = "failed" if result.error else "stopped"
                reason = reason_of(result.error) if result.error else "stopped early"
                audc, key = result.metrics.get("val_audc"), workspace.key(trial)
                area = None if audc is None else measure.of_audc(audc)
                row = _unfinished(key, trial, status, reason)
                unfinished[trial] = row | {f"val_{measure.area}": area}
    return list(unfinished.values())


def _without_backbone(search, workspace, failed: dict[NetworkSpec, str]) -> dict[Trial, dict]:
    """Return the trials that cannot be run, each with its row.

    Optuna's are not known before; they fail when they are asked for.
    """
    rows = {}
    for trial in search.sample() if failed and search.searcher != "optuna" else ():
        needed = {*map(workspace.backbone, trial.backbones())}
        for backbone in (each for each in failed if workspace.backbone(each) in needed):
            reason = f"no backbone {backbone.name()}: {failed[backbone]}"
            rows[trial] = _unfinished(workspace.key(trial), trial, "failed", reason)
    return rows


def _unfinished(key: str, trial: Trial, status: str, reason: str) -> dict:
    """Return the row of a trial that did not finish."""
    row = {"trial": key, "status": status, "reason": reason}
    return row | trial.choices()
