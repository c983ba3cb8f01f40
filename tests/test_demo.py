"""Both machines on this one, over a slow link."""

import os
import signal
import subprocess
import sys
import time
from threading import Thread

import numpy as np
import pytest
from conftest import toy_split
from toy_networks import image_data, policy_of_three

from keras_ddnn import Split, save_tiers
from keras_ddnn.files.signals import interruptible
from keras_ddnn.serve import demo
from keras_ddnn.serve.demo import main


def test_a_run_without_an_artefact_is_refused_before_anything_is_started(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no readable manifest.json" in capsys.readouterr().err


def test_an_artefact_that_does_not_tell_its_dataset_asks_for_one(toy_artifact, capsys):
    assert main([str(toy_artifact)]) == 2
    assert "name one by --dataset" in capsys.readouterr().err


def test_another_number_of_tiers_than_there_are_is_refused(toy_artifact, capsys):
    assert main([str(toy_artifact), "--tiers", "3"]) == 2
    assert "holds 2 tiers; received --tiers 3: save_tiers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_while_the_cloud_starts_ends_both_machines_in_one_line(
    toy_artifact, tmp_path, monkeypatch, capsys, number, code, word
):
    (tmp_path / "toy.npz").touch()
    clouds = []

    def wait(process, _):
        clouds.append(process)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(demo, "_wait_for", wait)
    assert main([str(toy_artifact), "--dataset", str(tmp_path / "toy.npz")]) == code
    assert capsys.readouterr().err == f"{word}: the demonstration has ended\n"
    assert clouds[0].returncode is not None


DEVICE = """
import signal, sys, time
def end(number, _):
    print("interrupted: 3 of 5 images are classified", file=sys.stderr)
    sys.exit(130)
signal.signal(signal.SIGINT, end)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_signal_is_passed_on_to_the_device_which_says_what_it_did(capfd):
    def interrupt():
        while "ready" not in capfd.readouterr().out:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt).start()
    with interruptible() as received:
        assert demo._wait_for_device([sys.executable, "-c", DEVICE], received) == 130
    assert capfd.readouterr().err == "interrupted: 3 of 5 images are classified\n"


def demonstrated(run, split, folder) -> dict[str, str]:
    """Return what a device reports of a split, over links with a delay."""
    arrays = {f"x_{name}": split.images for name in ("train", "test")}
    arrays |= {f"y_{name}": split.labels for name in ("train", "test")}
    np.savez(folder / "toy.npz", **arrays)
    command = [sys.executable, "-m", "keras_ddnn.serve.demo", str(run), "--limit", "40"]
    link = ["--round-trip-ms", "30", "--bandwidth-mbps", "50", "--deadline-ms", "5000"]
    done = subprocess.run(
        [*command, *link, "--dataset", str(folder / "toy.npz")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return {
        name.strip(): value.strip()
        for name, value in (
            line.split(": ") for line in done.stdout.splitlines() if line.count(": ") == 1
        )
    }


@pytest.mark.slow
def test_a_device_reports_what_the_cloud_has_answered_over_the_link(toy_artifact, tmp_path):
    report = demonstrated(toy_artifact, toy_split(100, 3), tmp_path)
    cloud = int(report["answered by the cloud"].split()[0])
    assert 0 < cloud < 40
    assert report["answered here, as the cloud did not answer"].startswith("0 ")
    assert {"bytes sent", "accuracy", "p50 of a call", "p99 of a call"} <= report.keys()
    # Whoever asks the cloud waits for a round trip; every other sample does not.
    assert float(report["p99 of a call"].split()[0]) >= 30.0


@pytest.mark.slow
def test_a_device_reports_what_each_of_three_tiers_has_answered(tmp_path):
    policy, _ = policy_of_three()
    save_tiers(policy, tmp_path / "tiers")
    report = demonstrated(tmp_path / "tiers", Split(*image_data(96)), tmp_path)
    behind = int(report["answered by the cloud"].split()[0])
    assert 0 < int(report["by tier 2, which it asked"]) < behind < 40
    assert report["answered here, as the cloud did not answer"].startswith("0 ")
    assert float(report["p99 of a call"].split()[0]) >= 60.0  # both links
