"""What a search prints at its end, from the report and the table of its trials."""

import math
import re
from functools import partial
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from keras_ddnn.data.outputs import tier_names
from keras_ddnn.evaluation.diagnose_command import DIAGNOSIS
from keras_ddnn.evaluation.report import Report
from keras_ddnn.files.notices import tell_result
from keras_ddnn.tasks.task import ACCURACY, Measure
from tune.failures import grouped

console = Console()

TENSORBOARD_RUNS = 40  # it ticks the runs of a folder only up to so many


def show(
    report: Report, results: pd.DataFrame, output: Path, recommended: str | None = None
) -> None:
    """Print accuracies, bytes and the rules of a report, and where the results are.

    Args:
        report: On test data.
        results: One row a trial; see `tune.report.write`.
        output: Folder of the search.
        recommended: What `tune.tradeoff.write` has said, and drawn, of several networks.
    """
    facts, measure = report.facts, report.measure
    exits = facts["exits"]
    told = partial(_told, measure)
    each = ", ".join(f"{tier} {told(own[measure.name])}" for tier, own in exits.items())
    what = "" if measure.higher_is_better else f", {measure.title}"
    console.print(
        f"\n{facts['dataset']}, {facts['samples']:,} test samples{what}: {each}, one of them "
        f"{told(facts[measure.least])}"
    )
    if "splits" in facts:
        console.print(facts["splits"], markup=False)
    work = (f"{tier} {_count(told['multiply_adds'])}" for tier, told in exits.items())
    console.print(f"multiply-adds a sample: {', '.join(work)}")
    payload = facts["payload"]
    sent = f"features {payload['features']:,} as float16, "
    if payload["codes"] is None:  # what travels is the input, or integers
        sent = f"{payload['features']:,} are sent; "
    else:
        sent += f"{payload['codes']:,} as codes, {payload['codes_zlib']:,.0f} after zlib; "
    console.print(
        f"bytes of a sample: {sent}{payload['kind']} {payload['image']:,} raw, "
        f"{payload['image_png'] or math.nan:,.0f} as PNG"
    )
    console.print(f"{payload['verdict']}\n")
    _show_networks(results, measure)
    percent, unit = (100, " %") if measure.higher_is_better else (1, "")
    digits = 2 if measure.higher_is_better else 4
    area = "AUDC" if measure.higher_is_better else f"{measure.area} (lower is better)"
    short = "acc" if measure.higher_is_better else measure.name
    # (heading, how a row of the report is written)
    columns = (
        ("rule", lambda row: row.rule),
        (f"{area}{unit}", lambda row: f"{percent * getattr(row, measure.area):.{digits}f}"),
        (
            "95%",
            lambda row: "–".join(
                f"{percent * getattr(row, f'{measure.area}_{end}'):.{digits - 1}f}"
                for end in ("low", "high")
            ),
        ),
        ("APGR", lambda row: f"{row.apgr:.3f}"),
        ("local %", lambda row: f"{100 * row.realised_local_fraction:.1f}"),
        (f"{short}{unit}", lambda row: f"{percent * getattr(row, measure.name):.{digits}f}"),
        ("oracle %", lambda row: f"{100 * row.decision_accuracy:.1f}"),
        ("bytes", lambda row: f"{row.bytes_sent:,.0f}"),
        ("MACs", lambda row: _multiply_adds(row.multiply_adds, facts)),
    )
    title = f"test data; thresholds of validation data for L0 = {facts['local_fraction']}"
    table = _table(title, [heading for heading, _ in columns])
    for row in report.table.itertuples():
        table.add_row(*(write(row) for _, write in columns))
    console.print(table)
    console.print(
        f"\n95%: of the {area}, over samples; oracle %: decisions that are the oracle's; "
        "bytes: sent on average over all samples; MACs: multiply-adds of the rule alone, "
        "[red]red[/red] where dearer than the cloud"
    )

    _show_classes(report)
    if recommended:
        console.print(f"\n{recommended}", markup=False, highlight=False)
    status = results["status"].value_counts()
    console.print(", ".join(f"{count} trials {name}" for name, count in status.items()))
    drawn = ["tradeoff.png"] if recommended else []
    said = [DIAGNOSIS] if (output / DIAGNOSIS).exists() else []
    written = ("results.csv", "curve.png", "plans.csv", "plans.png", *drawn, *said)
    for name in (*written, "report", "artifact"):
        console.print(f"  {output / name}", soft_wrap=True)
    logs = output / "tensorboard"
    console.print(f"tensorboard --logdir {logs}", soft_wrap=True)
    if len({path.parent for path in logs.rglob("*.tfevents.*")}) > TENSORBOARD_RUNS:
        console.print(
            f"(of more than {TENSORBOARD_RUNS} runs TensorBoard ticks none: filter, or toggle all)"
        )
    failed = results[results["status"] == "failed"]
    if len(failed):
        line = f"{len(failed)} trials failed: {grouped(failed['reason'])}"
        console.print(line, style="red", markup=False, soft_wrap=True)
    _tell(report, status.to_dict(), output)


