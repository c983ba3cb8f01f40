"""What a search prints at its end: bytes beside accuracies, in the width of a terminal."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.payload import Payload
from keras_ddnn.evaluation.per_class import by_class
from keras_ddnn.evaluation.report import Report
from keras_ddnn.rules.confidence import untrained_rules
from tune import summary

WIDE = Payload(16384, 8192, 6543.2, 3072, 2345.6, lossless=False)
NARROW = Payload(2048, 1024, 789.4, 3072, 2345.6, lossless=True)


@pytest.fixture
def printed(monkeypatch, tmp_path, four_cases):
    """Show a report on the four cases; return the lines."""

    def show(payload: Payload, results: pd.DataFrame) -> list[str]:
        table, curves = compare_rules(untrained_rules(), four_cases, four_cases, 0.5, True)
        table["rule"] = table["rule"].replace("random", "logits_features")  # the longest name
        table["multiply_adds"] = 1_065_088  # of a head on features
        table["bytes_sent"] = payload.sent / 2
        facts = dict.fromkeys(("local_accuracy", "cloud_accuracy", "either_correct"), 0.75)
        facts |= {"dataset": "toy", "samples": 4, "payload": payload.as_json()}
        facts["splits"] = "toy is not split: drawn by seed 3"
        facts |= {"local_multiply_adds": 1000, "cloud_multiply_adds": 9000, "local_fraction": 0.5}
        work = {"local": 1000, "cloud": 9000}
        facts["exits"] = {n: {"accuracy": 0.75, "multiply_adds": m} for n, m in work.items()}
        terminal = Console(file=io.StringIO(), width=80)
        monkeypatch.setattr(summary, "console", terminal)
        rules = {name: rule for name, rule in untrained_rules().items() if name == "margin"}
        means, classes = by_class(rules, {"margin": 0.5}, four_cases, ("cat", "[dog]", "none"))
        table = table.join(means, on="rule")
        report = Report(facts | {"heads": rules}, table, Report.sample(curves), classes)
        summary.show(report, results, tmp_path)
        return terminal.file.getvalue().splitlines()

    return show


def results_of(payloads: dict) -> pd.DataFrame:
    """Return the table of two finished heads on a network of each bottleneck."""
    rows = [
        {"lambda_local": "0.5", "bottleneck": bottleneck, "seed": 0, "status": "finished"}
        | {"val_local_accuracy": 0.7, "val_cloud_accuracy": 0.8}
        | {f"val_bytes_{name}": value for name, value in payload.as_json().items()}
        for bottleneck, payload in payloads.items()
    ]
    return pd.DataFrame(2 * rows)


def test_a_split_that_sends_more_than_the_image_is_called_so(printed):
    text = " ".join(printed(WIDE, results_of({"none": WIDE})))
    assert "16,384 bytes, 5.3 times the raw image: splitting saves computation" in text
    for form in ("16,384 as float16", "6,543 after zlib", "3,072 raw", "2,346 as PNG"):
        assert form in text
    assert "validation data; bytes" not in text  # one network needs no table of its own


def test_networks_of_several_bottlenecks_are_compared(printed):
    lines = printed(NARROW, results_of({"none": WIDE, "4": NARROW}))
    rows = {line.split()[1]: line.split() for line in lines if line.split()[:1] == ["0.5"]}
    assert rows["4"][3:] == ["70.00%", "80.00%", "1,024", "789", "3,072", "2,346"]
    assert rows["none"][3:] == ["70.00%", "80.00%", "16,384", "6,543", "3,072", "2,346"]


def test_every_rule_has_its_bytes_in_the_width_of_a_terminal(printed):
    lines = printed(WIDE, results_of({"none": WIDE}))
    (row,) = (line.split() for line in lines if "logits_features" in line)
    assert row[-2:] == ["8,192", "1,065,088"]
    assert "…" not in "".join(lines)  # nothing is cut short


def test_how_splits_were_drawn_and_how_classes_fare_is_said(printed, four_cases):
    text = " ".join(" ".join(printed(WIDE, results_of({"none": WIDE}))).split())
    assert "toy is not split: drawn by seed 3" in text
    counts = np.bincount(four_cases.labels)
    assert f"margin on {np.count_nonzero(counts)} classes: balanced accuracy" in text
    assert "every class in report/classes.csv" in text
