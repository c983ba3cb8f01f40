"""What a search leaves behind: tables, the curve, the best policy, TensorBoard and a summary."""

import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from ray.tune import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from figures import diagnosis as diagnosis_figure
from figures import exits, offload_curve
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.data.outputs import tier_names
from keras_ddnn.evaluation.cut_latency import Machines
from keras_ddnn.evaluation.diagnose_command import DIAGNOSIS
from keras_ddnn.evaluation.payload import FORMS
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.atomic import replacing_file, write_json
from keras_ddnn.files.notices import tell_result
from keras_ddnn.files.quiet import import_tensorflow
from keras_ddnn.files.records import as_json
from keras_ddnn.rules.confidence import untrained_rules
from keras_ddnn.tasks.task import Measure, Task
from tune import cluster, summary, tradeoff
from tune.failures import grouped
from tune.plan import Plan, gigabytes
from tune.space import SearchConfig
from tune.specs import DIMENSIONS, NetworkSpec, Trial
from tune.stored import StoredNetwork
from tune.summary import console
from tune.trial import GAINS_OVER
from tune.workspace import TENSORBOARD, Workspace

if TYPE_CHECKING:
    from keras_ddnn.deploy.policy import OffloadPolicy

# In the logs of Keras, behind the name of a tier; that of a network alone has no name.
ACCURACY_LOG = re.compile(r"val_(?:(\w+)_)?accuracy")
PLANS = "plans.csv"


def show_plan(plan: Plan) -> None:
    """Print what a search would do."""
    table = Table("work", "in all", "still to do", title="plan")
    table.add_row("backbones", str(plan.backbones), str(plan.backbones_to_train))
    table.add_row("head trials", str(plan.trials), str(plan.trials_to_run))
    seconds = plan.estimated_seconds
    table.add_row("estimated minutes", "", "unknown" if seconds is None else f"{seconds / 60:.1f}")
    table.add_row("parameters of a backbone", "", f"{plan.parameters:,}")
    table.add_row("disk for weights and banks", "", gigabytes(plan.disk_bytes))
    table.add_row("memory for arrays", "", gigabytes(plan.array_bytes))
    console.print(table)
    said = f"{plan.backbones_to_train} backbones and {plan.trials_to_run} head trials are to do"
    tell_result(said, asdict(plan))


class BackboneProgress:
    """A progress bar for each backbone in training, with its validation accuracies."""

    def __init__(self, backbones: Iterable[NetworkSpec]):
        self.progress = _progress("{task.description}", "{task.fields[accuracies]}")
        self.bars = {
            backbone: self.progress.add_task(
                f"backbone {backbone.name()}", total=backbone.ddnn.epochs, accuracies=""
            )
            for backbone in backbones
        }

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def update(self, backbone: NetworkSpec, epoch: int, logs: dict) -> None:
        """Show that an epoch, counted from 0, has ended."""
        told = {ACCURACY_LOG.fullmatch(name): value for name, value in logs.items()}
        found = {match[1] or "": value for match, value in told.items() if match}
        names = [name for name in (*tier_names(len(found)), "") if name in found]
        said = (f"{name} {found[name]:.1%}".strip() for name in names)
        accuracies = f"validation {' '.join(said)}"
        self.progress.update(self.bars[backbone], completed=epoch + 1, accuracies=accuracies)


class TrialProgress(Callback):
    """A progress bar of the head trials, with the best validation AUDC so far.

    Args:
        stacks: As for `tune.trial.head_trials`.
    """

    def __init__(self, stacks: list[list[Trial | None]]):
        self.stacks = stacks
        self.best = float("-inf")
        self.trials = []
        self.watch = cluster.Watch("head trial")
        self.progress = _progress("head trials", "best validation AUDC {task.fields[best]}")
        self.bar = self.progress.add_task("", total=sum(map(len, stacks)) or None, best="-")

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __getstate__(self):
        # Tune pickles its callbacks for a restore of its own, which a search does not use.
        return {}

    def on_step_begin(self, iteration, trials, **info):
        """End a search of which no trial can be started any more."""
        self.watch.look(any(trial.status == "RUNNING" for trial in trials))

    def on_trial_complete(self, iteration, trials, trial, **info):
        """Advance the bar."""
        self.best = max(self.best, trial.last_result.get("val_audc", self.best))
        self.progress.update(self.bar, advance=self._heads(trial), best=f"{self.best:.2%}")

    def on_trial_error(self, iteration, trials, trial, **info):
        """Advance the bar and say that trials failed; their reasons are in the table."""
        self.progress.update(self.bar, advance=self._heads(trial))
        console.print(f"[red]failed[/red] {trial.config}")

    def _heads(self, trial) -> int:
        return len(self.stacks[trial.config["stack"]]) if "stack" in trial.config else 1

    def on_experiment_end(self, trials, **info):
        """Keep what was asked: the result of a trial whose worker was killed does not tell."""
        self.trials = trials


def _progress(before: str, after: str) -> Progress:
    return Progress(
        TextColumn(before),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn(after),
        console=console,
    )


