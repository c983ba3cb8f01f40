"""A device decides as the policy does, needs no TensorFlow, and says what it has done."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import flip_a_bit, toy_split, untrained_policy
from fault_server import CLOUD_CLASS, FaultServer
from PIL import Image

from keras_ddnn.artifact import save_policy
from keras_ddnn.config import BOTTLENECK_CODES
from keras_ddnn.manifest import model_id, read_manifest
from keras_ddnn.quantisation import Quantisation
from keras_ddnn.serve.edge import BATCH, EdgeRuntime, main
from keras_ddnn.serve.wire import decode

SPLIT = toy_split(100, 3)
IMAGES = SPLIT.images
PATIENT = 30.0  # seconds, where nothing is about time


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


def runtime_of(folder, server, **options):
    return EdgeRuntime(folder, server.url, **({"deadline_s": PATIENT} | options))


def test_a_device_decides_as_the_policy_and_takes_the_cloud_at_its_word(
    toy_policy, toy_artifact, server
):
    with runtime_of(toy_artifact, server) as runtime:
        answer = runtime.predict(IMAGES)
    np.testing.assert_array_equal(answer.offloaded, toy_policy.decide(IMAGES))
    assert 0 < answer.offloaded.sum() < len(IMAGES)
    assert not answer.fallback.any()
    local = toy_policy.local_model.predict(IMAGES, verbose=0)["local"].argmax(axis=1)
    np.testing.assert_array_equal(answer.classes, np.where(answer.offloaded, CLOUD_CLASS, local))
    assert answer.classes.dtype == np.int64


def test_the_int8_graph_decides_nearly_as_the_policy(toy_policy, toy_artifact, server):
    with runtime_of(toy_artifact, server, graph="int8") as runtime:
        offloaded = runtime.predict(IMAGES).offloaded
    assert np.mean(offloaded == toy_policy.decide(IMAGES)) > 0.9


@pytest.mark.parametrize("graph", ["float", "int8"])
def test_a_request_holds_the_features_of_what_is_offloaded(toy_policy, toy_artifact, server, graph):
    with runtime_of(toy_artifact, server, graph=graph) as runtime:
        offloaded = runtime.predict(IMAGES[:BATCH]).offloaded
    ((headers, body),) = server.requests
    sent = decode(headers, body)
    features = sent.tensors["features"]
    expected = toy_policy.local_model.predict(IMAGES[:BATCH], verbose=0)["features"]
    if graph == "int8":
        assert features.dtype == np.uint8
        manifest = read_manifest(toy_artifact)
        quantisation = Quantisation.from_json(manifest["features"]["quantisation"])
        features = quantisation.values(features)
    assert abs(features - expected[offloaded]).max() < (0.2 if graph == "int8" else 1e-3)
    assert set(sent.tensors) == {"features"}
    assert sent.parameters == {
        "model": model_id(toy_artifact),
        "answered_locally": int((~offloaded).sum()),
    }


def test_a_bottleneck_is_sent_in_the_codes_it_was_trained_with(tmp_path, server):
    policy = untrained_policy(bottleneck=2)
    save_policy(policy, tmp_path / "artifact")
    with runtime_of(tmp_path / "artifact", server) as runtime:
        offloaded = runtime.predict(IMAGES[:BATCH]).offloaded
    codes = decode(*server.requests[0]).tensors["features"]
    assert codes.dtype == np.uint8
    expected = policy.local_model.predict(IMAGES[:BATCH], verbose=0)["features"][offloaded]
    # A value between two codes may be rounded to either by another order of sums.
    off = np.abs(BOTTLENECK_CODES.values(codes) - expected)
    assert off.max() <= BOTTLENECK_CODES.step
    assert (off == 0).mean() > 0.99


def test_the_cloud_learns_of_each_local_answer_once(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        offloaded = np.concatenate([runtime.predict(image[None]).offloaded for image in IMAGES])
    told = [decode(*request).parameters["answered_locally"] for request in server.requests]
    last = np.flatnonzero(offloaded)[-1]
    assert sum(told) == np.sum(~offloaded[:last])


def test_images_travel_only_if_shared(toy_artifact, server):
    with runtime_of(toy_artifact, server, share_images=True) as runtime:
        offloaded = runtime.predict(IMAGES[:BATCH]).offloaded
    sent = decode(*server.requests[0]).tensors["images"]
    np.testing.assert_array_equal(sent, IMAGES[:BATCH][offloaded])


def test_one_connection_serves_all_requests(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        for _ in range(5):
            runtime.predict(IMAGES)
    assert len(server.requests) > 5
    assert len(server._open) == 1


def test_without_a_cloud_the_local_network_answers_all(toy_artifact):
    answer = EdgeRuntime(toy_artifact).predict(IMAGES)
    np.testing.assert_array_equal(answer.fallback, answer.offloaded)


def test_the_threshold_may_be_moved(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    runtime.score_threshold = np.inf
    assert not runtime.predict(IMAGES).offloaded.any()
    runtime.score_threshold = -np.inf
    assert runtime.predict(IMAGES).offloaded.all()


def test_a_comparison_with_no_number_offloads(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    runtime.score_threshold = np.nan
    assert runtime.predict(IMAGES).offloaded.all()


def test_counters_and_percentiles_say_what_happened(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        offloaded = runtime.predict(IMAGES).offloaded.sum()
        numbers, text = runtime.metrics.numbers(), runtime.metrics.text()
    assert (numbers["local"], numbers["cloud"]) == (100 - offloaded, offloaded)
    assert numbers["sent_bytes"] == sum(len(body) for _, body in server.requests)
    assert 0 < numbers["p50"] <= numbers["p99"]
    assert f'ddnn_edge_samples_total{{answer="cloud"}} {float(offloaded)}' in text


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (IMAGES[:, :8], r"uint8 of shape \(100, 8, 16, 3\)"),
        (IMAGES[0], r"uint8 of shape \(16, 16, 3\)"),
        (IMAGES / 255, "float64"),
        (IMAGES[:0], r"uint8 of shape \(0, 16, 16, 3\)"),
    ],
)
def test_other_images_are_refused(toy_artifact, images, received):
    with pytest.raises(ValueError, match=f"expected uint8 images.*received {received}"):
        EdgeRuntime(toy_artifact).predict(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cloud_url": "10.0.0.1:80"}, "must be http"),
        ({"cloud_url": "ftp://host"}, "must be http"),
        ({"graph": "int4"}, "unknown graph 'int4'; known: float, int8"),
        ({"deadline_s": 0.0}, "deadline_s must be positive"),
    ],
)
def test_bad_options_are_refused(toy_artifact, options, message):
    with pytest.raises(ValueError, match=message):
        EdgeRuntime(toy_artifact, **options)


def test_a_damaged_artefact_is_refused(toy_artifact, tmp_path):
    damaged = shutil.copytree(toy_artifact, tmp_path / "artifact")
    flip_a_bit(damaged / "edge.tflite")
    with pytest.raises(ValueError, match=r"edge\.tflite is damaged"):
        EdgeRuntime(damaged)


def test_an_artefact_without_a_graph_is_refused(toy_policy, tmp_path):
    from keras_ddnn.artifact import save_policy

    save_policy(toy_policy, tmp_path / "artifact", graphs=False)
    with pytest.raises(ValueError, match=r"holds no edge\.tflite.*the rule margin"):
        EdgeRuntime(tmp_path / "artifact")


def save_images(folder):
    for k, (image, label) in enumerate(zip(SPLIT.images, SPLIT.labels)):
        (folder / "abc"[label]).mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(folder / "abc"[label] / f"{k}.png")


def test_the_command_line_reports_on_a_folder_of_images(toy_artifact, server, tmp_path, capsys):
    save_images(tmp_path / "images")
    main([str(toy_artifact), "--cloud", server.url, "--images", str(tmp_path / "images")])
    report = capsys.readouterr().out
    for line in ("100 images", "answered here", "bytes sent", "p99 of a call", "accuracy"):
        assert line in report


def test_the_command_line_names_what_is_wrong(toy_artifact, tmp_path, capsys):
    save_images(tmp_path / "images")
    (tmp_path / "images" / "b").rename(tmp_path / "images" / "zebra")
    with pytest.raises(SystemExit):
        main([str(toy_artifact), "--images", str(tmp_path / "images")])
    assert "expected a folder named after a class, a, b, c" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--images", str(tmp_path / "images")])
    assert "holds no readable manifest.json" in capsys.readouterr().err


MEASURE = """
import json, re, sys
import numpy as np
from keras_ddnn.serve import edge
edge.main(sys.argv[1:])
heavy = {name.split(".")[0] for name in sys.modules}
heavy &= {"tensorflow", "keras", "scipy", "pandas", "jax", "torch"}
status = open("/proc/self/status").read()  # getrusage would tell of the parent's memory too
print(json.dumps([int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) / 1024, sorted(heavy)]))
"""


def test_a_device_needs_neither_tensorflow_nor_much_memory(tmp_path):
    from keras_ddnn.artifact import save_policy
    from keras_ddnn.config import DDNNConfig
    from keras_ddnn.models import build_ddnn
    from keras_ddnn.policy import OffloadPolicy
    from keras_ddnn.rules import Margin

    config = DDNNConfig()  # the paper's networks
    model = build_ddnn((32, 32, 3), 10, config)
    names = tuple(map(str, range(10)))
    save_policy(OffloadPolicy(model, config, Margin(), 0.5, names), tmp_path / "artifact")
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    arrays = {f"x_{what}": images for what in ("train", "val", "test")}
    arrays |= {f"y_{what}": np.arange(200) % 10 for what in ("train", "val", "test")}
    np.savez(tmp_path / "images.npz", **arrays)
    arguments = [str(tmp_path / "artifact"), "--dataset", str(tmp_path / "images.npz")]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True
    )
    megabytes, heavy = json.loads(run.stdout.splitlines()[-1])
    assert heavy == []
    assert megabytes <= 250
