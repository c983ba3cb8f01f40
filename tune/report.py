"""What a search leaves behind: tables, the curve, the best policy, TensorBoard and a summary."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from ray.tune import Callback
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from figures import diagnosis as diagnosis_figure
from figures import offload_curve
from keras_ddnn.atomic import replacing_file, write_json
from keras_ddnn.datasets import Splits
from keras_ddnn.diagnose import DIAGNOSIS
from keras_ddnn.diagnostics import diagnose
from keras_ddnn.report import Report
from tune.backbones import StoredBackbone
from tune.cache import Records, backbone_key
from tune.plan import Plan
from tune.space import DIMENSIONS, Backbone, SearchConfig
from tune.trial import asked_choices

console = Console()

TENSORBOARD_RUNS = 40  # it ticks the runs of a folder only up to so many
HPARAMS_METRICS = ("val_audc", "val_apgr", "val_gain_over_margin")


def show_plan(plan: Plan) -> None:
    """Print what a search would do."""
    table = Table("work", "in all", "still to do", title="plan")
    table.add_row("backbones", str(plan.backbones), str(plan.backbones_to_train))
    table.add_row("head trials", str(plan.trials), str(plan.trials_to_run))
    table.add_row("estimated minutes", "", f"{plan.estimated_seconds / 60:.1f}")
    console.print(table)


class BackboneProgress:
    """A progress bar for each backbone in training, with its validation accuracies."""

    def __init__(self, backbones: Iterable[Backbone]):
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

    def update(self, backbone: Backbone, epoch: int, logs: dict) -> None:
        """Show that an epoch, counted from 0, has ended."""
        local, cloud = (logs[f"val_{output}_accuracy"] for output in ("local", "cloud"))
        accuracies = f"validation local {local:.1%} cloud {cloud:.1%}"
        self.progress.update(self.bars[backbone], completed=epoch + 1, accuracies=accuracies)


class TrialProgress(Callback):
    """A progress bar of the head trials, with the best validation AUDC so far.

    Args:
        stacks: As of `tune.trial.head_trials`.
    """

    def __init__(self, stacks: list[list[dict]]):
        self.stacks = stacks
        self.best = float("-inf")
        self.trials = []
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

    def on_trial_complete(self, iteration, trials, trial, **info):
        """Advance the bar."""
        self.best = max(self.best, trial.last_result.get("val_audc", self.best))
        self.progress.update(self.bar, advance=self._heads(trial), best=f"{self.best:.2%}")

    def on_trial_error(self, iteration, trials, trial, **info):
        """Advance the bar and say that trials failed; their reasons are in the table."""
        self.progress.update(self.bar, advance=self._heads(trial))
        console.print(f"[red]failed[/red] {trial.config}")

    def _heads(self, trial) -> int:
        return len(asked_choices(trial.config, self.stacks))

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
    fingerprint: str,
    backbones: Path,
    output: Path,
    unfinished: list[dict],
) -> Report:
    """Write the results of a search and print them; the test data are read here and only here.

    The best trial on validation data decides the backbone; on it, the best trial of every head
    input is reported on test data beside the confidence rules and the oracle.

    Raises:
        RuntimeError: If no trial finished.
    """
    records = Records(output / "trials").all(search, fingerprint)
    results = _write_results(records, unfinished, output)
    finished = results[results["status"] == "finished"]
    if finished.empty:
        raise RuntimeError(f"no trial finished; the reasons are in {output / 'results.csv'}")

    from keras_ddnn.artifact import save_policy

    report, policy, val_bank, diagnosis = _report_on_test(
        search,
        splits,
        fingerprint,
        backbones,
        output,
        {key: records[key] for key in finished["trial"]},
    )
    report.save(output / "report")
    figure = offload_curve.draw(report)
    figure.savefig(output / "curve.png")
    write_json(output / DIAGNOSIS, diagnosis.as_json())
    diagnosis_figure.draw(diagnosis.as_json()).savefig(output / "diagnosis.png")
    best = finished.iloc[0]
    metrics = {name: float(best[name]) for name in ("val_audc", "val_apgr", "val_accuracy")}
    save_policy(policy, output / "artifact", metrics, val_bank=val_bank)
    _write_tensorboard(search, fingerprint, backbones, output, figure)
    _show(report, results, output)
    return report


def _write_results(records: dict[str, dict], unfinished: list[dict], output: Path) -> pd.DataFrame:
    """Write one row a trial, best validation AUDC first.

    Wall times stay in the records: the same command must write the same table twice.
    """
    rows = [
        {"trial": key, "status": "finished", **record["choices"], **record["metrics"]}
        for key, record in records.items()
    ]
    results = pd.DataFrame(rows + unfinished)
    first = ["trial", "status", *DIMENSIONS]
    results = results[[*first, *results.columns.difference(first)]]
    results["lambda_local"] = results["lambda_local"].astype(str)  # numbers and "random"
    if "val_audc" in results:
        results = results.sort_values(["val_audc", "trial"], ascending=[False, True])
    results = results.reset_index(drop=True)
    with replacing_file(output / "results.csv") as file:
        results.to_csv(file, index=False, float_format="%.8g")
    with replacing_file(output / "results.parquet") as file:
        results.to_parquet(file, index=False)
    return results


def _report_on_test(search, splits, fingerprint, backbones, output, records):
    """Report on the finished trials, whose records come best first."""
    from keras_ddnn.pipeline import make_report
    from keras_ddnn.policy import OffloadPolicy

    ranked = {key: search.trial(record["choices"]) for key, record in records.items()}
    best = next(iter(ranked.values()))
    keys = {}  # of the best head of each input
    for key, trial in ranked.items():
        if trial.ddnn == best.ddnn:
            keys.setdefault(trial.head.input, key)
    stored = Records(output / "trials")
    heads = {name: stored.head(key, records[key]) for name, key in keys.items()}

    backbone = StoredBackbone.of(backbones, fingerprint, best.ddnn, splits)
    model = backbone.model()
    fraction = search.target_fraction
    report = make_report(
        splits.name,
        model,
        best.ddnn,
        heads,
        backbone.val_bank,
        backbone.test_bank,
        fraction,
    )
    diagnosis = diagnose(backbone.bank, backbone.val_bank, heads, local_fraction=fraction)
    name = best.head.input
    threshold = report.table.set_index("rule").loc[name, "score_threshold"]
    policy = OffloadPolicy(model, best.ddnn, heads[name], float(threshold), splits.class_names)
    return report, policy, backbone.val_bank, diagnosis


def _write_tensorboard(search, fingerprint, backbones, output, figure):
    from keras_ddnn.tensorboard import write_figure, write_hparams_experiment

    root = output / "tensorboard"
    for backbone in search.backbones():
        if backbone.deployed:
            log = backbones / backbone_key(fingerprint, backbone) / "tensorboard"
            shutil.copytree(log, root / f"backbone-{backbone.name()}", dirs_exist_ok=True)
    write_figure(root, "accuracy against local fraction", figure)
    choices = {name: list(getattr(search, name)) for name in DIMENSIONS}
    write_hparams_experiment(root, choices, HPARAMS_METRICS)


def _show(report: Report, results: pd.DataFrame, output: Path) -> None:
    facts = report.facts
    console.print(
        f"\n{facts['dataset']}, {facts['samples']:,} test samples: "
        f"local {facts['local_accuracy']:.2%}, cloud {facts['cloud_accuracy']:.2%}, "
        f"either {facts['either_correct']:.2%}"
    )
    console.print(
        f"multiply-adds a sample: local {facts['local_multiply_adds']:,}, "
        f"cloud {facts['cloud_multiply_adds']:,}"
    )
    console.print(
        f"bytes an offloaded sample: {facts['feature_bytes']:,} of features, "
        f"{facts['image_bytes']:,} of the raw image"
    )
    # (heading, how a row of the report is written)
    columns = (
        ("rule", lambda row: row.rule),
        ("AUDC %", lambda row: f"{100 * row.audc:.2f}"),
        ("95%", lambda row: f"{100 * row.audc_low:.1f}–{100 * row.audc_high:.1f}"),
        ("APGR", lambda row: f"{row.apgr:.3f}"),
        ("local %", lambda row: f"{100 * row.realised_local_fraction:.1f}"),
        ("acc %", lambda row: f"{100 * row.accuracy:.2f}"),
        ("oracle %", lambda row: f"{100 * row.decision_accuracy:.1f}"),
        ("MACs", lambda row: _multiply_adds(row.multiply_adds, facts)),
    )
    table = Table(
        title=f"test data; thresholds of validation data for L0 = {facts['local_fraction']}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading, _ in columns:
        table.add_column(heading, justify="left" if heading == "rule" else "right", no_wrap=True)
    for row in report.table.itertuples():
        table.add_row(*(write(row) for _, write in columns))
    console.print(table)
    console.print(
        "95%: of the AUDC, over samples; oracle %: decisions that are the oracle's; "
        "MACs: multiply-adds of the rule alone, [red]red[/red] where dearer than the cloud"
    )

    status = results["status"].value_counts()
    console.print(", ".join(f"{count} trials {name}" for name, count in status.items()))
    for name in ("results.csv", "curve.png", DIAGNOSIS, "report", "artifact"):
        console.print(f"  {output / name}", soft_wrap=True)
    logs = output / "tensorboard"
    console.print(f"tensorboard --logdir {logs}", soft_wrap=True)
    if len({path.parent for path in logs.rglob("*.tfevents.*")}) > TENSORBOARD_RUNS:
        console.print(
            f"(of more than {TENSORBOARD_RUNS} runs TensorBoard ticks none: filter, or toggle all)"
        )


def _multiply_adds(count: int, facts: dict) -> str:
    dearer = count > facts["cloud_multiply_adds"]
    return f"[red]{count:,}[/red]" if dearer else f"{count:,}"
