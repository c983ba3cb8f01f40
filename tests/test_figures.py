"""The figures of saved results, and the command that draws them."""

from dataclasses import replace

import pandas as pd
import pytest

from figures import diagnosis, modern, offload_curve
from figures.__main__ import main
from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.diagnostics import diagnose
from keras_ddnn.evaluation.report import Report
from keras_ddnn.rules.confidence import Entropy, Random


@pytest.fixture
def report(four_cases) -> Report:
    rules = {"random": Random(), "entropy": Entropy(), "a head of one's own": Random(seed=1)}
    table, curves = compare_rules(rules, four_cases, four_cases, local_fraction=0.5)
    facts = {"dataset": "toy", "samples": 1234, "cloud_accuracy": 0.819, "local_accuracy": 0.663}
    return Report(facts, table, Report.sample(curves))


def test_the_figure_has_labelled_axes_and_one_line_a_rule_named_with_its_audc(report):
    axes, below = offload_curve.draw(report).axes
    assert below.get_xlabel() == "samples kept local (%)"
    assert axes.get_ylabel() == "accuracy (%), higher is better"
    assert axes.get_title() == "toy, 1,234 samples: cloud 81.9%, local 66.3%"
    expected = [f"{row.rule}  {100 * row.audc:.2f}" for row in report.table.itertuples()]
    assert [line.get_label() for line in axes.lines] == expected
    assert [text.get_text() for text in axes.get_legend().get_texts()] == expected


def test_a_line_runs_from_cloud_only_to_local_only_in_percent(report):
    axes, _ = offload_curve.draw(report).axes
    x, y = axes.lines[0].get_data()
    assert (x[0], x[-1]) == (0, 100)
    assert y == pytest.approx(100 * report.curves["oracle"].to_numpy())


def test_the_lower_panel_has_the_points_over_the_best_confidence_rule(report):
    _, below = offload_curve.draw(report).axes
    assert below.get_ylabel() == "points over\nentropy (higher is better)"
    (shown,) = [line.get_ydata() for line in below.lines if len(line.get_ydata()) > 2]
    gain = 100 * (report.curves["a head of one's own"] - report.curves["entropy"])
    assert shown == pytest.approx(gain.to_numpy())
    alone = replace(report, table=report.table[report.table["rule"].isin(["oracle", "random"])])
    assert len(offload_curve.draw(alone).axes) == 1


def test_a_diagnosis_shows_shares_of_samples_and_paired_gains(four_cases):
    found = diagnose(four_cases, four_cases, {"a head": Random(seed=1)}, resamples=20).as_json()
    benefits, rules = diagnosis.draw(found).axes
    assert benefits.get_xlabel() == "benefit of offloading $B_k$ (probability)"
    assert benefits.get_ylabel() == "share of samples (%)"
    for outline in benefits.patches:
        assert sum(outline.get_data().values) == pytest.approx(100)
    assert "paired" in rules.get_xlabel()
    assert found["best_confidence"] in rules.get_title()
    assert [text.get_text().split("  ")[0].strip() for text in rules.texts] == ["a head", "oracle"]
    gains = found["gains"]["a head"], found["headroom"]
    for container, gain in zip(rules.containers, gains):
        point, _, (bar,) = container
        assert point.get_xdata()[0] == pytest.approx(100 * gain["mean"])
        ends = bar.get_segments()[0][:, 0]
        assert ends == pytest.approx([100 * gain["low"], 100 * gain["high"]])


def test_the_command_draws_beside_the_report(tmp_path, report, capsys):
    report.save(tmp_path / "report")
    assert main(["--results", str(tmp_path / "report")]) == 0
    picture = tmp_path / "report" / "curve.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{picture}\n"


def no_report(folder):
    pass


def a_file(folder):
    folder.rmdir()
    folder.write_text("not a folder")


def half_a_report(folder):
    (folder / "report.json").write_text('{"dataset": ')


@pytest.mark.parametrize("prepare", [no_report, a_file, half_a_report])
def test_the_command_answers_a_folder_without_a_report_with_one_line(tmp_path, capsys, prepare):
    folder = tmp_path / "empty"
    folder.mkdir()
    prepare(folder)
    assert main(["--results", str(folder)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {folder} holds no readable report")
    assert output.err.count("\n") == 1


def test_a_damaged_table_is_named(tmp_path, capsys):
    (tmp_path / "pareto.csv").write_bytes(b"")
    (tmp_path / "cuts.csv").write_text("cut\n1\n")
    assert main(["--results", str(tmp_path)]) == 2
    assert "pareto.csv cannot be drawn (" in capsys.readouterr().err
    (tmp_path / "pareto.csv").unlink()
    assert main(["--results", str(tmp_path)]) == 2
    assert "cuts.csv cannot be drawn (" in capsys.readouterr().err
    (tmp_path / "cuts.csv").unlink()
    (tmp_path / "bars.csv").write_bytes(b"")
    assert main(["--results", str(tmp_path)]) == 2
    assert "bars.csv cannot be read (" in capsys.readouterr().err


def test_shares_are_drawn_of_known_pairs_or_else_of_all():
    pairs = [*[*modern.SHARES][:2], "mine"]
    rows = [
        {"pair": pair, "local_fraction": share, "accuracy": 90.0 + place - share}
        for place, pair in enumerate(pairs)
        for share in (0.0, 1.0)
    ]
    known = modern.draw_shares(pd.DataFrame(rows)).axes[0]
    assert [line.get_ydata()[0] for line in known.lines] == [90.0, 91.0]
    (mine,) = modern.draw_shares(pd.DataFrame(rows[-2:])).axes[0].lines
    assert (mine.get_label(), list(mine.get_ydata())) == ("mine", [92.0, 91.0])


@pytest.mark.parametrize("count", [2, 12])
def test_every_pair_of_networks_of_today_has_a_line(count):
    rows = [
        {"pair": f"device{pair}+cloud", "local_fraction": fraction, "accuracy": 90.0 - pair}
        | {"device_multiply_adds": 1e6 * (pair + 1), "bytes": 3000 * (1 - fraction)}
        | {"of_multiply_adds": True, "of_bytes": False}
        for pair in range(count)
        for fraction in (0.0, 0.5, 1.0)
    ]
    left, right = modern.draw(pd.DataFrame(rows)).axes
    assert len(right.get_legend_handles_labels()[1]) == count
    assert {line.get_label() for line in left.lines} >= {f"device{p}+cloud" for p in range(count)}
