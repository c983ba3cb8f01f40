"""Ray Serve serves an artefact by the protocol that devices speak."""

import os
import shutil
import sys

import numpy as np
import pytest
from conftest import flip_a_bit, toy_split

from benchmarks.ray_serve import free_port, kill_a_replica, load
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.ray_app import main, ray_app, serving


def test_what_cannot_be_served_is_refused_before_ray_starts(toy_artifact, tmp_path, capsys):
    with pytest.raises(ValueError, match="the fewest and the most replicas; received 3 and 2"):
        ray_app(toy_artifact, replicas=(3, 2))
    with pytest.raises(ValueError, match="replicas must be a positive integer"):
        ray_app(toy_artifact, replicas=(0, 2))
    shutil.copytree(toy_artifact, tmp_path / "artifact")
    flip_a_bit(tmp_path / "artifact" / "cloud" / "saved_model.pb")
    for arguments, why in (
        ([str(tmp_path)], "saved_model.pb"),
        ([str(toy_artifact), "--host", "0.0.0.0"], "expected --token-file"),
        ([str(toy_artifact), "--token-file", str(tmp_path / "none")], "--token-file"),
        ([str(toy_artifact), "--replicas", "1", "2", "3"], "one or two numbers"),
        ([str(tmp_path / "nowhere")], "holds no readable manifest.json"),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert why in said
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def test_ray_without_its_service_is_named_with_the_extra(toy_artifact, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([str(toy_artifact)]) == 2
    assert (
        capsys.readouterr().err
        == "error: ray is not installed: pip install 'keras_ddnn[ray-serve]'\n"
    )


@pytest.mark.slow
def test_every_request_is_answered_although_one_of_two_replicas_is_killed(toy_artifact, toy_policy):
    pytest.importorskip("ray.serve", reason="needs the extra ray-serve", exc_type=ImportError)
    images = toy_split(40, 5).images
    network, _, _ = load_cloud(toy_artifact)
    features = np.random.default_rng(0).normal(size=(20, 8, 8, 4)).astype(np.float16)
    app = ray_app(toy_artifact, replicas=(2, 2), cpus=0.5)
    # On a machine that is busy Ray may start too slowly for itself; a running one can be named.
    with serving(app, port=free_port(), address=os.environ.get("RAY_ADDRESS")) as url:
        with EdgeRuntime(toy_artifact, url, deadline_s=30.0) as device:
            before = device.predict(images)
        said = load(url, features, requests=400, connections=8, halfway=kill_a_replica)
    expected, offloaded = toy_policy.predict(images)
    np.testing.assert_array_equal(before.classes, expected)
    assert not before.causes.any()  # the cloud has answered all that it was asked
    assert offloaded.any()
    assert said["lost"] == said["differing"] == 0
    assert sum(said["tries"].values()) == 400
    for place, logits in said["logits"].items():
        np.testing.assert_allclose(logits, network(features[place : place + 1]), atol=1e-4)
