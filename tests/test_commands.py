"""All commands under one name."""

import runpy
import subprocess
import sys

import pytest

import keras_ddnn
from keras_ddnn.__main__ import COMMANDS, main


def test_the_version_and_all_commands_are_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"keras_ddnn {keras_ddnn.__version__}\n"
    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in COMMANDS)


def test_an_unknown_command_is_refused_in_one_line_with_the_nearest(capsys):
    assert main(["serach"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith("did you mean search?\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_its_module(name, monkeypatch):
    ran = []
    monkeypatch.setattr("runpy.run_module", lambda module, **_: ran.append((module, sys.argv)))
    monkeypatch.setattr("sys.argv", sys.argv)
    main([name, "--anything"])
    assert ran == [(COMMANDS[name][0], [f"keras-ddnn {name}", "--anything"])]


STUDIES = ["modern", "cameras", "exits", "traffic", "paper", "honest_labels", "ceiling"]
MODULES = [module for module, _ in COMMANDS.values()] + [f"tune.{name}" for name in STUDIES]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("module", [*MODULES, "figures"])
def test_what_a_command_line_has_too_much_is_one_line(module, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [module, "--nonsense"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(": see --help")


CHATTY = """
import os
from types import SimpleNamespace
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are here\\n")
os.write(2, b"I0000 00:00:1.1 7 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"E0000 00:00:1.1 7 cuda.cc:52] failed\\n")
config = SimpleNamespace(list_physical_devices=list)
get_logger = lambda: SimpleNamespace(addFilter=print)
"""


def test_a_study_begins_without_a_word_of_tensorflow_but_its_errors(tmp_path):
    (tmp_path / "tensorflow.py").write_text(CHATTY)
    script = (
        "import sys; from argparse import Namespace; from tune.study import run_study;"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        "run_study(lambda _: __import__('tensorflow'), Namespace(traceback=True))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr == "E0000 00:00:1.1 7 cuda.cc:52] failed\n"


def test_its_exit_code_is_that_of_the_module():
    run = subprocess.run(
        [sys.executable, "-m", "keras_ddnn", "rules", "none.npz"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
