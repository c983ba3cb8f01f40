"""A report is read back as it was saved, and never found half written."""

import numpy as np
import pandas as pd
import pytest

from keras_ddnn.evaluation.curves import compare_rules
from keras_ddnn.evaluation.report import GRID, Report
from keras_ddnn.rules.confidence import untrained_rules


@pytest.fixture
def report(four_cases) -> Report:
    rules = untrained_rules()
    table, curves = compare_rules(rules, four_cases, four_cases, local_fraction=0.5)
    return Report({"dataset": "toy", "λ": 0.5, "samples": 4}, table, Report.sample(curves))


def test_a_saved_report_is_read_back_to_six_digits(tmp_path, report):
    report.save(tmp_path / "report")
    loaded = Report.load(tmp_path / "report")
    assert loaded.facts == report.facts
    pd.testing.assert_frame_equal(loaded.table, report.table, rtol=1e-5, check_dtype=False)
    pd.testing.assert_frame_equal(loaded.curves, report.curves, rtol=1e-5)


def test_a_report_keeps_every_curve_at_half_percents(report):
    np.testing.assert_allclose(report.curves.index, np.arange(201) / 200)
    assert set(report.curves.columns) == {"oracle", *untrained_rules()}
    # Cloud-only and local-only accuracy of the four cases are 2/4; the oracle's best is 3/4.
    assert report.curves.iloc[[0, -1]].to_numpy() == pytest.approx(0.5)
    assert report.curves["oracle"].max() == 3 / 4
    assert len(report.curves) == len(GRID)


def test_a_folder_without_a_report_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path)


def test_a_failed_save_leaves_the_older_report(tmp_path, report):
    report.save(tmp_path / "report")
    with pytest.raises(AttributeError):
        Report({"dataset": "other"}, report.table, curves=None).save(tmp_path / "report")
    assert Report.load(tmp_path / "report").facts == report.facts
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
