"""What scripts get of each command: the result alone with --quiet, and as JSON with --json."""

import argparse
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from conftest import random_outcomes, toy_split

from keras_ddnn.deploy.cuts_command import main as cuts
from keras_ddnn.diagnose import main as diagnose
from keras_ddnn.evaluation.diagnostics import diagnose as diagnosis_of
from keras_ddnn.files.atomic import write_json
from keras_ddnn.files.notices import notice, said_as, tell_event, tell_result
from keras_ddnn.rules.__main__ import main as rules
from keras_ddnn.serve import demo
from keras_ddnn.serve.edge.__main__ import main as edge

ROOT = Path(__file__).parent.parent
RATES = {"device-gmacs": 1, "cloud-gmacs": 9, "bandwidth-mbps": 9, "round-trip-ms": 9}
MODEL = ["paper", "--input-shape", "16", "16", "3", "--classes", "3"]
CUTS = [*MODEL, *(f"--{name}={value}" for name, value in RATES.items())]


def no_logging():
    """Have notices on standard error, as in a program that sets up no logging."""
    return patch.object(logging.getLogger(), "handlers", [])


def say(form):
    with no_logging(), said_as(argparse.Namespace(form=form)):
        print("a table")
        notice("a choice")
        tell_result("the result", {"audc": np.float32(0.5), "gain": float("nan"), "of": (1, None)})
        tell_event("serving", "at a port", port=80)


def test_people_get_all_of_it(capsys):
    say("text")
    assert capsys.readouterr() == ("a table\nthe result\n", "note: a choice\nat a port\n")


def test_quiet_leaves_the_result_alone(capsys):
    say("quiet")
    assert capsys.readouterr() == ("the result\n", "at a port\n")


def test_json_has_standard_output_for_itself(capsys):
    say("json")
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"audc": 0.5, "gain": None, "of": [1, None]},
        {"event": "serving", "port": 80},
    ]
    assert err == "a table\nnote: a choice\n"


def test_what_comes_after_a_command_is_said_as_before(capsys):
    say("quiet")
    capsys.readouterr()
    with no_logging():
        notice("another choice")
    tell_result("another result", {})
    assert capsys.readouterr() == ("another result\n", "note: another choice\n")


@pytest.fixture
def asked(tmp_path, toy_artifact):
    """Name of a command → its `main` and its arguments."""
    bank = random_outcomes(200)
    tiers = {"local_logits": bank.edge.outputs, "cloud_logits": bank.cloud_logits}
    labels = np.arange(200) % 2
    tiers = {name: np.where(labels[:, None], x[:, ::-1], x) for name, x in tiers.items()}
    np.savez(tmp_path / "outputs.npz", labels=labels, **tiers)
    diagnosis = diagnosis_of(random_outcomes(200), random_outcomes(100), {}, resamples=20)
    write_json(tmp_path / "diagnosis.json", diagnosis.as_json())
    split = toy_split(30, 0)
    arrays = {f"x_{what}": split.images for what in ("train", "test")}
    arrays |= {f"y_{what}": split.labels for what in ("train", "test")}
    np.savez(tmp_path / "toy.npz", **arrays)
    return {
        "diagnose": (diagnose, [str(tmp_path)]),
        "rules": (rules, [str(tmp_path / "outputs.npz")]),
        "cuts": (cuts, CUTS),
        "edge": (edge, [str(toy_artifact), "--dataset", str(tmp_path / "toy.npz")]),
    }


KNOWN = {
    "diagnose": ("recommended_rule", "use: rule "),
    "rules": ("score_threshold", "use: "),
    "cuts": ("cuts", "least mean latency: cut behind "),
    "edge": ("images", "30 images: "),
}


@pytest.mark.parametrize("command", KNOWN)
def test_a_command_says_its_result_in_one_line_or_as_json(command, asked, capsys):
    main, arguments = asked[command]
    field, beginning = KNOWN[command]
    assert not main([*arguments, "--json"])
    assert field in json.loads(capsys.readouterr().out)
    assert not main([*arguments, "--quiet"])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(beginning)


@pytest.mark.parametrize("service", ["cloud", "gateway"])
def test_a_service_tells_its_end_as_an_event(service, monkeypatch, capsys):
    command = importlib.import_module(f"keras_ddnn.serve.{service}.__main__")
    monkeypatch.setattr(command, "_serve", lambda _: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(sys, "argv", [service, "run", "--json"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 130
    out, err = capsys.readouterr()
    assert json.loads(out) == {"event": "ended", "cause": "interrupted"}
    assert err == ""


def test_the_demonstration_leaves_standard_output_to_its_device(
    toy_artifact, tmp_path, monkeypatch, capsys
):
    started = []
    monkeypatch.setattr(demo, "_wait_for", lambda *_: None)
    monkeypatch.setattr(demo, "_wait_for_device", lambda command, _: started.append(command) or 0)
    (tmp_path / "toy.npz").touch()
    asked = [str(toy_artifact), "--dataset", str(tmp_path / "toy.npz"), "--json"]
    assert demo.main(asked) == 0
    assert "--json" in started[0]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("the page of tier 1: http://")


@pytest.mark.parametrize("command", [pytest.param("cuts", marks=pytest.mark.slow), "edge"])
def test_no_library_says_a_word_in_a_quiet_command(command, asked):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "keras_ddnn", command, *asked[command][1], "--quiet"],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
