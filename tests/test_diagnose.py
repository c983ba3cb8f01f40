import json

import pytest
from conftest import random_outcomes

from keras_ddnn.diagnose import main
from keras_ddnn.evaluation.diagnostics import Diagnosis, diagnose
from keras_ddnn.files.atomic import write_json


@pytest.fixture
def diagnosis():
    return diagnose(random_outcomes(200), random_outcomes(100), {}, resamples=20)


def test_the_command_prints_what_the_run_has_kept(diagnosis, tmp_path, capsys):
    write_json(tmp_path / "diagnosis.json", diagnosis.as_json())
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(diagnosis)
    assert main([str(tmp_path), "--json"]) == 0
    assert Diagnosis.from_json(json.loads(capsys.readouterr().out)) == diagnosis


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_folder_without_a_diagnosis_is_answered_in_one_line(tmp_path, capsys, content):
    if content:
        (tmp_path / "diagnosis.json").write_text(content)
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
