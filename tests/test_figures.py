"""The figure of a saved report, and the command that draws it."""

import pytest

from figures import offload_curve
from figures.__main__ import main
from keras_ddnn.evaluation import compare_rules
from keras_ddnn.report import Report
from keras_ddnn.rules import Entropy, Random


@pytest.fixture
def report(four_cases) -> Report:
    rules = {"random": Random(), "entropy": Entropy(), "a head of one's own": Random(seed=1)}
    table, curves = compare_rules(rules, four_cases, four_cases, local_fraction=0.5)
    facts = {"dataset": "toy", "samples": 1234, "cloud_accuracy": 0.819, "local_accuracy": 0.663}
    return Report(facts, table, Report.sample(curves))


def test_the_figure_has_labelled_axes_and_one_line_a_rule_named_with_its_audc(report):
    (axes,) = offload_curve.draw(report).axes
    assert axes.get_xlabel() == "samples kept local (%)"
    assert axes.get_ylabel() == "accuracy (%)"
    assert axes.get_title() == "toy, 1,234 samples: cloud 81.9%, local 66.3%"
    expected = [f"{row.rule}  {100 * row.audc:.2f}" for row in report.table.itertuples()]
    assert [line.get_label() for line in axes.lines] == expected
    assert [text.get_text() for text in axes.get_legend().get_texts()] == expected


def test_a_line_runs_from_cloud_only_to_local_only_in_percent(report):
    (axes,) = offload_curve.draw(report).axes
    x, y = axes.lines[0].get_data()
    assert (x[0], x[-1]) == (0, 100)
    assert y == pytest.approx(100 * report.curves["oracle"].to_numpy())


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