def _tell(report: Report, trials: dict[str, int], output: Path) -> None:
    rule = next(iter(report.facts["heads"]))  # the best on validation data
    row = report.table.set_index("rule").loc[rule]
    kept, name = row["realised_local_fraction"], report.measure.name
    said = f"{rule} keeps {kept:.1%} of the test samples local, {name} {row[name]:.4g}: {output}"
    rules = report.table.to_dict("records")
    content = {"output": output, "rule": rule, "trials": trials, "rules": rules}
    tell_result(said, content | {"report": report.facts})


def _show_classes(report: Report) -> None:
    """Say how the classes fare under the head that is kept, and which fares worst."""
    if report.classes is None:
        return
    rule = next(iter(report.facts["heads"]))  # the best on validation data
    best = report.table.set_index("rule").loc[rule]
    classes = report.classes[report.classes["rule"] == rule].dropna(subset="accuracy")
    worst, well = (classes.loc[classes["accuracy"].agg(end)] for end in ("idxmin", "idxmax"))
    console.print(
        f"{rule} on {len(classes)} classes: balanced accuracy "
        f"{best['balanced_accuracy']:.2%}, macro F1 {best['macro_f1']:.2%}; from "
        f"{worst['accuracy']:.1%} for {worst['class']!r} ({worst['local_fraction']:.0%} of its "
        f"{worst['samples']:,} stay local) to {well['accuracy']:.1%} for {well['class']!r}; every "
        "class in report/classes.csv\n",
        markup=False,
    )


def _told(measure: Measure, value: float) -> str:
    """Return a mean as people read it: an accuracy in percent, a cost as it is."""
    return f"{value:.2%}" if measure.higher_is_better else f"{value:.4g}"


def _show_networks(results: pd.DataFrame, measure: Measure = ACCURACY) -> None:
    """Compare the networks of a search that has several, with what an offloaded sample sends."""
    choices = ("network", "at", "lambda_local", "bottleneck", "seed")
    names = [name for name in choices if name in results]
    networks = results.drop_duplicates(names)
    last = f"val_cloud_{measure.name}"
    networks = networks.dropna(subset=last) if len(networks) > 1 else ()
    if len(networks) == 0:
        return
    # (heading, column, how it is written)
    columns = (
        *[("network", "network", _name)][: "network" in results],
        *[("cut behind", "at", _name)][: "at" in results],
        ("λ", "lambda_local", str),
        ("bottleneck", "bottleneck", str),
        ("seed", "seed", str),
        *(
            (tier, f"val_{tier}_{measure.name}", partial(_share, measure))
            for tier in _tiers(networks, measure)
        ),
        ("bytes", "val_bytes_sent", "{:,.0f}".format),
        ("codes, zlib", "val_bytes_codes_zlib", "{:,.0f}".format),
        ("image", "val_bytes_image", "{:,.0f}".format),
        ("PNG", "val_bytes_image_png", "{:,.0f}".format),
    )
    title = "validation data; bytes of an offloaded sample"
    table = _table(title, [heading for heading, *_ in columns])
    for row in networks.sort_values(names).to_dict("records"):
        table.add_row(*(write(row[name]) for _, name, write in columns))
    console.print(table, "")


def _tiers(networks: pd.DataFrame, measure: Measure) -> list[str]:
    """Return the names of all tiers that a table has means of, in order."""
    column = rf"val_(local|tier\d+|cloud)_{measure.name}"
    found = (re.fullmatch(column, name) for name in networks)
    names = [name[1] for name in found if name]
    return sorted(names, key=tier_names(len(names)).index)


def _share(measure: Measure, value: float) -> str:
    """Return a mean as `_told` does; "–" where a network has no such tier."""
    return "–" if value != value else _told(measure, value)


def _name(name: str | float | None) -> str:
    """Return a name; "–" for none, which a table may hold as NaN."""
    return name if isinstance(name, str) else "–"


def _table(title: str, headings: list[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "rule" else "right", no_wrap=True)
    return table


def _count(count: float | None) -> str:
    """Return a number as a person reads it; a column of a table has NaN for None."""
    return "unknown" if count is None or count != count else f"{count:,.0f}"


def _multiply_adds(count: float | None, facts: dict) -> str:
    of_cloud = facts["cloud_multiply_adds"]
    dearer = None not in (count, of_cloud) and count > of_cloud
    return f"[red]{_count(count)}[/red]" if dearer else _count(count)
