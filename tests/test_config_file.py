"""A search as a file, JSON or YAML."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from keras_ddnn.tasks.regression import Regression
from tune import search
from tune.config_file import read_config
from tune.search import main
from tune.space import SEARCH_PRESETS, SearchConfig

KEPT = Path(__file__).parent.parent / "results" / "cifar10_search" / "search.json"


@pytest.mark.parametrize("preset", SEARCH_PRESETS)
def test_what_a_search_has_written_is_that_search(preset, tmp_path):
    config = SEARCH_PRESETS[preset]
    (path := tmp_path / "search.json").write_text(json.dumps(asdict(config)))
    assert read_config(path) == config


def test_a_search_of_an_earlier_version_is_read():
    assert read_config(KEPT).lambda_local == (0.3, 0.5, 0.7)


def test_yaml_names_what_differs_from_the_defaults_and_options_come_last(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: cifar10\nddnn: strong\nseed: [1, 2]\ninput: [logits_rich]\n")
    expected = SearchConfig(dataset="cifar10", ddnn="strong", seed=(1, 2), input=("logits_rich",))
    assert read_config(path) == expected
    ran = []
    monkeypatch.setattr(search, "_run", lambda options: ran.append(search._search_config(options)))
    assert main(["--config", str(path), "--seed", "3"]) == 0
    assert ran == [replace(expected, seed=(3,))]


@pytest.mark.parametrize(
    "task",
    ["regression quantiles=0.5", "[regression, quantiles=0.5]", "['regression', quantiles=.5]"],
)
def test_a_task_is_one_text_or_several(task, tmp_path):
    (path := tmp_path / "mine.yaml").write_text(f"task: {task}\nnetwork: a+b\ntarget: [benefit]\n")
    assert read_config(path).answers() == Regression(quantiles=(0.5,))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "Expecting property name"),
        ("a.yaml", "seed: [1", "mend the file"),
        ("a.yaml", "- 1", "expected a mapping of choices, received list"),
        ("a.json", '{"sed": [1]}', r"received \['sed'\]"),
        ("a.json", '{"seed": [-1]}', "seed"),
        (
            "a.yaml",
            "task: [regression, under=4, quantiles=0.5,0.8]",
            r"received \[0.8\]: put quotes",
        ),
        ("a.yaml", "task: []", r"task: expected words such as 'regression under=4 .*received \(\)"),
        ("a.yaml", "task:", "task: expected words .* received None"),
        ("a.yaml", "task: {regression: 4}", "task: expected words .* received {'regression': 4}"),
        ("a.yaml", "task: regresion", "unknown task 'regresion'; known: classification"),
        ("a.txt", "{}", "a file .json or .yaml or .yml"),
        ("none.json", None, "No such file or directory: name a file of a search"),
    ],
)
def test_a_file_that_is_no_search_is_refused_in_one_line(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_config(path)
    assert "\n" not in str(error.value)
