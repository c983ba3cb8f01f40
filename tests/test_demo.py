"""Both machines on this one, over a slow link."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import toy_split

from keras_ddnn.serve.demo import main


def test_a_run_without_an_artefact_is_refused_before_anything_is_started(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no readable manifest.json" in capsys.readouterr().err


def test_an_artefact_that_does_not_tell_its_dataset_asks_for_one(toy_artifact, capsys):
    assert main([str(toy_artifact)]) == 2
    assert "name one by --dataset" in capsys.readouterr().err


@pytest.mark.slow
def test_a_device_reports_what_the_cloud_has_answered_over_the_link(toy_artifact, tmp_path):
    split = toy_split(100, 3)
    arrays = {f"x_{name}": split.images for name in ("train", "test")}
    arrays |= {f"y_{name}": split.labels for name in ("train", "test")}
    np.savez(tmp_path / "toy.npz", **arrays)
    command = [sys.executable, "-m", "keras_ddnn.serve.demo", str(toy_artifact), "--limit", "40"]
    link = ["--round-trip-ms", "30", "--bandwidth-mbps", "50", "--deadline-ms", "5000"]
    run = subprocess.run(
        [*command, *link, "--dataset", str(tmp_path / "toy.npz")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    report = {
        name.strip(): value.strip()
        for name, value in (
            line.strip("│┃ ").split("│") for line in run.stdout.splitlines() if line.count("│") == 3
        )
    }
    cloud = int(report["answered by the cloud"].split()[0])
    assert 0 < cloud < 40
    assert report["answered here, for want of the cloud"].startswith("0 ")
    assert {"bytes sent", "accuracy", "p50 of a call", "p99 of a call"} <= report.keys()
    # Whoever asks the cloud waits for a round trip; every other sample does not.
    assert float(report["p99 of a call"].split()[0]) >= 30.0
