"""A search as a file, JSON or YAML."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

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
    ("name", "content", "message"),
    [
        ("a.json", "{", "Expecting property name"),
        ("a.yaml", "seed: [1", "mend the file"),
        ("a.yaml", "- 1", "expected a mapping of choices, received list"),
        ("a.json", '{"sed": [1]}', r"received \['sed'\]"),
        ("a.json", '{"seed": [-1]}', "seed"),
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
