"""All commands under one name."""

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


def test_its_exit_code_is_that_of_the_module():
    run = subprocess.run(
        [sys.executable, "-m", "keras_ddnn", "rules", "none.npz"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