def write(
    search: SearchConfig,
    splits: Splits,
    workspace: Workspace,
    unfinished: list[dict],
    machines: Machines | None = None,
) -> Report:
    """Write the results of a search and print them; the test data are read here and only here.

    The best trial on validation data decides the backbone; on it, the best trial of every head
    input is reported on test data beside the confidence rules and the oracle: seen from the device,
    and as plans of all gates, accuracy against mean price. Networks of several
    architectures are compared for the device, the cloud and the line of `machines`, if given.

    Raises:
        RuntimeError: If no trial finished.
    """
    import_tensorflow()
    output, records = workspace.output, workspace.trials(search)
    networks = {
        network: _measure(StoredNetwork.of(workspace, network, splits))
        for network in dict.fromkeys(trial.members for trial in records)
    }
    rows = [
        {"trial": workspace.key(trial), "status": "finished"}
        | trial.choices()
        | record["metrics"]
        | networks[trial.members]
        for trial, record in records.items()
    ]
    measure = search.answers().measure
    results = _write_results(rows + unfinished, output, measure)
    finished = results[results["status"] == "finished"]
    if finished.empty:
        reasons = grouped(row["reason"] for row in unfinished)
        raise RuntimeError(f"no trial finished: {reasons}; see {output / 'results.csv'}")

    from keras_ddnn.deploy.artifact import save_policy
    from tune.kept_network import KeptNetwork

    by_key = {workspace.key(trial): (trial, record) for trial, record in records.items()}
    ranked = dict(by_key[key] for key in finished["trial"])
    kept = KeptNetwork.of(search, splits, workspace, ranked)
    report = kept.report()
    report.save(output / "report")
    figure = offload_curve.draw(report)
    figure.savefig(output / "curve.png")
    plans = kept.plans()
    with replacing_file(output / PLANS) as file:
        plans.to_csv(file, index=False, float_format="%.8g")
    shown = [*kept.heads, _plain_rule(search.answers())]
    exits.draw(plans, shown, kept.unit).savefig(output / "plans.png")
    if diagnosis := kept.diagnosis():
        write_json(output / DIAGNOSIS, diagnosis.as_json())
        diagnosis_figure.draw(diagnosis.as_json()).savefig(output / "diagnosis.png")
    best = finished.iloc[0]
    told = (f"val_{name}" for name in (measure.area, "apgr", measure.name))
    metrics = {name: float(best[name]) for name in told}
    policy, told = kept.policy(report), {"val_bank": kept.network.val_bank, "dataset": splits.name}
    if kept.behind:
        _save_hops(policy, output / "artifact", **told)
    else:  # one hop, which is the artefact itself
        save_policy(policy, output / "artifact", metrics, **told)
    _write_tensorboard(search, workspace, figure)
    # It weighs points of accuracy.
    compared = machines if measure.higher_is_better else None
    recommended = compared and tradeoff.write(
        ranked, splits, workspace, compared, search.target_fraction
    )
    summary.show(report, results, output, recommended)
    return report


def _save_hops(policy: "OffloadPolicy", folder: Path, val_bank: Bank, dataset: str) -> None:
    """Keep an artefact a hop; without what validation data say where they do not reach a tier."""
    from keras_ddnn.deploy.tiers import save_tiers

    try:
        save_tiers(policy, folder, val_bank=val_bank, dataset=dataset)
    except ValueError as error:  # a search of hours must not end without its artefacts
        line = f"warning: {error}; artefacts are kept without it"
        console.print(line, style="red", markup=False, soft_wrap=True)
        save_tiers(policy, folder, dataset=dataset)


def _measure(backbone: StoredNetwork) -> dict:
    """Return how good a backbone is on validation data, and the bytes of an offloaded sample."""
    if not backbone.exists:  # one that failed now, after trials of an earlier run
        return {}
    bank, measure = backbone.val_bank, backbone.val_bank.task.measure
    means = measure.of(bank.costs().sum(axis=0), len(bank))
    return {
        f"val_{tier}_{measure.name}": float(mean)
        for tier, mean in zip(bank.tiers, means, strict=True)
    } | {f"val_bytes_{form}": getattr(backbone.payload, form) for form in FORMS}


def _write_results(rows: list[dict], output: Path, measure: Measure) -> pd.DataFrame:
    """Write one row a trial, the best on validation data first.

    Wall times stay in the records: the same command must write the same table twice.
    """
    results = pd.DataFrame(rows)
    first = ["trial", "status", *DIMENSIONS]
    results = results[[*first, *results.columns.difference(first)]]
    if results["network"].nunique(dropna=False) == 1:
        del results["network"]
    if results["at"].isna().all():  # all are cut where the paper's network is, or nowhere
        del results["at"]
    results["lambda_local"] = results["lambda_local"].astype(str)  # numbers and "random"
    results["bottleneck"] = results["bottleneck"].map(
        lambda c: "none" if pd.isna(c) else str(int(c))
    )
    if (ranked_by := f"val_{measure.area}") in results:
        order = [not measure.higher_is_better, True]
        results = results.sort_values([ranked_by, "trial"], ascending=order)
    results = results.reset_index(drop=True)
    with replacing_file(output / "results.csv") as file:
        results.to_csv(file, index=False, float_format="%.8g")
    with replacing_file(output / "results.parquet") as file:
        results.to_parquet(file, index=False)
    return results


def _write_tensorboard(search, workspace, figure):
    from keras_ddnn.training.tensorboard import write_figure, write_hparams_experiment, write_text

    root = workspace.output / TENSORBOARD
    for backbone in search.backbones():
        if backbone.deployed:
            log = workspace.log(backbone)
            shutil.copytree(workspace.backbone(backbone) / TENSORBOARD, log, dirs_exist_ok=True)
            write_text(log, "network", {"network": backbone.name()} | as_json(backbone.ddnn))
    write_figure(root, "accuracy against local fraction", figure)
    choices = {name: list(getattr(search, name)) for name in DIMENSIONS}
    task = search.answers()
    metrics = (f"val_{task.measure.area}", "val_apgr", f"val_gain_over_{_plain_rule(task)}")
    write_hparams_experiment(root, choices, metrics)


def _plain_rule(task: Task) -> str:
    """Return the confidence rule that learned ones are compared with, of those a task allows."""
    known = untrained_rules(task)
    return next(name for name in (*GAINS_OVER[1:], "random") if name in known)
